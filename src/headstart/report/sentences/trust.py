"""Sentences about trust: whether the probabilities are calibrated, and whether unfamiliar photos are noticed."""

from __future__ import annotations

import math

from headstart.record import CalibrationRecord, RunRecord
from headstart.report.sentences.numbers import WIDE, is_evaluation
from headstart.wording import counted, percent, points

SELDOM, NEVER = 1.64, 3.0  # standard deviations above the average by chance: 1 time in 20, and next to never


def calibration(record: RunRecord) -> str | None:
    """Say whether probabilities are too high or too low; None where calibration was not measured."""
    c = record.get("calibration")
    if not c or not c.get("bins"):
        return None
    after, luck = c["error_after"], _error_by_chance(c)
    alike = ", every class counted alike," if c.get("is_balanced") else ""
    n, differ = counted(c["n_images"], "photo"), f"what it says and how often it is right{alike} differ by"
    gain, before = _gain(c), ""
    if gain is not None and gain > 0.005:
        before = f" Before it was corrected, the difference was {points(c['error_after'] + gain)}."
    if luck > 2 * WIDE and not is_off(record):
        by_chance = f"chance alone could make a difference of {points(luck)}"
        return f"{n} are too few to tell whether it is as sure as it should be: {by_chance}."
    if after <= luck:
        return (
            f"It is as sure as it should be, as far as {n} can tell: {differ} {points(after)} on average, and chance alone "
            f"could make that {points(luck)}.{before}"
        )
    if after < 0.01:
        return f"It is as sure as it should be: {differ} {points(after)} on average, too little to matter.{before}"
    way, advice = _direction(c)
    if not is_off(record):
        return (
            f"It may be a little {way} than it should be: {differ} {points(after)} on average, and on {n} chance alone "
            f"would seldom make that more than {points(luck)}.{before}"
        )
    return (
        f"It is {way} than it should be: {differ} {points(after)} on average, where chance alone would seldom "
        f"make that more than {points(luck)}.{before} {advice}"
    )


def is_off(record: RunRecord) -> bool:
    """Whether probabilities are off by more than chance can make them, and by enough to matter."""
    c = record.get("calibration")
    return bool(c and c.get("bins") and c["error_after"] >= 0.01 and c["error_after"] > _error_by_chance(c, NEVER))


def is_corrected(c: CalibrationRecord) -> bool:
    """Whether calibration changed any probability; c: record["calibration"]."""
    return bool(c.get("bins_before")) and c["bins_before"] != c["bins"]


def _error_by_chance(c: CalibrationRecord, n_deviations: float = SELDOM) -> float:
    """Compute the calibration error that perfect probabilities exceed only by chance.

    Each bin's share of right answers is binomial around its probability. The error takes its absolute value, whose
    distribution is half-normal with 1 - 2 / pi of the variance.
    """
    bins = [b for b in c["bins"] if b["n"]]
    n = sum(b["n"] for b in bins) or 1
    variance = sum(
        b.get("share", b["n"] / n) ** 2 * b["probability"] * (1 - b["probability"]) / b.get("n_effective", b["n"])
        for b in bins
    )
    return float((c.get("bias") or 0.0) + n_deviations * math.sqrt(max(0.0, variance) * (1 - 2 / math.pi)))


def _gain(c: CalibrationRecord) -> float | None:
    """Compute by how much calibration lowered the error; None where the error before it was not measured."""
    error_before = c.get("error_before")
    return None if error_before is None else error_before - c["error_after"]


def _direction(c: CalibrationRecord) -> tuple[str, str]:
    """Name the direction of the error, and what to do about it."""
    over = sum(b.get("share", b["n"]) * (b["probability"] - b["accuracy"]) for b in c["bins"] if b["n"])
    if over > 0:
        return "surer", "Read its 90 % as something less, and check what it is unsure of by eye."
    return "less sure", "Its answers are right more often than it says: a cautious fault."


def unfamiliar(record: RunRecord) -> str | None:
    """Say how many unfamiliar photos the classifier notices; None where that was not tried."""
    u = record.get("unfamiliar")
    if not u:
        return None
    sentences = []
    if (test := u.get("test")) and test["n"] and not is_evaluation(record):  # they are of the run's own photos
        flagged = f"{test['flagged']:,}" if test["flagged"] else "none"
        sentences.append(
            f"Of {counted(test['n'], 'test photo')}, like those it learnt from, it called {flagged} unfamiliar."
        )
    left_out = [(row["n"], share) for row in u.get("left_out", ()) if (share := row.get("flagged")) is not None]
    if n := sum(n for n, _ in left_out):
        share = sum(n * share for n, share in left_out) / n
        sentences.append(
            f"Of classes that were kept from it for a trial it noticed {percent(share)} of {counted(n, 'photo')}."
        )
    if probes := [value for probe in u.get("probes", ()) if (value := probe.get("unfamiliarity")) is not None]:
        n_noticed = sum(value > 1 for value in probes)
        sentences.append(f"Of {counted(len(probes), 'picture')} of something else altogether it noticed {n_noticed:,}.")
    return " ".join(sentences) or None
