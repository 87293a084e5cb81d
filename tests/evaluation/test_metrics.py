"""Numbers against numbers that others compute."""

import json
import math
import re
import warnings

import numpy as np
import pytest
from sklearn import metrics

from headstart.evaluation.comparison import compare_classifiers, mcnemar
from headstart.evaluation.metrics import balanced_accuracy, evaluate
from headstart.evaluation.multilabel import FEW_POSITIVES, best_thresholds, evaluate_multilabel, held_out_thresholds
from headstart.numerics.intervals import effective_size, group_numbers, wilson_interval


@pytest.fixture
def case():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 12, 500)
    scores = rng.normal(0, 1, (500, 12))
    scores[np.arange(500), labels] += 2
    powers = np.exp(scores)
    return powers / powers.sum(axis=1, keepdims=True), labels, [f"class {i}" for i in range(12)]


def test_the_numbers_are_scikit_learns(case):
    probabilities, labels, names = case
    result = evaluate(probabilities, labels, names)
    predicted = probabilities.argmax(axis=1)
    assert result.accuracy == pytest.approx(metrics.accuracy_score(labels, predicted))
    assert result.cross_entropy == pytest.approx(metrics.log_loss(labels, probabilities))
    assert result.top5 == pytest.approx(metrics.top_k_accuracy_score(labels, probabilities, k=5))
    np.testing.assert_array_equal(result.confusion, metrics.confusion_matrix(labels, predicted))
    columns = metrics.precision_recall_fscore_support(labels, predicted)
    for i, score in enumerate(result.classes):
        assert (score.precision, score.recall, score.f1, score.support) == pytest.approx(tuple(c[i] for c in columns))


def test_the_result_is_plain_json(case):
    result = evaluate(*case).to_json()
    assert json.loads(json.dumps(result))["confusion"][0] == list(result["confusion"][0])


def test_what_cannot_be_said_is_none():
    result = evaluate(np.array([[0.9, 0.1, 0.0], [0.8, 0.2, 0.0]]), np.array([0, 1]), ["a", "b", "c"])
    a, b, c = result.classes
    assert (a.precision, a.recall) == (0.5, 1.0)
    assert (b.precision, b.recall, b.f1) == (None, 0.0, 0.0)
    assert (c.precision, c.recall, c.f1, c.support) == (None, None, None, 0)
    assert result.top5 is None


def test_a_probability_of_zero_costs_much_and_not_everything():
    assert np.isfinite(evaluate(np.array([[1.0, 0.0]]), np.array([1]), ["a", "b"]).cross_entropy)


def test_nothing_cannot_be_evaluated():
    with pytest.raises(ValueError, match="no image"):
        evaluate(np.zeros((0, 2)), np.zeros(0, int), ["a", "b"])


# Newcombe 1998, table I (81 of 263, 15 of 148, 0 of 20, 1 of 29), score method without continuity correction
@pytest.mark.parametrize(
    ("n_correct", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilsons_interval_is_the_published_one(n_correct, n, low, high):
    assert wilson_interval(n_correct, n) == pytest.approx((low, high), abs=1e-4)


def test_the_interval_covers_what_it_says():
    rng = np.random.default_rng(0)
    covered = [low <= 0.9 <= high for low, high in (wilson_interval(int(rng.binomial(60, 0.9)), 60) for _ in range(2000))]
    assert 0.93 < np.mean(covered) < 0.98


# ---- copies of a photo say as much as one


def test_copies_say_as_much_as_the_photos_that_they_are_of(case):
    probabilities, labels, names = case
    alone = evaluate(probabilities[:40], labels[:40], names, groups=[bytes([i]) for i in range(40)])
    assert alone.interval == wilson_interval(alone.n_correct, 40) and alone.n_different == 40
    six = evaluate(*(np.repeat(a[:40], 6, axis=0) for a in case[:2]), names, groups=[bytes([i // 6]) for i in range(240)])
    assert six.interval == pytest.approx(alone.interval) and (six.n_images, six.n_different) == (240, 40)
    several = np.eye(12)[labels[:40]]
    many = evaluate_multilabel(
        *(np.repeat(a, 6, axis=0) for a in (probabilities[:40], several)),
        names,
        np.full(12, 0.5),
        groups=[bytes([i // 6]) for i in range(240)],
    )
    assert many.interval == pytest.approx(wilson_interval(many.n_correct / 6, 40)) and many.n_different == 40


def test_how_many_independent_photos_a_group_is_worth():
    assert effective_size(None, 7) == effective_size(list(range(7)), 7) == 7
    assert effective_size([0] * 7, 7) == 1 and effective_size([], 0) == 0
    assert effective_size([0] * 90 + list(range(1, 11)), 100) == pytest.approx(100**2 / (90**2 + 10))  # Kish's formula
    assert group_numbers([b"b", b"a", b"b"]).tolist() == [1, 0, 1]


@pytest.mark.parametrize("sizes", [[6] * 30, [1] * 20 + [30] * 4, [2] * 40, [1] * 60])
def test_the_interval_covers_what_it_says_whatever_the_copies(sizes):
    """Each photo is right or wrong at random, its copies with it."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(len(sizes)), sizes)
    names, missed, naive = ["a", "b"], 0, 0
    for _ in range(1000):
        right = (rng.random(len(sizes)) < 0.7)[groups]
        probabilities = np.where(right[:, None], [0.9, 0.1], [0.1, 0.9])
        labels = np.zeros(len(groups), int)
        low, high = evaluate(probabilities, labels, names, groups=groups.tolist()).interval
        missed += not low <= 0.7 <= high
        low, high = evaluate(probabilities, labels, names).interval
        naive += not low <= 0.7 <= high
    assert missed / 1000 < 0.08
    assert naive / 1000 > 0.15 or max(sizes) < 6  # the trap is there


def test_copies_decide_nothing_that_one_photo_does_not():
    """Of nine photos that only one gets right, seven of one: p is 0.18, and six copies of each change nothing."""
    a, b = pair(20, 7, 2, 3)
    groups = np.repeat(np.arange(32), 6).tolist()
    copied = compare_classifiers(np.repeat(a, 6), np.repeat(b, 6), groups=groups)
    assert copied.p == pytest.approx(mcnemar(a, b)) and copied.verdict == "undecided"
    assert copied.interval == pytest.approx(compare_classifiers(a, b).interval) and copied.only_a == 42
    assert compare_classifiers(np.repeat(a, 6), np.repeat(b, 6)).verdict == "better"  # the trap is there


def test_copies_turn_no_verdict_around():
    """A hundred copies of one photo that a gets right alone, and twenty photos that b does: a is not shown to be better."""
    a, b = np.repeat([True, False], [100, 20]), np.repeat([False, True], [100, 20])
    compared = compare_classifiers(a, b, groups=[0] * 100 + list(range(1, 21)))
    assert compared.p < 0.001 and compared.verdict == "undecided"
    assert compare_classifiers(a[60:], b[60:], groups=[0] * 40 + list(range(1, 21))).verdict == "undecided"
    assert compare_classifiers(a[95:], b[95:], groups=[0] * 5 + list(range(1, 21))).verdict == "worse"


# photos of each class, recall
@pytest.mark.parametrize(
    ("sizes", "recall"),
    [
        ((1,) * 100, 0.5),
        ((3,) * 50, 0.9),
        ((5,) * 10, 0.9),
        ((5,) * 200, 0.95),
        ((100, 20, 5), 0.8),
        ((200, 10), 0.7),
        ((40,) * 3, 0.9),
    ],
)
def test_the_balanced_interval_covers_what_it_says(sizes, recall):
    rng, labels = np.random.default_rng(0), np.repeat(np.arange(len(sizes)), sizes)
    intervals = [balanced_accuracy(rng.random(len(labels)) < recall, labels)[1] for _ in range(400)]
    missed = np.mean([not low <= recall <= high for low, high in intervals])
    assert missed < 0.08


def test_copies_narrow_no_balanced_interval():
    rng = np.random.default_rng(0)
    right, labels = rng.random(60) < 0.7, np.arange(60) % 3
    alone = balanced_accuracy(right, labels, [bytes([i]) for i in range(60)])
    six = balanced_accuracy(np.repeat(right, 6), np.repeat(labels, 6), [bytes([i // 6]) for i in range(360)])
    assert six[0] == pytest.approx(alone[0]) and six[1] == pytest.approx(alone[1])


def test_the_p_of_copies_is_honest():
    """Two classifiers that are as good: of 1,000 sets of 30 photos, six copies each, one in twenty is decided at most."""
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(30), 6).tolist()
    p = [mcnemar(*(np.repeat(rng.random(30) < 0.8, 6) for _ in range(2)), groups) for _ in range(1000)]
    assert np.mean(np.array(p) < 0.05) < 0.06


# ---- is one better than the other?


def pair(both, only_a, only_b, neither):
    """Two classifiers' rights and wrongs on as many images."""
    counts = [both, only_a, only_b, neither]
    return np.repeat([True, True, False, False], counts), np.repeat([True, False, True, False], counts)


def exact_p(only_a, only_b):
    n = only_a + only_b
    return min(1.0, 2 * sum(math.comb(n, i) for i in range(min(only_a, only_b) + 1)) / 2**n)


@pytest.mark.parametrize(
    ("only_a", "only_b"), [(0, 0), (1, 0), (0, 5), (0, 6), (6, 16), (7, 1), (50, 50), (120, 90), (900, 1100)]
)
def test_mcnemars_p_is_that_of_whole_numbers(only_a, only_b):
    p = mcnemar(*pair(30, only_a, only_b, 4))
    assert p == pytest.approx(exact_p(only_a, only_b), rel=1e-9)
    assert p == mcnemar(*pair(3, only_b, only_a, 0))


def test_mcnemars_p_of_a_million_images_is_still_a_number():
    assert mcnemar(*pair(0, 500_300, 499_700, 0)) == pytest.approx(math.erfc(599 / math.sqrt(2e6)), rel=1e-3)
    assert mcnemar(*pair(0, 0, 1_000_000, 0)) == 0.0


# Cavo et al. 2012, table 8.5 of Fagerland, Lydersen & Laake 2017, Statistical Analysis of Contingency Tables
def test_the_interval_of_a_difference_is_the_published_one():
    compared = compare_classifiers(*pair(59, 6, 16, 80))
    assert compared.difference == pytest.approx(-0.0621, abs=1e-4)
    assert compared.interval == pytest.approx((-0.1186, -0.0046), abs=1e-4)
    other = compare_classifiers(*pair(59, 16, 6, 80))
    assert other.interval == pytest.approx((0.0046, 0.1186), abs=1e-4)


def test_the_interval_of_a_difference_covers_what_it_says():
    rng = np.random.default_rng(0)
    shares = [0.80, 0.08, 0.04, 0.08]
    covered = [
        low <= 0.04 <= high
        for low, high in (compare_classifiers(*pair(*rng.multinomial(150, shares))).interval for _ in range(1000))
    ]
    assert 0.93 < np.mean(covered) < 0.985


@pytest.mark.parametrize(
    ("counts", "verdict"),
    [
        ((900, 40, 6, 54), "better"),
        ((900, 6, 40, 54), "worse"),
        ((59, 6, 16, 80), "undecided"),
        ((59, 6, 6, 80), "undecided"),
    ],
)
def test_the_verdict_and_its_sentence(counts, verdict):
    compared = compare_classifiers(*pair(*counts), name_a="fine-tuned", name_b="frozen")
    assert compared.verdict == verdict
    assert (compared.n, compared.only_a, compared.only_b) == (sum(counts), counts[1], counts[2])
    if verdict == "undecided":
        assert "not decided whether fine-tuned is better or worse than frozen" in compared.sentence
    else:
        assert compared.sentence.startswith(f"Fine-tuned is {verdict} than frozen: ")
        assert "94.0 %" in compared.sentence and "90.6 %" in compared.sentence
    assert json.loads(json.dumps(compared.to_json()))["verdict"] == verdict


def test_where_chance_decides_everything_the_sentence_says_what_was_seen():
    same = compare_classifiers(*pair(12, 0, 0, 1), name_a="fine-tuned", name_b="frozen")
    assert same.sentence.startswith("Fine-tuned and frozen get the same images right, 92.3 % of 13; on others")
    assert re.search(r"may differ by -\d+\.\d to \+\d+\.\d points", same.sentence)
    for only_a, only_b in ((1, 0), (3, 3), (3, 4)):  # p is 1
        sentence = compare_classifiers(*pair(20, only_a, only_b, 5), name_a="fine-tuned", name_b="frozen").sentence
        assert f"Only fine-tuned gets {only_a} of them right, only frozen {only_b}: no more uneven than chance" in sentence
        assert "100 %" not in sentence
    assert "chance alone is as uneven 45 % of the time" in compare_classifiers(*pair(20, 2, 5, 5)).sentence
    every = compare_classifiers(*pair(10_000_000, 0, 0, 0)).sentence
    assert "-0.0" not in every and "+0.0 to +0.0 points" in every


def test_chance_alone_is_seldom_called_better():
    rng = np.random.default_rng(0)
    verdicts = [compare_classifiers(*rng.random((2, 80)) < 0.9).verdict for _ in range(500)]
    assert np.mean([v != "undecided" for v in verdicts]) < 0.05


def test_only_what_saw_the_same_images_is_compared():
    for a, b in ((np.ones(3), np.ones(4)), (np.ones(0), np.ones(0)), (np.ones((2, 2)), np.ones((2, 2)))):
        with pytest.raises(ValueError, match="the same images"):
            compare_classifiers(a, b)


# ---- several labels an image

NAMES = ["cat", "dog", "indoors", "night", "never"]


@pytest.fixture
def several():
    """Probabilities with ties, and labels; no image has the last of them."""
    rng = np.random.default_rng(1)
    labels = (rng.random((200, 5)) < [0.5, 0.3, 0.2, 0.05, 0.0]).astype(np.int64)
    return (1 / (1 + np.exp(-(3 * labels - 1.5 + rng.normal(0, 1.5, labels.shape))))).round(2), labels


def test_the_numbers_of_several_labels_are_scikit_learns(several):
    probabilities, labels = several
    thresholds = np.array([0.5, 0.4, 0.6, 0.5, 1.1])
    result = evaluate_multilabel(probabilities, labels, NAMES, thresholds)
    given = (probabilities >= thresholds).astype(int)
    assert result.accuracy == pytest.approx(metrics.accuracy_score(labels, given))
    assert result.f1_micro == pytest.approx(metrics.f1_score(labels, given, average="micro"))
    assert result.f1_macro == pytest.approx(metrics.f1_score(labels, given, average="macro", zero_division=np.nan))
    assert result.mean_average_precision == pytest.approx(
        metrics.average_precision_score(labels[:, :4], probabilities[:, :4], average="macro")
    )
    columns = metrics.precision_recall_fscore_support(labels[:, :4], given[:, :4])
    for i, score in enumerate(result.classes[:4]):
        assert (score.precision, score.recall, score.f1, score.support) == pytest.approx(tuple(c[i] for c in columns))
        assert score.average_precision == pytest.approx(metrics.average_precision_score(labels[:, i], probabilities[:, i]))
        assert (score.label, score.threshold) == (NAMES[i], thresholds[i])
    assert result.interval == wilson_interval(result.n_correct, 200)


def test_a_label_of_no_image_has_no_numbers_and_spoils_none(several):
    probabilities, labels = several
    never = evaluate_multilabel(probabilities, labels, NAMES, np.array([0.5, 0.5, 0.5, 0.5, 1.1])).classes[4]
    assert (never.precision, never.recall, never.f1, never.average_precision, never.support) == (None, None, None, None, 0)
    wrongly = evaluate_multilabel(probabilities, labels, NAMES, np.array([0.5, 0.5, 0.5, 0.5, 0.0])).classes[4]
    assert (wrongly.precision, wrongly.recall, wrongly.f1) == (0.0, None, 0.0)


def test_several_labels_are_plain_json(several):
    result = evaluate_multilabel(*several, NAMES, np.full(5, 0.5), split="cross-validation").to_json()
    assert json.loads(json.dumps(result))["classes"][0]["label"] == "cat"
    assert result["split"] == "cross-validation"


def test_no_label_anywhere_is_told_rightly_by_giving_none():
    result = evaluate_multilabel(np.full((3, 2), 0.1), np.zeros((3, 2), int), ["a", "b"], np.full(2, 0.5))
    assert (result.accuracy, result.mean_average_precision, result.f1_micro, result.f1_macro) == (1.0, None, None, None)
    with pytest.raises(ValueError, match="no image"):
        evaluate_multilabel(np.zeros((0, 2)), np.zeros((0, 2)), ["a", "b"], np.full(2, 0.5))


def test_the_best_thresholds_have_the_highest_f1_there_is(several):
    probabilities, labels = several
    chosen = best_thresholds(probabilities, labels)
    for i in range(4):
        others = [metrics.f1_score(labels[:, i], probabilities[:, i] >= t) for t in np.linspace(0, 0.99, 45)]
        assert metrics.f1_score(labels[:, i], probabilities[:, i] >= chosen[i]) >= max(others) - 1e-12
        assert not np.isin(chosen[i], probabilities[:, i])  # between two of them, so that no rounding decides
    assert chosen[4] == 0.5


def test_what_can_be_told_apart_is_told_at_the_middle():
    scores = np.array([0.1, 0.2, 0.1, 0.2, 0.1, 0.6, 0.7, 0.8, 0.7, 0.6])[:, None]
    assert best_thresholds(scores, scores > 0.5) == pytest.approx([0.4])
    assert best_thresholds(np.full((9, 1), 0.3), np.ones((9, 1))) == pytest.approx([0.15])  # all have it: give it always


@pytest.mark.parametrize(("second", "rest", "threshold"), [(0.6, 0.3, 0.45), (0.2, 0.1, 0.575)])
def test_of_equally_good_thresholds_the_nearest_to_a_half_is_taken(second, rest, threshold):
    """Eight images have the label. To give it to 4, all rightly, and to 16, 8 of them rightly, is an F1 of 2/3 both."""
    scores = np.array([0.95] * 4 + [second] * 12 + [rest] * 20)[:, None]
    labels = np.array([1] * 4 + [1] * 4 + [0] * 28)[:, None]
    assert best_thresholds(scores, labels) == pytest.approx([threshold])


def test_rare_labels_share_a_threshold_instead_of_trusting_their_luck():
    rng = np.random.default_rng(0)
    labels = np.zeros((100, 3), int)
    labels[:40, 0], labels[40 : 40 + FEW_POSITIVES - 1, 1], labels[50, 2] = 1, 1, 1
    probabilities = np.clip(0.6 * labels + rng.random(labels.shape) * 0.3, 0, 1)
    probabilities[50, 2] = 0.001  # its own threshold would be 0.0005, and give the label to everything
    chosen = best_thresholds(probabilities, labels)
    assert chosen[1] == chosen[2]
    assert 0.25 < chosen[2] < 0.65
    assert chosen[0] != chosen[1]


def test_no_warning_for_what_is_empty():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert best_thresholds(np.zeros((4, 2)), np.zeros((4, 2))).tolist() == [0.5, 0.5]
        assert best_thresholds(np.zeros((0, 3)), np.zeros((0, 3))).tolist() == [0.5] * 3


def test_thresholds_are_not_judged_by_the_photos_that_chose_them():
    """Labels at random: F1 is far too good by thresholds that these decisions chose, and honest by those of other parts."""
    rng = np.random.default_rng(0)
    names, f1 = [str(i) for i in range(8)], []

    def at_random(n):
        return rng.random((n, 8)), (rng.random((n, 8)) < 0.1).astype(np.uint8)

    for _ in range(20):
        p, labels = at_random(60)
        thresholds, own = best_thresholds(p, labels), held_out_thresholds(p, labels, np.arange(60) % 5)
        f1.append(
            [
                evaluate_multilabel(p, labels, names, thresholds).f1_micro,
                evaluate_multilabel(p, labels, names, thresholds, image_thresholds=own).f1_micro,
                evaluate_multilabel(*at_random(2_000), names, thresholds).f1_micro,
            ]
        )
    by_its_own, by_others, truth = np.mean(f1, axis=0)
    assert by_its_own > truth + 0.05 and abs(by_others - truth) < 0.02


def test_each_part_is_judged_by_the_thresholds_of_the_others():
    rng = np.random.default_rng(0)
    p, labels, parts = rng.random((90, 3)), (rng.random((90, 3)) < 0.4).astype(np.uint8), np.arange(90) % 3
    own = held_out_thresholds(p, labels, parts)
    for part in range(3):
        expected = best_thresholds(p[parts != part], labels[parts != part])
        np.testing.assert_allclose(own[parts == part], np.tile(expected, (30, 1)), atol=1e-6)
    assert (held_out_thresholds(p[:5], labels[:5], np.zeros(5)) == 0.5).all()  # one part: nothing else to choose by
