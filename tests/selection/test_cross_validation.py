"""Choices are made on images that were held out, every view of them."""

import hashlib

import numpy as np
import pytest

from headstart.data.splits import content_folds
from headstart.heads import mlp
from headstart.heads.kinds import HEADS
from headstart.heads.labelled_codes import LabelledCodes
from headstart.heads.logistic import Member
from headstart.numerics.losses import losses
from headstart.selection import cross_validation
from headstart.selection.cross_validation import choose_head


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
        choice = choose_head(LabelledCodes(codes, labels, 3, digests(150)))
        tried = {t.strength: t.cross_entropy for t in choice.trials}
        assert tried[choice.strength] <= min(tried.values()) + cross_validation.TIE
        assert list(tried) == sorted(tried, reverse=True)
        chosen[name] = choice.strength
    assert chosen["noise"] > chosen["signal"]  # 795 codes that say nothing ask for a stronger hand than five


def test_cross_validated_accuracy_is_honest_where_there_is_nothing_to_learn():
    rng = np.random.default_rng(0)
    codes, labels = rng.normal(0, 1, (400, 300)).astype(np.float16), rng.integers(0, 2, 400)
    choice = choose_head(LabelledCodes(codes, labels, 2, digests(400)))
    held_out = (choice.probabilities.argmax(axis=1) == labels[choice.held_out]).mean()
    assert 0.4 < held_out < 0.6
    assert choice.strength == max(HEADS["softmax"].strengths)  # it saw that the less is learnt from noise, the better


def test_every_image_is_held_out_once_of_few_and_a_fifth_of_many(monkeypatch):
    codes, labels = noisy(200, 20, 2)
    assert sorted(choose_head(LabelledCodes(codes, labels, 2, digests(200))).held_out.tolist()) == list(range(200))
    monkeypatch.setattr(cross_validation, "ONE_FOLD_FROM", 100)
    assert len(choose_head(LabelledCodes(codes, labels, 2, digests(200))).held_out) == pytest.approx(40, abs=2)


@pytest.mark.parametrize(("n", "kind"), [(120, "softmax"), (120, "class-mean"), (300, "softmax"), (2, "softmax")])
def test_the_fits_to_come_are_told_and_all_of_them_are_made(n, kind, monkeypatch):
    monkeypatch.setattr(cross_validation, "ONE_FOLD_FROM", 200)
    codes, labels = noisy(n, 40, 2)
    told = []
    choice = choose_head(LabelledCodes(codes, labels, 2, digests(n)), kind=kind, progress=lambda *args: told.append(args))
    assert {stage for stage, _, _ in told} == {"head"} and told[0] == ("head", 0, 0)
    done, totals = [d for _, d, _ in told], [t for _, _, t in told[1:]]
    assert done == sorted(done) and all(d < t for d, t in zip(done[1:-1], totals[:-1], strict=True))
    assert told[-1][1:] == (len(choice.trials) + 1,) * 2  # the folds of a trial are learnt side by side
    assert max(totals) <= max(len(choice.trials) + 1, 6)


def test_the_order_of_the_images_does_not_matter():
    codes, labels = noisy(120, 40, 3)
    names = digests(120)
    shuffled = np.random.default_rng(1).permutation(120)
    one = choose_head(LabelledCodes(codes, labels, 3, names))
    other = choose_head(LabelledCodes(codes[shuffled], labels[shuffled], 3, [names[i] for i in shuffled]))
    assert one.strength == other.strength
    np.testing.assert_allclose(one.head.logits(codes), other.head.logits(codes), atol=1e-2)


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
    choice = choose_head(LabelledCodes(codes, labels, 4, digests(30)))
    assert choice.head.n_classes == 4 and np.isfinite(choice.probabilities).all()


def test_two_images_are_enough_and_identical_ones_too():
    codes = np.array([[0, 1], [1, 0]], np.float16)
    assert (
        choose_head(LabelledCodes(codes, np.array([0, 1]), 2, digests(2))).head.probabilities(codes).argmax(axis=1) == [0, 1]
    ).all()
    same = choose_head(LabelledCodes(codes, np.array([0, 1]), 2, [b"same", b"same"]))
    assert len(same.held_out) == 0 and same.trials == ()


def test_balance_reaches_the_head():
    rng = np.random.default_rng(0)
    labels = (np.arange(600) < 40).astype(int)
    codes = (rng.normal(0, 1, (600, 8)) + labels[:, None]).astype(np.float16)
    recall = {
        balance: choose_head(LabelledCodes(codes, labels, 2, digests(600)), balance=balance)
        .head.probabilities(codes)
        .argmax(1)[:40]
        .mean()
        for balance in (False, True)
    }
    assert recall[True] > recall[False] + 0.1


# ---- every kind of head


@pytest.fixture
def few_steps(monkeypatch):
    monkeypatch.setattr(mlp, "STEPS", 150)


@pytest.mark.parametrize("kind", HEADS)
def test_every_kind_is_judged_on_what_it_has_not_seen(kind, few_steps):
    k = 2 if kind == "sigmoid" else 3
    codes, labels = noisy(120, 20, k)
    choice = choose_head(LabelledCodes(codes, labels, k, digests(120)), kind=kind)
    right = (choice.probabilities.argmax(axis=1) == labels[choice.held_out]).mean()
    assert choice.kind == kind and choice.strength in HEADS[kind].strengths
    assert 0.75 < right and sorted(choice.held_out.tolist()) == list(range(120))
    assert choice.logits.shape == (120, k) and choice.head.probabilities(codes).shape == (120, k)
    (chosen,) = [t for t in choice.trials if t.strength == choice.strength]
    assert chosen.accuracy == pytest.approx(right)
    assert chosen.cross_entropy == pytest.approx(losses(choice.logits, labels[choice.held_out]).mean(), rel=1e-4)


@pytest.mark.parametrize("kind", HEADS)
def test_every_kind_is_honest_where_there_is_nothing_to_learn(kind, few_steps):
    rng = np.random.default_rng(1)
    codes, labels = rng.normal(0, 1, (300, 60)).astype(np.float16), rng.integers(0, 2, 300)
    choice = choose_head(LabelledCodes(codes, labels, 2, digests(300)), kind=kind)
    assert 0.38 < (choice.probabilities.argmax(axis=1) == labels[choice.held_out]).mean() < 0.62


def test_parts_reach_the_head():
    codes, labels = noisy(150, 20, 3)
    loud = np.hstack([codes, np.random.default_rng(2).normal(0, 3000, (150, 5))]).astype(np.float16)
    accuracy = {
        parts: max(t.accuracy for t in choose_head(LabelledCodes(loud, labels, 3, digests(150), parts)).trials)
        for parts in ((), (20, 5))
    }
    assert accuracy[20, 5] > 0.85
    assert choose_head(LabelledCodes(loud, labels, 3, digests(150), (20, 5))).head.widths == (20, 5)


def test_several_labels_an_image():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (200, 3)).astype(np.float32)
    codes = (labels @ rng.normal(0, 2, (3, 16)) + rng.normal(0, 0.5, (200, 16))).astype(np.float16)
    choice = choose_head(LabelledCodes(codes, labels, 3, digests(200)), kind="sigmoid")
    assert choice.head.output == "sigmoid"
    assert ((choice.probabilities > 0.5) == labels[choice.held_out]).mean() > 0.9
    assert max(t.accuracy for t in choice.trials) > 0.8  # of images with all their labels right


def test_folds_of_several_labels_hold_each_combination_alike():
    labels = np.array([[0, 1]] * 20 + [[1, 1]] * 10 + [[0, 0]] * 10)
    fold = content_folds(digests(40), labels, 5)
    for rows, n in (((0, 20), 4), ((20, 30), 2), ((30, 40), 2)):
        assert np.bincount(fold[slice(*rows)], minlength=5).tolist() == [n] * 5


# ---- views


def viewed(n, v, d=12, k=2, seed=0):
    """(n, v, d) codes that say nothing of the label, and everything of which image they are of."""
    rng = np.random.default_rng(seed)
    of_image = rng.normal(0, 1, (n, 1, d))
    return (of_image + rng.normal(0, 0.01, (n, v, d))).astype(np.float16), rng.integers(0, k, n)


@pytest.mark.parametrize("kind", ["softmax", "nearest", "class-mean"])
def test_no_view_of_an_image_that_is_held_out_is_learnt_from(kind):
    """A head that had seen another view would know the image, and be right of labels that cannot be learnt."""
    codes, labels = viewed(200, 4)
    choice = choose_head(LabelledCodes(codes, labels, 2, digests(200)), kind=kind)
    assert 0.35 < (choice.probabilities.argmax(axis=1) == labels[choice.held_out]).mean() < 0.65


def test_the_view_that_comes_first_is_judged():
    """The others hold the label upside down: what is learnt from them all is right of none of the first."""
    rng = np.random.default_rng(0)
    labels = np.arange(100) % 2
    sign = np.where(labels, 1.0, -1.0)[:, None]
    codes = rng.normal(0, 0.1, (100, 4, 6)) + np.stack([sign, -sign, -sign, -sign], axis=1)
    choice = choose_head(LabelledCodes(codes.astype(np.float16), labels, 2, digests(100)))
    assert (choice.probabilities.argmax(axis=1) == labels[choice.held_out]).mean() < 0.05
    assert choice.logits.shape == (100, 2)


def test_views_are_learnt_from():
    """They share what says something, five numbers, and differ in the rest."""
    rng = np.random.default_rng(3)
    codes, labels = noisy(60, 200, 2, seed=3)
    views = np.repeat(codes[:, None], 6, axis=1)
    views[:, 1:, 5:] = rng.normal(0, 1, (60, 5, 195))
    with_views, alone = (
        min(t.cross_entropy for t in choose_head(LabelledCodes(c, labels, 2, digests(60))).trials) for c in (views, codes)
    )
    assert with_views < alone - 0.05


def test_one_view_is_the_same_as_none():
    codes, labels = noisy(80, 20, 2)
    plain, viewed_once = (choose_head(LabelledCodes(c, labels, 2, digests(80))) for c in (codes, codes[:, None]))
    np.testing.assert_array_equal(plain.logits, viewed_once.logits)
    np.testing.assert_array_equal(plain.head.logits(codes), viewed_once.head.logits(codes))


def test_balance_counts_images_and_not_views():
    rng = np.random.default_rng(0)
    labels = (np.arange(600) < 40).astype(int)
    codes = (rng.normal(0, 1, (600, 2, 8)) + labels[:, None, None]).astype(np.float16)
    recall = {
        balance: choose_head(LabelledCodes(codes, labels, 2, digests(600)), balance=balance)
        .head.probabilities(codes[:40, 0])
        .argmax(1)
        .mean()
        for balance in (False, True)
    }
    assert recall[True] > recall[False] + 0.1


def test_copies_do_not_make_one_fold_enough(monkeypatch):
    """Of 100 photos, thirty copies each, a fifth is twenty photos: too few to choose by."""
    rng = np.random.default_rng(0)
    codes, labels = rng.normal(size=(100, 5)).astype(np.float16).repeat(30, axis=0), rng.integers(0, 2, 100).repeat(30)
    copies = [b"%d" % (i // 30) for i in range(3_000)]
    monkeypatch.setattr(cross_validation, "ONE_FOLD_FROM", 2_500)
    choice = choose_head(LabelledCodes(codes, labels, 2, copies))
    assert len(choice.held_out) == 3_000 and len(set(choice.fold.tolist())) == 5
    alone = choose_head(
        LabelledCodes(rng.normal(size=(3_000, 5)).astype(np.float16), labels, 2, [b"%d" % i for i in range(3_000)])
    )
    assert len(set(alone.fold.tolist())) == 1


# ---- many images


def test_of_many_images_the_strength_is_chosen_on_some_and_falls_with_their_number(monkeypatch):
    codes, labels = noisy(600, 40, 3)
    on_all = choose_head(LabelledCodes(codes, labels, 3, digests(600)))
    monkeypatch.setattr(cross_validation, "SEARCHED", 150)
    choice = choose_head(LabelledCodes(codes, labels, 3, digests(600)))
    chosen = min(choice.trials, key=lambda trial: trial.cross_entropy).strength
    assert choice.strength == pytest.approx(chosen / 2, rel=0.03) and choice.strength <= 10 * on_all.strength
    assert sorted(choice.held_out.tolist()) == list(range(600)) and choice.logits.shape == (600, 3)


def test_a_mean_of_heads_is_cross_validated_as_one():
    rng = np.random.default_rng(0)
    labels = np.arange(300) % 3
    clear = np.eye(3, 8)[labels] * 3 + rng.normal(0, 1, (300, 8))
    codes = np.hstack([rng.normal(0, 1, (300, 8)), clear]).astype(np.float16)
    members = (Member(0, 8), Member(0, 16))
    choice = choose_head(LabelledCodes(codes, labels, 3, digests(300), (8, 8), members))
    assert choice.members[1].share > choice.members[0].share and sum(m.share for m in choice.members) == pytest.approx(1)
    assert (choice.logits.argmax(axis=1) == labels[choice.held_out]).mean() > 0.9
    probabilities = choice.head.probabilities(codes[choice.held_out])
    assert (probabilities.argmax(axis=1) == choice.probabilities.argmax(axis=1)).mean() > 0.9
