"""Choices are made on images that were held out."""

import hashlib

import numpy as np
import pytest

from headstart import select
from headstart.select import choose_head, content_folds


def digests(n, start=0):
    return [hashlib.sha256(str(i).encode()).digest() for i in range(start, start + n)]


def noisy(n, d, k, seed=0):
    """Codes of which five say something and the rest nothing."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, k, n)
    codes = rng.normal(0, 1, (n, d))
    codes[:, :5] += rng.normal(0, 1, (k, 5))[labels] * 2
    return codes.astype(np.float16), labels


def test_the_strength_that_does_best_on_held_out_images_is_chosen():
    chosen = {}
    for name, d in (("signal", 10), ("noise", 800)):
        codes, labels = noisy(150, d, 3)
        choice = choose_head(codes, labels, 3, digests(150))
        losses = {t.l2: t.cross_entropy for t in choice.trials}
        assert losses[choice.l2] <= min(losses.values()) + select.TIE
        assert list(losses) == sorted(losses, reverse=True)
        chosen[name] = choice.l2
    assert chosen["noise"] > chosen["signal"]  # 795 codes that say nothing ask for a stronger hand than five


def test_cross_validated_accuracy_is_honest_where_there_is_nothing_to_learn():
    rng = np.random.default_rng(0)
    codes, labels = rng.normal(0, 1, (400, 300)).astype(np.float16), rng.integers(0, 2, 400)
    choice = choose_head(codes, labels, 2, digests(400))
    held_out = (choice.probabilities.argmax(axis=1) == labels[choice.held_out]).mean()
    assert 0.4 < held_out < 0.6
    assert choice.l2 == max(select.GRID)  # it saw that the less is learnt from noise, the better


def test_every_image_is_held_out_once_of_few_and_a_fifth_of_many(monkeypatch):
    codes, labels = noisy(200, 20, 2)
    assert sorted(choose_head(codes, labels, 2, digests(200)).held_out.tolist()) == list(range(200))
    monkeypatch.setattr(select, "MANY_IMAGES", 100)
    assert len(choose_head(codes, labels, 2, digests(200)).held_out) == pytest.approx(40, abs=2)


def test_the_order_of_the_images_does_not_matter():
    codes, labels = noisy(120, 40, 3)
    names = digests(120)
    shuffled = np.random.default_rng(1).permutation(120)
    one = choose_head(codes, labels, 3, names)
    other = choose_head(codes[shuffled], labels[shuffled], 3, [names[i] for i in shuffled])
    assert one.l2 == other.l2
    np.testing.assert_allclose(one.head.weight, other.head.weight, atol=1e-3)


def test_folds_are_stratified_and_hold_identical_images_together():
    labels = np.array([0] * 50 + [1] * 10)
    names = digests(60)
    names[1] = names[0]
    fold = content_folds(names, labels, 5)
    assert fold[0] == fold[1]
    assert np.bincount(fold[labels == 1], minlength=5).tolist() == [2] * 5
    assert np.ptp(np.bincount(fold[labels == 0], minlength=5)) <= 2


def test_classes_of_one_or_two_images_do_no_harm():
    codes, labels = noisy(30, 10, 2)
    labels[0], labels[1:3] = 2, 3  # one class with a single image, one with two
    choice = choose_head(codes, labels, 4, digests(30))
    assert choice.head.bias.shape == (4,) and np.isfinite(choice.probabilities).all()


def test_two_images_are_enough_and_identical_ones_too():
    codes = np.array([[0, 1], [1, 0]], np.float16)
    assert (choose_head(codes, np.array([0, 1]), 2, digests(2)).head.probabilities(codes).argmax(axis=1) == [0, 1]).all()
    same = choose_head(codes, np.array([0, 1]), 2, [b"same", b"same"])
    assert len(same.held_out) == 0 and same.trials == ()


def test_balance_reaches_the_head():
    rng = np.random.default_rng(0)
    labels = (np.arange(600) < 40).astype(int)
    codes = (rng.normal(0, 1, (600, 8)) + labels[:, None]).astype(np.float16)
    recall = {
        balance: choose_head(codes, labels, 2, digests(600), balance=balance).head.probabilities(codes).argmax(1)[:40].mean()
        for balance in (False, True)
    }
    assert recall[True] > recall[False] + 0.1
