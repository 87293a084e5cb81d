"""Sentences about classes: which has the lowest recall, and which two are confused most often."""

from __future__ import annotations

import numpy as np

from headstart.record import RunRecord
from headstart.report.sentences.numbers import UNEVEN, is_tested, others
from headstart.wording import counted, listed, percent, quote_name

FEW_OF_CLASS = 10  # test photos of a class, below which its own numbers are mostly luck
PATTERN = 3  # confusions between two classes, below which they are single cases


def classes(record: RunRecord) -> str:
    """Say which class has the lowest recall and which the highest, and which no photo has tested."""
    scored = [(recall, c) for c in record["evaluation"]["classes"] if (recall := c["recall"]) is not None]
    unjudged = [quote_name(c["label"]) for c in record["evaluation"]["classes"] if not c["support"]]
    judged_by = "test photo" if is_tested(record) else "photo"
    missing = f" No {judged_by} is of {listed(unjudged, 'or')}: how well that is found is not known." if unjudged else ""
    if len(scored) < 2:
        return f"There are too few classes with photos to compare them.{missing}"
    (least, worst), (most, best) = (choose(scored, key=lambda pair: pair[0]) for choose in (min, max))
    if least == most:
        which = f"The other {len(scored):,} classes" if unjudged else "All classes"
        return f"{missing} {which} are found equally often: {percent(most)} of their photos.".strip()
    few = worst["support"] < FEW_OF_CLASS
    luck = f", though {counted(worst['support'], 'photo')} cannot say much" if few else ""
    return (
        f"It misses {quote_name(worst['label'])} most: it finds {percent(least)} of these photos{luck}; "
        f"of {quote_name(best['label'])} it finds {percent(most)}.{missing}"
    )


def confusion(record: RunRecord, counts: np.ndarray | None = None) -> str | None:
    """Say which two classes are confused, and what would help; counts: (k, k), rows are labels, by default of the test.

    None where a photo may have several labels.
    """
    counts = confusion_counts(record) if counts is None else counts
    if counts is None:
        return None
    pair = worst_pair(counts)
    if pair is None:
        return f"None of the {judged_by(record, counts)} is taken for another class."
    (i, j), names = pair, record["classes"]
    a, b, n = quote_name(names[i]), quote_name(names[j]), int(counts[i, j] + counts[j, i])
    of = f"Of the {judged_by(record, counts)}, " if counts.sum() != record["evaluation"]["n_images"] else ""
    mistake = f"{of}{a} is taken for {b} in {counted(int(counts[i, j]), 'photo')}"
    if n < PATTERN:
        return f"{mistake}; no two classes are confused more often."
    back = f", and {counts[j, i]:,} the other way round" if counts[j, i] else ""
    return f"{mistake}{back}. {_what_would_help(record, names[i], names[j])}"


def judged_by(record: RunRecord, counts: np.ndarray) -> str:
    """Name the photos that counts of confusions, (k, k), are of: "12 test and cross-validated photos"."""
    n, n_test = int(counts.sum()), record["evaluation"]["n_images"] if is_tested(record) else 0
    kinds = ["test"] * bool(n_test) + [others(record)] * (n > n_test)
    return counted(n, f"{' and '.join(kinds)} photo")


def _what_would_help(record: RunRecord, a: str, b: str) -> str:
    of_class = record.get("images_of_class") or {}
    fewer, more = sorted((a, b), key=lambda c: of_class.get(c, 0))
    if of_class.get(more, 0) > UNEVEN * of_class.get(fewer, 0):
        return (
            f"{quote_name(more)} has {counted(of_class[more], 'photo')} and {quote_name(fewer)} {of_class.get(fewer, 0):,}: "
            f"more photos of {quote_name(fewer)} would help most."
        )
    join = " or make one class of the two" if len(record["classes"]) > 2 else ""
    return (
        f"Look at these photos: where you cannot tell them apart either, mend the labels{join}; "
        "where you can, add photos of both that show the difference."
    )


def confusion_counts(record: RunRecord) -> np.ndarray | None:
    """Give the evaluation's confusion matrix, (k, k), rows are labels; None where a photo may have several labels."""
    matrix = record["evaluation"].get("confusion")
    return None if matrix is None else np.array(matrix, np.int64)


def worst_pair(counts: np.ndarray) -> tuple[int, int] | None:
    """Find the two classes that are confused most, by counts (k, k): label and prediction of the commoner mistake."""
    both = counts + counts.T
    np.fill_diagonal(both, 0)
    i, j = np.unravel_index(int(both.argmax()), both.shape)
    if not both[i, j]:
        return None
    return (int(i), int(j)) if counts[i, j] >= counts[j, i] else (int(j), int(i))
