"""Finds classes with too few photos, and pairs of classes that are often confused with one another."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from headstart.checks.issue import MAX_SCORE, CheckInputs, Issue
from headstart.data.labels import are_many, counts
from headstart.numerics.intervals import wilson_interval
from headstart.wording import counted, whole_percent

MIN_PHOTOS = 10  # of a class; fewer are an issue
MAX_LISTED = 5  # small classes with an issue each; more share one
MIN_CONFUSED_SHARE = 0.2  # of two classes' photos, taken for the other class: a bound on the interval's lower end
MAX_PAIRS = 10  # of similar classes


def similar_classes(inputs: CheckInputs) -> Iterator[Issue]:
    """Yield pairs of classes of which at least a fifth of the photos are taken for the other, most confused first."""
    k = len(inputs.classes)
    if are_many(inputs.labels) or k < 2 or not len(inputs.labels):
        return
    pairs = inputs.labels * k + inputs.probabilities.argmax(axis=1)
    confusion = np.bincount(pairs, minlength=k * k).reshape(k, k)
    wrong = np.triu(confusion + confusion.T, 1)
    candidates = []
    for i, j in np.argwhere(wrong >= 3).tolist():
        n = int(wrong[i, j] + confusion[i, i] + confusion[j, j])
        candidates.append((wilson_interval(int(wrong[i, j]), n)[0], int(wrong[i, j]), n, i, j))
    for least, n_wrong, n, i, j in sorted(candidates, reverse=True)[:MAX_PAIRS]:
        if least < MIN_CONFUSED_SHARE:
            return
        a, b = inputs.classes[i], inputs.classes[j]
        yield Issue(
            "similar-classes",
            (),
            (a, b),
            float(np.clip(MAX_SCORE * MIN_CONFUSED_SHARE / least, 0, 1)),
            f"{a} and {b} are hardly told apart: {n_wrong} of {n} photos are taken for the other "
            f"({whole_percent(n_wrong / n)}; guessing would give 50 %)",
            "look whether people can tell them; if not, they are one class. If so, add photos that show the difference",
        )


def small_classes(inputs: CheckInputs) -> Iterator[Issue]:
    """Yield classes of fewer than MIN_PHOTOS photos, smallest first; of more than MAX_LISTED one issue for all."""
    sizes = counts(inputs.labels, len(inputs.classes))
    small = [int(i) for i in np.argsort(sizes, kind="stable") if sizes[i] < MIN_PHOTOS]
    consequence = (
        "too few to learn what they have in common, and hardly any to test with, so its numbers say little or nothing"
    )
    todo = f"add photos, {MIN_PHOTOS} at the least, better 50; or join it with another class"
    for i in small if len(small) <= MAX_LISTED else ():
        n, name = int(sizes[i]), inputs.classes[i]
        sentence = f"{name} has {counted(n, 'photo')}: {consequence}"
        yield Issue("small-class", (), (name,), MAX_SCORE * n / MIN_PHOTOS, sentence, todo)
    if len(small) > MAX_LISTED:
        names = tuple(inputs.classes[i] for i in small)
        fewest = ", ".join(f"{inputs.classes[i]} ({sizes[i]})" for i in small[:3])
        sentence = (
            f"{len(small)} of {len(sizes)} classes have fewer than {MIN_PHOTOS} photos, the fewest {fewest}: {consequence}"
        )
        yield Issue("small-class", (), names, MAX_SCORE * float(sizes[small].mean()) / MIN_PHOTOS, sentence, todo)
