"""The softmax head: it finds the minimum, quickly, for every shape of problem."""

import numpy as np
import pytest

from headstart.heads import SoftmaxRegression, balanced_weights, softmax


def blobs(n, d, k, *, seed=0, spread=1.0):
    """Labelled points around k centres in d dimensions."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(0, 1, (k, d))
    labels = np.arange(n) % k
    return (centres[labels] + rng.normal(0, spread, (n, d))).astype(np.float32), labels


@pytest.mark.parametrize(("n", "d", "k"), [(10, 1280, 2), (300, 20, 2), (300, 500, 3), (2000, 64, 10), (3000, 32, 1000)])
def test_every_shape_is_learnt(n, d, k):
    codes, labels = blobs(n, d, k, spread=0.3)
    problem = SoftmaxRegression(codes, labels, k)
    head = problem.head(problem.fit(1e-3))
    assert head.weight.shape == (d, k) and head.bias.shape == (k,)
    probabilities = head.probabilities(codes)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert (probabilities.argmax(axis=1) == labels).mean() > 0.95


@pytest.mark.parametrize("d", [30, 400])  # more rows than codes, and fewer, where the problem is turned
def test_the_minimum_is_scikit_learns(d):
    from sklearn.linear_model import LogisticRegression

    codes, labels = blobs(200, d, 3, spread=2.0)
    problem = SoftmaxRegression(codes, labels, 3)
    head = problem.head(problem.fit(0.05, tolerance=1e-9))
    scaled = (codes - problem.mean) / problem.scale
    reference = LogisticRegression(C=1 / (0.05 * 200), tol=1e-8, max_iter=5000).fit(scaled, labels)
    np.testing.assert_allclose(head.probabilities(codes), reference.predict_proba(scaled), atol=2e-3)


def test_the_head_of_codes_as_they_are_gives_the_logits_of_the_problem():
    codes, labels = blobs(100, 300, 4)
    problem = SoftmaxRegression(codes * 50 + 7, labels, 4)
    solution = problem.fit(0.01)
    difference = problem.head(solution).logits(codes * 50 + 7) - problem.logits(solution)
    # A softmax does not see what is added to every class, so only the differences between classes count.
    np.testing.assert_allclose(difference - difference.mean(axis=1, keepdims=True), 0, atol=1e-2)


def test_rows_of_weight_zero_are_held_out():
    codes, labels = blobs(120, 10, 3)
    kept = np.arange(120) < 90
    wrong = np.where(kept, labels, (labels + 1) % 3)
    # Standardising sees every row, so both problems are given the same rows; only the labels of the held-out ones differ.
    with_wrong = SoftmaxRegression(codes, wrong, 3).fit(0.01, weights=kept.astype(np.float32))
    with_right = SoftmaxRegression(codes, labels, 3).fit(0.01, weights=kept.astype(np.float32))
    np.testing.assert_allclose(with_wrong, with_right, atol=1e-4)


def test_balance_makes_a_rare_class_count():
    rng = np.random.default_rng(0)
    labels = (np.arange(1000) < 50).astype(int)
    codes = rng.normal(0, 1, (1000, 5)).astype(np.float32) + labels[:, None]
    plain = SoftmaxRegression(codes, labels, 2)
    recall = {}
    for name, weights in (("plain", None), ("balanced", balanced_weights(labels, 2))):
        predicted = plain.logits(plain.fit(1e-3, weights=weights)).argmax(axis=1)
        recall[name] = predicted[labels == 1].mean()
    assert recall["balanced"] > recall["plain"] + 0.1
    assert balanced_weights(labels, 2).sum() == pytest.approx(1000, rel=1e-5)


def test_the_same_problem_gives_the_same_head():
    codes, labels = blobs(500, 100, 5)
    first, second = (SoftmaxRegression(codes, labels, 5).fit(0.01) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_stronger_regularisation_gives_smaller_weights():
    codes, labels = blobs(200, 30, 3, spread=2.0)
    problem = SoftmaxRegression(codes, labels, 3)
    sizes = [np.abs(problem.fit(l2)[:-1]).mean() for l2 in (10, 0.1, 0.001)]
    assert sizes[0] < sizes[1] < sizes[2]


@pytest.mark.parametrize(
    "codes", [np.ones((6, 40)), np.zeros((6, 3)), np.full((6, 40), 3.0)], ids=["ones", "zeros", "threes"]
)
def test_codes_that_say_nothing_give_even_odds(codes):
    problem = SoftmaxRegression(codes.astype(np.float16), np.array([0, 1] * 3), 2)
    np.testing.assert_allclose(problem.head(problem.fit(0.1)).probabilities(codes), 0.5, atol=1e-3)


def test_separable_codes_stay_finite_at_the_weakest_regularisation():
    codes = np.repeat(np.eye(2, 200, dtype=np.float32), 50, axis=0) * 1000
    problem = SoftmaxRegression(codes, np.repeat([0, 1], 50), 2)
    head = problem.head(problem.fit(1e-6))
    assert np.isfinite(head.weight).all() and (head.probabilities(codes).argmax(axis=1) == np.repeat([0, 1], 50)).all()


def test_softmax_takes_any_scores():
    np.testing.assert_allclose(softmax(np.array([[1e4, 0.0], [-1e4, -1e4]], np.float32)), [[1, 0], [0.5, 0.5]])
