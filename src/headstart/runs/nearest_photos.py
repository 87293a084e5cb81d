"""The photos of a run's training that are most similar to a new photo, by their codes along the run's principal axes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from headstart.classifier.classifier import Classifier
from headstart.data.decoding import Failure
from headstart.data.labels import label_text
from headstart.data.splits import TEST
from headstart.data.tables import ImageRef, content_of, digest_of
from headstart.numerics.pca import along_axes
from headstart.runs.findings import FILE_NAME
from headstart.runs.open import check_own, read_run

N_NEAREST = 3


class NearPhoto(NamedTuple):
    """A photo that was learnt from, and its label, as a table has it."""

    path: str
    label: str


def nearest_training_photos(
    run: str | os.PathLike[str], classifier: Classifier, codes: np.ndarray, *, photo: ImageRef, n: int = N_NEAREST
) -> tuple[NearPhoto, ...]:
    """Find the n photos of the training that are most similar to a photo, the most similar first; no copy of itself.

    run: a run folder; of what is none, as a model.onnx alone, nothing is known of its photos, and none are found. codes:
    (d,) float32, the classifier's output for the photo. Raises DataError where the run's files are damaged, or not of
    this classifier.
    """
    folder = Path(run)
    if not (folder / FILE_NAME).exists():
        return ()
    about, findings = read_run(folder)
    check_own(folder, about, findings, classifier)
    place = along_axes(codes[None, : len(findings.space_mean)], findings.space_mean, findings.space_axes)[0]
    content = content_of(photo)
    digest = b"\0" * 32 if isinstance(content, Failure) else digest_of(content)
    are_others = (findings.digests != np.frombuffer(digest, np.uint8)).any(axis=1)
    rows = findings.nearest_to(place, n, np.flatnonzero((findings.splits != TEST) & are_others))
    return tuple(NearPhoto(findings.names[row], label_text(findings.labels[row], about["classes"])) for row in rows)
