"""The map as one HTML page that needs nothing else, for a browser.

Takes positions and what is known of the photos; gives the page, or what its script draws as JSON, and the title and the
sentence above it. It decides how many pictures a page holds and how large they are, and what of a name is written.
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
from headstart.report.sentences.numbers import paths_of
from headstart.report.sprites import make_sprites
from headstart.runs.findings import Findings
from headstart.runs.photo_paths import is_remote, may_open

SIDE, SMALL_SIDE, MANY_PICTURES, MOST_PICTURES = 64, 32, 5_000, 60_000  # pixels of a picture on the page; how many


@dataclass(frozen=True)
class NewPhotos:
    """Photos that came after the training, m of them, put on its map.

    positions: (m, 2). predictions: (m,) int64, or (m, k) of 0 and 1 where a photo may have several labels. probabilities:
    (m,) float32, the highest of each. unfamiliarity: (m,) float32, NaN where the classifier cannot tell. pictures: small
    JPEG files, None where there is none.
    """

    names: tuple[str, ...]
    positions: np.ndarray
    predictions: np.ndarray
    probabilities: np.ndarray
    unfamiliarity: np.ndarray
    pictures: tuple[bytes | None, ...]

    @property
    def are_unfamiliar(self) -> np.ndarray:
        """(m,) booleans, as `predict` has them."""
        return self.unfamiliarity > 1

    def to_json(self, classes: Sequence[str]) -> list[dict[str, Any]]:
        """What is said of each, under the names of predict's rows; None where the classifier cannot tell."""
        rows = zip(self.names, self.predictions, self.probabilities, self.unfamiliarity, strict=True)
        return [
            {
                "path": name,
                "prediction": label_text(prediction, classes),
                "probability": float(probability),
                "unfamiliar": bool(strange > 1) if np.isfinite(strange) else None,
                "unfamiliarity": float(strange) if np.isfinite(strange) else None,
            }
            for name, prediction, probability, strange in rows
        ]


NO_NEW_PHOTOS = NewPhotos((), np.zeros((0, 2)), np.zeros(0, np.int64), np.zeros(0), np.zeros(0), ())


@dataclass(frozen=True)
class MapContents:
    """What a map shows of the photos in findings, and of new ones.

    pictures: one for each name in findings, small JPEG files, or None; empty where there are none at all. issues: as in
    issues.json. originals: what stands before a name in its photo's address; None takes file:// where names are whole paths,
    and shows small pictures alone elsewhere. Of the run's photos only those in its own folder are opened.
    """

    about: RunRecord
    findings: Findings
    pictures: Sequence[bytes | None] = ()
    issues: Sequence[IssueRecord] = ()
    new: NewPhotos = NO_NEW_PHOTOS
    originals: str | None = None


def map_data(contents: MapContents) -> dict[str, Any]:
    """Gather what headstartMap of web/map.js draws, ready for JSON."""
    about, findings, new, originals = contents.about, contents.findings, contents.new, contents.originals
    names, m = (*findings.names, *new.names), len(new.names)
    root = _root(names)
    predictions, probabilities = _predictions(about, findings)
    of_new = _lists(new.predictions) if are_many(new.predictions) else new.predictions.tolist()
    labels = _lists(findings.labels) if are_many(findings.labels) else findings.labels.tolist()
    is_correct = [-1 if p in (-1, None) else int(p == label) for label, p in zip(labels, predictions, strict=True)]
    kind_of = {path: issue["kind"] for issue in reversed(contents.issues) for path in paths_of(issue)}
    kinds = sorted(set(kind_of.values()))
    kept = [*(contents.pictures or [None] * len(findings.names)), *new.pictures][:MOST_PICTURES]
    photos, has_base = str(about.get("photos") or ""), originals is not None
    opens = [may_open(name, photos, has_base=has_base) for name in findings.names]
    opens += [not is_remote(name) for name in new.names]  # they were named on the command line
    is_whole = bool(names) and all(PurePosixPath(n).is_absolute() or PureWindowsPath(n).is_absolute() for n in names)
    return {
        "x": _packed(np.concatenate([findings.positions[:, 0], new.positions[:, 0]]), "f32"),
        "y": _packed(np.concatenate([findings.positions[:, 1], new.positions[:, 1]]), "f32"),
        "root": root,
        "names": [name[len(root) :] for name in names],
        "classes": list(about["classes"]),
        "label": _answers([*labels, *[-1] * m]),
        "prediction": _answers([*predictions, *of_new]),
        "probability": _packed(np.concatenate([probabilities, new.probabilities]), "f32"),
        "unfamiliarity": _packed(np.concatenate([findings.unfamiliarity, new.unfamiliarity]), "f32"),
        "split": _packed(np.concatenate([findings.splits, np.full(m, -1)]), "i8"),
        "isCorrect": _packed(np.array(is_correct + [-1] * m), "i8"),
        "issue": {**_packed(np.array([kinds.index(kind_of[n]) if n in kind_of else -1 for n in names]), "i8"), "of": kinds},
        "mayOpen": _packed(np.array(opens), "u8"),
        "isNew": _packed(np.arange(len(names)) >= len(findings.names), "u8"),
        "sprites": _sprites(kept) if any(kept) else None,
        "originals": originals if originals is not None else "file://" if is_whole else None,
    }


def map_page(contents: MapContents) -> str:
    """Draw the map as one HTML page that needs nothing else."""
    web = importlib.resources.files("headstart.report") / "web"
    values = {
        "style": (web / "map.css").read_text("utf-8"),
        "script": (web / "map.js").read_text("utf-8"),
        "title": _escaped(title(contents.about)),
        "about": _escaped(sentence(contents)),
        # In a script element nothing but "</script" and "<!--" means anything to HTML.
        "data": json.dumps(map_data(contents), separators=(",", ":")).replace("<", "\\u003c"),
    }
    template = (web / "map.html").read_text("utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda found: values[found[1]], template)


def title(about: RunRecord) -> str:
    """What the map is called: the last folder of its photos."""
    photos = str(about.get("photos") or "")
    return re.split(r"[\\/]", photos.rstrip("\\/"))[-1] or photos or "photos"


def sentence(contents: MapContents) -> str:
    """Say how many photos there are, and which are not to be seen."""
    findings, new = contents.findings, contents.new
    n, n_placed = len(findings.names), int(np.isfinite(findings.positions).all(axis=1).sum())
    splits = ", ".join(f"{(findings.splits == i).sum():,} {name}" for i, name in enumerate(SPLITS))
    parts = [f"{n:,} photo{'s' * (n != 1)} ({splits}), {len(contents.about['classes']):,} classes."]
    if new.names:
        strange = f"; {n_strange:,} of them unfamiliar" if (n_strange := int(new.are_unfamiliar.sum())) else ""
        parts.append(f"{len(new.names):,} new, as diamonds{strange}.")
    if n_placed < n:
        parts.append(f"{n - n_placed:,} are not on the map.")
    if n + len(new.names) > MOST_PICTURES:
        parts.append(f"The first {MOST_PICTURES:,} have pictures; with more, browsers would not open the page.")
    return " ".join(parts)


def _packed(values: np.ndarray, kind: str) -> dict[str, Any]:
    dtype = {"f32": "<f4", "i8": "<i1", "u8": "<u1", "i16": "<i2"}[kind]
    return {kind: base64.b64encode(np.ascontiguousarray(values, dtype).tobytes()).decode("ascii")}


def _answers(answers: list[Any]) -> Any:
    """Positions of classes as numbers, or as lists where images have several labels."""
    return answers if any(isinstance(a, list) for a in answers) else _packed(np.array(answers), "i16")


def _lists(applies: np.ndarray) -> list[list[int]]:
    return [np.flatnonzero(row).tolist() for row in applies]


def _predictions(about: RunRecord, findings: Findings) -> tuple[list[Any], np.ndarray]:
    """What was predicted of each photo, -1 (or None) where it was not held out, and the probability of it, or -1."""
    judged, n = findings.judged(about.get("thresholds")), len(findings.names)
    probabilities = np.full(n, -1.0)
    if are_many(findings.labels):
        lists: list[Any] = [None] * n
        for row, found in zip(findings.held_out.tolist(), _lists(judged.predictions), strict=True):
            lists[row] = found
        return lists, probabilities
    predictions = np.full(n, -1, np.int64)
    predictions[findings.held_out] = judged.predictions
    probabilities[findings.held_out] = judged.sureness
    return predictions.tolist(), probabilities


def _root(names: Sequence[str]) -> str:
    """The folders that all names begin with: they are written once."""
    if not names:
        return ""
    first, last = min(names), max(names)
    same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return first[: first.rfind("/", 0, same) + 1]


def _sprites(pictures: Sequence[bytes | None]) -> dict[str, Any]:
    made = make_sprites(pictures, SIDE if len(pictures) <= MANY_PICTURES else SMALL_SIDE)
    sheets = [f"data:image/jpeg;base64,{base64.b64encode(sheet).decode('ascii')}" for sheet in made.sheets]
    return {"side": made.side, "columns": made.columns, "perSheet": made.per_sheet, "sheets": sheets}


def _escaped(text: str) -> str:
    return html.escape(text).replace("\0", "")
