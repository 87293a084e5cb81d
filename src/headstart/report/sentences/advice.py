"""Sentences about what to do first: leaks, wrong labels, weak classes, and whatever else hurts a run's result most.

Takes run.json, issues, and counts of confusions; gives a few sentences (ToDo). It decides what matters most.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from headstart.checks.kinds import kind_title
from headstart.numerics.intervals import wilson_interval
from headstart.record import IssueRecord, RunRecord
from headstart.report.sentences.classes import PATTERN, confusion_counts, judged_by, worst_pair
from headstart.report.sentences.learning import is_overfitting, more_photos
from headstart.report.sentences.numbers import UNEVEN, WIDE, are_several, is_evaluation, judges
from headstart.report.sentences.result import photos_needed
from headstart.report.sentences.trust import is_off
from headstart.wording import counted, percent, quote_name

MOST_TO_DO = 3
LEAK = "leak"  # the kind of issue that makes the result itself doubtful
WRONG_LABEL = "label"
DUPLICATES = ("duplicate", "near-duplicate")
PROBABLE_ERROR = 0.2  # an issue's score, below which its photo's label is probably wrong
MIN_FLAGGED = 0.5  # share of a left-out class's photos; with less it is hardly noticed


@dataclass(frozen=True)
class ToDo:
    """Something to look at: `section` of the page, `text` what and why, `share` of the answers concerned, roughly."""

    section: str
    text: str
    share: float


def to_do(record: RunRecord, issues: Sequence[IssueRecord] = (), counts: np.ndarray | None = None) -> tuple[ToDo, ...]:
    """Choose what to look at first, at most three: leaks, wrong labels, then the worst; counts: as for classes.confusion."""
    urgent = list(_about_leaks_and_labels(record, issues))
    others = [
        *_about_issues(record, issues),
        *_about_result(record),
        *_about_classes(record, counts),
        *_about_trust(record),
    ]
    # One of each section, so that none hides the others.
    worst = {t.section: t for t in sorted(others, key=lambda t: t.share) if t.section not in {u.section for u in urgent}}
    return (*urgent, *sorted(worst.values(), key=lambda t: -t.share))[:MOST_TO_DO]


def _about_leaks_and_labels(record: RunRecord, issues: Sequence[IssueRecord]) -> Iterator[ToDo]:
    """Name the issues that spoil both training and evaluation, to be fixed before all else."""
    n = max(1, record["images"]["used"])
    if n_leaks := sum(i["kind"] == LEAK for i in issues):
        why = "while they are there, the result may be too good"
        yield ToDo(
            "issues", f"Look at {counted(n_leaks, 'issue')} under {quote_name(kind_title(LEAK))}: {why}.", n_leaks / n
        )
    probable = [i for i in issues if (i.get("score") or 0) < PROBABLE_ERROR]
    n_wrong = sum(i["kind"] == WRONG_LABEL for i in probable)
    n_twice = sum(i["kind"] in DUPLICATES and len(set(i.get("labels") or ())) > 1 for i in probable)
    errors = [f"{counted(n_wrong, 'photo')} seem{'s' * (n_wrong == 1)} labelled wrongly"] * bool(n_wrong)
    errors += [f"{counted(n_twice, 'photo')} stand{'s' * (n_twice == 1)} there more than once, labelled differently"] * bool(
        n_twice
    )
    if errors:
        text = f"Look at the labels: {' and '.join(errors)}. Wrong ones mislead what it learns, and how it is judged."
        yield ToDo("issues", text, (n_wrong + n_twice) / n)


def _about_issues(record: RunRecord, issues: Sequence[IssueRecord]) -> Iterator[ToDo]:
    n = max(1, record["images"]["used"])
    for kind, many in Counter(i["kind"] for i in issues).most_common():
        text = (
            f"Look at {counted(many, 'issue')} under {quote_name(kind_title(kind))}: each is shown with what to do about it."
        )
        yield ToDo("issues", text, many / n)
    if skipped := record["images"].get("skipped", 0):
        was = "was" if skipped == 1 else "were"
        if is_evaluation(record):  # on purpose, most of them: they were learnt from
            yield ToDo("card", f"{counted(skipped, 'file')} {was} left out: skipped.csv and the notes say why.", 0.01)
        else:
            text = f"{counted(skipped, 'file')} {was} left out: skipped.csv says why."
            yield ToDo("card", text, skipped / (n + skipped))


def _about_result(record: RunRecord) -> Iterator[ToDo]:
    e = record["evaluation"]
    low, high = e["interval"]
    if high - low > WIDE:
        text = f"Only {judges(e)} judged the result. {photos_needed(record)}."
        yield ToDo("result", text, (high - low) / 2)
    curve = record.get("learning_curve")
    ahead = curve and curve.get("forecast")
    if ahead and ahead["interval"][0] - ahead["accuracy"] > 0.005:
        yield ToDo("curve", f"Add photos: {more_photos(record)}", ahead["interval"][0] - ahead["accuracy"])


def _about_classes(record: RunRecord, counts: np.ndarray | None) -> Iterator[ToDo]:
    e = record["evaluation"]
    scored = [(recall, c) for c in e["classes"] if (recall := c["recall"]) is not None]
    for recall, c in sorted(scored, key=lambda scored: scored[0])[:1]:
        _, high = wilson_interval(round(recall * c["support"]), c["support"])
        overall = e["accuracy"] if not are_several(record) else e.get("f1_micro") or 0.0
        if high < overall:
            why = f"only {percent(recall)} of its photos are found, fewer than chance explains"
            text = f"Look at {quote_name(c['label'])}: {why}."
            yield ToDo("classes", text, (overall - recall) * c["support"] / max(1, e["n_images"]))
    counts = confusion_counts(record) if counts is None else counts
    pair = None if counts is None else worst_pair(counts)
    if counts is not None and pair is not None and (n := int(counts[pair] + counts[pair[::-1]])) >= PATTERN:
        a, b = (quote_name(record["classes"][x]) for x in pair)
        text = f"Look at the {n:,} photos, of {judged_by(record, counts)}, where {a} and {b} are taken for one another."
        yield ToDo("confusion", text, n / max(1, int(counts.sum())))
    yield from _about_balance(record)


def _about_balance(record: RunRecord) -> Iterator[ToDo]:
    of_class = {c: n for c, n in (record.get("images_of_class") or {}).items() if n}
    if len(of_class) > 1 and max(of_class.values()) > UNEVEN * min(of_class.values()):
        least, most = min(of_class, key=lambda c: of_class[c]), max(of_class, key=lambda c: of_class[c])
        many, few = counted(of_class[most], "photo"), f"{of_class[least]:,}"
        text = f"{quote_name(most)} has {many} and {quote_name(least)} {few}: add some of the latter."
        yield ToDo("classes", text, 0.02)


def _about_trust(record: RunRecord) -> Iterator[ToDo]:
    calibration, unfamiliar = record.get("calibration"), record.get("unfamiliar")
    if calibration and is_off(record):
        text = "Read its probabilities with care: they are off beyond chance."
        yield ToDo("calibration", text, calibration["error_after"])
    left_out = unfamiliar.get("left_out", ()) if unfamiliar else ()
    shares = [(share, row) for row in left_out if (share := row.get("flagged")) is not None]
    for share, row in sorted(shares, key=lambda pair: pair[0])[:1]:
        if share < MIN_FLAGGED:
            text = (
                "It hardly notices photos of new classes that look much like its own: trained without "
                f"{quote_name(row['label'])} for a trial, it flagged {percent(share)} of these photos."
            )
            yield ToDo("unfamiliar", text, (MIN_FLAGGED - share) / 10)
    if is_overfitting(record):
        yield ToDo("learning", "It knows its own photos much better than new ones: add more varied photos.", 0.02)
