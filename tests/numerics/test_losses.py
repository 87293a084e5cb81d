"""Scores, probabilities and losses, against what they are by definition and what scikit-learn computes."""

import numpy as np
import pytest
from sklearn.metrics import log_loss
from sklearn.utils.class_weight import compute_sample_weight

from headstart.numerics.losses import balanced_weights, counted_weights, is_right, losses, sigmoid, softmax, unit_rows

SCORES = np.random.default_rng(0).normal(0, 2, (50, 4)).astype(np.float32)
LABELS = np.random.default_rng(1).integers(0, 4, 50)


def test_softmax_is_a_distribution_that_a_constant_does_not_change():
    p = softmax(SCORES)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(softmax(SCORES + 7), p, rtol=1e-5)
    assert (p.argmax(axis=1) == SCORES.argmax(axis=1)).all()


@pytest.mark.parametrize("size", [1e3, 1e4, 1e30])
def test_large_scores_overflow_nowhere(size):
    large = np.array([[size, -size, 0]], np.float32)
    assert softmax(large).tolist() == [[1, 0, 0]] and sigmoid(large).tolist() == [[1, 0, 0.5]]
    assert losses(large, np.array([0])).tolist() == [0]
    assert losses(large, np.array([[1, 0, 1]]))[0] == pytest.approx(np.log(2))


def test_sigmoid_keeps_the_type_and_mirrors_at_zero():
    assert sigmoid(SCORES).dtype == np.float32
    np.testing.assert_allclose(sigmoid(SCORES) + sigmoid(-SCORES), 1, rtol=1e-6)


def test_the_mean_loss_is_scikit_learns_log_loss():
    assert losses(SCORES, LABELS).mean() == pytest.approx(log_loss(LABELS, softmax(SCORES.astype(float))), rel=1e-5)


def test_the_loss_of_several_labels_is_the_sum_of_each_ones():
    several = (np.random.default_rng(2).random(SCORES.shape) < 0.5).astype(np.uint8)
    p = sigmoid(SCORES.astype(np.float64))
    expected = -np.where(several, np.log(p), np.log1p(-p)).sum(axis=1)
    np.testing.assert_allclose(losses(SCORES, several), expected, rtol=1e-5)


def test_an_image_of_several_labels_is_right_where_each_of_them_is():
    assert is_right(np.array([[1.0, -1], [1, 1]]), np.array([[1, 0], [1, 0]])).tolist() == [True, False]
    assert is_right(np.array([[0.2, 0.1], [0.2, 0.1]]), np.array([0, 1])).tolist() == [True, False]


def test_each_part_of_a_row_gets_length_one_and_nothing_stays_nothing():
    rows = np.array([[3, 4, 0, 0], [0, 5, 8, 6]], np.float32)
    assert unit_rows(rows, (2, 2)) is rows  # in place
    np.testing.assert_allclose(rows, [[0.6, 0.8, 0, 0], [0, 1, 0.8, 0.6]], rtol=1e-6)


def test_balanced_weights_are_scikit_learns():
    np.testing.assert_allclose(balanced_weights(LABELS, 4), compute_sample_weight("balanced", LABELS), rtol=1e-6)
    weights = balanced_weights(np.array([0, 0, 0, 2]), 3)  # a class without images takes no share
    assert weights.tolist() == pytest.approx([2 / 3, 2 / 3, 2 / 3, 2])
    assert weights.dtype == np.float32


@pytest.mark.parametrize("labels", [np.zeros(0, np.int64), np.eye(3, dtype=np.uint8), np.array([0, 1, 1])])
def test_every_image_counts_the_same_unless_they_are_balanced_and_of_one_label(labels):
    assert counted_weights(labels, is_balanced=False).tolist() == [1] * len(labels)
    balanced = counted_weights(labels, is_balanced=True)
    assert balanced.tolist() == ([1.5, 0.75, 0.75] if labels.ndim == 1 and len(labels) else [1] * len(labels))
