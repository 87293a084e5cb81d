"""Pushes a classifier to the Hugging Face hub: its file, what programs need to know, and a model card made from the run.

Takes a run folder and `hf:owner/name`; gives the commit. It decides what leaves the machine: model.onnx, which says nothing
of the machine and its folders, labels.txt, classifier.json and README.md; never photos, their names or codes.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from headstart.backbones.huggingface.client import hub
from headstart.backbones.huggingface.download import parse_repository
from headstart.backbones.huggingface.upload import upload
from headstart.classifier.model_file import FILE_NAME
from headstart.export.card import PROGRAMS, describe_file, labels_text
from headstart.export.options import Options
from headstart.export.original import Original, open_original
from headstart.progress import Progress, underway
from headstart.share.model_card import README, model_card
from headstart.versions import own_version


@dataclass(frozen=True)
class Pushed:
    """A classifier on the hub. name: `hf:owner/name@commit`, which loads this very file; files: their sizes in bytes."""

    name: str
    url: str
    commit: str
    files: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        """For --json."""
        return {"name": self.name, "url": self.url, "commit": self.commit, "files": self.files}


def push_run(
    run: str | os.PathLike[str],
    repository: str,
    *,
    private: bool = False,
    message: str | None = None,
    progress: Progress = lambda *_: None,
) -> Pushed:
    """Push the classifier of a run folder, or a model.onnx, to hf:owner/name[@branch] on the Hugging Face hub.

    private: whether a repository that is made for it is seen by its owner alone. message: of the commit. Raises
    BackboneError where the hub does not take it, MissingExtra without the extra [hub].
    """
    repo, revision = parse_repository(repository)
    with hub(repository, repo):  # before any work: the extra is there
        pass
    with underway(progress, "open the run"):
        original = open_original(run)
    files = files_to_push(original, repo)
    with underway(progress, f"upload to {repo}"):
        commit = upload(
            repo, files, message or f"A classifier by headstart {own_version()}", private=private, revision=revision
        )
    sizes = {path: len(content) for path, content in files.items()}
    return Pushed(f"hf:{repo}@{commit.sha}", commit.url, commit.sha, sizes)


def preview(run: str | os.PathLike[str], repository: str) -> dict[str, bytes]:
    """What push_run would upload, by its path in the repository; nothing leaves the machine."""
    return files_to_push(open_original(run), parse_repository(repository)[0])


def files_to_push(original: Original, repo: str) -> dict[str, bytes]:
    """All that is uploaded, by its path in the repository."""
    content, about = original.classifier.content, original.classifier.about
    name = repo.partition("/")[2]
    programs = describe_file(name, about, Options(), FILE_NAME, sha256(content).hexdigest())
    return {
        FILE_NAME: content,
        "labels.txt": labels_text(about["classes"]).encode(),
        PROGRAMS: (json.dumps(programs, ensure_ascii=False, indent=1) + "\n").encode(),
        README: ("\n".join(model_card(original, repo)) + "\n").encode(),
    }
