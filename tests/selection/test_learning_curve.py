"""Curves of problems whose answer is known, and problems that have none."""

import hashlib
import itertools
import json

import numpy as np
import pytest

from headstart.heads.head import Head
from headstart.heads.labelled_codes import LabelledCodes
from headstart.heads.logistic import SoftmaxRegression
from headstart.numerics.intervals import wilson_interval
from headstart.selection.forecast import Forecast, PowerLaw, _fit_power_laws, look_ahead
from headstart.selection.learning_curve import (
    QUICK,
    THOROUGH,
    HeldOutFold,
    LearningCurve,
    Point,
    _error_curve,
    _Scores,
    learning_curve,
    sentence,
)


def digests(n):
    return [hashlib.sha256(str(i).encode()).digest() for i in range(n)]


def clouds(counts, *, d=30, distance=0.6, seed=0):
    """Codes (n, d) around one point a class, as many of each class as counts say."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    return (rng.normal(0, distance, (len(counts), d))[labels] + rng.normal(0, 1, (len(labels), d))).astype(
        np.float16
    ), labels


def regression(k, n, l2=0.03):
    """Softmax regression, with more regularisation for fewer images, as a run has it."""

    def fit(codes, labels):
        problem = SoftmaxRegression(codes, labels, k)
        return problem.head(problem.fit(l2 * np.sqrt(n / len(labels))))

    return fit


def curve_of(codes, labels, *, fit=None, groups=None, test=5, **options):
    """The curve of a run that every `test`-th image tests: what learns is fitted on all others for the last point."""
    k, is_test = int(labels.max()) + 1, np.arange(len(labels)) % test == 0
    names = np.array(digests(len(labels)) if groups is None else groups, object)
    learn = np.flatnonzero(~is_test)
    fit = fit or regression(k, len(learn))
    published = fit(codes[learn], labels[learn]).logits(codes[is_test].astype(np.float32))
    fold = HeldOutFold(np.arange(len(learn)), codes[is_test], labels[is_test], names[is_test].tolist(), published)
    return learning_curve(
        LabelledCodes(codes[learn], labels[learn], k, names[learn].tolist()),
        [fold],
        fit=fit,
        **options,
    )


def curve_of_folds(codes, labels, *, fit=None, **options):
    """The curve of a run without a test split: five folds, each judged by what learns from the others."""
    n, k = len(labels), int(labels.max()) + 1
    fit, names, folds = fit or regression(k, n), digests(n), []
    for i in range(5):
        held_out = np.arange(n) % 5 == i
        scores = fit(codes[~held_out], labels[~held_out]).logits(codes[held_out].astype(np.float32))
        groups = [name for name, is_in in zip(names, held_out, strict=True) if is_in]
        folds.append(HeldOutFold(np.flatnonzero(~held_out), codes[held_out], labels[held_out], groups, scores))
    return learning_curve(LabelledCodes(codes, labels, k, names), folds, fit=fit, **options)


def of_judges(right_of_sizes, group=None):
    """What look_ahead is given of images that judge: whether each was right, at each size."""
    judged = [
        _Scores(np.array([right], bool), np.zeros((1, len(right))), 10.0 * 2**i) for i, right in enumerate(right_of_sizes)
    ]
    group = np.arange(len(right_of_sizes[0])) if group is None else group
    return _error_curve(judged, group, 2, len(np.unique(group)))


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
    assert [p.n_per_class for p in curve.points] == [1, 2, 5, 10, 20, 80]
    assert [p.n_images for p in curve.points] == [4, 8, 20, 40, 80, 320]
    assert curve.points[0].accuracy < 0.7 < 0.85 < curve.points[-1].accuracy
    assert curve.points[0].cross_entropy > curve.points[-1].cross_entropy
    assert all(p.interval[0] < p.accuracy < p.interval[1] for p in curve.points)
    assert curve.n_held_out == 80
    assert curve.forecast.accuracy == curve.points[-1].accuracy
    assert curve.forecast.accuracy <= curve.forecast.interval[0] < curve.forecast.interval[1] <= 1
    assert curve.fitted.error(130) < curve.fitted.error(80)


@pytest.mark.parametrize("k", [2, 3, 5, 8])
def test_the_forecast_holds_what_comes(k):
    """Forecast from 40 photos a class what 40 more bring; then learn from both many times, and judge on many others."""
    codes, labels = clouds([600] * k, seed=k + 1, distance=0.35)
    place = np.arange(len(labels)) % 600
    mine = place < 50
    ahead = curve_of_folds(codes[mine], labels[mine], n_more=40, effort=THOROUGH).forecast

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


def test_it_ends_at_the_published_result_on_the_same_images():
    codes, labels = clouds([40] * 3, distance=0.4)
    published = np.eye(3)[np.where(np.arange(30) % 3 == 0, (labels[90:] + 1) % 3, labels[90:])]  # a third is wrong
    fold = HeldOutFold(np.arange(90), codes[90:], labels[90:], digests(30), published)
    curve = learning_curve(LabelledCodes(codes[:90], labels[:90], 3, digests(90)), [fold], fit=regression(3, 90))
    assert curve.points[-1].accuracy == pytest.approx(2 / 3) and curve.n_held_out == 30
    assert curve.points[-1].interval == pytest.approx(wilson_interval(20, 30))
    assert curve.points[-1].n_images == 90 and curve.points[-1].n_draws == 1
    if curve.forecast:
        assert curve.forecast.accuracy == curve.points[-1].accuracy


def test_each_turn_learns_from_its_own_images_alone():
    codes, labels = numbered(60)
    fit, judged = Recorded(), []

    def judging_fit(of_learnt, _):
        learnt = set(of_learnt[:, 0].astype(int) % 5)
        judge = Recorded()
        judge.logits = lambda held: judged.append(learnt & set(held[:, 0].astype(int) % 5)) or fit.logits(held)
        return judge

    curve_of_folds(codes, labels, fit=judging_fit)  # image i is of fold i % 5
    assert len(judged) > 5 and not any(judged)


def test_draws_are_balanced_nested_and_each_others_strangers():
    codes, labels = numbered(200)
    fit = Recorded()
    curve = curve_of(codes, labels, fit=fit)
    sizes = [(p.n_per_class, p.n_draws) for p in curve.points[:-1]]
    calls = fit.calls[1:]  # the first was the result itself
    assert len(calls) == sum(n for _, n in sizes)
    each = iter(calls)
    drawn = {size: [set(next(each)[0][:, 0].astype(int)) for _ in range(n)] for size, n in sizes}
    for (small, _), (large, n_draws) in itertools.pairwise(sizes):
        assert all(a <= b for a, b in zip(drawn[small][:n_draws], drawn[large], strict=True))
    assert len(set(map(frozenset, drawn[10]))) == len(drawn[10]) > 1
    for rows, of_rows in calls:
        assert abs(np.diff(np.bincount(of_rows, minlength=2))) == 0
        assert len(set(rows[:, 0])) == len(rows)


def test_names_and_order_change_no_draw():
    codes, labels = numbered(100)
    names, order, drawn = digests(100), np.random.default_rng(0).permutation(100), []
    for rows in (np.arange(100), order):
        fit = Recorded()
        fold = HeldOutFold(np.arange(100), codes[:10], labels[:10], digests(10), np.zeros((10, 2)))
        learning_curve(
            LabelledCodes(codes[rows], labels[rows], 2, [names[i] for i in rows]),
            [fold],
            fit=fit,
        )
        drawn.append([sorted(c[:, 0]) for c, _ in fit.calls])
    assert drawn[0] == drawn[1]


def test_copies_are_drawn_whatever_order_they_stand_in():
    """Photos whose copies share a group still have a sha256 each."""
    codes, labels = clouds([60] * 3, distance=0.4)
    curve = curve_of(codes, labels)
    learn = np.flatnonzero(np.arange(180) % 5 != 0)
    test = np.flatnonzero(np.arange(180) % 5 == 0)
    order, names = np.random.default_rng(0).permutation(learn), digests(180)
    fit = regression(3, len(learn))
    groups = [names[i] for i in test]
    fold = HeldOutFold(
        np.arange(len(learn)), codes[test], labels[test], groups, fit(codes[learn], labels[learn]).logits(codes[test])
    )
    again = learning_curve(
        LabelledCodes(codes[order], labels[order], 3, [names[i] for i in order]),
        [fold],
        fit=fit,
    )
    assert [p.accuracy for p in again.points] == pytest.approx([p.accuracy for p in curve.points], abs=0.03)


def test_a_handful_of_judges_never_makes_a_curve_flat_nor_certain():
    """Five photos, the same two wrong throughout: that is no knowledge of what more photos bring."""
    same = [[1, 1, 1, 0, 0]] * 6
    assert "too few photos judge" in look_ahead(of_judges(same), 20, 0)[2]
    many = [np.arange(200) >= n for n in (81, 61, 31, 0, 0, 1)]  # one size was wrong on nothing
    _, ahead, reason = look_ahead(of_judges(many), 50, 0)
    assert reason or ahead.interval[0] < ahead.interval[1]


def test_copies_among_the_judges_widen_the_intervals():
    codes, labels = clouds([40] * 3, distance=0.4)
    alone = curve_of(codes, labels)
    copied = curve_of(codes, labels, groups=[b"%d" % (i // 15) for i in range(120)])
    one, other = alone.points[-1], copied.points[-1]
    assert one.accuracy == other.accuracy != 1 and np.diff(other.interval) > 1.3 * np.diff(one.interval)


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
    assert points[-1].n_per_class == 160 and points[-1].n_images == 170
    assert [p.n_images for p in points] == sorted(p.n_images for p in points)
    assert all(b.n_images > 1.2 * a.n_images for a, b in itertools.pairwise(points))


def test_a_class_without_any_image_changes_nothing():
    codes, labels = clouds([40, 40])
    with_it = curve_of(codes, labels * 2, fit=regression(3, 64), n_more=40)
    assert with_it.points[-1].n_images == 64
    assert with_it.points[-1].accuracy > 0.8


@pytest.mark.parametrize("counts", [[1, 1], [2, 2], [1, 5], [3, 3, 3], [2] * 40])
def test_tiny_sets_have_a_reason_instead_of_a_forecast(counts):
    curve = curve_of(*clouds(counts))
    assert curve.forecast is None and curve.fitted is None
    assert curve.reason and curve.reason in sentence(curve)


def test_a_curve_has_two_points_or_none():
    """One point, the result itself, is no curve."""
    curve = curve_of(*clouds([1, 1]))
    assert curve.points == () and "too few photos to learn from fewer" in sentence(curve)
    nobody = HeldOutFold(np.arange(10), np.zeros((0, 30), np.float16), np.zeros(0, np.int64), [], np.zeros((0, 2)))
    codes, labels = clouds([5, 5])
    assert learning_curve(LabelledCodes(codes, labels, 2, digests(10)), [nobody], fit=regression(2, 10)).points == ()
    assert len(curve_of(*clouds([5, 5])).points) > 1


def test_looking_too_far_ahead_is_refused():
    codes, labels = clouds([20] * 3, distance=0.4)
    assert "7 times as many as now" in curve_of(codes, labels).reason
    assert curve_of_folds(codes, labels, n_more=20).forecast


def test_chance_has_no_forecast():
    rng = np.random.default_rng(0)
    curve = curve_of_folds(rng.normal(size=(9_000, 20)), np.arange(9_000) % 3)
    assert curve.points[-1].accuracy == pytest.approx(1 / 3, abs=0.02)
    assert curve.forecast is None and "flat" in curve.reason


def test_few_judges_do_not_make_a_curve_flat():
    """Of thirty images a difference of ten points may be chance: nobody may be told that more photos change nothing."""
    codes, labels = np.random.default_rng(1).normal(size=(150, 20)), np.arange(150) % 3
    assert "too few photos judge the curve" in curve_of(codes, labels).reason


def test_many_classes():
    codes, labels = clouds([3] * 200, d=40, distance=3.0)
    curve = curve_of(codes, labels)
    assert curve.points[-1].accuracy > 0.9
    assert curve.points[0].n_images == 200


def test_the_work_depends_on_nothing_but_the_photos():
    """Less than the one fit on all images, and twice the same; with more effort there are more points and draws."""
    codes, labels = numbered(20_000)
    quick, again, thorough = Recorded(), Recorded(), Recorded()
    curve = curve_of(codes, labels, fit=quick)
    assert sum(len(c) for c, _ in quick.calls[1:]) < 16_000 and max(len(c) for c, _ in quick.calls[1:]) <= QUICK.most_images
    assert curve == curve_of(codes, labels, fit=again) and len(again.calls) == len(quick.calls)
    longer = curve_of(codes, labels, fit=thorough, effort=THOROUGH)
    assert len(longer.points) > len(curve.points) and len(thorough.calls) > 1.5 * len(quick.calls)
    assert longer.points[-1] == curve.points[-1]


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
