"""Writes the map of photos as one self-contained HTML page, which web/map.js draws.

Takes findings, issues and small pictures (MapContents); gives the page, the data of its script as JSON, and the title and
the sentence above the map. It decides how many pictures a page holds and how large they are.
"""

from __future__ import annotations

import base64
import html
import importlib.resources
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np

from headstart.data.labels import are_many, label_text
from headstart.data.splits import SPLITS
from headstart.record import IssueRecord, RunRecord
from headstart.report.colours import page_colours
from headstart.report.sentences.numbers import paths_of
from headstart.report.sprites import make_sprites
from headstart.runs.findings import Findings
from headstart.runs.photo_paths import is_remote, may_open
from headstart.wording import counted

SIDE, SMALL_SIDE, MANY_PICTURES, MOST_PICTURES = 64, 32, 5_000, 60_000  # pixels of a picture on the page; how many


@dataclass(frozen=True)
class NewPhotos:
    """m photos that were not in the training, with their predictions and their positions on its map.

    positions: (m, 2). predictions: (m,) int64, or (m, k) of 0 and 1 where a photo may have several labels. probabilities:
    (m,) float32, the highest of each. unfamiliarity: (m,) float32, NaN where the classifier does not measure it. pictures:
    small JPEG files, None where there is none.
    """

    names: tuple[str, ...]
    positions: np.ndarray
    predictions: np.ndarray
    probabilities: np.ndarray
    unfamiliarity: np.ndarray
    pictures: tuple[bytes | None, ...]

    @property
    def are_unfamiliar(self) -> np.ndarray:
        """Which photos are unfamiliar, (m,) bool, as in `predict`'s rows."""
        return self.unfamiliarity > 1

    def to_json(self, classes: Sequence[str]) -> list[dict[str, Any]]:
        """Give the photos' predictions under the names of predict's rows; None where unfamiliarity is not measured."""
        rows = zip(self.names, self.predictions, self.probabilities, self.unfamiliarity, strict=True)
        return [
            {
                "path": name,
                "prediction": label_text(prediction, classes),
                "probability": float(probability),
                "unfamiliar": bool(unfamiliarity > 1) if np.isfinite(unfamiliarity) else None,
                "unfamiliarity": float(unfamiliarity) if np.isfinite(unfamiliarity) else None,
            }
            for name, prediction, probability, unfamiliarity in rows
        ]


NO_NEW_PHOTOS = NewPhotos((), np.zeros((0, 2)), np.zeros(0, np.int64), np.zeros(0), np.zeros(0), ())


@dataclass(frozen=True)
class MapContents:
    """The contents of a map: a run's photos, their issues, and new photos.

    record: run.json. pictures: a small JPEG file for each name in findings, or None; empty where there are none at all.
    issues: as in issues.json. originals: the prefix that makes a photo's name its address; None: file:// where names are
    absolute paths, otherwise only the small pictures are shown. Of the run's photos only those in its own folder are opened.
    """

    record: RunRecord
    findings: Findings
    pictures: Sequence[bytes | None] = ()
    issues: Sequence[IssueRecord] = ()
    new: NewPhotos = NO_NEW_PHOTOS
    originals: str | None = None


def map_data(contents: MapContents) -> dict[str, Any]:
    """Gather what headstartMap of web/map.js draws, ready for JSON."""
    record, findings, new, originals = contents.record, contents.findings, contents.new, contents.originals
    names, m = (*findings.names, *new.names), len(new.names)
    root = _common_folder(names)
    predictions, probabilities = _predictions(record, findings)
    new_predictions = _label_lists(new.predictions) if are_many(new.predictions) else new.predictions.tolist()
    labels = _label_lists(findings.labels) if are_many(findings.labels) else findings.labels.tolist()
    is_correct = [-1 if p in (-1, None) else int(p == label) for label, p in zip(labels, predictions, strict=True)]
    kind_of = {path: issue["kind"] for issue in reversed(contents.issues) for path in paths_of(issue)}
    kinds = sorted(set(kind_of.values()))
    pictures = [*(contents.pictures or [None] * len(findings.names)), *new.pictures][:MOST_PICTURES]
    photos, has_base = str(record.get("photos") or ""), originals is not None
    opens = [may_open(name, photos, has_base=has_base) for name in findings.names]
    opens += [not is_remote(name) for name in new.names]  # they were named on the command line
    is_whole = bool(names) and all(PurePosixPath(n).is_absolute() or PureWindowsPath(n).is_absolute() for n in names)
    return {
        "x": _pack(np.concatenate([findings.positions[:, 0], new.positions[:, 0]]), "f32"),
        "y": _pack(np.concatenate([findings.positions[:, 1], new.positions[:, 1]]), "f32"),
        "root": root,
        "names": [name[len(root) :] for name in names],
        "classes": list(record["classes"]),
        "label": _pack_labels([*labels, *[-1] * m]),
        "prediction": _pack_labels([*predictions, *new_predictions]),
        "probability": _pack(np.concatenate([probabilities, new.probabilities]), "f32"),
        "unfamiliarity": _pack(np.concatenate([findings.unfamiliarity, new.unfamiliarity]), "f32"),
        "split": _pack(np.concatenate([findings.splits, np.full(m, -1)]), "i8"),
        "isCorrect": _pack(np.array(is_correct + [-1] * m), "i8"),
        "issue": {**_pack(np.array([kinds.index(kind_of[n]) if n in kind_of else -1 for n in names]), "i8"), "of": kinds},
        "mayOpen": _pack(np.array(opens), "u8"),
        "isNew": _pack(np.arange(len(names)) >= len(findings.names), "u8"),
        "sprites": _sprite_data(pictures) if any(pictures) else None,
        "colours": page_colours(),
        "originals": originals if originals is not None else "file://" if is_whole else None,
    }


def map_page(contents: MapContents) -> str:
    """Write the map as one self-contained HTML page."""
    web = importlib.resources.files("headstart.report") / "web"
    values = {
        "style": (web / "map.css").read_text("utf-8"),
        "script": (web / "map.js").read_text("utf-8"),
        "title": _escape(map_title(contents.record)),
        "about": _escape(map_sentence(contents)),
        # In a script element nothing but "</script" and "<!--" means anything to HTML.
        "data": json.dumps(map_data(contents), separators=(",", ":")).replace("<", "\\u003c"),
    }
    template = (web / "map.html").read_text("utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda match: values[match[1]], template)


def map_title(record: RunRecord) -> str:
    """Name the map: the last folder of its photos."""
    photos = str(record.get("photos") or "")
    return re.split(r"[\\/]", photos.rstrip("\\/"))[-1] or photos or "photos"


def map_sentence(contents: MapContents) -> str:
    """Say how many photos and classes there are, and which photos the map does not show."""
    findings, new = contents.findings, contents.new
    n, n_placed = len(findings.names), int(np.isfinite(findings.positions).all(axis=1).sum())
    splits = ", ".join(f"{(findings.splits == i).sum():,} {name}" for i, name in enumerate(SPLITS))
    parts = [f"{counted(n, 'photo')} ({splits}), {len(contents.record['classes']):,} classes."]
    if new.names:
        unfamiliar = f"; {n_unfamiliar:,} of them unfamiliar" if (n_unfamiliar := int(new.are_unfamiliar.sum())) else ""
        parts.append(f"{len(new.names):,} new, as diamonds{unfamiliar}.")
    if n_placed < n:
        parts.append(f"{n - n_placed:,} are not on the map.")
    if n + len(new.names) > MOST_PICTURES:
        parts.append(f"The first {MOST_PICTURES:,} have pictures; with more, browsers would not open the page.")
    return " ".join(parts)


def _pack(values: np.ndarray, kind: str) -> dict[str, Any]:
    """Encode numbers as base64 of little-endian bytes, as map.js unpacks them."""
    dtype = {"f32": "<f4", "i8": "<i1", "u8": "<u1", "i16": "<i2"}[kind]
    return {kind: base64.b64encode(np.ascontiguousarray(values, dtype).tobytes()).decode("ascii")}


def _pack_labels(labels: list[Any]) -> Any:
    """Encode positions of classes as numbers, or as lists where images have several labels."""
    return labels if any(isinstance(label, list) for label in labels) else _pack(np.array(labels), "i16")


def _label_lists(applies: np.ndarray) -> list[list[int]]:
    return [np.flatnonzero(row).tolist() for row in applies]


def _predictions(record: RunRecord, findings: Findings) -> tuple[list[Any], np.ndarray]:
    """Give the prediction for each photo, -1 (or None) where it was not held out, and its probability, or -1."""
    outcomes, n = findings.outcomes(record.get("thresholds")), len(findings.names)
    probabilities = np.full(n, -1.0)
    if are_many(findings.labels):
        lists: list[Any] = [None] * n
        for row, positions in zip(findings.held_out.tolist(), _label_lists(outcomes.predictions), strict=True):
            lists[row] = positions
        return lists, probabilities
    predictions = np.full(n, -1, np.int64)
    predictions[findings.held_out] = outcomes.predictions
    probabilities[findings.held_out] = outcomes.confidence
    return predictions.tolist(), probabilities


def _common_folder(names: Sequence[str]) -> str:
    """Find the folders that all names begin with, which the page holds once."""
    if not names:
        return ""
    first, last = min(names), max(names)
    same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return first[: first.rfind("/", 0, same) + 1]


def _sprite_data(pictures: Sequence[bytes | None]) -> dict[str, Any]:
    sprites = make_sprites(pictures, SIDE if len(pictures) <= MANY_PICTURES else SMALL_SIDE)
    sheets = [f"data:image/jpeg;base64,{base64.b64encode(sheet).decode('ascii')}" for sheet in sprites.sheets]
    return {"side": sprites.side, "columns": sprites.columns, "perSheet": sprites.per_sheet, "sheets": sheets}


def _escape(text: str) -> str:
    return html.escape(text).replace("\0", "")
