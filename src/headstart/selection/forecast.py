"""The forecast: the accuracy that more photos would probably bring, by a power law fitted to the learning curve.

Takes the error at several numbers of photos; gives the law, and a 90 % range for the accuracy beyond them. It decides when
the curve says too little for a forecast.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

LEAST_POINTS = 4  # for a law of three numbers
LEAST_GAIN = 1.5  # standard errors between the curve's middle and its end; with less it is flat
MOST_GROWTH = 6.0  # looking further ahead than to so many times the photos would be guessing
FLAT = 0.02  # of an error rate: a curve that could hide a gain of more than this is not known to be flat
EXPONENTS = np.geomspace(0.1, 2.0, 40)
SPAN = 20.0  # points with fewer photos than this part of all say little of the end
MISFIT = 0.05  # of an error rate: how far from a power law measured curves are anyway
N_RESAMPLED = 400
LEVEL = (0.05, 0.95)  # of the forecast's range


@dataclass(frozen=True)
class PowerLaw:
    """error = floor + scale · n^-exponent, n photos a class."""

    floor: float
    scale: float
    exponent: float

    def error(self, n: float) -> float:
        """The error rate at n photos of each class."""
        return self.floor + self.scale * n**-self.exponent


@dataclass(frozen=True)
class Forecast:
    """What n_more photos of each class would probably bring: from `accuracy`, as measured, to `interval` (90 %)."""

    n_more: int
    accuracy: float
    interval: tuple[float, float]


class ErrorCurve(NamedTuple):
    """The error rates (s,) at n (s,) photos a class, and their covariance (s, s).

    n_independent: how many independent photos they were measured on.
    """

    n: np.ndarray
    error: np.ndarray
    covariance: np.ndarray
    n_independent: float


def look_ahead(curve: ErrorCurve, n_more: int, seed: int) -> tuple[PowerLaw | None, Forecast | None, str | None]:
    """Fit the power law to the curve, and to N_RESAMPLED curves that could have been measured instead of it.

    That errors fall as a power of the number of images: Hestness et al. 2017, arXiv:1712.00409; Figueroa et al. 2012 fit it
    with weights, as here. The range is of the gain from the curve's end on, as it is on average over which photos are added.
    """
    if reason := _reason_against(curve, n_more):
        return None, None, reason
    rows = np.flatnonzero((curve.n * SPAN >= curve.n[-1]) | (np.arange(len(curve.n)) >= len(curve.n) - LEAST_POINTS))
    n, error = curve.n[rows], curve.error[rows]
    # No error is measured better than to half a photo, however few were made.
    misfit = np.maximum(MISFIT * error, 0.5 / curve.n_independent)
    covariance = curve.covariance[np.ix_(rows, rows)] + np.diag(misfit**2)
    curves = np.random.default_rng((seed, 1)).multivariate_normal(error, covariance, N_RESAMPLED, method="eigh")
    laws = _fit_power_laws(n, np.vstack([error, np.clip(curves, 0, 1)]), 1 / np.diag(covariance))
    now, then = (laws[:, 0] + laws[:, 1] * at ** -laws[:, 2] for at in (n[-1], n[-1] + n_more))
    accuracy = float(1 - curve.error[-1])
    low, high = (min(1.0, accuracy + float(q)) for q in np.quantile((now - then)[1:], LEVEL))
    return PowerLaw(*map(float, laws[0])), Forecast(n_more, accuracy, (low, high)), None


def _reason_against(curve: ErrorCurve, n_more: int) -> str | None:
    """Give the reason why the curve allows no forecast, or None."""
    n_points, n_last = len(curve.n), float(curve.n[-1])
    if n_points < LEAST_POINTS:
        return f"the curve has {n_points} points only; it takes {LEAST_POINTS} to look ahead: add photos"
    if n_last + n_more > MOST_GROWTH * n_last:
        times = f"{(n_last + n_more) / n_last:.0f} times as many as now"
        return f"{n_more} more photos a class would be {times}, which is too far ahead"
    if curve.error[-1] == 0:
        return "no held-out photo is labelled wrongly any more; what more photos bring cannot be seen here"
    middle = n_points // 2 - 1
    gain = curve.error[middle] - curve.error[-1]
    spread = np.array([1.0, -1.0]) @ curve.covariance[np.ix_((middle, -1), (middle, -1))] @ np.array([1.0, -1.0])
    error = max(float(np.sqrt(max(spread, 0.0))), 1 / curve.n_independent)  # one photo more or less is chance in any case
    if gain <= LEAST_GAIN * error:
        if LEAST_GAIN * error > FLAT:
            return "too few photos judge the curve to tell whether it still rises"
        return "the curve is flat: more photos of the same kind would probably change little"
    return None


def _fit_power_laws(n: np.ndarray, errors: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted least squares of error = a + b · n^-c, a and b at least 0: (m, s) curves to (m, 3) of a, b, c.

    c is looked for on a grid; for each c the rest is linear, and where a would be negative it is 0.
    """
    best, least = np.zeros((len(errors), 3)), np.full(len(errors), np.inf)
    share = weights / weights.sum()
    mean = errors @ share
    for c in EXPONENTS:
        power = n**-c
        centred = power - power @ share
        b = np.maximum((errors - mean[:, None]) @ (share * centred) / (share @ centred**2), 0)
        a = mean - b * (power @ share)
        through_zero = errors @ (share * power) / (share @ power**2)
        a, b = np.where(a < 0, 0, a), np.where(a < 0, through_zero, b)
        loss = (errors - a[:, None] - b[:, None] * power) ** 2 @ share
        better = loss < least
        best[better] = np.column_stack([a, b, np.full_like(a, c)])[better]
        least[better] = loss[better]
    return best
