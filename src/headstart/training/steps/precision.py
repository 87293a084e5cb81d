"""How far the precision that this machine chooses is from f32, on photos that were held out: it is told in run.json."""

from __future__ import annotations

from hashlib import sha256

import numpy as np

from headstart.classifier.classifier import Classifier
from headstart.data.decoding import Failure
from headstart.data.images import load_image
from headstart.data.tables import same_content_of
from headstart.engines.hardware import Hardware
from headstart.engines.openvino_engine import OpenVINOEngine, is_exact
from headstart.record import RunRecord
from headstart.training.steps.trust import Trained

N_COMPARED = 48  # photos: half a second
HIGH = 0.99  # of photos
FAR = 0.05  # of a probability: beyond, it is a note


def compare_precisions(record: RunRecord, classifier: Classifier, trained: Trained) -> RunRecord:
    """Compare the classifier's answers with those in f32; gives the record with what that came to.

    Nothing is compared where the machine computes in f32 anyway.
    """
    workspace = trained.workspace
    if is_exact(workspace.hardware):
        return record
    with workspace.stage("precision"):
        data = trained.data
        rows = (data.test if len(data.test) else data.learn)[:N_COMPARED]
        inputs = [sha256(classifier.content).digest(), [data.digests[i] for i in rows], workspace.hardware.device]
        told = workspace.results.record("precision", inputs, lambda: _compare(classifier, trained, rows))
    if told is None:
        return record
    notes = list(record["notes"])
    if told["high"] > FAR:
        notes.append(
            f"computed as fast as this machine can, probabilities are off by up to {told['largest']:.2f}; where that "
            "matters, use --precision f32, in predict as well"
        )
    return {**record, "precision": told, "notes": notes}


def _compare(classifier: Classifier, trained: Trained, rows: np.ndarray) -> dict[str, float] | None:
    """Of n photos the largest difference of a probability, its 99th percentile, and how many labels moved."""
    exact = OpenVINOEngine(classifier.content, Hardware(threads=trained.workspace.threads, precision="f32"))
    pixels = []
    for i in rows.tolist():
        content = same_content_of(trained.data.images[i], trained.data.digests[i])
        square = content if isinstance(content, Failure) else load_image(content, classifier.preprocess)
        if not isinstance(square, Failure):
            pixels.append(square)
    if not pixels:
        return None
    usual, reference = (
        np.stack([r.outputs["probabilities"] for r in engine.stream(pixels, lambda _, p: p) if r.outputs is not None])
        for engine in (classifier.engine, exact)
    )
    apart = np.abs(usual - reference).max(axis=1)
    moved = int((usual.argmax(axis=1) != reference.argmax(axis=1)).sum())
    return {"n": len(pixels), "largest": float(apart.max()), "high": float(np.quantile(apart, HIGH)), "labels_moved": moved}
