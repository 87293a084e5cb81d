"""The rungs of the ladder: candidates (a representation and a kind of head), and the test whether one beats the best so far.

It decides by accuracy and calibrated cross entropy together, on the same held-out images, in standard errors; ties go to
what came before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist

import numpy as np

from headstart.codes.representation import Representation
from headstart.evaluation.metrics import balanced_accuracy
from headstart.numerics.intervals import effective_size, group_numbers, share_interval
from headstart.numerics.losses import counted_weights, is_right, losses
from headstart.selection.cross_validation import TIE, Choice

BY_CHANCE = 0.05  # of choices between candidates that are equally good, those that take a less simple one
TEMPERATURES = tuple(2.0 ** (i / 4) for i in range(-4, 9))


@dataclass(frozen=True)
class Candidate:
    """A representation of photos, and a kind of head to learn on it."""

    representation: Representation
    head: str


@dataclass(frozen=True)
class Rung:
    """One candidate's result on the held-out images, and whether it was taken; an entry of run.json.

    look: its representation, in words. accuracy, cross_entropy: what was compared, the latter at its best temperature; None
    where it was not tried. seconds: codes and fits together. n_images: of those it was tried on. why: the reason, in words.
    is_balanced: whether every class counts the same in accuracy (the classes' mean recall), interval and cross entropy.
    is_cut: whether a clock decided that it was not tried.
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
    is_cut: bool = False


@dataclass(frozen=True)
class Selection:
    """The head on all the images, the representation that it is for, and the rungs that led there."""

    representation: Representation
    choice: Choice
    rungs: tuple[Rung, ...]


@dataclass(frozen=True)
class Attempt:
    """A candidate's head, and the labels and groups of the images that it was fitted on. seconds: codes and fits."""

    candidate: Candidate
    choice: Choice
    seconds: float
    labels: np.ndarray
    groups: Sequence[bytes]

    @property
    def held_out_labels(self) -> np.ndarray:
        """The labels of the held-out images."""
        return self.labels[self.choice.held_out]

    @property
    def held_out_groups(self) -> list[bytes]:
        """The groups of the held-out images: the same for copies of a photo."""
        return [self.groups[i] for i in self.choice.held_out]

    @cached_property
    def right(self) -> np.ndarray:
        return is_right(self.choice.logits, self.held_out_labels)

    @cached_property
    def weights(self) -> np.ndarray:
        return counted_weights(self.held_out_labels, is_balanced=self.choice.is_balanced)

    @cached_property
    def losses(self) -> np.ndarray:
        return _best_losses(self.choice.logits, self.held_out_labels, self.weights)

    @property
    def accuracy(self) -> tuple[float, tuple[float, float]]:
        """The accuracy, or the classes' mean recall where the choice is balanced, and its 95 % interval."""
        if self.choice.is_balanced:
            return balanced_accuracy(self.right, self.held_out_labels, self.held_out_groups)
        n, n_right = len(self.right), int(self.right.sum())
        return n_right / n, share_interval(n_right, n, effective_size(self.held_out_groups, n))


def compare_attempts(best: Attempt, attempt: Attempt, *, n_tried: int = 1) -> tuple[bool, str]:
    """Whether an attempt is better than the best so far, on the same images held out from both, and why.

    n_tried: how many are tried in all; the more, the further ahead chance alone puts one of them (Bonferroni).
    """
    if not len(best.choice.held_out):
        return False, "too few images to judge by"
    fixed, broken = attempt.right & ~best.right, best.right & ~attempt.right
    gain = float(np.average(best.losses - attempt.losses, weights=best.weights))
    lead = float((best.weights * (fixed.astype(np.int64) - broken)).sum())
    is_better = _standard_errors_ahead(best, attempt) > _by_chance(n_tried) and (abs(gain) > TIE or abs(lead) > TIE)
    why = f"{fixed.sum()} more right, {broken.sum()} more wrong"
    if best.choice.is_balanced:
        points = 100 * (attempt.accuracy[0] - best.accuracy[0])
        why += f", balanced accuracy {points:+z.1f} points; calibrated balanced cross entropy {-gain:+z.3f}"
    else:
        why += f"; calibrated cross entropy {-gain:+z.3f}"
    return bool(is_better), why


def _by_chance(n_tried: int) -> float:
    """Standard errors that one of so many is ahead by chance, in BY_CHANCE of all cases: two of them together, each of
    variance 1 and at worst the same."""
    return 2 * NormalDist().inv_cdf(1 - BY_CHANCE / n_tried)


def _standard_errors_ahead(best: Attempt, attempt: Attempt) -> float:
    """How far ahead an attempt is, in standard errors.

    Accuracy is what counts, cross entropy is steadier; so both are added, each in its own standard errors (Stouffer et al.
    1949). Copies of a photo are right or wrong together. Where the choice is balanced every class counts the same in both.
    """
    weights, gains = best.weights.astype(np.float64), best.losses - attempt.losses
    group = group_numbers(best.held_out_groups)
    lead = np.bincount(group, weights * (attempt.right.astype(np.int64) - best.right))
    gain = float(np.average(gains, weights=weights))
    error = np.linalg.norm(np.bincount(group, weights * (gains - gain))) / weights.sum()
    return float(lead.sum() / max(np.linalg.norm(lead), 1e-12) + gain / max(error, 1e-12))


def _best_losses(logits: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Cross entropy of each image at the best of some temperatures (Guo et al. 2017): how sure a head is of itself, which is
    mended later, shall not decide."""
    tried = (losses(logits / np.float32(t), labels) for t in TEMPERATURES)
    return min(tried, key=lambda each: float(np.average(each, weights=weights)))


def rung_of(name: str, attempt: Attempt, is_taken: bool, why: str) -> Rung:
    """Describe an attempt as a rung."""
    representation, n = attempt.candidate.representation, len(attempt.choice.held_out)
    accuracy, interval = attempt.accuracy if n else (None, None)
    layers = f"{representation.n_layers} layer{'s' * (representation.n_layers > 1)}"
    return Rung(
        name,
        f"{representation.name}, {representation.backbones[0].preprocess.size} pixels, {layers}",
        accuracy,
        interval,
        float(np.average(attempt.losses, weights=attempt.weights)) if n else None,
        round(attempt.seconds, 3),
        len(attempt.labels),
        is_taken,
        why,
        attempt.choice.is_balanced,
    )
