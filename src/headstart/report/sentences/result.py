"""Readings: what a run's numbers say, each in one sentence for somebody who has never trained a classifier.

Takes run.json as a dict, and counts of confusions; gives plain text. It decides which differences are worth a word, and
which are chance.
"""

from __future__ import annotations

import math

from headstart.numerics.intervals import Z95, wilson_interval
from headstart.record import EvaluationRecord, RunRecord
from headstart.report.sentences.numbers import (
    SHARES,
    WIDE,
    are_several,
    balanced,
    describe_errors,
    is_balanced,
    is_evaluation,
    is_tested,
    judges,
)
from headstart.wording import counted, percent, points, quoted, whole_percent

AIM = 0.03  # what "about so many test photos would do" aims at: the accuracy to within 3 points


# ---- the result


def result(about: RunRecord) -> str:
    """How good it is."""
    e = about["evaluation"]
    if are_several(about):
        what = f"gave {e['n_correct']:,} of them all their labels and no other"
    else:
        what = f"labelled {e['n_correct']:,} of them correctly"
    alike = ""
    if is_balanced(about):
        every = "Every class" if all(c["support"] for c in e["classes"]) else "Every class that such photos are of"
        alike = f" {every} counted alike, that is {percent(balanced(e)[0])} (balanced accuracy)."
    if is_tested(about):
        seen = f"It was tested on {counted(e['n_images'], 'photo')} that it had never seen"
        return f"{seen}, and {what}: {percent(e['accuracy'])}.{alike}"
    return (
        f"There were no photos to spare for a test, so each of {counted(e['n_images'], 'photo')} was held out once "
        f"(cross-validation). It {what}: {percent(e['accuracy'])}.{alike}"
    )


def chance(about: RunRecord) -> str:
    """What the 95 % interval means."""
    e = about["evaluation"]
    low, high = e["interval"]
    luck = "a number that is partly luck" if high - low > WIDE else "little left to luck"
    n_different = e.get("n_different", e["n_images"])
    copies = f", {n_different:,} of them different (copies count as one)," if n_different < e["n_images"] else ""
    return (
        f"With {counted(e['n_images'], 'photo')}{copies} that is {luck}: on many more photos of the same kind it would "
        f"probably be right for between {percent(low)} and {percent(high)} (95 % interval).{_balanced_chance(about)}"
    )


def _balanced_chance(about: RunRecord) -> str:
    if not is_balanced(about):
        return ""
    _, (low, high) = balanced(about["evaluation"])
    return f" The balanced accuracy would be between {percent(low)} and {percent(high)}."


def verdict(about: RunRecord) -> str:
    """Whether that can be relied on, and what to do next."""
    e = about["evaluation"]
    if is_balanced(about):
        _, (low, high) = balanced(e)
        always: tuple[str, float] | None = ("any one class", 1 / sum(c["support"] > 0 for c in e["classes"]))
    else:
        (low, high), guess = e["interval"], guessing(about)
        always = guess and (quoted(guess[0]), guess[1])
    if always is not None and low <= always[1]:
        alike = " where every class counts alike" * is_balanced(about)
        return (
            f"This is not shown to be better than always answering {always[0]}, which would be right for "
            f"{percent(always[1])}{alike}. Do not rely on it yet: "
            f"{'look at the labels and the mistakes below, then ' if e['n_correct'] < e['n_images'] else ''}add photos."
        )
    better = "" if always is None else f"Much better than always answering {always[0]} ({percent(always[1])}), but "
    if high - low > WIDE and is_balanced(about):
        rarest = min((c for c in e["classes"] if c["support"]), key=lambda c: c["support"])
        return (
            f"{better}not yet a number to rely on: the interval of the balanced accuracy is {points(high - low)} wide. Only "
            f"{counted(rarest['support'], 'photo')} of {quoted(rarest['label'])} judged it: add photos of the rarest "
            f"classes and {'evaluate it on more' if is_evaluation(about) else 'train again'}."
        )
    if high - low > WIDE:
        return (
            f"{better or 'This is '}not yet a number to rely on: the interval is {points(high - low)} wide, because only "
            f"{judges(e)} judged it. {needed(about)}."
        )
    return (
        f"This is a number to rely on for photos like these: {describe_errors(e)}. Whether you can live with that depends "
        "on what a wrong answer costs; the worst mistakes below show what they look like."
    )


def guessing(about: RunRecord) -> tuple[str, float] | None:
    """The commonest class and its share: what is right without looking; None where a photo may have several labels."""
    of_class = about.get("images_of_class") or {}
    if are_several(about) or not sum(of_class.values()):
        return None
    name = max(of_class, key=lambda c: of_class[c])
    return name, of_class[name] / sum(of_class.values())


def n_needed(e: EvaluationRecord) -> int:
    """How many photos would pin an evaluation's accuracy down to AIM (Agresti & Coull 1998)."""
    share = (e["n_correct"] + 2) / (e["n_images"] + 4)  # never 0 or 1
    return math.ceil(Z95**2 * share * (1 - share) / AIM**2 / 10) * 10


def needed(about: RunRecord) -> str:
    """How many photos would pin the accuracy down, and how to come to so many."""
    n = n_needed(about["evaluation"])
    if is_evaluation(about):
        return f"About {n:,} photos would bring it to within 3 points; evaluate it on more"
    if not is_tested(about):
        return f"About {n:,} photos would bring it to within 3 points; add photos and train again"
    share = _test_share(about)
    kept, n_all = SHARES.get(round(share, 2), whole_percent(share)), math.ceil(n / share / 10) * 10
    return (
        f"About {n:,} test photos would bring it to within 3 points, at {kept} kept for testing about {n_all:,} in all; "
        "add photos and train again"
    )


def _test_share(about: RunRecord) -> float:
    """The share of photos that are test photos: as asked for, but where it shows that the data itself gave another."""
    n_test, n = about["images"].get("test") or about["evaluation"]["n_images"], about["images"]["used"]
    asked = (about.get("arguments") or {}).get("test")
    low, high = wilson_interval(min(n_test, n), n)
    return float(asked) if asked and low <= asked <= high else min(n_test, n) / n
