"""How much each member of a mean of heads counts."""

import numpy as np
import pytest

from headstart.heads.mixing import fit_shares
from headstart.numerics.losses import losses


def scores_of(labels, k, *, noise, seed):
    rng = np.random.default_rng(seed)
    return (3 * np.eye(k)[labels] + rng.normal(0, noise, (len(labels), k))).astype(np.float32)


def members(n, k=4):
    labels = np.arange(n) % k
    return np.stack([scores_of(labels, k, noise=noise, seed=i) for i, noise in enumerate((1.0, 6.0))]), labels


def test_of_many_images_the_better_member_counts_more_and_the_mean_is_better_for_it():
    scores, labels = members(4000)
    shares = fit_shares(scores, labels, np.ones(4000), "softmax")
    assert shares.sum() == pytest.approx(1) and shares[0] > 0.75
    mixed, equal = (losses(np.tensordot(s, scores, 1), labels).mean() for s in (shares, [0.5, 0.5]))
    assert mixed < equal - 0.05


def test_of_few_images_all_count_about_the_same():
    scores, labels = members(8)
    assert np.abs(fit_shares(scores, labels, np.ones(8), "softmax") - 0.5).max() < 0.2


def test_members_that_say_the_same_share_alike():
    scores, labels = members(400)
    np.testing.assert_allclose(fit_shares(np.stack([scores[0]] * 3), labels, np.ones(400), "softmax"), 1 / 3, atol=1e-3)


def test_a_constant_that_a_member_adds_to_all_scores_of_an_image_changes_nothing():
    scores, labels = members(400)
    moved = scores.copy()
    moved[1] += np.arange(400)[:, None]
    np.testing.assert_allclose(
        fit_shares(moved, labels, np.ones(400), "softmax"), fit_shares(scores, labels, np.ones(400), "softmax"), atol=1e-3
    )


def test_several_labels_an_image_are_mixed_too():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (3000, 3)).astype(np.float32)
    good, poor = (4 * (labels - 0.5) + rng.normal(0, noise, labels.shape) for noise in (1, 8))
    assert fit_shares(np.stack([good, poor]), labels, np.ones(3000), "sigmoid")[0] > 0.75


def test_images_of_weight_0_have_no_say():
    scores, labels = members(400)
    wrong = np.concatenate([labels, (labels + 1) % 4])
    doubled = np.concatenate([scores, scores], axis=1)
    weights = np.repeat([1.0, 0.0], 400)
    only = fit_shares(doubled, wrong, weights, "softmax")
    assert only[0] > 0.5
