"""The run's card: options, choices, file, licences, times and versions of a run, for the last part of the report.

Takes run.json; gives groups of terms and their values. It decides what of a run is worth a line.
"""

from __future__ import annotations

from typing import Any

from headstart.backbones.builtin import BACKBONES
from headstart.data.splits import SPLITS
from headstart.record import RunRecord
from headstart.report.sentences.numbers import is_evaluation
from headstart.wording import counted


def card_of(record: RunRecord) -> list[tuple[str, list[tuple[str, str]]]]:
    """List how a run was made: groups, each a title and its terms with their values; record: run.json."""
    choice = record.get("choice") or {}
    names = str(choice.get("backbone", "")).split("+")
    model = record.get("model") or {}
    seconds = record.get("seconds") or {}
    choices = [(str(k), _value_text(v)) for k, v in choice.items() if k != "trials"]
    file = [
        ("file", str(model.get("file", ""))),
        ("bytes", f"{model.get('bytes', 0):,}"),
        ("sha256", str(model.get("sha256", ""))),
    ]
    groups = [
        ("Photos", _photo_rows(record)),
        ("What was chosen", choices),
        ("The classifier's file", file if model else []),
        ("Licences of the weights", [(b.name, b.license) for b in BACKBONES.values() if b.name in names]),
        ("Options", [(str(k), _value_text(v)) for k, v in (record.get("arguments") or {}).items()]),
        ("Seconds", [*((str(k), f"{v:.1f}") for k, v in seconds.items()), ("together", f"{sum(seconds.values()):.1f}")]),
        (
            "Versions",
            [
                ("headstart", str(record.get("headstart"))),
                *((k, _value_text(v)) for k, v in (record.get("versions") or {}).items()),
            ],
        ),
    ]
    return [(title, rows) for title, rows in groups if rows]


def _photo_rows(record: RunRecord) -> list[tuple[str, str]]:
    images = record["images"]
    rows = [
        ("folder or table", str(record.get("photos", ""))),
        ("photos used", f"{images['used']:,}"),
        ("left out", f"{images.get('skipped', 0):,}"),
    ]
    if is_evaluation(record):
        return [("run that was judged", str(record["run"])), *rows]
    of_split = (images.get("train", 0), images.get("validation", 0), images.get("test", 0))
    return [
        *rows,
        *((split, counted(n, "photo")) for split, n in zip(SPLITS, of_split, strict=True)),
        ("fingerprint of the splits", str(record.get("splits_sha256", ""))),
    ]


def _value_text(value: Any) -> str:
    if value is None or value == [] or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
