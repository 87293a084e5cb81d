"""The learning curve: accuracy of heads learnt from 1, 2, 5, 10, ... photos a class, up to the run's own result.

Takes labelled codes and the held-out images of the result; gives a point for each number of photos a class, all judged on
those images, the last point being the result itself. It decides which numbers are tried and how often each is drawn: by the
number of images alone, so that the same photos give the same curve.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple, Protocol, TypeAlias, cast

import numpy as np

from headstart.heads.labelled_codes import LabelledCodes
from headstart.numerics.intervals import Z95, effective_size, group_numbers, share_interval
from headstart.numerics.losses import is_right, losses
from headstart.progress import Progress
from headstart.record import LearningCurveRecord
from headstart.selection.forecast import ErrorCurve, Forecast, PowerLaw, look_ahead

STEPS = (1, 2, 5)  # times powers of ten: photos a class


@dataclass(frozen=True)
class Effort:
    """How many heads are learnt for a curve.

    growth: from one number of photos to the next, at least; the last that is tried has so much less than all. most_images:
    the largest number of images that is tried. most_draws, images_drawn: small numbers are drawn anew, at most so often,
    until they come to so many images, for there the luck of the draw is largest.
    """

    growth: float
    most_images: int
    most_draws: int
    images_drawn: int


QUICK = Effort(growth=2.0, most_images=2_000, most_draws=3, images_drawn=500)  # less than the one fit on all images
THOROUGH = Effort(growth=1.3, most_images=10**9, most_draws=10, images_drawn=5_000)


class Scorer(Protocol):
    """What a fit gives: anything that scores codes, a head.Head for one."""

    def logits(self, codes: np.ndarray) -> np.ndarray:
        """(n, d) codes to (n, k) scores."""


Fit: TypeAlias = Callable[[np.ndarray, np.ndarray], Scorer]
"""Learns from (m, d) or, with views, (m, v, d) codes and (m,) labels."""


class HeldOutFold(NamedTuple):
    """Images that are held out to judge on, and the rows that are learnt from meanwhile.

    train_rows: of the labelled codes. codes: (m, d) of the held-out images. labels: (m,). groups: the same for copies of a
    photo. logits: (m, k), the scores of the published result, which has learnt from all of train_rows.
    """

    train_rows: np.ndarray
    codes: np.ndarray
    labels: np.ndarray
    groups: Sequence[bytes]
    logits: np.ndarray


@dataclass(frozen=True)
class Point:
    """How good heads are that learn from at most n_per_class photos of each class.

    n_images: how many photos that is, on average. interval: 95 %, of the luck of the draw and of the held-out images.
    cross_entropy: mean, in nats. n_draws: how often so many were drawn, in each fold.
    """

    n_per_class: int
    n_images: int
    accuracy: float
    interval: tuple[float, float]
    cross_entropy: float
    n_draws: int


@dataclass(frozen=True)
class LearningCurve:
    """Points in order of size, the last of which is the published result; `reason` says why there is no forecast.

    n_held_out: the number of images that it was measured on.
    """

    points: tuple[Point, ...]
    fitted: PowerLaw | None = None
    forecast: Forecast | None = None
    reason: str | None = None
    n_held_out: int = 0

    def to_json(self) -> LearningCurveRecord:
        """Plain dictionaries and lists, for run.json and --json."""
        return cast(LearningCurveRecord, asdict(self))


def learning_curve(
    data: LabelledCodes,
    folds: Sequence[HeldOutFold],
    *,
    fit: Fit,
    n_more: int = 100,
    seed: int = 0,
    effort: Effort = QUICK,
    temperature: float = 1.0,
    progress: Progress = lambda *_: None,
) -> LearningCurve:
    """Learn from 1, 2, 5, 10, ... photos of each class, and judge each head on the held-out images of the result.

    data: what is learnt from, one label an image. Photos are drawn in the order of its groups, so that no name and no order
    matters; they are best each image's own sha256, for copies are drawn like any other photo. folds: the test split alone,
    or each fold of a cross-validation. fit: learns as the published head did. n_more: photos of each class to forecast
    ahead. seed: of the draws. temperature: what scores are divided by for the cross entropy. Linear algebra runs on one
    thread, for these fits are small (engines.hardware.blas_threads).
    """
    from threadpoolctl import threadpool_limits

    folds = [fold for fold in folds if len(fold.labels)]
    sizes = _sizes(data.labels, folds, effort) if sum(len(fold.labels) for fold in folds) > 1 else []
    if not sizes:
        return LearningCurve((), reason="there are too few photos to learn from fewer of them")
    plan = _Plan(data, sizes, fit, seed, np.float32(temperature))
    with threadpool_limits(1, user_api="blas"):
        scores = [*_score_sizes(plan, folds, progress), _score_published(plan, folds)]
    groups = [group for fold in folds for group in fold.groups]
    n_effective = effective_size(groups, len(groups))
    whole = _Size(max(int(np.bincount(data.labels[fold.train_rows]).max()) for fold in folds), 1)
    points = tuple(_point(size, of_size, n_effective) for size, of_size in zip([*sizes, whole], scores, strict=True))
    n_present = len(set(data.labels.tolist()))
    errors = _error_curve(scores, group_numbers(groups), n_present, n_effective)
    law, forecast, reason = look_ahead(errors, n_more, seed)
    return LearningCurve(points, law, forecast, reason, len(groups))


# ---- what is learnt from, and judged on


class _Plan(NamedTuple):
    data: LabelledCodes
    sizes: Sequence[_Size]
    fit: Fit
    seed: int
    temperature: np.float32


class _Size(NamedTuple):
    """At most n_per_class photos of each class, drawn n_draws times."""

    n_per_class: int
    n_draws: int


class _Scores(NamedTuple):
    """The answers at one size, of one fold or of all: right, loss: (draws, images); n_images: learnt from, on average."""

    right: np.ndarray
    loss: np.ndarray
    n_images: float


def _sizes(labels: np.ndarray, folds: Sequence[HeldOutFold], effort: Effort) -> list[_Size]:
    """1, 2, 5, 10, ... photos a class as long as that makes a difference; all that there are is not among them."""
    counts = np.mean([np.bincount(labels[fold.train_rows], minlength=int(labels.max()) + 1) for fold in folds], axis=0)
    most = min(counts.sum() / effort.growth, effort.most_images)
    sizes, before = [], 0.0
    for n in (step * 10**power for power in range(9) for step in STEPS):
        n_images = float(np.minimum(counts, n).sum())
        if n_images > most:
            break
        if n_images >= before * effort.growth:
            sizes.append(_Size(n, int(np.clip(effort.images_drawn // n_images, 1, effort.most_draws))))
            before = n_images
    return sizes


def _score_sizes(plan: _Plan, folds: Sequence[HeldOutFold], progress: Progress) -> list[_Scores]:
    """Fold by fold, learn from each size in turn; a draw of one size is a part of the same draw of the next."""
    scores_of_folds: list[list[_Scores]] = []
    n_fits = len(folds) * sum(size.n_draws for size in plan.sizes)
    n_done = 0
    for i, fold in enumerate(folds):
        scores_of_folds.append([])
        for scores in _score_fold(plan, fold, i):
            scores_of_folds[-1].append(scores)
            progress("curve", n_done := n_done + len(scores.right), n_fits)
    return [_join(of_size) for of_size in zip(*scores_of_folds, strict=True)]


def _score_fold(plan: _Plan, fold: HeldOutFold, i: int) -> Iterator[_Scores]:
    """Learn from each size while the i-th fold is held out, and score its images."""
    train_rows = np.array(sorted(fold.train_rows.tolist(), key=lambda row: plan.data.groups[row]), np.int64)
    held_out_codes = fold.codes.astype(np.float32)
    most_draws = max(size.n_draws for size in plan.sizes)
    ranks = [_ranks(plan.data.labels[train_rows], np.random.default_rng((plan.seed, i, r))) for r in range(most_draws)]
    for size in plan.sizes:
        draws = [train_rows[rank < size.n_per_class] for rank in ranks[: size.n_draws]]
        logits = [plan.fit(plan.data.codes[rows], plan.data.labels[rows]).logits(held_out_codes) for rows in draws]
        yield _scores(logits, fold.labels, plan.temperature, float(np.mean([len(rows) for rows in draws])))


def _score_published(plan: _Plan, folds: Sequence[HeldOutFold]) -> _Scores:
    """The scores of the published result, which has learnt from all images."""
    return _join([_scores([f.logits], f.labels, plan.temperature, float(len(f.train_rows))) for f in folds])


def _scores(draws: Sequence[np.ndarray], labels: np.ndarray, temperature: np.float32, n_images: float) -> _Scores:
    right = np.array([is_right(logits, labels) for logits in draws])
    return _Scores(right, np.array([losses(logits / temperature, labels) for logits in draws]), n_images)


def _join(folds: Sequence[_Scores]) -> _Scores:
    """The scores of all folds as one, their images side by side."""
    right, loss = (np.concatenate([getattr(of, name) for of in folds], axis=1) for name in ("right", "loss"))
    return _Scores(right, loss, float(np.mean([of.n_images for of in folds])))


def _ranks(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Shuffle each class: (n,), whether an image is its class's first, second, ..., from 0."""
    order = rng.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    starts = np.cumsum(np.bincount(labels)) - np.bincount(labels)
    ranks = np.empty(len(labels), np.int64)
    ranks[order] = np.arange(len(labels)) - starts[labels[order]]
    return ranks


def _point(size: _Size, scores: _Scores, n_effective: float) -> Point:
    accuracy, n = float(scores.right.mean()), scores.right.shape[1]
    low, high = share_interval(accuracy * n, n, n_effective)
    luck = Z95 * _draw_error(scores.right)
    return Point(
        size.n_per_class,
        round(scores.n_images),
        accuracy,
        (
            max(0.0, accuracy - float(np.hypot(accuracy - low, luck))),
            min(1.0, accuracy + float(np.hypot(high - accuracy, luck))),
        ),
        float(scores.loss.mean()),
        size.n_draws,
    )


def _draw_error(right: np.ndarray) -> float:
    """The standard error of the accuracy that comes from which images were drawn; 0 where they were drawn once."""
    return float(right.mean(axis=1).std(ddof=1) / np.sqrt(len(right))) if len(right) > 1 else 0.0


def _error_curve(scores: Sequence[_Scores], group: np.ndarray, n_present: int, n_independent: float) -> ErrorCurve:
    """The curve to forecast from. group: (m,) a number for each held-out image, the same for copies of a photo.

    The same images judge every size, so that their errors go up and down together, and differences are known better; copies
    are wrong together (the variance of a mean of clusters, Cochran 1977, section 9A).
    """
    wrong = np.array([1 - of_size.right.mean(axis=0) for of_size in scores])
    n_images = np.array([of_size.n_images for of_size in scores])
    luck = np.array([_draw_error(of_size.right) for of_size in scores])
    for i, of_size in enumerate(scores[1:-1], start=1):  # one draw has luck too, though unmeasured; the last has no draw
        if len(of_size.right) == 1:
            luck[i] = luck[i - 1] * np.sqrt(n_images[i - 1] / n_images[i])
    apart = wrong - wrong.mean(axis=1, keepdims=True)
    of_group = np.array([np.bincount(group, row) for row in apart])
    n_groups = of_group.shape[1]
    covariance = of_group @ of_group.T * (n_groups / max(1, n_groups - 1)) / wrong.shape[1] ** 2
    return ErrorCurve(n_images / n_present, wrong.mean(axis=1), covariance + np.diag(luck**2), n_independent)


# ---- for people


def sentence(curve: LearningCurve) -> str:
    """Say in plain words what more photos would probably bring."""
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
