"""Check: what is wrong with photos; a row of KINDS for each kind of issue.

Takes what is known of the photos (CheckInputs); gives Issues, worst first. It decides what is told: what stands
out from its own set and is wrong by itself as well, so that a clean set is told next to nothing. Nothing is ever changed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from headstart.checks.classes import similar_classes, small_classes
from headstart.checks.image_quality import find_beyond, find_unreadable
from headstart.checks.issue import CheckInputs, Group, Issue
from headstart.checks.label_errors import find_label_errors
from headstart.checks.outliers import find_outliers
from headstart.data.labels import are_many, label_text
from headstart.data.splits import SPLITS
from headstart.wording import whole_percent

REDUNDANT = 0.4  # the score of a copy that says the same: it counts double, no more
SURE = 0.9  # probability from which on copies with different labels keep one


def find_issues(evidence: CheckInputs) -> tuple[Issue, ...]:
    """Find the issues of every kind, worst first: by score, then in the order of KINDS."""
    found = [issue for kind in KINDS.values() for issue in kind.find(evidence)]
    return tuple(sorted(found, key=lambda issue: issue.score))


# ---- the same photo more than once


def _leaks(evidence: CheckInputs) -> Iterator[Issue]:
    told: set[int] = set()
    for group in (*evidence.near, *evidence.exact):
        if not evidence.leaks(group) or told.issuperset(group.members):
            continue
        told.update(group.members)
        places = Counter(SPLITS[evidence.splits[i]] for i in group.members if evidence.splits[i] >= 0)
        where = " and ".join(f"{n} in {split}" for split, n in places.items())
        what = (
            "the very same photo"
            if _has_exact_leak(evidence, group)
            else f"nearly the same photo ({whole_percent(group.similarity)} alike)"
        )
        yield evidence.issue(
            "leak",
            group.members,
            0.0 if _has_exact_leak(evidence, group) else 0.1 * (1 - group.similarity),
            f"{what} stands on both sides of the splits: {where}{_labels_differ(evidence, group)}; what was learnt by heart "
            "there counts as known here",
            "take it out of all splits but one, best out of train: else the test says more than is true",
        )


def _has_exact_leak(evidence: CheckInputs, group: Group) -> bool:
    splits: dict[bytes, set[int]] = {}
    for i in group.members:
        splits.setdefault(evidence.digests[i], set()).add(int(evidence.splits[i]))
    return any(len(found - {-1}) > 1 for found in splits.values())


def _labels_differ(evidence: CheckInputs, group: Group) -> str:
    labels = dict.fromkeys(evidence.label(i) for i in group.members)
    return f", labelled {' and '.join(labels)}" if len(labels) > 1 else ""


def _duplicates(evidence: CheckInputs, kind: str) -> Iterator[Issue]:
    for group in evidence.exact if kind == "duplicate" else evidence.near:
        if evidence.leaks(group):
            continue  # told as that
        n = len(group.members)
        what = f"{n} files hold the same photo" + (
            ", byte for byte" if group.is_exact else f" ({whole_percent(group.similarity)} alike)"
        )
        differ = _labels_differ(evidence, group)
        if differ:
            label = _agreed(evidence, group)
            hint = f"; it looks like {label}" if label else ""
            todo = f"keep the one labelled {label}" if label else "decide which label is right, or take all of them out"
            yield evidence.issue(kind, group.members, (1 - group.similarity) / 2, f"{what}{differ}{hint}", todo, label)
        else:
            yield evidence.issue(
                kind,
                group.members,
                REDUNDANT + (1 - group.similarity) / 5,
                f"{what}, all labelled {evidence.label(group.members[0])}",
                "keep one of them: the others say nothing new",
            )


def _agreed(evidence: CheckInputs, group: Group) -> str | None:
    """Of the labels of a group's photos the one that the others' photos speak for, if they do clearly."""
    if are_many(evidence.labels):
        return None
    members = list(group.members)
    mean = evidence.probabilities[members].mean(axis=0)
    best = int(mean.argmax())
    return evidence.classes[best] if mean[best] >= SURE and best in evidence.labels[members] else None


# ---- labels and classes


def _wrong_labels(evidence: CheckInputs) -> Iterator[Issue]:
    found = find_label_errors(evidence.probabilities, evidence.labels)
    if are_many(evidence.labels):
        yield from _wrong_among_several(evidence, found.quality, found.is_flagged, found.suggested)
        return
    for i in np.flatnonzero(found.is_flagged).tolist():
        label, probability = evidence.classes[found.suggested[i]], evidence.probabilities[i, found.suggested[i]]
        sentence = f"labelled {evidence.label(i)}, but looks like {label} ({whole_percent(probability)})"
        is_certain = bool(found.is_certain[i])
        todo = f"relabel it {label}" if is_certain else f"in doubt: look at it; if it is {label}, relabel it"
        yield replace(evidence.issue("label", [i], found.quality[i], sentence, todo, label), is_certain=is_certain)


def _wrong_among_several(
    evidence: CheckInputs, quality: np.ndarray, is_flagged: np.ndarray, suggested: np.ndarray
) -> Iterator[Issue]:
    for i in np.flatnonzero(is_flagged.any(axis=1)).tolist():
        said = [
            f"{evidence.classes[j]} seems {_doubt(evidence.labels[i, j])} ({whole_percent(evidence.probabilities[i, j])})"
            for j in np.flatnonzero(is_flagged[i]).tolist()
        ]
        sentence = f"labelled {evidence.label(i) or 'nothing'}, but {', '.join(said)}"
        label = label_text(suggested[i], evidence.classes) or None
        yield evidence.issue("label", [i], quality[i].min(), sentence, "look at it, and mend its labels", label)


def _doubt(applies: int) -> str:
    return "wrong" if applies else "missing"


@dataclass(frozen=True)
class Kind:
    """A kind of issue: what it is called, what it means, and what finds it."""

    title: str
    meaning: str
    find: Callable[[CheckInputs], Iterator[Issue]]


KINDS = {
    "leak": Kind(
        "Leaks", "the same photo, or nearly, on both sides of the splits that the data gives: the test is not honest", _leaks
    ),
    "duplicate": Kind("Duplicates", "files that are the same byte for byte", partial(_duplicates, kind="duplicate")),
    "near-duplicate": Kind(
        "Near duplicates",
        "the same photo resaved, resized, cropped a little or mirrored",
        partial(_duplicates, kind="near-duplicate"),
    ),
    "label": Kind(
        "Label errors", "photos that look like those of another class, and not like the others of their own", _wrong_labels
    ),
    "outlier": Kind("Outliers", "photos that look like none of the others", find_outliers),
    "unreadable": Kind("Unreadable files", "files that cannot be used as photos, and are left out", find_unreadable),
    "blank": Kind("Blank photos", "photos without any contrast", partial(find_beyond, kind="blank")),
    "blurred": Kind("Blurred photos", "photos with less detail than the others", partial(find_beyond, kind="blurred")),
    "dark": Kind("Dark photos", "photos that are nearly black, where the others are not", partial(find_beyond, kind="dark")),
    "bright": Kind(
        "Bright photos", "photos that are nearly white, where the others are not", partial(find_beyond, kind="bright")
    ),
    "tiny": Kind("Tiny photos", "photos of far fewer pixels than the others", partial(find_beyond, kind="tiny")),
    "odd-aspect": Kind(
        "Odd shapes", "photos far longer than wide, of which most is not looked at", partial(find_beyond, kind="odd-aspect")
    ),
    "similar-classes": Kind("Similar classes", "classes that their photos hardly tell apart", similar_classes),
    "small-class": Kind("Small classes", "classes of too few photos to learn and to judge", small_classes),
}
