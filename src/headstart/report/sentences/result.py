"""Sentences about the result: the accuracy, its 95 % interval, whether to rely on it, and how many more photos to test on.

Takes run.json; gives plain text. It decides which differences are worth a word, and which are chance.
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
from headstart.wording import counted, percent, points, quote_name, whole_percent

AIM = 0.03  # half the width of the accuracy's interval with as many photos as n_needed says


def result(record: RunRecord) -> str:
    """Say how accurate the classifier is, and on which photos that was measured."""
    e = record["evaluation"]
    if are_several(record):
        what = f"gave {e['n_correct']:,} of them all their labels and no other"
    else:
        what = f"labelled {e['n_correct']:,} of them correctly"
    balanced_words = ""
    if is_balanced(record):
        every = "Every class" if all(c["support"] for c in e["classes"]) else "Every class that such photos are of"
        balanced_words = f" {every} counted alike, that is {percent(balanced(e)[0])} (balanced accuracy)."
    if is_tested(record):
        test = f"It was tested on {counted(e['n_images'], 'photo')} that it had never seen"
        return f"{test}, and {what}: {percent(e['accuracy'])}.{balanced_words}"
    return (
        f"There were no photos to spare for a test, so each of {counted(e['n_images'], 'photo')} was held out once "
        f"(cross-validation). It {what}: {percent(e['accuracy'])}.{balanced_words}"
    )


def chance(record: RunRecord) -> str:
    """Say what the 95 % interval of the accuracy means."""
    e = record["evaluation"]
    low, high = e["interval"]
    luck = "a number that is partly luck" if high - low > WIDE else "little left to luck"
    n_different = e.get("n_different", e["n_images"])
    copies = f", {n_different:,} of them different (copies count as one)," if n_different < e["n_images"] else ""
    return (
        f"With {counted(e['n_images'], 'photo')}{copies} that is {luck}: on many more photos of the same kind it would "
        f"probably be right for between {percent(low)} and {percent(high)} (95 % interval).{_balanced_chance(record)}"
    )


def _balanced_chance(record: RunRecord) -> str:
    if not is_balanced(record):
        return ""
    _, (low, high) = balanced(record["evaluation"])
    return f" The balanced accuracy would be between {percent(low)} and {percent(high)}."


def verdict(record: RunRecord) -> str:
    """Say whether the result can be relied on, and what to do next."""
    e = record["evaluation"]
    if is_balanced(record):
        _, (low, high) = balanced(e)
        always: tuple[str, float] | None = ("any one class", 1 / sum(c["support"] > 0 for c in e["classes"]))
    else:
        (low, high), guess = e["interval"], majority_class(record)
        always = guess and (quote_name(guess[0]), guess[1])
    if always is not None and low <= always[1]:
        where = " where every class counts alike" * is_balanced(record)
        return (
            f"This is not shown to be better than always answering {always[0]}, which would be right for "
            f"{percent(always[1])}{where}. Do not rely on it yet: "
            f"{'look at the labels and the mistakes below, then ' if e['n_correct'] < e['n_images'] else ''}add photos."
        )
    better = "" if always is None else f"Much better than always answering {always[0]} ({percent(always[1])}), but "
    if high - low > WIDE and is_balanced(record):
        rarest = min((c for c in e["classes"] if c["support"]), key=lambda c: c["support"])
        return (
            f"{better}not yet a number to rely on: the interval of the balanced accuracy is {points(high - low)} wide. Only "
            f"{counted(rarest['support'], 'photo')} of {quote_name(rarest['label'])} judged it: add photos of the rarest "
            f"classes and {'evaluate it on more' if is_evaluation(record) else 'train again'}."
        )
    if high - low > WIDE:
        return (
            f"{better or 'This is '}not yet a number to rely on: the interval is {points(high - low)} wide, because only "
            f"{judges(e)} judged it. {photos_needed(record)}."
        )
    return (
        f"This is a number to rely on for photos like these: {describe_errors(e)}. Whether you can live with that depends "
        "on what a wrong answer costs; the worst mistakes below show what they look like."
    )


def majority_class(record: RunRecord) -> tuple[str, float] | None:
    """Give the commonest class and its share, the accuracy of always answering it; None with several labels a photo."""
    of_class = record.get("images_of_class") or {}
    if are_several(record) or not sum(of_class.values()):
        return None
    name = max(of_class, key=lambda c: of_class[c])
    return name, of_class[name] / sum(of_class.values())


def n_needed(e: EvaluationRecord) -> int:
    """Estimate how many photos would narrow the interval of the accuracy to AIM (Agresti & Coull 1998)."""
    share = (e["n_correct"] + 2) / (e["n_images"] + 4)  # never 0 or 1
    return math.ceil(Z95**2 * share * (1 - share) / AIM**2 / 10) * 10


def photos_needed(record: RunRecord) -> str:
    """Say how many photos would narrow the accuracy's interval, and how to get that many."""
    n = n_needed(record["evaluation"])
    if is_evaluation(record):
        return f"About {n:,} photos would bring it to within 3 points; evaluate it on more"
    if not is_tested(record):
        return f"About {n:,} photos would bring it to within 3 points; add photos and train again"
    share = _test_share(record)
    part, n_all = SHARES.get(round(share, 2), whole_percent(share)), math.ceil(n / share / 10) * 10
    return (
        f"About {n:,} test photos would bring it to within 3 points, at {part} kept for testing about {n_all:,} in all; "
        "add photos and train again"
    )


def _test_share(record: RunRecord) -> float:
    """Give the share of test photos: the option's, unless the numbers show that the data gave its own split."""
    n_test, n = record["images"].get("test") or record["evaluation"]["n_images"], record["images"]["used"]
    option = (record.get("arguments") or {}).get("test")
    low, high = wilson_interval(min(n_test, n), n)
    return float(option) if option and low <= option <= high else min(n_test, n) / n
