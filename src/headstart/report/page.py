"""The report: one page, complete in itself, that shows whether a classifier can be trusted, and why.

Takes run.json, the findings and small pictures; gives HTML that asks for nothing over a network. It decides which photos
are on the page where there are too many for all. What people wrote (names, labels) stays data: JSON, never markup.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np

from headstart.checks.kinds import KINDS
from headstart.data.labels import are_many
from headstart.data.splits import TEST
from headstart.record import CalibrationRecord, IssueRecord, RunRecord
from headstart.report.advice import kind_title, to_do
from headstart.report.run_card import card_of
from headstart.report.sentences import classes, learning, numbers, result, trust
from headstart.report.sentences.numbers import paths_of
from headstart.report.sprites import Sprites, make_sprites
from headstart.runs.findings import Findings, Judged
from headstart.runs.photo_paths import folder_of, may_open

MOST_PHOTOS = 5_000  # on the page
MANY_PHOTOS = 2_000  # from here on their pictures are smaller
SIDE, SMALLER_SIDE = 64, 48  # pixels
MOST_PICTURE_BYTES = 2_600_000  # of all sheets; a third more as base64, which leaves room for the rest within 5 MB
QUALITIES = (60, 45, 30, 20)  # the first with which they fit
MOST_MISTAKES = 24
MOST_HEAT_SIDE = 32
N_BARS = 32  # of the histogram of unfamiliarity
MOST_UNFAMILIAR = 2.0  # where its axis ends; the last bar has all that lies beyond
MOST_ISSUES = 200  # of a kind
MOST_OF_ISSUE = 48  # photos of one issue


@dataclass(frozen=True)
class Explained:
    """One prediction, explained.

    row: in findings. square: JPEG of the square that the classifier sees. heat: (h, w) float32 in [0, 1], where in the
    square the evidence for the predicted class lies. nearest: rows of the most similar photos that it learnt from.
    """

    row: int
    square: bytes
    heat: np.ndarray
    nearest: tuple[int, ...]


def report_page(
    about: RunRecord,
    findings: Findings,
    *,
    issues: Sequence[IssueRecord] = (),
    pictures: Sequence[bytes | None] = (),
    explained: Sequence[Explained] = (),
    probe_pictures: Sequence[bytes] = (),
    photos_base: str | None = None,
) -> str:
    """Write the report as one HTML page.

    about: run.json. issues: those of issues.json. pictures: a small JPEG for each row of findings, None for one that is not
    there, or () where there are none at all. probe_pictures: a JPEG for each of about["unfamiliar"]["probes"].
    photos_base: where the photos' folder lies as seen from the page, a relative path or an URL; by default the page opens
    photos by the absolute paths they have. It opens none that lies elsewhere, see addresses.may_open. Raises ValueError
    where pictures are not one a row.
    """
    if len(pictures) not in (0, len(findings.names)):
        raise ValueError(f"{len(pictures):,} pictures of {len(findings.names):,} photos; expected one each, or none")
    judged = findings.judged(about.get("thresholds"))
    shown = _shown(findings, judged, issues, explained)
    place = np.full(len(findings.names), -1)
    place[shown] = np.arange(len(shown))
    data = {
        **_summary(about, findings, judged, issues),
        "photos": {
            **_photos(findings, judged, shown),
            "may_open": [
                may_open(findings.names[i], str(about.get("photos") or ""), has_base=photos_base is not None)
                for i in shown.tolist()
            ],
        },
        "n_photos": len(findings.names),
        "n_mistakes": int((~judged.is_right).sum()),
        "sprites": _sprites([pictures[i] for i in shown.tolist()] if pictures else ()),
        "missing": [p for p, i in enumerate(shown.tolist()) if not pictures or pictures[i] is None],
        "folder": folder_of(str(about.get("photos") or "")),
        "is_tuned": (about.get("choice") or {}).get("head") == "fine-tuned",
        "base": photos_base,
        "mistakes": _mistakes(findings.mistakes(about.get("thresholds")).tolist(), explained, place),
        "issues": _issues(issues, findings, place),
        "probes": [_base64(picture) for picture in probe_pictures],
        "familiarity": _histogram(findings.unfamiliarity),
    }
    return _page(data)


# ---- the page


def _page(data: dict[str, Any]) -> str:
    """Join the template with its parts; each goes in once, so that no text of one is taken for another's place."""
    parts = {
        "style": _part("report.css") + _part("map.css"),
        "map": _part("map.js"),
        "script": _part("report.js"),
        "data": _as_json(data),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _part("report.html"))


def _part(name: str) -> str:
    part = files("headstart.report") / "web" / name
    return part.read_text("utf-8") if part.is_file() else ""


def _as_json(data: Any) -> str:
    """JSON of ASCII alone in which no tag can begin or end, whatever names are; what is no number is null."""
    return json.dumps(_plain(data), separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float):
        return float(f"{value:.9g}") if math.isfinite(value) else None  # fewer would round some shares twice
    return value


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


# ---- which photos


def _shown(findings: Findings, judged: Judged, issues: Sequence[IssueRecord], explained: Sequence[Explained]) -> np.ndarray:
    """The rows that are on the page, ascending: mistakes first, then what the page names, then evenly from the others."""
    n = len(findings.names)
    if n <= MOST_PHOTOS:
        return np.arange(n)
    row_of = {name: i for i, name in enumerate(findings.names)}
    named = [i for issue in issues for name in paths_of(issue) if (i := row_of.get(name)) is not None]
    named += [i for e in explained for i in (e.row, *e.nearest)]
    rank = np.full(n, 2)
    rank[named] = 1
    rank[findings.held_out[~judged.is_right]] = 0
    rank[[e.row for e in explained]] = -1
    chosen: list[int] = []
    for r in (-1, 0, 1, 2):
        of_rank = np.flatnonzero(rank == r)
        left = MOST_PHOTOS - len(chosen)
        evenly = of_rank if len(of_rank) <= left else of_rank[np.linspace(0, len(of_rank) - 1, left).astype(np.int64)]
        chosen += evenly.tolist()
    return np.array(sorted(chosen), np.int64)


def _photos(findings: Findings, judged: Judged, shown: np.ndarray) -> dict[str, Any]:
    """Columns, a value for each photo on the page; prediction and probability null for one that was not held out."""
    at = np.full(len(findings.names), -1)
    at[findings.held_out] = np.arange(len(findings.held_out))
    held = at[shown]
    said = [None if i < 0 else judged.predictions[i] for i in held.tolist()]
    has_place = np.isfinite(findings.positions[shown]).all(axis=1).any()
    return {
        "name": [findings.names[i] for i in shown.tolist()],
        "label": [_as_positions(label) for label in findings.labels[shown]],
        "prediction": [None if p is None else _as_positions(p) for p in said],
        "probability": [None if i < 0 else round(float(judged.sureness[i]), 4) for i in held.tolist()],
        "is_right": [None if i < 0 else bool(judged.is_right[i]) for i in held.tolist()],
        "split": findings.splits[shown],
        "unfamiliarity": findings.unfamiliarity[shown].astype(float).round(2),
        "x": _rounded(findings.positions[shown, 0]) if has_place else None,
        "y": _rounded(findings.positions[shown, 1]) if has_place else None,
    }


def _rounded(places: np.ndarray) -> list[float]:
    return [float(f"{place:.5g}") for place in places.tolist()]


def _as_positions(label: np.ndarray) -> int | list[int]:
    """One label as its position, several as a list of them."""
    return int(label) if np.ndim(label) == 0 else np.flatnonzero(label).tolist()


def _sprites(pictures: Sequence[bytes | None]) -> dict[str, Any] | None:
    if not any(pictures):
        return None
    side = SIDE if len(pictures) <= MANY_PHOTOS else SMALLER_SIDE
    made: Sprites
    for quality in QUALITIES:
        made = make_sprites(pictures, side, quality=quality)
        if sum(map(len, made.sheets)) <= MOST_PICTURE_BYTES:
            break
    sheets = [_base64(sheet) for sheet in made.sheets]
    return {"side": side, "columns": made.columns, "perSheet": made.per_sheet, "sheets": sheets}


# ---- what is on it


def _summary(about: RunRecord, findings: Findings, judged: Judged, issues: Sequence[IssueRecord]) -> dict[str, Any]:
    """Sentences and figures that come from run.json and from counts alone."""
    n_classes = len(about["classes"])
    is_test = findings.splits[findings.held_out] == TEST
    everything = _counts(judged, n_classes)
    e = about["evaluation"]
    return {
        "title": _last_part(about.get("photos")) or "photos",
        "run": _last_part(about["run"]) if numbers.is_evaluation(about) else None,
        "created": about.get("created"),
        "version": about.get("headstart"),
        "classes": about["classes"],
        "of_class": list((about.get("images_of_class") or {}).values()),
        "is_many": are_many(findings.labels),
        "is_tested": numbers.is_tested(about),
        "evaluation": {k: v for k, v in e.items() if k != "confusion"},
        "is_balanced": numbers.is_balanced(about),
        "n_right": int(judged.is_right[is_test | (not numbers.is_tested(about))].sum()),
        "guess": result.guessing(about),
        "images": about["images"],
        "notes": about.get("notes") or [],
        "sentences": {
            "result": result.result(about),
            "chance": result.chance(about),
            "comparison": (about.get("comparison") or {}).get("sentence"),
            "verdict": result.verdict(about),
            "classes": classes.classes(about),
            "confusion_test": classes.confused(about),
            "confusion_all": classes.confused(about, everything),
            "calibration": trust.surer(about),
            "unfamiliar": trust.unfamiliar(about),
            "fitting": learning.overfitting(about),
            "tuning": learning.fine_tuning(about),
            "curve": learning.more_photos(about),
            "ladder": learning.ladder(about),
        },
        "to_do": [[t.section, t.text] for t in to_do(about, issues, everything)],
        "cells": {"test": _cells(judged, is_test, n_classes), "all": _cells(judged, np.ones_like(is_test), n_classes)},
        "calibration": _calibration(about),
        "unfamiliar": about.get("unfamiliar"),
        "ladder": about.get("ladder") or [],
        "fitting": about.get("fitting"),
        "tuning": tuning.get("history") if (tuning := about.get("fine_tuning")) else None,
        "curve": about.get("learning_curve"),
        "card": card_of(about),
        "limits": learning.limits(about),
    }


def _last_part(path: object) -> str:
    return re.split(r"[/\\]", str(path or "").rstrip("/\\"))[-1]


def _calibration(about: RunRecord) -> CalibrationRecord | None:
    """As run.json has it; without what was before where nothing was corrected."""
    known = about.get("calibration")
    return known if not known or trust.is_corrected(known) else {**known, "bins_before": None}


def _counts(judged: Judged, n_classes: int) -> np.ndarray | None:
    """Confusions of all photos that were held out, (k, k), rows are labels; None with several labels."""
    if are_many(judged.labels):
        return None
    pairs = judged.labels * n_classes + judged.predictions
    return np.bincount(pairs, minlength=n_classes**2).reshape(n_classes, n_classes)


def _cells(judged: Judged, is_in: np.ndarray, n_classes: int) -> list[list[int]]:
    """What is not 0 of the matrix: [label, prediction, photos]; or [label, 0 right 1 missed 2 given wrongly, photos]."""
    labels, said = judged.labels[is_in], judged.predictions[is_in]
    if are_many(labels):
        table = np.stack([(labels & said).sum(0), (labels & ~said).sum(0), (~labels & said).sum(0)], axis=1)
        return [[i, j, int(table[i, j])] for i, j in np.argwhere(table).tolist()]
    pairs, n = np.unique(labels * n_classes + said, return_counts=True)
    return [[p // n_classes, p % n_classes, many] for p, many in zip(pairs.tolist(), n.tolist(), strict=True)]


def _mistakes(surest: list[int], explained: Sequence[Explained], place: np.ndarray) -> list[dict[str, Any]]:
    """The mistakes, rows, the surest first, and whatever else was explained after them."""
    of_row = {e.row: e for e in explained}
    wrong = set(surest)
    others = [e.row for e in explained if e.row not in wrong]
    kept = [row for row in surest if row in of_row] or surest[: MOST_MISTAKES // 2]
    found = []
    for row in [*kept, *others][:MOST_MISTAKES]:
        if place[row] >= 0:
            found.append({"photo": int(place[row]), **_explanation(of_row.get(row), place)})
    return found


def _explanation(e: Explained | None, place: np.ndarray) -> dict[str, Any]:
    if e is None:
        return {"square": None, "heat": None, "nearest": []}
    heat = np.clip(np.nan_to_num(np.asarray(e.heat, np.float32)), 0, 1)
    step = -(-max(heat.shape) // MOST_HEAT_SIDE)
    heat = heat[::step, ::step]
    content = _base64((heat * 255).astype(np.uint8).tobytes())
    nearest = [int(place[i]) for i in e.nearest if place[i] >= 0]
    return {"square": _base64(e.square), "heat": [*heat.shape, content], "nearest": nearest}


def _issues(issues: Sequence[IssueRecord], findings: Findings, place: np.ndarray) -> list[dict[str, Any]]:
    """By kind, the worst first; the kinds in the order of their worst."""
    row_of = {name: i for i, name in enumerate(findings.names)}
    kinds: dict[str, list[dict[str, Any]]] = {}
    for issue in sorted(issues, key=lambda i: i.get("score") or 0):
        photos = [int(place[i]) for name in paths_of(issue) if (i := row_of.get(name)) is not None and place[i] >= 0]
        kept = {k: issue.get(k) for k in ("label", "suggested_label", "score", "sentence", "suggestion")}
        kinds.setdefault(str(issue["kind"]), []).append(
            {**kept, "photos": photos[:MOST_OF_ISSUE], "names": [] if photos else paths_of(issue)[:12]}
        )
    return [{"kind": kind, **_told(kind), "n": len(found), "found": found[:MOST_ISSUES]} for kind, found in kinds.items()]


def _told(kind: str) -> dict[str, str]:
    return {"title": kind_title(kind), "meaning": KINDS[kind].meaning if kind in KINDS else ""}


def _histogram(unfamiliarity: np.ndarray) -> dict[str, Any] | None:
    known = unfamiliarity[np.isfinite(unfamiliarity)]
    if not len(known):
        return None
    counts, edges = np.histogram(np.minimum(known, MOST_UNFAMILIAR), N_BARS, (0, MOST_UNFAMILIAR))
    return {"counts": counts, "edges": edges, "beyond": int((known > 1).sum()), "n": len(known)}
