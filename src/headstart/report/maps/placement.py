"""Places photos on the map of a finished run: those of the run by t-SNE, and new ones beside them without moving any."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from headstart.classifier.classifier import Classifier
from headstart.codes.image_stats import picture_of
from headstart.data.datasets import Skipped
from headstart.data.decoding import Failure, ImageSource
from headstart.data.images import display_name, load_image
from headstart.errors import DataError
from headstart.numerics.pca import along_axes
from headstart.progress import Progress
from headstart.report.maps.layout import place, place_on
from headstart.report.maps.page import NewPhotos
from headstart.runs.findings import Findings
from headstart.wording import listed


class PlacedPhotos(NamedTuple):
    """New photos on a map, and those that cannot be used as images, with the reasons."""

    photos: NewPhotos
    skipped: tuple[Skipped, ...]


def place_all(
    findings: Findings,
    *,
    again: bool = False,
    seed: int = 0,
    threads: int | None = None,
    progress: Progress = lambda *_: None,
) -> Findings:
    """Give the findings with a position for every photo, where the training placed only some of them.

    again: place them even where all have positions. seed: another map of the same photos.
    """
    if np.isfinite(findings.positions).all() and not again:
        return findings
    positions = place(findings.space.astype(np.float32), seed=seed, threads=threads, progress=progress)
    return replace(findings, positions=positions)


def place_new_photos(
    classifier: Classifier,
    findings: Findings,
    images: Iterable[ImageSource],
    *,
    n_images: int = 0,
    progress: Progress = lambda *_: None,
) -> PlacedPhotos:
    """Classify photos that a run has not learnt from, and place each among the photos that look like it.

    findings: of the classifier's run, with positions; see place_all. images: as Classifier.stream takes them; n_images: how
    many they are, for the progress, 0 where nobody knows. Raises DataError where none of them can be used.
    """
    names, rows, pictures = list[str](), list[dict[str, np.ndarray]](), list[bytes | None]()
    skipped: list[Skipped] = []

    def load(_: int, image: Any) -> Any:
        return load_image(image, classifier.preprocess)

    for n, result in enumerate(classifier.engine.stream(images, load), start=1):
        progress("photos", n, n_images)
        if result.outputs is None:
            skipped.append(Skipped(display_name(result.item), result.instead.reason))
            continue
        classifier.check_outputs(result.outputs)
        names.append(display_name(result.item))
        rows.append(result.outputs)
        square = load_image(result.item, classifier.preprocess)
        pictures.append(None if isinstance(square, Failure) else picture_of(square))
    if not rows:
        if not skipped:
            raise DataError("there are no new photos to place on the map")
        names = [path for path, _ in skipped]
        raise DataError(f"none of {listed(names)} can be used as an image; the first: {skipped[0].reason}")
    return PlacedPhotos(_new_photos(classifier, findings, names, rows, pictures), tuple(skipped))


def _new_photos(
    classifier: Classifier,
    findings: Findings,
    names: list[str],
    rows: list[dict[str, np.ndarray]],
    pictures: list[bytes | None],
) -> NewPhotos:
    """Put the network's outputs for m photos, a row each, on the map."""
    codes = np.stack([row["codes"][: len(findings.space_mean)] for row in rows])
    probabilities = np.stack([row["probabilities"] for row in rows])
    space = along_axes(codes, findings.space_mean, findings.space_axes)
    positions = place_on(space, findings.space.astype(np.float32), findings.positions)
    unfamiliarity = np.array([row["unfamiliarity"][0] if "unfamiliarity" in row else np.nan for row in rows], np.float32)
    is_single = classifier.thresholds is None
    predictions = probabilities.argmax(axis=1) if is_single else probabilities >= classifier.thresholds
    return NewPhotos(tuple(names), positions, predictions, probabilities.max(axis=1), unfamiliarity, tuple(pictures))
