"""The learning curve: accuracy against the number of photos, up to the result that is published.

Takes the codes that are there already, and what judged the result; gives a point for each of several numbers of photos a
class, all judged on the very images that judged the result, which is the last point. It decides which numbers are tried and
how often each is drawn: by the number of images alone, so that the same photos give the same curve.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple, Protocol, TypeAlias, cast

import numpy as np

from headstart.numerics.intervals import Z95, effective_size, group_numbers, share_interval
from headstart.numerics.losses import is_right, losses
from headstart.progress import Progress
from headstart.record import LearningCurveRecord
from headstart.selection.forecast import Forecast, Measured, PowerLaw, look_ahead

STEPS = (1, 2, 5)  # times powers of ten: photos a class


@dataclass(frozen=True)
class Effort:
    """How much is learnt again for a curve.

    growth: from one number of photos to the next, at least; the last that is tried has so much less than all. most_images:
    the largest number of images that is tried. draws, images_drawn: small numbers are drawn anew, at most so often, until
    they come to so many images, for there the luck of the draw is largest.
    """

    growth: float
    most_images: int
    draws: int
    images_drawn: int


QUICK = Effort(growth=2.0, most_images=2_000, draws=3, images_drawn=500)  # less than the one fit on all images
THOROUGH = Effort(growth=1.3, most_images=10**9, draws=10, images_drawn=5_000)


class Judge(Protocol):
    """What a fit gives: anything that scores codes, a head.Head for one."""

    def logits(self, codes: np.ndarray) -> np.ndarray:
        """(n, d) codes to (n, k) scores."""


Fit: TypeAlias = Callable[[np.ndarray, np.ndarray], Judge]
"""Learns from (m, d) or, with views, (m, v, d) codes and (m,) labels."""


class Turn(NamedTuple):
    """Images that judge, and those that are learnt from meanwhile.

    learn: rows of the codes. codes: (m, d) of the images that judge. labels: (m,). groups: the same for those that are one
    photo. logits: (m, k), what the published result said of them, having learnt from all of `learn`.
    """

    learn: np.ndarray
    codes: np.ndarray
    labels: np.ndarray
    groups: Sequence[bytes]
    logits: np.ndarray


@dataclass(frozen=True)
class Point:
    """What is learnt from at most n_per_class photos of each class.

    n_images: how many photos that is, on average. interval: 95 %, of the luck of the draw and of the images that judge.
    cross_entropy: mean, in nats. n_draws: how often so many were drawn, in each turn.
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

    n_held_out: how many images judge.
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
    codes: np.ndarray,
    labels: np.ndarray,
    digests: Sequence[bytes],
    turns: Sequence[Turn],
    *,
    fit: Fit,
    n_more: int = 100,
    seed: int = 0,
    effort: Effort = QUICK,
    temperature: float = 1.0,
    threads: int = 1,
    progress: Progress = lambda *_: None,
) -> LearningCurve:
    """Learn from 1, 2, 5, 10, ... photos of each class, and judge each time on the images that judged the result.

    codes: (n, d), or (n, v, d) with views, of what is learnt from. labels: (n,), positions of classes. digests: of the n
    images, by which they are drawn, so that no name and no order matters. turns: what judged the result, the test split's
    one turn, or each fold of a cross-validation. fit: learns as the published head did. n_more: how many photos a class to
    look ahead. seed: of the draws. temperature: what scores are divided by for the cross entropy. threads: cores of linear
    algebra, one by default for select.py's reason.
    """
    from threadpoolctl import threadpool_limits

    turns = [turn for turn in turns if len(turn.labels)]
    sizes = _sizes(labels, turns, effort) if sum(len(turn.labels) for turn in turns) > 1 else []
    if not sizes:
        return LearningCurve((), reason="there are too few photos to learn from fewer of them")
    plan = _Plan(codes, labels, digests, sizes, fit, seed, np.float32(temperature))
    with threadpool_limits(threads, user_api="blas"):
        judged = [*_judge(plan, turns, progress), _published(plan, turns)]
    groups = [group for turn in turns for group in turn.groups]
    n_effective = effective_size(groups, len(groups))
    everything = _Size(max(int(np.bincount(labels[turn.learn]).max()) for turn in turns), 1)
    points = tuple(_point(size, of_size, n_effective) for size, of_size in zip([*sizes, everything], judged, strict=True))
    n_present = len(set(labels.tolist()))
    fitted, forecast, reason = look_ahead(_measured(judged, group_numbers(groups), n_present, n_effective), n_more, seed)
    return LearningCurve(points, fitted, forecast, reason, len(groups))


# ---- what is learnt from, and judged on


class _Plan(NamedTuple):
    codes: np.ndarray
    labels: np.ndarray
    digests: Sequence[bytes]
    sizes: Sequence[_Size]
    fit: Fit
    seed: int
    temperature: np.float32


class _Size(NamedTuple):
    """At most n_per_class photos of each class, drawn n_draws times."""

    n_per_class: int
    n_draws: int


class _Judged(NamedTuple):
    """Of one size, over all turns: right, loss: (draws, images); n_images: learnt from, on average."""

    right: np.ndarray
    loss: np.ndarray
    n_images: float


def _sizes(labels: np.ndarray, turns: Sequence[Turn], effort: Effort) -> list[_Size]:
    """1, 2, 5, 10, ... photos a class as long as that makes a difference; all that there are is not among them."""
    counts = np.mean([np.bincount(labels[turn.learn], minlength=int(labels.max()) + 1) for turn in turns], axis=0)
    most = min(counts.sum() / effort.growth, effort.most_images)
    sizes, before = [], 0.0
    for n in (step * 10**power for power in range(9) for step in STEPS):
        n_images = float(np.minimum(counts, n).sum())
        if n_images > most:
            break
        if n_images >= before * effort.growth:
            sizes.append(_Size(n, int(np.clip(effort.images_drawn // n_images, 1, effort.draws))))
            before = n_images
    return sizes


def _judge(plan: _Plan, turns: Sequence[Turn], progress: Progress) -> list[_Judged]:
    """Turn by turn, each size in turn; a draw of one size is a part of the same draw of the next."""
    of_turns: list[list[_Judged]] = []
    n_fits = len(turns) * sum(size.n_draws for size in plan.sizes)
    n_done = 0
    for i, turn in enumerate(turns):
        of_sizes = []
        for result in _judge_turn(plan, turn, i):
            of_sizes.append(result)
            progress("curve", n_done := n_done + len(result.right), n_fits)
        of_turns.append(of_sizes)
    return [_together(of_size) for of_size in zip(*of_turns, strict=True)]


def _judge_turn(plan: _Plan, turn: Turn, i: int) -> Iterator[_Judged]:
    learn = np.array(sorted(turn.learn.tolist(), key=lambda row: plan.digests[row]), np.int64)
    of_turn = turn.codes.astype(np.float32)
    most = max(size.n_draws for size in plan.sizes)
    ranks = [_ranks(plan.labels[learn], np.random.default_rng((plan.seed, i, r))) for r in range(most)]
    for size in plan.sizes:
        drawn = [learn[rank < size.n_per_class] for rank in ranks[: size.n_draws]]
        scores = [plan.fit(plan.codes[rows], plan.labels[rows]).logits(of_turn) for rows in drawn]
        yield _judged(scores, turn.labels, plan.temperature, float(np.mean([len(rows) for rows in drawn])))


def _published(plan: _Plan, turns: Sequence[Turn]) -> _Judged:
    """The result, which has learnt from all images."""
    return _together([_judged([t.logits], t.labels, plan.temperature, float(len(t.learn))) for t in turns])


def _judged(scores: Sequence[np.ndarray], labels: np.ndarray, temperature: np.float32, n_images: float) -> _Judged:
    right = np.array([is_right(logits, labels) for logits in scores])
    return _Judged(right, np.array([losses(logits / temperature, labels) for logits in scores]), n_images)


def _together(of_turns: Sequence[_Judged]) -> _Judged:
    right, loss = (np.concatenate([getattr(of, name) for of in of_turns], axis=1) for name in ("right", "loss"))
    return _Judged(right, loss, float(np.mean([of.n_images for of in of_turns])))


def _ranks(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Shuffle each class: (n,), whether an image is its class's first, second, ..., from 0."""
    order = rng.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    starts = np.cumsum(np.bincount(labels)) - np.bincount(labels)
    ranks = np.empty(len(labels), np.int64)
    ranks[order] = np.arange(len(labels)) - starts[labels[order]]
    return ranks


def _point(size: _Size, judged: _Judged, n_effective: float) -> Point:
    accuracy, n = float(judged.right.mean()), judged.right.shape[1]
    low, high = share_interval(accuracy * n, n, n_effective)
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
        size.n_draws,
    )


def _draw_error(right: np.ndarray) -> float:
    """The standard error of the accuracy that comes from which images were drawn; 0 where they were drawn once."""
    return float(right.mean(axis=1).std(ddof=1) / np.sqrt(len(right))) if len(right) > 1 else 0.0


def _measured(judged: Sequence[_Judged], group: np.ndarray, n_present: int, n_judges: float) -> Measured:
    """The curve for looking ahead. group: (m,) a number for each image that judges, the same for those that are one photo.

    The same images judge every size, so that their errors go up and down together, and differences are known better; copies
    are wrong together (the variance of a mean of clusters, Cochran 1977, section 9A).
    """
    wrong = np.array([1 - j.right.mean(axis=0) for j in judged])
    n_images = np.array([j.n_images for j in judged])
    luck = np.array([_draw_error(j.right) for j in judged])
    for i, j in enumerate(judged[1:-1], start=1):  # what was drawn once had some luck too; there was no draw of the last
        if len(j.right) == 1:
            luck[i] = luck[i - 1] * np.sqrt(n_images[i - 1] / n_images[i])
    apart = wrong - wrong.mean(axis=1, keepdims=True)
    of_group = np.array([np.bincount(group, row) for row in apart])
    n_groups = of_group.shape[1]
    covariance = of_group @ of_group.T * (n_groups / max(1, n_groups - 1)) / wrong.shape[1] ** 2
    return Measured(n_images / n_present, wrong.mean(axis=1), covariance + np.diag(luck**2), n_judges)


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
