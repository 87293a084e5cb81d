"""The learning curve: accuracy against the number of photos, and what more photos would probably bring.

Takes the codes that are there already; gives a point for each of several numbers of photos a class, all judged on images
that were held out. It decides how often each number is drawn, and when there is too little to look ahead from.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np

from headstart.head import is_right, losses
from headstart.intervals import Z95, wilson_interval
from headstart.regression import SoftmaxRegression
from headstart.select import content_folds

N_FOLDS = 5
STEPS = (1, 2, 5)  # times powers of ten: photos a class
LEAST_GROWTH = 1.3  # from one number of photos to the next
MOST_DRAWS = 3
IMAGES_DRAWN = 500  # small numbers are drawn anew until they come to so many images: there the luck of the draw is largest
LEAST_POINTS = 4  # for a law of three numbers
LEAST_GAIN = 1.5  # standard errors between the curve's middle and its end; with less it is flat
MOST_GROWTH = 6.0  # looking further ahead than to so many times the photos would be guessing
EXPONENTS = np.geomspace(0.1, 2.0, 40)
# Of 833 forecasts, from 25 to 250 photos a class of some classes of CIFAR-10, 25 to 200 photos ahead, 89 % held the gain
# that came; with all points and no misfit 72 %.
SPAN = 20.0  # points with fewer photos than this part of all say little of the end
MISFIT = 0.05  # of an error rate: how far from a power law measured curves are anyway
N_RESAMPLED = 400
LEVEL = (0.05, 0.95)  # of the forecast's range


class Judge(Protocol):
    """What a fit gives: anything that scores codes, a head.Head for one."""

    def logits(self, codes: np.ndarray) -> np.ndarray:
        """(n, d) codes to (n, k) scores."""


Fit: TypeAlias = Callable[[np.ndarray, np.ndarray], Judge]
"""Learns from (m, d) codes and (m,) labels."""


@dataclass(frozen=True)
class Point:
    """What is learnt from at most n_per_class photos of each class.

    n_images: how many photos that is, on average. interval: 95 %, of the luck of the draw and of the held-out images both.
    cross_entropy: mean, in nats. n_draws: how often so many were drawn, for each fold.
    """

    n_per_class: int
    n_images: int
    accuracy: float
    interval: tuple[float, float]
    cross_entropy: float
    n_draws: int


@dataclass(frozen=True)
class PowerLaw:
    """error = floor + scale · n^-exponent, n photos a class."""

    floor: float
    scale: float
    exponent: float

    def error(self, n: float) -> float:
        """The share of images that are labelled wrongly."""
        return self.floor + self.scale * n**-self.exponent


@dataclass(frozen=True)
class Forecast:
    """What n_more photos of each class would probably bring: from `accuracy`, as measured, to `interval` (90 %)."""

    n_more: int
    accuracy: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class LearningCurve:
    """Points in order of size; fitted and forecast are None where `reason` says why."""

    points: tuple[Point, ...]
    fitted: PowerLaw | None = None
    forecast: Forecast | None = None
    reason: str | None = None
    n_held_out: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain dictionaries and lists, for run.json and --json."""
        return asdict(self)


def learning_curve(
    codes: np.ndarray,
    labels: np.ndarray,
    n_classes: int,
    digests: Sequence[bytes],
    *,
    fit: Fit | None = None,
    l2: float = 0.03,
    parts: Sequence[int] = (),
    n_more: int = 100,
    seed: int = 0,
    threads: int = 1,
    budget_seconds: float | None = None,
    clock: Callable[[], float] = time.perf_counter,
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> LearningCurve:
    """Learn from 1, 2, 5, 10, ... photos of each class, up to all, and judge each time on images that were held out.

    codes: (n, d). labels: (n,), positions of classes. digests: each image's sha256; byte-identical images share a fold.
    fit: what learns, by default softmax regression with the l2 that is right for all images; parts: see head.Head. n_more:
    how many photos a class to look ahead. seed: of the draws. threads: cores of linear algebra, one by default for
    select.py's reason. budget_seconds: stop adding folds, or where even the first takes longer, photos, by then.
    """
    from threadpoolctl import threadpool_limits

    fold = content_folds(digests, labels, N_FOLDS)
    folds = [held for i in range(N_FOLDS) if (held := fold == i).any() and len(set(labels[~held].tolist())) > 1]
    if sum(int(held.sum()) for held in folds) < 2:
        return LearningCurve((), reason="there are too few different photos to hold some of them out")
    sizes = _sizes(labels, folds)
    fit = fit or _regression(n_classes, l2, len(labels), parts)
    with threadpool_limits(threads, user_api="blas"):
        judged = _judge(_Plan(codes, labels, folds, sizes, fit, seed), _Budget(budget_seconds, clock), progress)
    points = tuple(_point(size, results) for size, results in zip(sizes, judged, strict=False))
    n_held_out = judged[0].right.shape[1]
    if len(points) < len(sizes):
        up = f"the time was up at {points[-1].n_per_class} photos a class; give it more to see the rest"
        return LearningCurve(points, reason=up, n_held_out=n_held_out)
    n_present = len(set(labels.tolist()))
    fitted, forecast, reason = _look_ahead(_measured(judged, n_present), n_more, seed)
    return LearningCurve(points, fitted, forecast, reason, n_held_out)


# ---- what is learnt from, and judged on


class _Size(NamedTuple):
    """At most n_per_class photos of each class, drawn n_draws times; n_images: about how many photos that is each time."""

    n_per_class: int
    n_draws: int
    n_images: float

    @property
    def work(self) -> float:
        """What it takes, in images."""
        return self.n_images * self.n_draws


class _Plan(NamedTuple):
    codes: np.ndarray
    labels: np.ndarray
    folds: Sequence[np.ndarray]
    sizes: Sequence[_Size]
    fit: Fit
    seed: int


class _Judged(NamedTuple):
    """Of one size, over all folds: right, loss: (draws, held-out images); n_images: learnt from, on average."""

    right: np.ndarray
    loss: np.ndarray
    n_images: float


def _sizes(labels: np.ndarray, folds: Sequence[np.ndarray]) -> list[_Size]:
    """1, 2, 5, 10, ... photos a class as long as that makes a difference, and last all that there are."""
    counts = np.bincount(labels) * (1 - 1 / len(folds)) if len(folds) > 1 else np.bincount(labels[~folds[0]])
    largest = max(int(np.bincount(labels[~held]).max()) for held in folds)
    sizes, before = [], 0.0
    for n in (step * 10**power for power in range(9) for step in STEPS):
        n_images = float(np.minimum(counts, n).sum())
        if n_images * LEAST_GROWTH > counts.sum():
            break
        if n_images >= before * LEAST_GROWTH:
            sizes.append(_Size(n, int(np.clip(IMAGES_DRAWN // n_images, 1, MOST_DRAWS)), n_images))
            before = n_images
    return [*sizes, _Size(largest, 1, float(counts.sum()))]


def _regression(n_classes: int, l2: float, n: int, parts: Sequence[int]) -> Fit:
    def fit(codes: np.ndarray, labels: np.ndarray) -> Judge:
        problem = SoftmaxRegression(codes, labels, n_classes, parts)
        # Few images need more of it: what is best was found to grow as fast as 1 / sqrt(n) (select.py).
        return problem.head(problem.fit(l2 * np.sqrt(n / len(labels))))

    return fit


class _Budget:
    """Says whether there is time for work that is expected to take so long; always where there is no limit."""

    def __init__(self, seconds: float | None, clock: Callable[[], float]) -> None:
        self._clock, self._started = clock, clock()
        self._seconds = float("inf") if seconds is None else seconds

    def spent(self) -> float:
        return self._clock() - self._started

    def allows(self, seconds: float) -> bool:
        return self.spent() + seconds <= self._seconds


def _judge(plan: _Plan, budget: _Budget, progress: Callable[[str, int, int], None]) -> list[_Judged]:
    """Fold by fold, so that each held-out image is judged at every size that the first fold had time for."""
    of_folds: list[list[_Judged]] = []
    n_fits = sum(size.n_draws for size in plan.sizes)
    for i in range(len(plan.folds)):
        if i and (len(of_folds[0]) < len(plan.sizes) or not budget.allows(budget.spent() / i)):
            break
        results: list[_Judged] = []
        before = budget.spent()
        for j, result in enumerate(_judge_fold(plan, i), start=1):
            results.append(result)
            progress("curve", i * n_fits + sum(size.n_draws for size in plan.sizes[:j]), len(plan.folds) * n_fits)
            took, before = budget.spent() - before, budget.spent()
            # A fit takes as long as its images are many, or a little less.
            if i == 0 and j < len(plan.sizes) and not budget.allows(took * plan.sizes[j].work / plan.sizes[j - 1].work):
                break
        of_folds.append(results)
    return [
        _Judged(
            np.concatenate([r.right for r in of_size], axis=1),
            np.concatenate([r.loss for r in of_size], axis=1),
            float(np.mean([r.n_images for r in of_size])),
        )
        for of_size in zip(*of_folds, strict=True)
    ]


def _judge_fold(plan: _Plan, i: int) -> Iterator[_Judged]:
    """Each size in turn; a draw of one size is a part of the same draw of the next."""
    held = plan.folds[i]
    learnt, of_held, answers = np.flatnonzero(~held), plan.codes[held].astype(np.float32), plan.labels[held]
    ranks = [_ranks(plan.labels[learnt], np.random.default_rng((plan.seed, i, r))) for r in range(MOST_DRAWS)]
    for size in plan.sizes:
        right, loss, n_images = [], [], 0
        for rank in ranks[: size.n_draws]:
            rows = learnt[rank < size.n_per_class]
            scores = plan.fit(plan.codes[rows], plan.labels[rows]).logits(of_held)
            right.append(is_right(scores, answers))
            loss.append(losses(scores, answers))
            n_images += len(rows)
        yield _Judged(np.array(right), np.array(loss), n_images / size.n_draws)


def _ranks(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Shuffle each class: (n,), whether an image is its class's first, second, ..., from 0."""
    order = rng.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    starts = np.cumsum(np.bincount(labels)) - np.bincount(labels)
    ranks = np.empty(len(labels), np.int64)
    ranks[order] = np.arange(len(labels)) - starts[labels[order]]
    return ranks


def _point(size: _Size, judged: _Judged) -> Point:
    n_draws, n_held_out = judged.right.shape
    accuracy = float(judged.right.mean())
    low, high = wilson_interval(round(accuracy * n_held_out), n_held_out)
    luck = Z95 * _draw_error(judged.right)
    return Point(
        size.n_per_class,
        round(judged.n_images),
        accuracy,
        (
            max(0.0, accuracy - float(np.hypot(accuracy - low, luck))),
            min(1.0, accuracy + float(np.hypot(high - accuracy, luck))),
        ),
        float(judged.loss.mean()),
        n_draws,
    )


def _draw_error(right: np.ndarray) -> float:
    """The standard error of the accuracy that comes from which images were drawn; 0 where they were drawn once."""
    return float(right.mean(axis=1).std(ddof=1) / np.sqrt(len(right))) if len(right) > 1 else 0.0


# ---- looking ahead


class _Measured(NamedTuple):
    """The curve as numbers: n: (s,) photos a class; error: (s,); covariance: (s, s) of the errors."""

    n: np.ndarray
    error: np.ndarray
    covariance: np.ndarray


def _measured(judged: Sequence[_Judged], n_present: int) -> _Measured:
    """The same images judge every size, so that their errors go up and down together, and differences are known better."""
    wrong = np.array([1 - j.right.mean(axis=0) for j in judged])
    n_images = np.array([j.n_images for j in judged])
    luck = np.array([_draw_error(j.right) for j in judged])
    for i, j in enumerate(judged[1:-1], start=1):  # what was drawn once had some luck too; there was no draw of the last
        if len(j.right) == 1:
            luck[i] = luck[i - 1] * np.sqrt(n_images[i - 1] / n_images[i])
    covariance = np.atleast_2d(np.cov(wrong)) / wrong.shape[1] + np.diag(luck**2)
    return _Measured(n_images / n_present, wrong.mean(axis=1), covariance)


def _look_ahead(curve: _Measured, n_more: int, seed: int) -> tuple[PowerLaw | None, Forecast | None, str | None]:
    """Fit the power law to the curve, and to N_RESAMPLED curves that could have been measured instead of it.

    That errors fall as a power of the number of images: Hestness et al. 2017, arXiv:1712.00409; Figueroa et al. 2012 fit it
    with weights, as here. The range is of the gain from the curve's end on, as it is on average over which photos are added.
    """
    if reason := _why_not(curve, n_more):
        return None, None, reason
    kept = np.flatnonzero((curve.n * SPAN >= curve.n[-1]) | (np.arange(len(curve.n)) >= len(curve.n) - LEAST_POINTS))
    n, error = curve.n[kept], curve.error[kept]
    covariance = curve.covariance[np.ix_(kept, kept)] + np.diag((MISFIT * error) ** 2)
    curves = np.random.default_rng((seed, 1)).multivariate_normal(error, covariance, N_RESAMPLED, method="eigh")
    laws = _fit_power_laws(n, np.vstack([error, np.clip(curves, 0, 1)]), 1 / np.diag(covariance))
    now, then = (laws[:, 0] + laws[:, 1] * at ** -laws[:, 2] for at in (n[-1], n[-1] + n_more))
    accuracy = float(1 - curve.error[-1])
    low, high = (min(1.0, accuracy + float(q)) for q in np.quantile((now - then)[1:], LEVEL))
    return PowerLaw(*map(float, laws[0])), Forecast(n_more, accuracy, (low, high)), None


def _why_not(curve: _Measured, n_more: int) -> str | None:
    """Why the curve says nothing of what is beyond it, or None."""
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
    if gain <= LEAST_GAIN * np.sqrt(max(spread, 0.0)):
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


# ---- for people


def sentence(curve: LearningCurve) -> str:
    """What the curve says, in plain words."""
    ahead = curve.forecast
    if ahead is None:
        return f"What more photos would bring cannot be said: {curve.reason}."
    low, high = (f"{100 * x:.1f}" for x in ahead.interval)
    now = f"{100 * ahead.accuracy:.1f}"
    more = f"With {ahead.n_more:,} more photos of each class the accuracy would probably"
    if high == now:
        return f"{more} stay at {now} %."
    if low == now:
        return f"{more} stay at {now} % or rise, to {high} % at most."
    return f"{more} rise from {now} % to between {low} and {high} %."
