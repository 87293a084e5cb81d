"""Uploads files to a repository on the Hugging Face hub, in one commit: all of them or none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from headstart.backbones.huggingface.client import hub
from headstart.errors import BackboneError
from headstart.wording import first_line


class Commit(NamedTuple):
    """A commit on the hub. url: of the repository's page; sha: what pins it."""

    url: str
    sha: str


def upload(repo: str, files: Mapping[str, bytes], message: str, *, private: bool, revision: str | None = None) -> Commit:
    """Upload files, by their paths in a repository of models, which is made where there is none.

    private: only where it is made. revision: a branch, which is made as well; None is the main one. Raises BackboneError
    with the next step: nobody is logged in, the repository is another's, the network is down.
    """
    with hub(f"hf:{repo}", repo, revision or "main") as api:
        url = api.create_repo(repo, private=private, exist_ok=True)
        if revision is not None:
            api.create_branch(repo, branch=revision, exist_ok=True)
        try:
            info = api.create_commit(repo, _operations(files), commit_message=message, revision=revision)
        except (RuntimeError, ValueError) as error:  # of the client's threads that upload large files
            why = f"{first_line(error)} {first_line(error.__cause__) if error.__cause__ else ''}".strip()
            raise BackboneError(f"uploading to hf:{repo} failed: {why}; nothing was committed") from error
        return Commit(str(url), info.oid)


def _operations(files: Mapping[str, bytes]) -> list[Any]:
    from huggingface_hub import CommitOperationAdd

    return [CommitOperationAdd(path_in_repo=path, path_or_fileobj=content) for path, content in files.items()]
