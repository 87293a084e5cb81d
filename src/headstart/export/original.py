"""The original of an export: a classifier in f32, and the labelled photos that each file is compared with it on.

Takes a run folder, or a model.onnx and photos. It decides which photos judge: at most MOST that were held out, one of
each class in turn.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from headstart.classifier.classifier import Classifier
from headstart.data import datasets
from headstart.data.decoding import Failure, decode
from headstart.data.images import crop_and_resize, display_name
from headstart.data.labels import are_many
from headstart.data.splits import TEST
from headstart.data.tables import ImageRef, content_of, digest_of, same_content_of
from headstart.engines.hardware import Hardware
from headstart.errors import ExportError
from headstart.progress import Progress
from headstart.runs.open import SavedRun, open_run
from headstart.training.other_photos import labels_for

MOST = 2_000  # photos that a file is compared on
EXACT = Hardware(precision="f32")

Outputs: TypeAlias = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class JudgingPhotos:
    """Photos that an export is compared on: their names, the bytes of each file, and labels; see Findings for those.

    is_tested: (n,) bool, those that no fit has seen, by which accuracies are measured. about: which they are, for people.
    """

    names: Sequence[str]
    contents: Sequence[bytes]
    labels: np.ndarray
    is_tested: np.ndarray
    about: str


@dataclass(frozen=True)
class Original:
    """The classifier to export, and its run, where there is one. name: for people, and for new folders."""

    classifier: Classifier
    saved: SavedRun | None
    name: str

    @property
    def preprocess(self) -> Any:
        """How its images are made ready."""
        return self.classifier.preprocess

    def pixels(self, content: bytes) -> np.ndarray | Failure:
        """A file's bytes, fully decoded and resized: (size, size, 3) uint8."""
        decoded = decode(content)
        return decoded if isinstance(decoded, Failure) else crop_and_resize(decoded, self.preprocess)

    def answers(self, photos: JudgingPhotos, progress: Progress = lambda *_: None) -> dict[str, np.ndarray]:
        """The reference: each output of model.onnx in f32, a row a photo."""
        return stacked(self.classifier.engine.infer(pixels) for pixels in self.all_pixels(photos, progress))

    def all_pixels(self, photos: JudgingPhotos, progress: Progress = lambda *_: None) -> Iterable[np.ndarray]:
        """The pixels of each photo, one after the other."""
        for i, content in enumerate(photos.contents):
            pixels = self.pixels(content)
            assert not isinstance(pixels, Failure)  # judging_photos took only those that can be decoded
            yield pixels
            progress("compare", i + 1, len(photos.contents))


def stacked(rows: Iterable[Outputs]) -> dict[str, np.ndarray]:
    """Outputs of one photo each, as arrays with a row a photo."""
    every = list(rows)
    return (
        {name: np.stack([np.asarray(row[name], np.float32).ravel() for row in every]) for name in every[0]} if every else {}
    )


def open_original(run: str | os.PathLike[str]) -> Original:
    """Open a run folder, or a model.onnx alone, whose classifier runs in f32; raises HeadstartError for anything else."""
    path = Path(run)
    if path.is_dir():
        saved = open_run(path)
        return Original(saved.classifier(EXACT), saved, path.resolve().name)
    return Original(Classifier.load(path, EXACT), None, path.stem)


def judging_photos(original: Original, photos: str | os.PathLike[str] | None) -> JudgingPhotos:
    """Choose the photos to compare on, and read them: the run's held-out ones, or those that the user names.

    Raises ExportError where none is left: those of the run are gone, say, or all were learnt from.
    """
    learnt = _learnt_digests(original)
    if photos is not None:
        return _read(*_named(original, photos), learnt, f"photos of {photos}")
    if original.saved is None:
        raise ExportError(f"{original.name} is a file alone, without photos to compare on: name some with --photos")
    findings = original.saved.findings
    tested = np.flatnonzero(findings.splits == TEST)
    chosen = _spread(findings.labels[tested], tested)
    others = np.setdiff1d(findings.held_out, tested)  # any photo shows whether two files agree
    chosen = np.concatenate([chosen, _spread(findings.labels[others], others)[: MOST - len(chosen)]])
    images = [original.saved.images[i] for i in chosen]
    digests = [findings.digests[i].tobytes() for i in chosen]
    names = [findings.names[i] for i in chosen]
    return _read(names, images, digests, findings.labels[chosen], learnt, "the run's photos, the test split's first")


def _learnt_digests(original: Original) -> set[bytes]:
    """The sha256 of the photos that were learnt from."""
    if original.saved is None:
        return set()
    findings = original.saved.findings
    return {digest.tobytes() for digest in findings.digests[findings.splits != TEST]}


def _named(
    original: Original, photos: str | os.PathLike[str]
) -> tuple[list[str], list[ImageRef | None], list[bytes | None], np.ndarray]:
    """The photos of a folder or a table whose classes the classifier knows."""
    dataset = datasets.load_dataset(photos, is_learnt=False)
    labels = labels_for(dataset, original.classifier)
    is_known = np.ones(len(labels), bool) if are_many(labels) else labels >= 0
    chosen = _spread(labels[is_known], np.flatnonzero(is_known))
    images: list[ImageRef | None] = [dataset.images[i] for i in chosen]
    return [display_name(dataset.images[i]) for i in chosen], images, [None] * len(chosen), labels[chosen]


def _spread(labels: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """At most MOST rows, in turn one of each class, evenly drawn; ascending."""
    first = labels.argmax(axis=1) if are_many(labels) else labels
    turn = np.zeros(len(rows), np.float64)
    for label in np.unique(first):
        of_class = np.flatnonzero(first == label)
        turn[np.random.default_rng(0).permutation(of_class)] = np.arange(len(of_class))
    return np.sort(rows[np.argsort(turn, kind="stable")[:MOST]])


def _read(
    names: Sequence[str],
    images: Sequence[ImageRef | None],
    digests: Sequence[bytes | None],
    labels: np.ndarray,
    learnt: set[bytes],
    about: str,
) -> JudgingPhotos:
    """Read the files that are there, unchanged, and can be decoded."""
    contents: list[bytes] = []
    kept = []
    for i, (image, digest) in enumerate(zip(images, digests, strict=True)):
        if image is None:
            continue
        content = content_of(image) if digest is None else same_content_of(image, digest)
        if not isinstance(content, Failure) and not isinstance(decode(content), Failure):
            kept.append(i)
            contents.append(content)
    if not kept:
        raise ExportError(
            f"none of {about} can be read, so that nothing could be compared: name photos with --photos, or add "
            "--accept-loss"
        )
    is_tested = np.array([digest_of(content) not in learnt for content in contents])
    return JudgingPhotos([names[i] for i in kept], contents, labels[kept], is_tested, about)
