"""Writes report.html: one self-contained HTML page with a run's results, mistakes, issues, map and learning curves.

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

from headstart.checks.kinds import KINDS, kind_title
from headstart.data.labels import are_many
from headstart.data.splits import TEST
from headstart.record import CalibrationRecord, IssueRecord, RunRecord
from headstart.report.colours import page_colours
from headstart.report.curve_table import page_curves
from headstart.report.sentences import classes, learning, numbers, result, trust
from headstart.report.sentences.advice import to_do
from headstart.report.sentences.numbers import paths_of
from headstart.report.sentences.run_card import card_of
from headstart.report.sprites import Sprites, make_sprites
from headstart.runs.findings import Findings, Outcomes
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
MOST_NAMES = 12  # of an issue none of whose photos is on the page


@dataclass(frozen=True)
class Explained:
    """A prediction with its heat map.

    row: in findings. square: JPEG of the square that the classifier sees. heat: (h, w) float32 in [0, 1], where in the
    square the evidence for the predicted class lies. nearest: rows of the most similar training photos.
    """

    row: int
    square: bytes
    heat: np.ndarray
    nearest: tuple[int, ...]


def report_page(
    record: RunRecord,
    findings: Findings,
    *,
    issues: Sequence[IssueRecord] = (),
    pictures: Sequence[bytes | None] = (),
    explained: Sequence[Explained] = (),
    probe_pictures: Sequence[bytes] = (),
    photos_base: str | None = None,
) -> str:
    """Write the report as one HTML page.

    record: run.json. issues: those of issues.json. pictures: a small JPEG for each row of findings, None where there is
    none, or () for no pictures at all. probe_pictures: a JPEG for each of record["unfamiliar"]["probes"]. photos_base:
    where the photos' folder lies as seen from the page, a relative path or a URL; by default the page opens photos by their
    absolute paths. It opens no photo outside of the folder, see photo_paths.may_open. Raises ValueError where pictures are
    not one a row.
    """
    if len(pictures) not in (0, len(findings.names)):
        raise ValueError(f"{len(pictures):,} pictures of {len(findings.names):,} photos; expected one each, or none")
    outcomes = findings.outcomes(record.get("thresholds"))
    rows = _rows_on_page(findings, outcomes, issues, explained)
    place = np.full(len(findings.names), -1)  # of each row among the photos of the page
    place[rows] = np.arange(len(rows))
    data = {
        **_summary(record, findings, outcomes, issues),
        "photos": {
            **_photo_columns(findings, outcomes, rows),
            "may_open": [
                may_open(findings.names[i], record["photos"], has_base=photos_base is not None) for i in rows.tolist()
            ],
        },
        "n_photos": len(findings.names),
        "n_mistakes": int((~outcomes.is_right).sum()),
        "sprites": _sprite_data([pictures[i] for i in rows.tolist()] if pictures else ()),
        "missing": [p for p, i in enumerate(rows.tolist()) if not pictures or pictures[i] is None],
        "folder": folder_of(record["photos"]),
        "is_tuned": numbers.others(record) == "validation",
        "base": photos_base,
        "mistakes": _mistake_data(findings.mistakes(record.get("thresholds")).tolist(), explained, place),
        "issues": _issues_by_kind(issues, findings, place),
        "probes": [_base64(picture) for picture in probe_pictures],
        "colours": page_colours(),
        "familiarity": _unfamiliarity_histogram(findings.unfamiliarity),
    }
    return _fill_template(data)


def _fill_template(data: dict[str, Any]) -> str:
    """Fill report.html's template with its parts, in one pass, so that no part is searched for placeholders."""
    parts = {
        "style": _web_file("report.css") + _web_file("map.css"),
        "map": _web_file("map.js"),
        "script": _web_file("report.js"),
        "data": _encode_json(data),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], _web_file("report.html"))


def _web_file(name: str) -> str:
    file = files("headstart.report") / "web" / name
    return file.read_text("utf-8") if file.is_file() else ""


def _encode_json(data: Any) -> str:
    """Encode data as ASCII JSON in which no tag can begin or end, whatever names are; NaN and infinity are null."""
    return json.dumps(_json_value(data), separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _json_value(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _json_value(v) for k, v in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _json_value(value.tolist())
    if isinstance(value, list | tuple):
        return [_json_value(v) for v in value]
    if isinstance(value, float):
        return float(f"{value:.9g}") if math.isfinite(value) else None  # fewer would round some shares twice
    return value


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _rows_on_page(
    findings: Findings, outcomes: Outcomes, issues: Sequence[IssueRecord], explained: Sequence[Explained]
) -> np.ndarray:
    """Choose the rows on the page, ascending: mistakes first, then photos of issues, then evenly from the others."""
    n = len(findings.names)
    if n <= MOST_PHOTOS:
        return np.arange(n)
    row_of = {name: i for i, name in enumerate(findings.names)}
    named = [i for issue in issues for name in paths_of(issue) if (i := row_of.get(name)) is not None]
    named += [i for e in explained for i in (e.row, *e.nearest)]
    rank = np.full(n, 2)
    rank[named] = 1
    rank[findings.held_out[~outcomes.is_right]] = 0
    rank[[e.row for e in explained]] = -1
    chosen: list[int] = []
    for r in (-1, 0, 1, 2):
        of_rank = np.flatnonzero(rank == r)
        left = MOST_PHOTOS - len(chosen)
        evenly = of_rank if len(of_rank) <= left else of_rank[np.linspace(0, len(of_rank) - 1, left).astype(np.int64)]
        chosen += evenly.tolist()
    return np.array(sorted(chosen), np.int64)


def _photo_columns(findings: Findings, outcomes: Outcomes, rows: np.ndarray) -> dict[str, Any]:
    """Give columns with a value for each photo on the page; prediction and probability are null unless it was held out."""
    outcome_of = np.full(len(findings.names), -1)
    outcome_of[findings.held_out] = np.arange(len(findings.held_out))
    places = outcome_of[rows].tolist()
    has_map = np.isfinite(findings.positions[rows]).all(axis=1).any()
    return {
        "name": [findings.names[i] for i in rows.tolist()],
        "label": [_class_positions(label) for label in findings.labels[rows]],
        "prediction": [None if i < 0 else _class_positions(outcomes.predictions[i]) for i in places],
        "probability": [None if i < 0 else round(float(outcomes.confidence[i]), 4) for i in places],
        "is_right": [None if i < 0 else bool(outcomes.is_right[i]) for i in places],
        "split": findings.splits[rows],
        "unfamiliarity": findings.unfamiliarity[rows].astype(float).round(2),
        "x": _round_positions(findings.positions[rows, 0]) if has_map else None,
        "y": _round_positions(findings.positions[rows, 1]) if has_map else None,
    }


def _round_positions(positions: np.ndarray) -> list[float]:
    return [float(f"{position:.5g}") for position in positions.tolist()]


def _class_positions(label: np.ndarray) -> int | list[int]:
    """Give one label as its position in the classes, several as a list of positions."""
    return int(label) if np.ndim(label) == 0 else np.flatnonzero(label).tolist()


def _sprite_data(pictures: Sequence[bytes | None]) -> dict[str, Any] | None:
    if not any(pictures):
        return None
    side = SIDE if len(pictures) <= MANY_PHOTOS else SMALLER_SIDE
    sprites: Sprites
    for quality in QUALITIES:
        sprites = make_sprites(pictures, side, quality=quality)
        if sum(map(len, sprites.sheets)) <= MOST_PICTURE_BYTES:
            break
    sheets = [_base64(sheet) for sheet in sprites.sheets]
    return {"side": side, "columns": sprites.columns, "perSheet": sprites.per_sheet, "sheets": sheets}


def _summary(record: RunRecord, findings: Findings, outcomes: Outcomes, issues: Sequence[IssueRecord]) -> dict[str, Any]:
    """Give the sentences and numbers of the page that come from run.json and from counts of the outcomes."""
    n_classes = len(record["classes"])
    is_test = findings.splits[findings.held_out] == TEST
    held_out_confusions = _confusion_counts(outcomes, n_classes)
    e = record["evaluation"]
    return {
        "title": _last_part(record.get("photos")) or "photos",
        "run": _last_part(record["run"]) if numbers.is_evaluation(record) else None,
        "created": record.get("created"),
        "version": record.get("headstart"),
        "classes": record["classes"],
        "of_class": list((record.get("images_of_class") or {}).values()),
        "is_many": are_many(findings.labels),
        "is_tested": numbers.is_tested(record),
        "evaluation": {k: v for k, v in e.items() if k != "confusion"},
        "is_balanced": numbers.is_balanced(record),
        "n_right": int(outcomes.is_right[is_test | (not numbers.is_tested(record))].sum()),
        "guess": result.majority_class(record),
        "images": record["images"],
        "notes": record.get("notes") or [],
        "sentences": {
            "result": result.result(record),
            "chance": result.chance(record),
            "comparison": (record.get("comparison") or {}).get("sentence"),
            "verdict": result.verdict(record),
            "classes": classes.classes(record),
            "confusion_test": classes.confusion(record),
            "confusion_all": classes.confusion(record, held_out_confusions),
            "calibration": trust.calibration(record),
            "unfamiliar": trust.unfamiliar(record),
            "fitting": learning.overfitting(record),
            "tuning": learning.fine_tuning(record),
            "curve": learning.more_photos(record),
            "ladder": learning.ladder(record),
        },
        "to_do": [[t.section, t.text] for t in to_do(record, issues, held_out_confusions)],
        "cells": {
            "test": _matrix_cells(outcomes, is_test, n_classes),
            "all": _matrix_cells(outcomes, np.ones_like(is_test), n_classes),
        },
        "calibration": _calibration_data(record),
        "unfamiliar": record.get("unfamiliar"),
        "ladder": record.get("ladder") or [],
        "fitting": record.get("fitting"),
        "tuning": tuning.get("history") if (tuning := record.get("fine_tuning")) else None,
        "curve": record.get("learning_curve"),
        "curve_keys": page_curves(),
        "card": card_of(record),
        "limits": learning.limits(record),
    }


def _last_part(path: object) -> str:
    return re.split(r"[/\\]", str(path or "").rstrip("/\\"))[-1]


def _calibration_data(record: RunRecord) -> CalibrationRecord | None:
    """Give run.json's calibration, without the bins before it where nothing was corrected."""
    calibration = record.get("calibration")
    return calibration if not calibration or trust.is_corrected(calibration) else {**calibration, "bins_before": None}


def _confusion_counts(outcomes: Outcomes, n_classes: int) -> np.ndarray | None:
    """Count the confusions of all held-out photos, (k, k), rows are labels; None with several labels."""
    if are_many(outcomes.labels):
        return None
    pairs = outcomes.labels * n_classes + outcomes.predictions
    return np.bincount(pairs, minlength=n_classes**2).reshape(n_classes, n_classes)


def _matrix_cells(outcomes: Outcomes, is_in: np.ndarray, n_classes: int) -> list[list[int]]:
    """List the nonzero cells of the confusion matrix, [label, prediction, photos]; with several labels a photo, of a table
    of labels, [label, 0 right 1 missed 2 given wrongly, photos]."""
    labels, predictions = outcomes.labels[is_in], outcomes.predictions[is_in]
    if are_many(labels):
        columns = [labels & predictions, labels & ~predictions, ~labels & predictions]
        table = np.stack([column.sum(axis=0) for column in columns], axis=1)
        return [[i, j, int(table[i, j])] for i, j in np.argwhere(table).tolist()]
    pairs, n = np.unique(labels * n_classes + predictions, return_counts=True)
    return [[p // n_classes, p % n_classes, many] for p, many in zip(pairs.tolist(), n.tolist(), strict=True)]


def _mistake_data(mistakes: list[int], explained: Sequence[Explained], place: np.ndarray) -> list[dict[str, Any]]:
    """Give the mistakes that are shown large, most confident first, and then the other explained predictions."""
    by_row = {e.row: e for e in explained}
    others = [e.row for e in explained if e.row not in {*mistakes}]
    rows = [row for row in mistakes if row in by_row] or mistakes[: MOST_MISTAKES // 2]
    return [
        {"photo": int(place[row]), **_explanation_data(by_row.get(row), place)}
        for row in [*rows, *others][:MOST_MISTAKES]
        if place[row] >= 0
    ]


def _explanation_data(e: Explained | None, place: np.ndarray) -> dict[str, Any]:
    if e is None:
        return {"square": None, "heat": None, "nearest": []}
    heat = np.clip(np.nan_to_num(np.asarray(e.heat, np.float32)), 0, 1)
    step = -(-max(heat.shape) // MOST_HEAT_SIDE)
    heat = heat[::step, ::step]
    content = _base64((heat * 255).astype(np.uint8).tobytes())
    nearest = [int(place[i]) for i in e.nearest if place[i] >= 0]
    return {"square": _base64(e.square), "heat": [*heat.shape, content], "nearest": nearest}


def _issues_by_kind(issues: Sequence[IssueRecord], findings: Findings, place: np.ndarray) -> list[dict[str, Any]]:
    """Group the issues by kind, the worst first; the kinds in the order of their worst issue."""
    row_of = {name: i for i, name in enumerate(findings.names)}
    kinds: dict[str, list[dict[str, Any]]] = {}
    for issue in sorted(issues, key=lambda i: i.get("score") or 0):
        photos = [int(place[i]) for name in paths_of(issue) if (i := row_of.get(name)) is not None and place[i] >= 0]
        words = {k: issue.get(k) for k in ("label", "suggested_label", "score", "sentence", "suggestion")}
        names = [] if photos else paths_of(issue)[:MOST_NAMES]
        kinds.setdefault(issue["kind"], []).append({**words, "photos": photos[:MOST_OF_ISSUE], "names": names})
    return [
        {
            "kind": kind,
            "title": kind_title(kind),
            "meaning": KINDS[kind].meaning if kind in KINDS else "",
            "n": len(rows),
            "found": rows[:MOST_ISSUES],
        }
        for kind, rows in kinds.items()
    ]


def _unfamiliarity_histogram(unfamiliarity: np.ndarray) -> dict[str, Any] | None:
    values = unfamiliarity[np.isfinite(unfamiliarity)]
    if not len(values):
        return None
    counts, edges = np.histogram(np.minimum(values, MOST_UNFAMILIAR), N_BARS, (0, MOST_UNFAMILIAR))
    return {"counts": counts, "edges": edges, "beyond": int((values > 1).sum()), "n": len(values)}
