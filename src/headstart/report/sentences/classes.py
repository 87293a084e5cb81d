"""Sentences about classes: which are told apart well, and which are taken for one another."""

from __future__ import annotations

import numpy as np

from headstart.record import RunRecord
from headstart.report.sentences.numbers import UNEVEN, is_tested, others
from headstart.wording import counted, listed, percent, quoted

FEW_OF_CLASS = 10  # test photos of a class, below which its own numbers are mostly luck
PATTERN = 3  # confusions between two classes, below which they are single cases


# ---- classes and confusions


def classes(about: RunRecord) -> str:
    """Which class does worst, and which nobody has judged."""
    known = [(recall, c) for c in about["evaluation"]["classes"] if (recall := c["recall"]) is not None]
    unjudged = [quoted(c["label"]) for c in about["evaluation"]["classes"] if not c["support"]]
    judged_by = "test photo" if is_tested(about) else "photo"
    missing = f" No {judged_by} is of {listed(unjudged, 'or')}: how well that is found is not known." if unjudged else ""
    if len(known) < 2:
        return f"There are too few classes with photos to compare them.{missing}"
    (least, worst), (most, best) = (choose(known, key=lambda scored: scored[0]) for choose in (min, max))
    if least == most:
        which = f"The other {len(known):,} classes" if unjudged else "All classes"
        return f"{missing} {which} are found equally often: {percent(most)} of their photos.".strip()
    few = worst["support"] < FEW_OF_CLASS
    luck = f", though {counted(worst['support'], 'photo')} cannot say much" if few else ""
    return (
        f"It misses {quoted(worst['label'])} most: it finds {percent(least)} of these photos{luck}; "
        f"of {quoted(best['label'])} it finds {percent(most)}.{missing}"
    )


def confused(about: RunRecord, counts: np.ndarray | None = None) -> str | None:
    """Which two classes are confused, and what would help; counts: (k, k), rows are labels, by default of the test.

    None where a photo may have several labels.
    """
    counts = confusion_counts(about) if counts is None else counts
    if counts is None:
        return None
    pair = worst_pair(counts)
    if pair is None:
        return f"None of the {judged_by(about, counts)} is taken for another class."
    (i, j), names = pair, about["classes"]
    a, b, n = quoted(names[i]), quoted(names[j]), int(counts[i, j] + counts[j, i])
    of = f"Of the {judged_by(about, counts)}, " if counts.sum() != about["evaluation"]["n_images"] else ""
    taken = f"{of}{a} is taken for {b} in {counted(int(counts[i, j]), 'photo')}"
    if n < PATTERN:
        return f"{taken}; no two classes are confused more often."
    back = f", and {counts[j, i]:,} the other way round" if counts[j, i] else ""
    return f"{taken}{back}. {_what_would_help(about, names[i], names[j])}"


def judged_by(about: RunRecord, counts: np.ndarray) -> str:
    """Which photos counts of confusions, (k, k), are of."""
    n, n_test = int(counts.sum()), about["evaluation"]["n_images"] if is_tested(about) else 0
    kinds = ["test"] * bool(n_test) + [others(about)] * (n > n_test)
    return counted(n, f"{' and '.join(kinds)} photo")


def _what_would_help(about: RunRecord, a: str, b: str) -> str:
    of_class = about.get("images_of_class") or {}
    fewer, more = sorted((a, b), key=lambda c: of_class.get(c, 0))
    if of_class.get(more, 0) > UNEVEN * of_class.get(fewer, 0):
        return (
            f"{quoted(more)} has {counted(of_class[more], 'photo')} and {quoted(fewer)} {of_class.get(fewer, 0):,}: "
            f"more photos of {quoted(fewer)} would help most."
        )
    join = " or make one class of the two" if len(about["classes"]) > 2 else ""
    return (
        f"Look at these photos: where you cannot tell them apart either, mend the labels{join}; "
        "where you can, add photos of both that show the difference."
    )


def confusion_counts(about: RunRecord) -> np.ndarray | None:
    """How often each label got each prediction when the result was judged, (k, k); None where a photo has several labels."""
    confusion = about["evaluation"].get("confusion")
    return None if confusion is None else np.array(confusion, np.int64)


def worst_pair(counts: np.ndarray) -> tuple[int, int] | None:
    """The two classes that are confused most, by counts (k, k): label and prediction of the commoner mistake first."""
    both = counts + counts.T
    np.fill_diagonal(both, 0)
    i, j = np.unravel_index(int(both.argmax()), both.shape)
    if not both[i, j]:
        return None
    return (int(i), int(j)) if counts[i, j] >= counts[j, i] else (int(j), int(i))
