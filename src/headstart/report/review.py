"""Reviews a finished classifier for its report: heat maps of its mistakes, and its predictions for probe pictures.

Takes a classifier, its findings, and the photos that still exist; gives small pictures, explained mistakes and predictions
for probes; and writes report.html and issues.json. It decides how many mistakes are explained.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from headstart.classifier.classifier import Classifier
from headstart.classifier.explain import Explainer
from headstart.codes.image_stats import compute_image_stats
from headstart.codes.results import Results
from headstart.codes.store import Store
from headstart.data.decoding import Failure
from headstart.data.images import load_image
from headstart.data.labels import label_text
from headstart.data.tables import ImageRef, same_content_of
from headstart.errors import BackboneError
from headstart.files import write_output
from headstart.progress import Progress
from headstart.record import IssueRecord, ProbeRecord, RunRecord
from headstart.report.page import Explained, report_page
from headstart.report.probes import probes
from headstart.runs.findings import Findings
from headstart.runs.folder import ISSUES, REPORT
from headstart.runs.record_file import issue_records_json

N_EXPLAINED = 12  # mistakes; a heat map takes 10 ms to 30 ms
N_NEAREST = 3
SQUARE_SIDE = 224  # pixels of an explained photo on the page
QUALITY = 80


@dataclass(frozen=True)
class Review:
    """The parts of a report beside run.json, findings and issues.

    pictures: a small JPEG for each photo, None for one that is gone. probes: the predictions for probe pictures, the rows of
    record["unfamiliar"]["probes"]; probe_pictures: a JPEG of each.
    """

    pictures: tuple[bytes | None, ...]
    explained: tuple[Explained, ...]
    probes: tuple[ProbeRecord, ...]
    probe_pictures: tuple[bytes, ...]


def review(
    classifier: Classifier,
    findings: Findings,
    images: Sequence[ImageRef | None],
    pictures: Sequence[bytes | None],
    *,
    results: Results | None = None,
    progress: Progress = lambda *_: None,
) -> Review:
    """Explain a classifier's mistakes and test it on probes.

    images: where each photo of the findings lies, None for those that are gone; pictures: a small JPEG of each. results: of
    earlier runs; the same classifier says the same.
    """
    rows = [i for i in findings.mistakes(_thresholds(classifier)).tolist() if images[i] is not None][:N_EXPLAINED]

    def compute() -> dict[str, np.ndarray]:
        return _arrays_of(*_explain_all(classifier, findings, images, rows, progress))

    if results is None:
        return Review(tuple(pictures), *_of_arrays(compute()))
    inputs = [sha256(classifier.content).digest(), findings.digests[rows], rows, findings.space, findings.labels]
    explained, records, probe_pictures = _of_arrays(results.arrays("review", inputs, compute))
    return Review(tuple(pictures), explained, records, probe_pictures)


Explanations: TypeAlias = tuple[tuple[Explained, ...], tuple[ProbeRecord, ...], tuple[bytes, ...]]
"""Explained mistakes, the records of the probes, and a JPEG of each probe."""


def _arrays_of(explained: Sequence[Explained], records: Sequence[ProbeRecord], pictures: Sequence[bytes]) -> dict[str, Any]:
    """Explanations as arrays, for the results of earlier runs."""
    arrays = {"records": np.frombuffer(json.dumps(records).encode(), np.uint8)}
    arrays |= {f"picture {i}": np.frombuffer(picture, np.uint8) for i, picture in enumerate(pictures)}
    for i, one in enumerate(explained):
        arrays |= {f"square {i}": np.frombuffer(one.square, np.uint8), f"heat {i}": one.heat}
        arrays |= {f"rows {i}": np.array([one.row, *one.nearest], np.int64)}
    return arrays


def _of_arrays(arrays: Mapping[str, np.ndarray]) -> Explanations:
    """What _arrays_of wrote."""
    records = json.loads(arrays["records"].tobytes())
    n_explained, n_pictures = (sum(name.startswith(what) for name in arrays) for what in ("square ", "picture "))
    explained = []
    for i in range(n_explained):
        row, *nearest = arrays[f"rows {i}"].tolist()
        explained.append(Explained(row, arrays[f"square {i}"].tobytes(), arrays[f"heat {i}"], tuple(nearest)))
    return tuple(explained), tuple(records), tuple(arrays[f"picture {i}"].tobytes() for i in range(n_pictures))


def pictures_of(
    findings: Findings,
    images: Sequence[ImageRef | None],
    store: Store | None,
    *,
    threads: int | None = None,
    progress: Progress = lambda *_: None,
) -> tuple[bytes | None, ...]:
    """Give a small JPEG of each photo of the findings; of those that are gone, the stored one, or None."""
    digests = [row.tobytes() for row in findings.digests]
    sources: list[Any] = [b"" if image is None else image for image in images]  # b"" gives no picture
    return compute_image_stats(sources, digests, store, threads=threads, progress=progress).pictures


def _explain_all(
    classifier: Classifier,
    findings: Findings,
    images: Sequence[ImageRef | None],
    rows: Sequence[int],
    progress: Progress,
) -> Explanations:
    """Explain some mistakes, and predict the probes: these, the probes' records and their pictures."""
    probe_images = probes()
    try:
        explainer = Explainer(classifier)
        explained = []
        for done, row in enumerate(rows):
            progress("explain", done, len(rows))
            image = images[row]
            assert image is not None
            content = same_content_of(image, findings.digests[row].tobytes())
            square = content if isinstance(content, Failure) else load_image(content, classifier.preprocess)
            if not isinstance(square, Failure):
                explained.append(_explain(explainer, findings, row, square))
        records = [_predict_probe(classifier, explainer, name, pixels) for name, pixels in probe_images.items()]
    except BackboneError:  # a network that OpenVINO cannot run in 32 bits: a report without heat maps is one all the same
        return (), (), ()
    return tuple(explained), tuple(records), tuple(_jpeg(pixels) for pixels in probe_images.values())


def _explain(explainer: Explainer, findings: Findings, row: int, square: np.ndarray) -> Explained:
    heat = explainer.explain(square, _wrong_class(explainer.classifier, findings, row))
    return Explained(row, _jpeg(square), heat.shown, findings.nearest(row, N_NEAREST))


def _wrong_class(classifier: Classifier, findings: Findings, row: int) -> int:
    """Choose the class to explain of a mistake: the one that was predicted wrongly, which a later fit may not predict.

    With several labels it is the one whose decision was wrong by most.
    """
    p = findings.probabilities[np.searchsorted(findings.held_out, row)]
    if classifier.thresholds is None:
        return int(p.argmax())
    is_predicted, applies = p >= classifier.thresholds, findings.labels[row] > 0
    return int(np.where(is_predicted != applies, np.where(is_predicted, p, 1 - p), -1).argmax())


def _predict_probe(classifier: Classifier, explainer: Explainer, name: str, pixels: np.ndarray) -> ProbeRecord:
    square = load_image(pixels, classifier.preprocess)
    assert isinstance(square, np.ndarray)
    outputs = explainer.outputs(square)
    p = outputs["probabilities"]
    thresholds = classifier.thresholds
    prediction = label_text(np.asarray(p.argmax() if thresholds is None else p >= thresholds), classifier.classes)
    unfamiliarity = outputs.get("unfamiliarity")
    return {
        "name": name,
        "prediction": prediction,
        "probability": float(p.max()),
        "unfamiliarity": None if unfamiliarity is None else float(unfamiliarity[0]),
    }


def _thresholds(classifier: Classifier) -> list[float] | None:
    return None if classifier.thresholds is None else classifier.thresholds.tolist()


def _jpeg(pixels: np.ndarray) -> bytes:
    import cv2
    import simplejpeg

    factor = SQUARE_SIDE / max(pixels.shape[:2])
    if factor < 1:
        pixels = cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    content: bytes = simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality=QUALITY, colorspace="RGB")
    return content


def with_probes(record: RunRecord, reviewed: Review) -> RunRecord:
    """Add the predictions for the probes to run.json's record."""
    unfamiliar = record.get("unfamiliar")
    if not unfamiliar:
        return record
    return {**record, "unfamiliar": {**unfamiliar, "probes": list(reviewed.probes)}}


def write_report(
    folder: Path, record: RunRecord, findings: Findings, issues: Iterable[IssueRecord], reviewed: Review
) -> None:
    """Write report.html into a folder; raises OutputError where it cannot be written."""
    page = report_page(
        record,
        findings,
        issues=list(issues),
        pictures=reviewed.pictures if any(reviewed.pictures) else (),
        explained=reviewed.explained,
        probe_pictures=reviewed.probe_pictures,
    )
    write_output(folder / REPORT, page)


def write_issues(folder: Path, issues: Sequence[IssueRecord]) -> None:
    """Write issues.json into a folder."""
    write_output(folder / ISSUES, issue_records_json(issues))
