"""Curves of problems whose answer is known, and problems that have none."""

import hashlib
import itertools
import json

import numpy as np
import pytest

from headstart.head import Head
from headstart.learning_curve import (
    N_FOLDS,
    Forecast,
    LearningCurve,
    Point,
    PowerLaw,
    _fit_power_laws,
    learning_curve,
    sentence,
)
from headstart.regression import SoftmaxRegression


def digests(n):
    return [hashlib.sha256(str(i).encode()).digest() for i in range(n)]


def clouds(counts, *, d=30, distance=0.6, seed=0):
    """Codes (n, d) around one point a class, as many of each class as counts say."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    return (rng.normal(0, distance, (len(counts), d))[labels] + rng.normal(0, 1, (len(labels), d))).astype(
        np.float16
    ), labels


def curve_of(codes, labels, **options):
    return learning_curve(codes, labels, int(labels.max()) + 1, digests(len(labels)), **options)


class Recorded:
    """A fit that keeps what it is given, and answers at random or from the first code."""

    def __init__(self):
        self.calls = []

    def __call__(self, codes, labels):
        self.calls.append((codes, labels))
        return self

    def logits(self, codes):
        self.judged = codes
        return np.stack([-codes[:, 1], codes[:, 1]], axis=1).astype(np.float32)


def numbered(n):
    """Codes whose first number tells the image and whose second tells the label of two classes."""
    labels = np.arange(n) % 2
    return np.stack([np.arange(n), 2.0 * labels - 1], axis=1).astype(np.float32), labels


def test_more_photos_help_and_the_curve_says_so():
    codes, labels = clouds([100] * 4)
    curve = curve_of(codes, labels, n_more=50)
    assert [p.n_per_class for p in curve.points] == [1, 2, 5, 10, 20, 50, 80]
    assert [p.n_images for p in curve.points] == [4, 8, 20, 40, 80, 200, 320]
    assert curve.points[0].accuracy < 0.7 < 0.85 < curve.points[-1].accuracy
    assert curve.points[0].cross_entropy > curve.points[-1].cross_entropy
    assert all(p.interval[0] < p.accuracy < p.interval[1] for p in curve.points)
    assert curve.n_held_out == 400
    assert curve.forecast.accuracy == curve.points[-1].accuracy
    assert curve.forecast.accuracy <= curve.forecast.interval[0] < curve.forecast.interval[1] <= 1
    assert curve.fitted.error(130) < curve.fitted.error(80)


@pytest.mark.parametrize("k", [2, 3, 5, 8])
def test_the_forecast_holds_what_comes(k):
    """Forecast from 40 photos a class what 40 more bring; then learn from both many times, and judge on many others."""
    codes, labels = clouds([600] * k, seed=k + 1, distance=0.35)
    place = np.arange(len(labels)) % 600
    mine = place < 50
    ahead = curve_of(codes[mine], labels[mine], n_more=40).forecast

    def accuracy(n, start):
        learnt, judged = (place >= start) & (place < start + n), place >= 450
        problem = SoftmaxRegression(codes[learnt], labels[learnt], k)
        scores = problem.head(problem.fit(0.1)).logits(codes[judged])
        return np.mean(scores.argmax(axis=1) == labels[judged])

    gain = np.mean([accuracy(80, start) - accuracy(40, start) for start in range(50, 370, 80)])
    low, high = (x - ahead.accuracy for x in ahead.interval)
    assert gain > 0.005
    assert low - 0.005 < gain < high + 0.005
    assert high - low < 0.08


def test_what_is_judged_was_never_learnt_from_nor_were_its_copies():
    codes, labels = numbered(60)
    copies = digests(30) * 2  # images 30 to 59 are images 0 to 29 once more
    fit = Recorded()
    seen = []

    def judging_fit(codes, labels):
        learnt = set(codes[:, 0].astype(int) % 30)
        judge = Recorded()
        judge.logits = lambda held: seen.append(learnt & set(held[:, 0].astype(int) % 30)) or fit.logits(held)
        return judge

    learning_curve(codes, np.arange(60) % 2, 2, copies, fit=judging_fit)
    assert seen and not any(seen)


def test_draws_are_balanced_nested_and_each_others_strangers():
    codes, labels = numbered(200)
    fit = Recorded()
    curve = curve_of(codes, labels, fit=fit)
    sizes = [(p.n_per_class, p.n_draws) for p in curve.points]
    assert len(fit.calls) == N_FOLDS * sum(n for _, n in sizes)
    first_fold = iter(fit.calls)
    drawn = {size: [set(next(first_fold)[0][:, 0].astype(int)) for _ in range(n)] for size, n in sizes}
    for (small, _), (large, n_draws) in itertools.pairwise(sizes):
        assert all(a <= b for a, b in zip(drawn[small][:n_draws], drawn[large], strict=True))
    assert len(set(map(frozenset, drawn[10]))) == len(drawn[10]) > 1
    for rows, of_rows in fit.calls[: sum(n for _, n in sizes[:-1])]:
        assert abs(np.diff(np.bincount(of_rows, minlength=2))) == 0
        assert len(set(rows[:, 0])) == len(rows)


def test_the_same_seed_draws_the_same_and_another_another():
    codes, labels = clouds([30] * 3)
    assert curve_of(codes, labels) == curve_of(codes, labels)
    assert curve_of(codes, labels).points[0] != curve_of(codes, labels, seed=1).points[0]


def test_any_head_can_be_judged():
    codes, labels = numbered(60)
    right = Head(((np.array([[0, 0], [-9, 9]], np.float32), np.zeros(2, np.float32)),))
    curve = curve_of(codes / np.array([1e9, 1], np.float32), labels, fit=lambda codes, labels: right)
    assert [p.accuracy for p in curve.points] == [1.0] * len(curve.points)
    assert curve.forecast is None and "no held-out photo is labelled wrongly" in curve.reason


def test_classes_of_unlike_sizes_are_drawn_up_to_what_there_is():
    codes, labels = clouds([200, 10, 3])
    points = curve_of(codes, labels).points
    assert (points[0].n_per_class, points[0].n_images) == (1, 3)
    assert points[-1].n_per_class == 160 and points[-1].n_images == round(213 * 0.8)
    assert [p.n_images for p in points] == sorted(p.n_images for p in points)
    assert all(b.n_images > 1.2 * a.n_images for a, b in itertools.pairwise(points))


def test_a_class_without_any_image_changes_nothing():
    codes, labels = clouds([40, 40])
    with_it = learning_curve(codes, labels * 2, 3, digests(80), n_more=40)
    assert with_it.points[-1].n_images == 64
    assert with_it.points[-1].accuracy > 0.8


@pytest.mark.parametrize("counts", [[1, 1], [2, 2], [1, 5], [3, 3, 3], [2] * 40])
def test_tiny_sets_have_a_reason_instead_of_a_forecast(counts):
    curve = curve_of(*clouds(counts))
    assert curve.forecast is None and curve.fitted is None
    assert curve.reason and curve.reason in sentence(curve)


def test_copies_of_one_photo_cannot_be_held_out():
    codes, labels = clouds([5, 5])
    curve = learning_curve(codes, labels, 2, [b"same"] * 10)
    assert curve.points == () and "too few different photos" in sentence(curve)


def test_looking_too_far_ahead_is_refused():
    codes, labels = clouds([20] * 3, distance=0.4)
    assert "7 times as many as now" in curve_of(codes, labels).reason
    assert curve_of(codes, labels, n_more=20).forecast


def test_chance_has_no_forecast():
    rng = np.random.default_rng(0)
    curve = curve_of(rng.normal(size=(300, 20)), np.arange(300) % 3)
    assert curve.points[-1].accuracy == pytest.approx(1 / 3, abs=0.12)
    assert curve.forecast is None and "flat" in curve.reason


def test_many_classes():
    codes, labels = clouds([3] * 200, d=40, distance=3.0)
    curve = curve_of(codes, labels)
    assert curve.points[-1].accuracy > 0.9
    assert curve.points[0].n_images == 200


class Clock:
    """Time that passes only where a fit takes it: so much for each image."""

    def __init__(self, seconds_an_image):
        self.now, self.seconds_an_image = 0.0, seconds_an_image

    def __call__(self):
        return self.now

    def fit(self, codes, labels):
        self.now += self.seconds_an_image * len(labels)
        return Head(((np.zeros((codes.shape[1], 2), np.float32), np.zeros(2, np.float32)),))


def test_a_budget_takes_folds_away_first_and_then_photos():
    codes, labels = numbered(200)
    whole, some, little = Clock(0.001), Clock(0.001), Clock(0.001)
    everything = curve_of(codes, labels, fit=whole.fit, clock=whole)
    fewer = curve_of(codes, labels, fit=some.fit, clock=some, budget_seconds=whole.now / 2)
    assert some.now <= whole.now / 2
    assert len(fewer.points) == len(everything.points) and fewer.n_held_out == 80
    least = curve_of(codes, labels, fit=little.fit, clock=little, budget_seconds=whole.now / 20)
    assert little.now <= whole.now / 20
    assert 0 < len(least.points) < len(everything.points)
    assert least.forecast is None and "the time was up" in sentence(least)


def test_progress_ends_at_the_end():
    told = []
    codes, labels = numbered(60)
    curve_of(codes, labels, fit=Recorded(), progress=lambda *a: told.append(a))
    assert told[-1][0] == "curve" and told[-1][1] == told[-1][2]
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)


@pytest.mark.parametrize(("a", "b", "c"), [(0.05, 0.5, 0.5), (0.0, 0.8, 0.3), (0.2, 0.4, 1.0)])
def test_a_power_law_is_found_again(a, b, c):
    n = np.array([5.0, 10, 20, 50, 100, 200])
    law = PowerLaw(*_fit_power_laws(n, (a + b * n**-c)[None], np.ones(6))[0])
    assert [law.error(x) for x in n] == pytest.approx(a + b * n**-c, abs=2e-3)
    assert law.error(400) == pytest.approx(a + b * 400**-c, abs=6e-3)


def test_a_law_has_no_error_below_zero_and_none_that_grows():
    n = np.array([5.0, 10, 20, 50])
    falling, growing = _fit_power_laws(n, np.array([[0.5, 0.3, 0.1, 0.0], [0.1, 0.2, 0.3, 0.4]]), np.ones(4))
    assert falling[0] >= 0 and falling[1] > 0
    assert growing[1] == 0


def point(n, accuracy):
    return Point(n, 2 * n, accuracy, (accuracy - 0.05, accuracy + 0.05), 0.3, 1)


def test_the_sentence_is_one_that_people_read():
    points, law = (point(10, 0.85), point(40, 0.912)), PowerLaw(0.05, 0.3, 0.5)
    curve = LearningCurve(points, law, Forecast(100, 0.912, (0.918, 0.935)))
    told = "With 100 more photos of each class the accuracy would probably rise from 91.2 % to between 91.8 and 93.5 %."
    assert sentence(curve) == told
    assert "stay at 91.2 % or rise, to 92.0 % at most" in sentence(
        LearningCurve(points, law, Forecast(100, 0.912, (0.9121, 0.92)))
    )
    assert "would probably stay at 91.2 %." in sentence(LearningCurve(points, law, Forecast(100, 0.912, (0.912, 0.9121))))


def test_a_curve_is_plain_json():
    curve = curve_of(*clouds([30] * 3), n_more=30)
    assert json.loads(json.dumps(curve.to_json()))["points"][0]["n_per_class"] == 1
