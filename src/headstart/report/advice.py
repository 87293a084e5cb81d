"""To do: what to look at first, of all that a run's numbers and its photos' issues say.

Takes run.json as a dict, issues, and counts of confusions; gives a few sentences. It decides what matters most.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from headstart.checks.kinds import KINDS
from headstart.numerics.intervals import wilson_interval
from headstart.record import IssueRecord, RunRecord
from headstart.report.sentences.classes import PATTERN, confusion_counts, judged_by, worst_pair
from headstart.report.sentences.learning import is_overfitting, more_photos
from headstart.report.sentences.numbers import UNEVEN, WIDE, are_several, is_evaluation, judges
from headstart.report.sentences.result import needed
from headstart.report.sentences.trust import is_off
from headstart.wording import counted, percent, quoted

MOST_TO_DO = 3
LEAK = "leak"  # the kind of issue that makes the result itself doubtful
WRONG_LABEL = "label"
COPIES = ("duplicate", "near-duplicate")
DOUBTFUL = 0.2  # an issue's score, below which its photo's label is probably wrong
NOTICED = 0.5  # share of a left-out class's photos, below which it is hardly noticed


@dataclass(frozen=True)
class ToDo:
    """Something to look at: `section` of the page, `text` what and why, `share` of the answers concerned, roughly."""

    section: str
    text: str
    share: float


def to_do(about: RunRecord, issues: Sequence[IssueRecord] = (), counts: np.ndarray | None = None) -> tuple[ToDo, ...]:
    """The findings that matter most, at most three: leaks, wrong labels, then the worst first; counts as for confused."""
    urgent = list(_urgent(about, issues))
    found = [*_of_issues(about, issues), *_of_result(about), *_of_classes(about, counts), *_of_trust(about)]
    # One of each section, so that none hides the others.
    worst = {t.section: t for t in sorted(found, key=lambda t: t.share) if t.section not in {u.section for u in urgent}}
    return (*urgent, *sorted(worst.values(), key=lambda t: -t.share))[:MOST_TO_DO]


def _urgent(about: RunRecord, issues: Sequence[IssueRecord]) -> Iterator[ToDo]:
    """What is wrong with the photos and spoils both what is learnt and the result: to be mended before all else."""
    n = max(1, about["images"]["used"])
    if n_leaks := sum(i["kind"] == LEAK for i in issues):
        why = "while they are there, the result may be too good"
        yield ToDo("issues", f"Look at {counted(n_leaks, 'issue')} under {quoted(kind_title(LEAK))}: {why}.", n_leaks / n)
    doubtful = [i for i in issues if (i.get("score") or 0) < DOUBTFUL]
    n_wrong = sum(i["kind"] == WRONG_LABEL for i in doubtful)
    n_twice = sum(i["kind"] in COPIES and len(set(i.get("labels") or ())) > 1 for i in doubtful)
    told = [f"{counted(n_wrong, 'photo')} seem{'s' * (n_wrong == 1)} labelled wrongly"] * bool(n_wrong)
    told += [f"{counted(n_twice, 'photo')} stand{'s' * (n_twice == 1)} there more than once, labelled differently"] * bool(
        n_twice
    )
    if told:
        text = f"Look at the labels: {' and '.join(told)}. Wrong ones mislead what it learns, and how it is judged."
        yield ToDo("issues", text, (n_wrong + n_twice) / n)


def _of_issues(about: RunRecord, issues: Sequence[IssueRecord]) -> Iterator[ToDo]:
    n = max(1, about["images"]["used"])
    for kind, many in Counter(i["kind"] for i in issues).most_common():
        text = f"Look at {counted(many, 'issue')} under {quoted(kind_title(kind))}: each is shown with what to do about it."
        yield ToDo("issues", text, many / n)
    if skipped := about["images"].get("skipped", 0):
        was = "was" if skipped == 1 else "were"
        if is_evaluation(about):  # on purpose, most of them: they were learnt from
            yield ToDo("card", f"{counted(skipped, 'file')} {was} left out: skipped.csv and the notes say why.", 0.01)
        else:
            text = f"{counted(skipped, 'file')} {was} left out: skipped.csv says why."
            yield ToDo("card", text, skipped / (n + skipped))


def _of_result(about: RunRecord) -> Iterator[ToDo]:
    e = about["evaluation"]
    low, high = e["interval"]
    if high - low > WIDE:
        text = f"Only {judges(e)} judged the result. {needed(about)}."
        yield ToDo("result", text, (high - low) / 2)
    curve = about.get("learning_curve")
    ahead = curve and curve.get("forecast")
    if ahead and ahead["interval"][0] - ahead["accuracy"] > 0.005:
        yield ToDo("curve", f"Add photos: {more_photos(about)}", ahead["interval"][0] - ahead["accuracy"])


def _of_classes(about: RunRecord, counts: np.ndarray | None) -> Iterator[ToDo]:
    e = about["evaluation"]
    scored = [(recall, c) for c in e["classes"] if (recall := c["recall"]) is not None]
    for recall, c in sorted(scored, key=lambda scored: scored[0])[:1]:
        _, high = wilson_interval(round(recall * c["support"]), c["support"])
        overall = e["accuracy"] if not are_several(about) else e.get("f1_micro") or 0.0
        if high < overall:
            found = f"only {percent(recall)} of its photos are found, fewer than chance explains"
            text = f"Look at {quoted(c['label'])}: {found}."
            yield ToDo("classes", text, (overall - recall) * c["support"] / max(1, e["n_images"]))
    counts = confusion_counts(about) if counts is None else counts
    pair = None if counts is None else worst_pair(counts)
    if counts is not None and pair is not None and (n := int(counts[pair] + counts[pair[::-1]])) >= PATTERN:
        a, b = (quoted(about["classes"][x]) for x in pair)
        text = f"Look at the {n:,} photos, of {judged_by(about, counts)}, where {a} and {b} are taken for one another."
        yield ToDo("confusion", text, n / max(1, int(counts.sum())))
    yield from _of_balance(about)


def _of_balance(about: RunRecord) -> Iterator[ToDo]:
    of_class = {c: n for c, n in (about.get("images_of_class") or {}).items() if n}
    if len(of_class) > 1 and max(of_class.values()) > UNEVEN * min(of_class.values()):
        least, most = min(of_class, key=lambda c: of_class[c]), max(of_class, key=lambda c: of_class[c])
        many, few = counted(of_class[most], "photo"), f"{of_class[least]:,}"
        text = f"{quoted(most)} has {many} and {quoted(least)} {few}: add some of the latter."
        yield ToDo("classes", text, 0.02)


def _of_trust(about: RunRecord) -> Iterator[ToDo]:
    calibration, unfamiliar = about.get("calibration"), about.get("unfamiliar")
    if calibration and is_off(about):
        text = "Read its probabilities with care: they are off beyond chance."
        yield ToDo("calibration", text, calibration["error_after"])
    left_out = unfamiliar.get("left_out", ()) if unfamiliar else ()
    noticed = [(share, row) for row in left_out if (share := row.get("flagged")) is not None]
    for share, row in sorted(noticed, key=lambda noticed: noticed[0])[:1]:
        if share < NOTICED:
            text = (
                f"It hardly notices photos that are much like those it knows: of {quoted(row['label'])}, left out for a "
                f"trial, it noticed {percent(share)}."
            )
            yield ToDo("unfamiliar", text, (NOTICED - share) / 10)
    if is_overfitting(about):
        yield ToDo("learning", "It knows its own photos much better than new ones: add more varied photos.", 0.02)


def kind_title(kind: str) -> str:
    """What a kind of issue is called; a kind that is not ours keeps its own word."""
    return KINDS[kind].title if kind in KINDS else kind
