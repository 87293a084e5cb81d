"""Sentences about training: overfitting, the ladder, fine-tuning, more photos, and what not to trust a classifier with."""

from __future__ import annotations

from typing import NamedTuple

from headstart.numerics.intervals import share_interval
from headstart.record import RunRecord
from headstart.report.sentences.classes import FEW_OF_CLASS
from headstart.report.sentences.numbers import WIDE, are_several, describe_errors, is_tested
from headstart.wording import counted, listed, percent, points, quote_name

LITTLE = 0.05  # of new photos wrong: too few for a gap to matter


def overfitting(record: RunRecord) -> str | None:
    """Say whether the head overfits its training photos; None where the fit was not followed."""
    gap = _gap(record)
    if gap is None:
        return None
    comparison = (
        f"it is right for {percent(gap.train)} of the photos that it learnt from here, and for {percent(gap.new)} of "
        f"{counted(gap.n_new, 'photo')} kept from it"
    )
    if gap.n_new < FEW_OF_CLASS:
        return f"Whether it overfits cannot be said: only {counted(gap.n_new, 'photo')} could be kept from it."
    if gap.at_least <= 0:
        return f"There is no sign of overfitting: {comparison}{', which may well be chance' if gap.train > gap.new else ''}."
    if 1 - gap.new < LITTLE:
        return f"There is next to no overfitting: {comparison}."
    if gap.is_of_sample:
        more = "With all its photos the gap is usually narrower."
        return f"It knows photos that it learnt from better than new ones: {comparison}. {more}"
    return (
        f"It knows its own photos better than new ones: {comparison}. A gap of {points(gap.train - gap.new)} "
        f"{'is large' if is_overfitting(record) else 'is usual'}; more, and more varied, photos narrow it."
    )


def is_overfitting(record: RunRecord) -> bool:
    """Whether accuracy on training photos is far higher than on new ones at the end of the fit, beyond chance."""
    gap = _gap(record)
    return gap is not None and not gap.is_of_sample and gap.at_least > WIDE


class _Gap(NamedTuple):
    """Accuracies at the end of the fit: on training photos, and on n_new that were held out from it.

    at_least: the lower bound of the difference. is_of_sample: the fit saw only a part of the photos.
    """

    train: float
    new: float
    n_new: int
    at_least: float
    is_of_sample: bool


def _gap(record: RunRecord) -> _Gap | None:
    """Measure the gap between training and held-out accuracy; None where the fit was not followed."""
    f = record.get("fitting")
    last = next(iter(reversed(f.get("steps", ()))), None) if f else None
    if not f or not last or not f["n_validation"]:
        return None
    train, new, n_new = last.get("train_accuracy"), last.get("validation_accuracy"), f["n_validation"]
    if train is None or new is None:
        return None
    images = record["images"]
    n_training = images.get("train", 0) + images.get("validation", 0)
    _, high = share_interval(new * n_new, n_new, f.get("n_effective") or n_new)
    return _Gap(train, new, n_new, train - high, f["n_train"] + n_new < n_training)


def more_photos(record: RunRecord) -> str | None:
    """Say whether more photos would help; None where there is no learning curve."""
    curve = record.get("learning_curve")
    return str(curve["sentence"]) if curve and curve.get("sentence") else None


def ladder(record: RunRecord) -> str | None:
    """Say what the further rungs of the ladder brought; None where only the first was tried."""
    rungs = [r for r in record.get("ladder") or () if r["accuracy"] is not None]
    if len(rungs) < 2:
        return None
    taken = [r for r in rungs if r["is_taken"]]
    n_tried = f"{len(rungs) - 1:,} more {'was' if len(rungs) == 2 else 'were'} tried"
    n_taken = f"{len(taken) - 1:,} of them {'was' if len(taken) == 2 else 'were'} kept"
    first, last = rungs[0]["accuracy"], (taken[-1] if taken else rungs[0])["accuracy"]
    n_training = record["images"]["used"] - (record["images"].get("test") or 0)
    n = rungs[0].get("n_images") or n_training
    among = f" on a sample of {n:,} of the {n_training:,} photos to learn from" if n < n_training else ""
    what = "balanced accuracy " if rungs[0].get("is_balanced") else ""
    if len(taken) < 2:
        return f"After the simplest way, {n_tried} by cross-validation{among}, and none was better: {what}{percent(first)}."
    rise = f"{percent(first)} as before, with probabilities that fit better" if first == last else ""
    return (
        f"After the simplest way, {n_tried} by cross-validation{among} and {n_taken}: {what}"
        f"{rise or f'from {percent(first)} to {percent(last)}'}. These numbers chose, so they flatter a little"
        f"{'; the result at the top did not choose' if is_tested(record) else ''}."
    )


def fine_tuning(record: RunRecord) -> str | None:
    """Say whether fine-tuning the backbone paid; None where it was not tried."""
    tuning = record.get("fine_tuning")
    if not tuning:
        return None
    outcome = "and was kept" if tuning["is_taken"] else "and was not kept"
    comparison = (tuning.get("comparison") or {}).get("sentence") or ""
    return f"Letting the network itself learn too took {counted(tuning['epochs'], 'epoch')} {outcome}. {comparison}".strip()


def limits(record: RunRecord) -> tuple[str, ...]:
    """List what this classifier should not be trusted with."""
    e, n_classes = record["evaluation"], len(record["classes"])
    only = "It knows no label but these" if are_several(record) else "It always answers with one of its classes"
    sentences = [
        f"Photos of anything else. {only} ({n_classes:,}), whatever the photo shows; watch the unfamiliarity.",
        "Photos taken otherwise: another camera, light, season or background. It was judged on photos like its own.",
        f"Decisions that may do harm and that nobody checks: {describe_errors(e)}; "
        + ("on more photos, some will be." if e["accuracy"] == 1 else "its probabilities only hint at which."),
    ]
    few = [c["label"] for c in e["classes"] if c["support"] < FEW_OF_CLASS]
    if few:
        sentences.append(
            f"Its own numbers for {listed(map(quote_name, few))}: fewer than {FEW_OF_CLASS} photos each judged them."
        )
    if not is_tested(record):
        sentences.append(
            "The result as a test's: the same photos chose how it learns (cross-validation), which flatters a little."
        )
    return tuple(sentences)
