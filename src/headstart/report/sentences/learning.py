"""Sentences about learning: the ladder, fine-tuning, overfitting, more photos, and the limits of it all."""

from __future__ import annotations

from typing import NamedTuple

from headstart.numerics.intervals import share_interval
from headstart.record import RunRecord
from headstart.report.sentences.classes import FEW_OF_CLASS
from headstart.report.sentences.numbers import WIDE, are_several, describe_errors, is_tested
from headstart.wording import counted, listed, percent, points, quoted

LITTLE = 0.05  # of new photos wrong: too few for a gap to matter


# ---- learning


def overfitting(about: RunRecord) -> str | None:
    """Whether it has learnt its photos by heart; None where the fit was not followed."""
    gap = _gap(about)
    if gap is None:
        return None
    told = (
        f"it is right for {percent(gap.learnt)} of the photos that it learnt from here, and for {percent(gap.new)} of "
        f"{counted(gap.n_new, 'photo')} kept from it"
    )
    if gap.n_new < FEW_OF_CLASS:
        return f"Whether it overfits cannot be said: only {counted(gap.n_new, 'photo')} could be kept from it."
    if gap.at_least <= 0:
        return f"There is no sign of overfitting: {told}{', which may well be chance' if gap.learnt > gap.new else ''}."
    if 1 - gap.new < LITTLE:
        return f"There is next to no overfitting: {told}."
    if gap.is_of_sample:
        more = "With all its photos the gap is usually narrower."
        return f"It knows photos that it learnt from better than new ones: {told}. {more}"
    return (
        f"It knows its own photos better than new ones: {told}. A gap of {points(gap.learnt - gap.new)} "
        f"{'is large' if is_overfitting(about) else 'is usual'}; more, and more varied, photos narrow it."
    )


def is_overfitting(about: RunRecord) -> bool:
    """Whether the photos that it learnt from are known far better than others at the end of the fit, beyond chance."""
    gap = _gap(about)
    return gap is not None and not gap.is_of_sample and gap.at_least > WIDE


class _Gap(NamedTuple):
    """Accuracies at the end of the fit, on photos that it learnt from and on n_new that it did not.

    at_least: the difference, were the new ones as lucky as 1 time in 40. is_of_sample: the fit saw a part of the photos.
    """

    learnt: float
    new: float
    n_new: int
    at_least: float
    is_of_sample: bool


def _gap(about: RunRecord) -> _Gap | None:
    """None where the fit was not followed."""
    f = about.get("fitting")
    last = next(iter(reversed(f.get("steps", ()))), None) if f else None
    if not f or not last or not f["n_validation"]:
        return None
    learnt, new, n_new = last.get("train_accuracy"), last.get("validation_accuracy"), f["n_validation"]
    if learnt is None or new is None:
        return None
    images = about["images"]
    n_learnt = images.get("train", 0) + images.get("validation", 0)
    _, high = share_interval(new * n_new, n_new, f.get("n_effective") or n_new)
    return _Gap(learnt, new, n_new, learnt - high, f["n_train"] + n_new < n_learnt)


def more_photos(about: RunRecord) -> str | None:
    """Whether more photos would help; None where there is no learning curve."""
    curve = about.get("learning_curve")
    return str(curve["sentence"]) if curve and curve.get("sentence") else None


def ladder(about: RunRecord) -> str | None:
    """What trying more than the simplest way brought."""
    rungs = [r for r in about.get("ladder") or () if r["accuracy"] is not None]
    if len(rungs) < 2:
        return None
    taken = [r for r in rungs if r["is_taken"]]
    n_tried = f"{len(rungs) - 1:,} more {'was' if len(rungs) == 2 else 'were'} tried"
    n_taken = f"{len(taken) - 1:,} of them {'was' if len(taken) == 2 else 'were'} kept"
    first, last = rungs[0]["accuracy"], (taken[-1] if taken else rungs[0])["accuracy"]
    n_learnt = about["images"]["used"] - (about["images"].get("test") or 0)
    n = rungs[0].get("n_images") or n_learnt
    among = f" on a sample of {n:,} of the {n_learnt:,} photos to learn from" if n < n_learnt else ""
    what = "balanced accuracy " if rungs[0].get("is_balanced") else ""
    if len(taken) < 2:
        return f"After the simplest way, {n_tried} by cross-validation{among}, and none was better: {what}{percent(first)}."
    rise = f"{percent(first)} as before, with probabilities that fit better" if first == last else ""
    return (
        f"After the simplest way, {n_tried} by cross-validation{among} and {n_taken}: {what}"
        f"{rise or f'from {percent(first)} to {percent(last)}'}. These numbers chose, so they flatter a little"
        f"{'; the result at the top did not choose' if is_tested(about) else ''}."
    )


def fine_tuning(about: RunRecord) -> str | None:
    """What letting the backbone learn too came to."""
    tuning = about.get("fine_tuning")
    if not tuning:
        return None
    taken = "and was kept" if tuning["is_taken"] else "and was not kept"
    words = (tuning.get("comparison") or {}).get("sentence") or ""
    return f"Letting the network itself learn too took {counted(tuning['epochs'], 'epoch')} {taken}. {words}".strip()


# ---- what not to trust


def limits(about: RunRecord) -> tuple[str, ...]:
    """What this classifier should not be trusted with."""
    e, n_classes = about["evaluation"], len(about["classes"])
    only = "It knows no label but these" if are_several(about) else "It always answers with one of its classes"
    found = [
        f"Photos of anything else. {only} ({n_classes:,}), whatever the photo shows; watch the unfamiliarity.",
        "Photos taken otherwise: another camera, light, season or background. It was judged on photos like its own.",
        f"Decisions that may do harm and that nobody checks: {describe_errors(e)}; "
        + ("on more photos, some will be." if e["accuracy"] == 1 else "its probabilities only hint at which."),
    ]
    few = [c["label"] for c in e["classes"] if c["support"] < FEW_OF_CLASS]
    if few:
        found.append(f"Its own numbers for {listed(map(quoted, few))}: fewer than {FEW_OF_CLASS} photos each judged them.")
    if not is_tested(about):
        found.append(
            "The result as a test's: the same photos chose how it learns (cross-validation), which flatters a little."
        )
    return tuple(found)
