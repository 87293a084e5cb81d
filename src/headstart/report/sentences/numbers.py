"""Facts about a run that several sentences share: test split or cross-validation, balanced or not, how many photos."""

from __future__ import annotations

from headstart.record import EvaluationRecord, IssueRecord, RunRecord
from headstart.wording import counted, percent

WIDE = 0.10  # an interval wider than this leaves the accuracy open
UNEVEN = 5.0  # times as many photos of one class as of another
SHARES = {0.1: "a tenth", 0.2: "a fifth", 0.25: "a quarter", 0.5: "half"}  # of photos that are kept for testing


def is_tested(record: RunRecord) -> bool:
    """Whether the result comes from a test split, and not from cross-validation."""
    return bool(record["evaluation"]["split"] == "test")


def is_evaluation(record: RunRecord) -> bool:
    """Whether a record is of an evaluation of a finished run on other photos, and not of a training."""
    return record.get("run") is not None


def is_balanced(record: RunRecord) -> bool:
    """Whether every class counts the same, however many photos it has (--balance), and the balanced accuracy is known."""
    is_wanted = (record.get("arguments") or {}).get("balance")
    return bool(is_wanted) and record["evaluation"].get("balanced_accuracy") is not None


def others(record: RunRecord) -> str:
    """Name the held-out photos that are not of the test split: "validation" or "cross-validated"."""
    is_tuned = (record.get("choice") or {}).get("head") == "fine-tuned"
    cross_validation = record.get("cross_validation")
    is_given = cross_validation is not None and cross_validation.get("by") == "validation"
    return "validation" if is_tuned or is_given else "cross-validated"


def judges(e: EvaluationRecord) -> str:
    """Count the photos that an evaluation is by, copies of a photo once: "9 photos", "8 different photos"."""
    n_different = e.get("n_different", e["n_images"])
    return counted(n_different, "photo" if n_different == e["n_images"] else "different photo")


def describe_errors(e: EvaluationRecord) -> str:
    """Say how often answers are wrong: "about one answer in 12 is wrong"."""
    wrong = 1 - e["accuracy"]
    if wrong == 0:
        return "none of its answers was wrong"
    if wrong > 0.3:
        return f"{percent(wrong)} of its answers are wrong"
    return f"about one answer in {round(1 / wrong):,} is wrong"


def are_several(record: RunRecord) -> bool:
    """Whether a photo may have several labels."""
    return record.get("thresholds") is not None


def balanced(e: EvaluationRecord) -> tuple[float, tuple[float, float]]:
    """Give the balanced accuracy and its 95 % interval, of a run whose classes count the same (is_balanced)."""
    accuracy, interval = e.get("balanced_accuracy"), e.get("balanced_interval")
    if accuracy is None or interval is None:
        return e["accuracy"], (e["interval"][0], e["interval"][1])
    return accuracy, (interval[0], interval[1])


def paths_of(issue: IssueRecord) -> list[str]:
    """List the photos that an issue is about, each once."""
    return list(dict.fromkeys(path for path in (issue.get("path"), *issue.get("paths", ())) if path))
