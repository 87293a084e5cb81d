"""The run's card: how a classifier was made, for the last part of the report.

Takes run.json; gives groups of terms and what they are. It decides what of a run is worth a line.
"""

from __future__ import annotations

from typing import Any

from headstart.backbones.builtin import BACKBONES
from headstart.data.splits import SPLITS
from headstart.record import RunRecord
from headstart.report.sentences.numbers import is_evaluation
from headstart.wording import counted


def card_of(about: RunRecord) -> list[tuple[str, list[tuple[str, str]]]]:
    """Tell how a run was made: groups, each a title and its terms with what they are; about: run.json."""
    choice = about.get("choice") or {}
    names = str(choice.get("backbone", "")).split("+")
    model = about.get("model") or {}
    seconds = about.get("seconds") or {}
    learnt = [(str(k), _worded(v)) for k, v in choice.items() if k != "trials"]
    made = [
        ("file", str(model.get("file", ""))),
        ("bytes", f"{model.get('bytes', 0):,}"),
        ("sha256", str(model.get("sha256", ""))),
    ]
    groups = [
        ("Photos", _photos(about)),
        ("What was chosen", learnt),
        ("The classifier's file", made if model else []),
        ("Licences of the weights", [(b.name, b.license) for b in BACKBONES.values() if b.name in names]),
        ("Options", [(str(k), _worded(v)) for k, v in (about.get("arguments") or {}).items()]),
        ("Seconds", [*((str(k), f"{v:.1f}") for k, v in seconds.items()), ("together", f"{sum(seconds.values()):.1f}")]),
        (
            "Versions",
            [
                ("headstart", str(about.get("headstart"))),
                *((k, _worded(v)) for k, v in (about.get("versions") or {}).items()),
            ],
        ),
    ]
    return [(title, rows) for title, rows in groups if rows]


def _photos(about: RunRecord) -> list[tuple[str, str]]:
    images = about["images"]
    rows = [
        ("folder or table", str(about.get("photos", ""))),
        ("photos used", f"{images['used']:,}"),
        ("left out", f"{images.get('skipped', 0):,}"),
    ]
    if is_evaluation(about):
        return [("run that was judged", str(about["run"])), *rows]
    of_split = (images.get("train", 0), images.get("validation", 0), images.get("test", 0))
    return [
        *rows,
        *((split, counted(n, "photo")) for split, n in zip(SPLITS, of_split, strict=True)),
        ("fingerprint of the splits", str(about.get("splits_sha256", ""))),
    ]


def _worded(value: Any) -> str:
    if value is None or value == [] or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
