"""Numbers against numbers that others compute."""

import json

import numpy as np
import pytest
from sklearn import metrics

from headstart.evaluate import evaluate, wilson_interval


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
