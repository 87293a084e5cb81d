"""The review: a finished classifier looked at from all sides, as its report shows it.

Takes a classifier, what is known of its photos, and the photos as far as they are still there; gives small pictures, its
mistakes explained, and what it says of pictures of something else; and writes the report. It decides how many mistakes are
explained.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from headstart.classifier.classifier import Classifier
from headstart.classifier.explain import Explainer
from headstart.codes.image_stats import compute_image_stats
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
    """What a report needs beside run.json, findings and issues.

    pictures: a small JPEG for each photo, None for one that is gone. probes: what the classifier says of other pictures, the
    rows of about["unfamiliar"]["probes"], and a JPEG of each.
    """

    pictures: tuple[bytes | None, ...]
    explained: tuple[Explained, ...]
    probes: tuple[dict[str, Any], ...]
    probe_pictures: tuple[bytes, ...]


def review(
    classifier: Classifier,
    findings: Findings,
    images: Sequence[ImageRef | None],
    pictures: Sequence[bytes | None],
    *,
    progress: Progress = lambda *_: None,
) -> Review:
    """Look at a classifier from all sides. images: of the findings, None for those that are gone; pictures: of them."""
    return Review(tuple(pictures), *_explained(classifier, findings, images, progress))


def pictures_of(
    findings: Findings,
    images: Sequence[ImageRef | None],
    store: Store | None,
    *,
    threads: int | None = None,
    progress: Progress = lambda *_: None,
) -> tuple[bytes | None, ...]:
    """A small JPEG of each photo of the findings; of those that are gone, the one that the store kept, or None."""
    digests = [row.tobytes() for row in findings.digests]
    sources: list[Any] = [b"" if image is None else image for image in images]  # b"" is no photo, and is told as such
    return compute_image_stats(sources, digests, store, threads=threads, progress=progress).pictures


def _explained(
    classifier: Classifier, findings: Findings, images: Sequence[ImageRef | None], progress: Progress
) -> tuple[tuple[Explained, ...], tuple[dict[str, Any], ...], tuple[bytes, ...]]:
    """The surest mistakes explained, what is said of the probes, and the probes' pictures."""
    rows = [i for i in findings.mistakes(_thresholds(classifier)).tolist() if images[i] is not None][:N_EXPLAINED]
    wrong = probes()
    try:
        explainer = Explainer(classifier)
        found = []
        for done, row in enumerate(rows):
            progress("explain", done, len(rows))
            content = same_content_of(images[row], findings.digests[row].tobytes())
            square = content if isinstance(content, Failure) else load_image(content, classifier.preprocess)
            if not isinstance(square, Failure):
                found.append(_explain(explainer, findings, row, square))
        told = [_told(classifier, explainer, name, pixels) for name, pixels in wrong.items()]
    except BackboneError:  # a network that OpenVINO cannot run in 32 bits: a report without heat maps is one all the same
        return (), (), ()
    return tuple(found), tuple(told), tuple(_jpeg(pixels) for pixels in wrong.values())


def _explain(explainer: Explainer, findings: Findings, row: int, square: np.ndarray) -> Explained:
    heat = explainer.explain(square, _mistaken(explainer.classifier, findings, row))
    return Explained(row, _jpeg(square), heat.shown, findings.nearest(row, N_NEAREST))


def _mistaken(classifier: Classifier, findings: Findings, row: int) -> int:
    """The class to explain of a held-out photo that was told wrongly: that of the mistake, which a later fit may not make.

    Of several labels it is the one whose decision was wrong by most.
    """
    p = findings.probabilities[np.searchsorted(findings.held_out, row)]
    if classifier.thresholds is None:
        return int(p.argmax())
    given, applies = p >= classifier.thresholds, findings.labels[row] > 0
    return int(np.where(given != applies, np.where(given, p, 1 - p), -1).argmax())


def _told(classifier: Classifier, explainer: Explainer, name: str, pixels: np.ndarray) -> dict[str, Any]:
    square = load_image(pixels, classifier.preprocess)
    assert isinstance(square, np.ndarray)
    outputs = explainer.outputs(square)
    p = outputs["probabilities"]
    thresholds = classifier.thresholds
    prediction = label_text(np.asarray(p.argmax() if thresholds is None else p >= thresholds), classifier.classes)
    strange = outputs.get("unfamiliarity")
    return {
        "name": name,
        "prediction": prediction,
        "probability": float(p.max()),
        "unfamiliarity": None if strange is None else float(strange[0]),
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


def with_probes(about: RunRecord, reviewed: Review) -> RunRecord:
    """run.json with what is said of the probes."""
    unfamiliar = about.get("unfamiliar")
    if not unfamiliar:
        return about
    return {**about, "unfamiliar": {**unfamiliar, "probes": cast(Sequence[ProbeRecord], list(reviewed.probes))}}


def write_report(
    folder: Path, about: RunRecord, findings: Findings, issues: Iterable[IssueRecord], reviewed: Review
) -> None:
    """Write report.html into a folder; raises OutputError where that cannot be."""
    page = report_page(
        about,
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
