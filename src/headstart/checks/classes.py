"""Classes that are too small, and pairs of classes that are hard to tell apart."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from headstart.checks.issue import BORDER, CheckInputs, Issue
from headstart.data.labels import are_many, counts
from headstart.numerics.intervals import wilson_interval
from headstart.wording import whole_percent

SMALL_CLASS = 10  # photos
MOST_SMALL = 5  # classes that are told one by one
CONFUSED = 0.2  # share of two classes' photos taken for the other, at the least: the lower end of its interval
MOST_PAIRS = 10  # of similar classes


def similar_classes(evidence: CheckInputs) -> Iterator[Issue]:
    k = len(evidence.classes)
    if are_many(evidence.labels) or k < 2 or not len(evidence.labels):
        return
    pairs = evidence.labels * k + evidence.probabilities.argmax(axis=1)
    confusion = np.bincount(pairs, minlength=k * k).reshape(k, k)
    wrong = np.triu(confusion + confusion.T, 1)
    found = []
    for i, j in np.argwhere(wrong >= 3).tolist():
        n = int(wrong[i, j] + confusion[i, i] + confusion[j, j])
        found.append((wilson_interval(int(wrong[i, j]), n)[0], int(wrong[i, j]), n, i, j))
    for least, n_wrong, n, i, j in sorted(found, reverse=True)[:MOST_PAIRS]:
        if least < CONFUSED:
            return
        a, b = evidence.classes[i], evidence.classes[j]
        yield Issue(
            "similar-classes",
            (),
            (a, b),
            float(np.clip(BORDER * CONFUSED / least, 0, 1)),
            f"{a} and {b} are hardly told apart: {n_wrong} of {n} photos are taken for the other "
            f"({whole_percent(n_wrong / n)}; by guessing it were 50 %)",
            "look whether people can tell them; if not, they are one class. If so, add photos that show the difference",
        )


def small_classes(evidence: CheckInputs) -> Iterator[Issue]:
    sizes = counts(evidence.labels, len(evidence.classes))
    small = [int(i) for i in np.argsort(sizes, kind="stable") if sizes[i] < SMALL_CLASS]
    means = "too few to learn what they have in common, and hardly any to test with, so its numbers say little or nothing"
    todo = f"add photos, {SMALL_CLASS} at the least, better 50; or join it with another class"
    for i in small if len(small) <= MOST_SMALL else ():
        n, name = int(sizes[i]), evidence.classes[i]
        sentence = f"{name} has {n} photo{'s' if n != 1 else ''}: {means}"
        yield Issue("small-class", (), (name,), BORDER * n / SMALL_CLASS, sentence, todo)
    if len(small) > MOST_SMALL:
        names = tuple(evidence.classes[i] for i in small)
        least = ", ".join(f"{evidence.classes[i]} ({sizes[i]})" for i in small[:3])
        sentence = f"{len(small)} of {len(sizes)} classes have fewer than {SMALL_CLASS} photos, the fewest {least}: {means}"
        yield Issue("small-class", (), names, BORDER * float(sizes[small].mean()) / SMALL_CLASS, sentence, todo)
