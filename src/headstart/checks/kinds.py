"""The kinds of issue that are looked for, a row of KINDS each, and the finders of leaks, duplicates and label errors.

Takes CheckInputs; gives Issues, worst first. A new kind is one row: its key (the `kind` of its issues), a title and a
meaning for people, and a function that yields Issues from CheckInputs, scored from 0, certain harm, to MAX_SCORE. It decides
what is reported: what is wrong by itself and also stands out from its own set, so that a clean set has next to no issues.
Nothing is ever changed.
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

HARMLESS_COPY = 0.4  # the score of copies with the same label: the photo counts double, no more
MIN_LABEL_PROBABILITY = 0.9  # of a label, to be suggested for copies that are labelled differently


def find_issues(inputs: CheckInputs) -> tuple[Issue, ...]:
    """Find the issues of every kind, worst first: by score, then in the order of KINDS."""
    issues = [issue for kind in KINDS.values() for issue in kind.find(inputs)]
    return tuple(sorted(issues, key=lambda issue: issue.score))


def _leaks(inputs: CheckInputs) -> Iterator[Issue]:
    reported: set[int] = set()
    for group in (*inputs.near, *inputs.exact):
        if not inputs.leaks(group) or reported.issuperset(group.members):
            continue
        reported.update(group.members)
        places = Counter(SPLITS[inputs.splits[i]] for i in group.members if inputs.splits[i] >= 0)
        where = " and ".join(f"{n} in {split}" for split, n in places.items())
        what = (
            "the very same photo"
            if _has_exact_leak(inputs, group)
            else f"nearly the same photo ({whole_percent(group.similarity)} alike)"
        )
        yield inputs.issue(
            "leak",
            group.members,
            0.0 if _has_exact_leak(inputs, group) else 0.1 * (1 - group.similarity),
            f"{what} stands on both sides of the splits: {where}{_labels_differ(inputs, group)}; what was learnt by heart "
            "there counts as known here",
            "take it out of all splits but one, best out of train: else the test says more than is true",
        )


def _has_exact_leak(inputs: CheckInputs, group: Group) -> bool:
    splits: dict[bytes, set[int]] = {}
    for i in group.members:
        splits.setdefault(inputs.digests[i], set()).add(int(inputs.splits[i]))
    return any(len(splits_of_one - {-1}) > 1 for splits_of_one in splits.values())


def _labels_differ(inputs: CheckInputs, group: Group) -> str:
    labels = dict.fromkeys(inputs.label(i) for i in group.members)
    return f", labelled {' and '.join(labels)}" if len(labels) > 1 else ""


def _duplicates(inputs: CheckInputs, kind: str) -> Iterator[Issue]:
    for group in inputs.exact if kind == "duplicate" else inputs.near:
        if inputs.leaks(group):
            continue  # reported as a leak
        n = len(group.members)
        what = f"{n} files hold the same photo" + (
            ", byte for byte" if group.is_exact else f" ({whole_percent(group.similarity)} alike)"
        )
        differ = _labels_differ(inputs, group)
        if differ:
            label = _likeliest_label(inputs, group)
            hint = f"; it looks like {label}" if label else ""
            todo = f"keep the one labelled {label}" if label else "decide which label is right, or take all of them out"
            yield inputs.issue(kind, group.members, (1 - group.similarity) / 2, f"{what}{differ}{hint}", todo, label)
        else:
            yield inputs.issue(
                kind,
                group.members,
                HARMLESS_COPY + (1 - group.similarity) / 5,
                f"{what}, all labelled {inputs.label(group.members[0])}",
                "keep one of them: the others say nothing new",
            )


def _likeliest_label(inputs: CheckInputs, group: Group) -> str | None:
    """Choose that label of a group's photos which the fits give a mean probability of MIN_LABEL_PROBABILITY, if any."""
    if are_many(inputs.labels):
        return None
    members = list(group.members)
    mean = inputs.probabilities[members].mean(axis=0)
    best = int(mean.argmax())
    return inputs.classes[best] if mean[best] >= MIN_LABEL_PROBABILITY and best in inputs.labels[members] else None


def _label_errors(inputs: CheckInputs) -> Iterator[Issue]:
    errors = find_label_errors(inputs.probabilities, inputs.labels)
    if are_many(inputs.labels):
        yield from _several_label_errors(inputs, errors.quality, errors.is_flagged, errors.suggested)
        return
    for i in np.flatnonzero(errors.is_flagged).tolist():
        label, probability = inputs.classes[errors.suggested[i]], inputs.probabilities[i, errors.suggested[i]]
        sentence = f"labelled {inputs.label(i)}, but looks like {label} ({whole_percent(probability)})"
        is_certain = bool(errors.is_certain[i])
        todo = f"relabel it {label}" if is_certain else f"in doubt: look at it; if it is {label}, relabel it"
        yield replace(inputs.issue("label", [i], errors.quality[i], sentence, todo, label), is_certain=is_certain)


def _several_label_errors(
    inputs: CheckInputs, quality: np.ndarray, is_flagged: np.ndarray, suggested: np.ndarray
) -> Iterator[Issue]:
    for i in np.flatnonzero(is_flagged.any(axis=1)).tolist():
        doubts = [
            f"{inputs.classes[j]} seems {'wrong' if inputs.labels[i, j] else 'missing'} "
            f"({whole_percent(inputs.probabilities[i, j])})"
            for j in np.flatnonzero(is_flagged[i]).tolist()
        ]
        sentence = f"labelled {inputs.label(i) or 'nothing'}, but {', '.join(doubts)}"
        label = label_text(suggested[i], inputs.classes) or None
        yield inputs.issue("label", [i], quality[i].min(), sentence, "look at it, and mend its labels", label)


@dataclass(frozen=True)
class Kind:
    """A kind of issue: its title, what it means, and the function that finds its issues."""

    title: str
    meaning: str
    find: Callable[[CheckInputs], Iterator[Issue]]


def kind_title(kind: str) -> str:
    """Give the title of a kind of issue; a kind that is not in KINDS, as in another release's issues.json, is its own."""
    return KINDS[kind].title if kind in KINDS else kind


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
        "Label errors", "photos that look like those of another class, and not like the others of their own", _label_errors
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
