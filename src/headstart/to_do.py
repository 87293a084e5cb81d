"""To do: what to look at first, of all that a run's numbers and its photos' issues say.

Takes run.json as a dict, issues, and counts of confusions; gives a few sentences. It decides what matters most.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from headstart.check import KINDS
from headstart.evaluate import wilson_interval
from headstart.readings import (
    PATTERN,
    UNEVEN,
    WIDE,
    are_several,
    confusion_counts,
    counted,
    is_overfitting,
    is_tested,
    more_photos,
    n_needed,
    percent,
    quoted,
    worst_pair,
)

MOST_TO_DO = 3
LEAK = "leak"  # the kind of issue that makes the result itself doubtful


@dataclass(frozen=True)
class ToDo:
    """Something to look at: `section` of the page, `text` what and why, `share` of the answers concerned, roughly."""

    section: str
    text: str
    share: float


def to_do(
    about: dict[str, Any], issues: Sequence[dict[str, Any]] = (), counts: np.ndarray | None = None
) -> tuple[ToDo, ...]:
    """The findings that matter most, the worst first, at most three; counts as for confused."""
    found = [*_of_issues(about, issues), *_of_result(about), *_of_classes(about, counts), *_of_trust(about)]
    # One of each section, so that none hides the others.
    worst = {t.section: t for t in sorted(found, key=lambda t: t.share)}
    return tuple(sorted(worst.values(), key=lambda t: -t.share)[:MOST_TO_DO])


def _of_issues(about: dict[str, Any], issues: Sequence[dict[str, Any]]) -> Iterator[ToDo]:
    n = max(1, about["images"]["used"])
    for kind, many in Counter(i["kind"] for i in issues).most_common():
        leaks = kind == LEAK
        why = "while they are there, the result may be too good" if leaks else "each is shown with what to do about it"
        text = f"Look at {counted(many, 'issue')} under {quoted(kind_title(kind))}: {why}."
        yield ToDo("issues", text, many / n + leaks)
    if skipped := about["images"].get("skipped", 0):
        yield ToDo("card", f"{counted(skipped, 'file')} could not be used: skipped.csv says why.", skipped / (n + skipped))


def _of_result(about: dict[str, Any]) -> Iterator[ToDo]:
    e = about["evaluation"]
    low, high = e["interval"]
    if high - low > WIDE:
        where = "test photos" if is_tested(about) else "photos"
        text = f"Add photos: only {e['n_images']:,} judged the result, about {n_needed(e):,} {where} would pin it down."
        yield ToDo("result", text, (high - low) / 2)
    ahead = (about.get("learning_curve") or {}).get("forecast")
    if ahead and ahead["interval"][0] - ahead["accuracy"] > 0.005:
        yield ToDo("curve", f"Add photos: {more_photos(about)}", ahead["interval"][0] - ahead["accuracy"])


def _of_classes(about: dict[str, Any], counts: np.ndarray | None) -> Iterator[ToDo]:
    e = about["evaluation"]
    for c in sorted((c for c in e["classes"] if c["recall"] is not None), key=lambda c: c["recall"])[:1]:
        _, high = wilson_interval(round(c["recall"] * c["support"]), c["support"])
        overall = e["accuracy"] if not are_several(about) else e.get("f1_micro") or 0.0
        if high < overall:
            found = f"only {percent(c['recall'])} of its photos are found, fewer than chance explains"
            text = f"Look at {quoted(c['label'])}: {found}."
            yield ToDo("classes", text, (overall - c["recall"]) * c["support"] / max(1, e["n_images"]))
    counts = confusion_counts(about) if counts is None else counts
    pair = None if counts is None else worst_pair(counts)
    if counts is not None and pair is not None and (n := int(counts[pair] + counts[pair[::-1]])) >= PATTERN:
        a, b = (quoted(about["classes"][x]) for x in pair)
        text = f"Look at the {n:,} photos where {a} and {b} are taken for one another."
        yield ToDo("confusion", text, n / max(1, int(counts.sum())))
    yield from _of_balance(about)


def _of_balance(about: dict[str, Any]) -> Iterator[ToDo]:
    of_class = {c: n for c, n in (about.get("images_of_class") or {}).items() if n}
    if len(of_class) > 1 and max(of_class.values()) > UNEVEN * min(of_class.values()):
        least, most = min(of_class, key=lambda c: of_class[c]), max(of_class, key=lambda c: of_class[c])
        text = f"There are {of_class[most]:,} photos of {quoted(most)} and {of_class[least]:,} of {quoted(least)}: add some."
        yield ToDo("classes", text, 0.02)


def _of_trust(about: dict[str, Any]) -> Iterator[ToDo]:
    c = about.get("calibration")
    if c and c.get("bins") and c["error_after"] > max(0.03, 2 * (c.get("bias") or 0)):
        yield ToDo("calibration", "Read its probabilities with care: they are off beyond chance.", c["error_after"])
    left_out = [row for row in (about.get("unfamiliar") or {}).get("left_out") or () if row.get("auroc") is not None]
    for row in sorted(left_out, key=lambda row: row["auroc"])[:1]:
        if row["auroc"] < 0.8:
            text = (
                f"It hardly notices what it has never seen: {quoted(row['label'])}, left out for a trial, looked familiar."
            )
            yield ToDo("unfamiliar", text, (0.9 - row["auroc"]) / 5)
    if is_overfitting(about):
        yield ToDo("learning", "It knows its own photos much better than new ones: add more varied photos.", 0.02)


def kind_title(kind: str) -> str:
    """What a kind of issue is called; a kind that is not ours keeps its own word."""
    return KINDS[kind].title if kind in KINDS else kind
