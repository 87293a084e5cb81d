"""The rungs of the ladder: what is tried, what came of it, and whether it is better than the best before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from headstart.codes.representation import Representation
from headstart.evaluation.metrics import balanced_accuracy
from headstart.numerics.intervals import effective_size, group_numbers, share_interval
from headstart.numerics.losses import counted_weights, is_right, losses
from headstart.selection.cross_validation import TIE, Choice

TIE_ERRORS = 0.25  # standard errors, of accuracy and cross entropy together, that a less simple choice must gain
TEMPERATURES = tuple(2.0 ** (i / 4) for i in range(-4, 9))


@dataclass(frozen=True)
class Candidate:
    """A look and a kind of head."""

    look: Representation
    head: str


@dataclass(frozen=True)
class Rung:
    """What became of one try: how it did on the images that were held out, and whether it was taken.

    look: what it saw. accuracy, cross_entropy: what was compared, the latter at its best temperature. seconds: codes and
    fits together. n_images: of those it was tried on. why: in words. is_balanced: whether every class counts the same in
    accuracy (the classes' mean recall), interval and cross entropy.
    """

    name: str
    look: str
    accuracy: float | None
    interval: tuple[float, float] | None
    cross_entropy: float | None
    seconds: float
    n_images: int
    is_taken: bool
    why: str
    is_balanced: bool = False


@dataclass(frozen=True)
class Climb:
    """Where the climb ended. choice: its head, where it was fitted on all the images already."""

    candidate: Candidate
    choice: Choice | None
    rungs: tuple[Rung, ...]


@dataclass(frozen=True)
class Learned:
    """The head on all the images, the look that it is for, and the rungs that led there."""

    look: Representation
    choice: Choice
    rungs: tuple[Rung, ...]


@dataclass(frozen=True)
class Attempt:
    candidate: Candidate
    choice: Choice
    codes_seconds: float
    seconds: float
    labels: np.ndarray
    digests: Sequence[bytes]

    @property
    def truth(self) -> np.ndarray:
        """The labels of what was held out."""
        return self.labels[self.choice.held_out]

    @property
    def groups(self) -> list[bytes]:
        """The same for held-out images that are one photo."""
        return [self.digests[i] for i in self.choice.held_out]

    @cached_property
    def right(self) -> np.ndarray:
        return is_right(self.choice.logits, self.truth)

    @cached_property
    def weights(self) -> np.ndarray:
        return counted_weights(self.truth, is_balanced=self.choice.is_balanced)

    @cached_property
    def losses(self) -> np.ndarray:
        return _best_losses(self.choice.logits, self.truth, self.weights)

    @property
    def accuracy(self) -> tuple[float, tuple[float, float]]:
        """With its interval; balanced, the classes' mean recall."""
        if self.choice.is_balanced:
            return balanced_accuracy(self.right, self.truth, self.groups)
        n, n_right = len(self.right), int(self.right.sum())
        return n_right / n, share_interval(n_right, n, effective_size(self.groups, n))


def compare_attempts(best: Attempt, trial: Attempt) -> tuple[bool, str]:
    """Whether a trial is better than the best so far, on the same images that were held out from both, and why."""
    if not len(best.choice.held_out):
        return False, "too few images to judge by"
    fixed, broken = trial.right & ~best.right, best.right & ~trial.right
    gain = float(np.average(best.losses - trial.losses, weights=best.weights))
    lead = float((best.weights * (fixed.astype(np.int64) - broken)).sum())
    is_better = _sureness(best, trial) > TIE_ERRORS and (abs(gain) > TIE or abs(lead) > TIE)
    why = f"{fixed.sum()} more right, {broken.sum()} more wrong"
    if best.choice.is_balanced:
        points = 100 * (trial.accuracy[0] - best.accuracy[0])
        why += f", balanced accuracy {points:+z.1f} points; calibrated balanced cross entropy {-gain:+z.3f}"
    else:
        why += f"; calibrated cross entropy {-gain:+z.3f}"
    return bool(is_better), why


def _sureness(best: Attempt, trial: Attempt) -> float:
    """How sure it is that a trial is better, in standard errors.

    Accuracy is what counts, cross entropy is steadier; so both are asked, each in its own standard errors (Stouffer et al.
    1949). Copies of a photo are right or wrong together. Where the choice is balanced every class counts the same in both.
    """
    weights, gains, group = best.weights.astype(np.float64), best.losses - trial.losses, group_numbers(best.groups)
    lead = np.bincount(group, weights * (trial.right.astype(np.int64) - best.right))
    gain = float(np.average(gains, weights=weights))
    error = np.linalg.norm(np.bincount(group, weights * (gains - gain))) / weights.sum()
    return float(lead.sum() / max(np.linalg.norm(lead), 1e-12) + gain / max(error, 1e-12))


def _best_losses(logits: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Cross entropy of each image at the best of some temperatures (Guo et al. 2017): how sure a head is of itself, which is
    mended later, shall not decide."""
    tried = (losses(logits / np.float32(t), labels) for t in TEMPERATURES)
    return min(tried, key=lambda each: float(np.average(each, weights=weights)))


def rung_of(name: str, trial: Attempt, is_taken: bool, why: str) -> Rung:
    look, n = trial.candidate.look, len(trial.choice.held_out)
    accuracy, interval = trial.accuracy if n else (None, None)
    return Rung(
        name,
        f"{look.name}, {look.backbones[0].preprocess.size} pixels, {look.n_layers} layer{'s' * (look.n_layers > 1)}",
        accuracy,
        interval,
        float(np.average(trial.losses, weights=trial.weights)) if n else None,
        round(trial.seconds, 3),
        len(trial.labels),
        is_taken,
        why,
        trial.choice.is_balanced,
    )
