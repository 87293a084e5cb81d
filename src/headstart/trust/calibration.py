"""Calibration: temperature scaling, reliability bins and the expected calibration error (ECE).

Of photos that a calibrated classifier is 80 % sure of, 80 % are right. Takes logits of held-out photos and their labels;
gives the temperature to divide logits by, and the error before and after. It decides how much a few photos may change (less
than many), and how the error is measured. Where classes are balanced every class counts the same in all of it: the
probabilities then are those of a world in which no class is more common than another.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import cast

import numpy as np

from headstart.data.splits import N_FOLDS
from headstart.numerics.intervals import effective_number, wilson_interval
from headstart.numerics.losses import OUTPUTS, counted_weights, losses
from headstart.record import CalibrationRecord

N_BINS = 10
FEWEST_IN_BIN = 5
SPREAD = 0.5  # the standard deviation of the logarithm of the temperature, by the prior
LOWEST, HIGHEST = 0.05, 20.0
MOST_NUMBERS = 200_000  # logits that a temperature is fitted to
N_DRAWS = 200  # of labels, for the error that a perfectly calibrated classifier would show
GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True)
class Bin:
    """n photos of similar probability: its mean, and the accuracy among them, with its 95 % Wilson interval.

    share: of all photos, by weight, in [0, 1]. n_effective: photos that all count the same and say as much; n, unless
    balanced.
    """

    probability: float
    accuracy: float
    n: int
    interval: tuple[float, float]
    share: float
    n_effective: float


@dataclass(frozen=True)
class Calibration:
    """How far probabilities can be believed, on n held-out images.

    temperature: what scores are divided by. error_before, error_after: expected calibration error of the highest
    probability, in [0, 1], by bins of equal numbers of images; `after` with temperatures that the judged fifth had no part
    in. bias: what a perfectly calibrated classifier would show on as many images, by chance alone. is_balanced: whether
    every class counts the same in all these numbers, and not every image.
    """

    temperature: float
    n_images: int
    error_before: float
    error_after: float
    bias: float
    bins_before: tuple[Bin, ...]
    bins: tuple[Bin, ...]
    is_balanced: bool = False

    def to_json(self) -> CalibrationRecord:
        """Plain dictionaries and lists, for run.json."""
        return cast(CalibrationRecord, asdict(self))


def calibrate(
    logits: np.ndarray, labels: np.ndarray, output: str = "softmax", *, is_balanced: bool = False
) -> Calibration | None:
    """Choose the temperature that fits held-out scores best (Guo et al. 2017), and measure what it changes.

    logits: (n, k) of images that the fits had not seen. labels: (n,), or (n, k) of 0 and 1, where each of the n · k
    decisions counts by itself. output: of the head, a key of losses.OUTPUTS. is_balanced: let every class count the same,
    (n,) labels only. None where there is no image to judge by.
    """
    if not len(logits):
        return None
    weights = counted_weights(labels, is_balanced=is_balanced)
    temperature, held_out_temperatures = 1.0, np.ones(len(logits), np.float32)
    fold = np.arange(len(logits)) % N_FOLDS  # rows stand in the order of their contents' hashes, or of the data
    for i in range(N_FOLDS if len(logits) >= 2 * N_FOLDS else 0):
        held_out_temperatures[fold == i] = best_temperature(logits[fold != i], labels[fold != i], weights[fold != i])
    corrected = logits / held_out_temperatures[:, None]
    if np.average(losses(corrected, labels), weights=weights) < np.average(losses(logits, labels), weights=weights):
        temperature = best_temperature(logits, labels, weights)
    else:  # a choice like every other: what does not help held-out photos is not taken
        corrected = logits
    before = _confidences(OUTPUTS[output](logits), labels, weights)
    after = _confidences(OUTPUTS[output](corrected), labels, weights)
    return Calibration(
        temperature,
        len(logits),
        calibration_error(*before),
        calibration_error(*after),
        chance_error(after[0], after[2]),
        bins_of(*before),
        bins_of(*after),
        is_balanced,
    )


def calibrate_probabilities(
    probabilities: np.ndarray, labels: np.ndarray, before: CalibrationRecord | None
) -> CalibrationRecord | None:
    """Measure how far a finished classifier's probabilities can be believed on other images, as run.json has it.

    probabilities, labels: (n, k), (n,) or (n, k). before: the classifier's own calibration, whose temperature it has; where
    that is balanced, so is this.
    """
    if not len(probabilities):
        return None
    is_balanced = bool(before and before.get("is_balanced"))
    answers = _confidences(probabilities, labels, counted_weights(labels, is_balanced=is_balanced))
    error, bins, bias = calibration_error(*answers), bins_of(*answers), chance_error(answers[0], answers[2])
    temperature = before.get("temperature", 1.0) if before else 1.0
    return Calibration(temperature, len(probabilities), error, error, bias, bins, bins, is_balanced).to_json()


def best_temperature(logits: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Minimise the cross entropy of softmax(logits / T), or of sigmoids where labels are (n, k); T is a float32.

    weights: (n,), how much each image counts; by default every one the same. The prior is a normal distribution of log T
    about 0: a handful of photos that are all right would otherwise make any classifier perfectly sure of itself.
    """
    weights = np.ones(len(logits)) if weights is None else weights.astype(np.float64)
    spread, n = SPREAD**2 * effective_number(weights), max(1_000, MOST_NUMBERS // logits.shape[1])
    if len(logits) > n:  # one number is to be found: more images do not move it. What counts more is drawn more often
        some = np.searchsorted(np.cumsum(weights), (np.arange(n) + 0.5) * weights.sum() / n)
        logits, labels, weights = logits[some], labels[some], np.ones(n)

    def loss(log_t: float) -> float:
        each = losses(logits / np.float32(np.exp(log_t)), labels)
        return float(np.average(each, weights=weights)) + log_t**2 / (2 * spread)

    low, high = float(np.log(LOWEST)), float(np.log(HIGHEST))
    left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
    loss_left, loss_right = loss(left), loss(right)
    while high - low > 1e-3:  # golden section: the cross entropy has one minimum in 1 / T, and so in log T
        if loss_left < loss_right:
            high, right, loss_right = right, left, loss_left
            left = high - GOLDEN * (high - low)
            loss_left = loss(left)
        else:
            low, left, loss_left = left, right, loss_right
            right = low + GOLDEN * (high - low)
            loss_right = loss(right)
    return float(np.float32(np.exp((low + high) / 2)))


def _confidences(
    probabilities: np.ndarray, labels: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The confidence of each answer, whether it is right, and its weight: of the top class, or of each of several labels."""
    if labels.ndim == 2:
        confidence = np.maximum(probabilities, 1 - probabilities).ravel()
        return confidence, ((probabilities > 0.5) == (labels > 0)).ravel(), np.repeat(weights, labels.shape[1])
    return probabilities.max(axis=1), probabilities.argmax(axis=1) == labels, weights


def calibration_error(probabilities: np.ndarray, is_right: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Expected calibration error (Naeini et al. 2015) by bins of equal mass (Nguyen & O'Connor 2015): (n,) each."""
    return float(sum(b.share * abs(b.accuracy - b.probability) for b in bins_of(probabilities, is_right, weights)))


def bins_of(probabilities: np.ndarray, is_right: np.ndarray, weights: np.ndarray | None = None) -> tuple[Bin, ...]:
    """Divide images into ten bins of equal numbers, the least sure first; fewer where there are few images.

    weights: (n,), how much each image counts within its bin, and each bin among all; by default every image the same.
    """
    weights = np.ones(len(probabilities)) if weights is None else weights.astype(np.float64)
    # Photos of the very same probability, as votes have, stand in no order that has to do with who is right.
    shuffled = np.random.default_rng(0).permutation(len(probabilities))
    order = shuffled[np.argsort(probabilities[shuffled], kind="stable")]
    n_bins = max(1, min(N_BINS, len(order) // FEWEST_IN_BIN))
    return tuple(
        _bin(probabilities[rows], is_right[rows], weights[rows], float(weights.sum()))
        for rows in np.array_split(order, n_bins)
        if len(rows)
    )


def _bin(probabilities: np.ndarray, is_right: np.ndarray, weights: np.ndarray, total: float) -> Bin:
    n, accuracy = effective_number(weights), float(np.average(is_right, weights=weights))
    probability = float(np.average(probabilities, weights=weights))
    return Bin(probability, accuracy, len(weights), wilson_interval(accuracy * n, n), float(weights.sum()) / total, n)


def chance_error(probabilities: np.ndarray, weights: np.ndarray | None = None, *, seed: int = 0) -> float:
    """The mean error of a perfectly calibrated classifier: labels drawn by its probabilities (Vaicenavicius et al. 2019).

    With few images there is an error in any case; a measured one means something only as far as it is above this.
    """
    weights = np.ones(len(probabilities)) if weights is None else weights.astype(np.float64)
    by_confidence = np.argsort(probabilities, kind="stable")
    order, weights = probabilities[by_confidence].astype(np.float64), weights[by_confidence]
    n_bins = max(1, min(N_BINS, len(order) // FEWEST_IN_BIN))
    starts = np.array([part[0] for part in np.array_split(np.arange(len(order)), n_bins) if len(part)])
    sums = np.add.reduceat(order * weights, starts)
    rng = np.random.default_rng(seed)
    n_draws = max(10, min(N_DRAWS, 2_000_000 // len(order)))
    errors = [
        np.abs(np.add.reduceat((rng.random(len(order)) < order) * weights, starts) - sums).sum() for _ in range(n_draws)
    ]
    return float(np.mean(errors) / weights.sum())
