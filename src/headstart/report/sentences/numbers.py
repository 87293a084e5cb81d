"""What the sentences of a report read from a run: which photos judged, how many, and in what measure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headstart.record import EvaluationRecord, IssueRecord, RunRecord
from headstart.wording import counted, percent

WIDE = 0.10  # an interval wider than this leaves the accuracy open
UNEVEN = 5.0  # times as many photos of one class as of another
SHARES = {0.1: "a tenth", 0.2: "a fifth", 0.25: "a quarter", 0.5: "half"}  # kept for testing


def is_tested(about: RunRecord) -> bool:
    """Whether the result comes from a test split, and not from cross-validation."""
    return bool(about["evaluation"]["split"] == "test")


def is_evaluation(about: RunRecord) -> bool:
    """Whether a finished run was judged by other photos, and nothing was learnt."""
    return about.get("run") is not None


def is_balanced(about: Mapping[str, Any]) -> bool:
    """Whether every class counts the same, however many photos it has (--balance), and what that gave is known."""
    asked = (about.get("arguments") or {}).get("balance")
    return bool(asked) and about["evaluation"].get("balanced_accuracy") is not None


def others(about: RunRecord) -> str:
    """What photos are that were held out but are no test photos."""
    return "validation" if (about.get("choice") or {}).get("head") == "fine-tuned" else "cross-validated"


def judges(e: EvaluationRecord) -> str:
    """How many photos judged, copies of one counted once."""
    n_different = e.get("n_different", e["n_images"])
    return counted(n_different, "photo" if n_different == e["n_images"] else "different photo")


def describe_errors(e: EvaluationRecord) -> str:
    wrong = 1 - e["accuracy"]
    if wrong == 0:
        return "none of its answers was wrong"
    if wrong > 0.3:
        return f"{percent(wrong)} of its answers are wrong"
    return f"about one answer in {round(1 / wrong):,} is wrong"


def are_several(about: RunRecord) -> bool:
    """Whether a photo may have several labels."""
    return about.get("thresholds") is not None


def balanced(e: EvaluationRecord) -> tuple[float, tuple[float, float]]:
    """The balanced accuracy and its 95 % interval, of a run whose classes count the same (is_balanced)."""
    accuracy, interval = e.get("balanced_accuracy"), e.get("balanced_interval")
    if accuracy is None or interval is None:
        return e["accuracy"], (e["interval"][0], e["interval"][1])
    return accuracy, (interval[0], interval[1])


def paths_of(issue: IssueRecord) -> list[str]:
    """The photos that an issue is about, each once."""
    return list(dict.fromkeys(path for path in (issue.get("path"), *issue.get("paths", ())) if path))
