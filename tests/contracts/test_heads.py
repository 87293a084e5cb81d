"""The contract of every head, and what is true of one of them alone."""

import numpy as np
import pytest

from headstart.errors import HeadstartError
from headstart.heads import mlp, nearest
from headstart.heads.head import Head
from headstart.heads.kinds import HEADS, make_fitter
from headstart.heads.logistic import Member, SigmoidRegression, SoftmaxRegression
from headstart.numerics.losses import balanced_weights, is_right, losses, sigmoid, softmax, unit_rows

STRENGTH = {"softmax": 1e-3, "sigmoid": 1e-3, "hidden": 0.5, "class-mean": 0.03, "nearest": 5}
every_head = pytest.mark.parametrize("kind", HEADS)


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    """Blobs need no 1,500 steps of a hidden layer."""
    monkeypatch.setattr(mlp, "STEPS", 150)


def blobs(n, d, k, *, seed=0, spread=1.0):
    """Labelled points around k centres in d dimensions."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(0, 1, (k, d))
    labels = np.arange(n) % k
    return (centres[labels] + rng.normal(0, spread, (n, d))).astype(np.float32), labels


def of_kind(kind, n, d, **options):
    """Blobs of as many classes as a kind can tell apart with one label an image."""
    k = 2 if kind == "sigmoid" else 4
    return *blobs(n, d, k, **options), k


def fitted(kind, codes, labels, k, *, widths=(), weights=None):
    problem = HEADS[kind].fitter(codes, labels, k, widths)
    return problem, problem.fit(STRENGTH[kind], weights=weights)


def learn(kind, codes, labels, k, **options) -> Head:
    problem, solution = fitted(kind, codes, labels, k, **options)
    return problem.head(solution)


def two_labels(n=160, d=24, seed=0):
    """Codes, and (n, 3) labels of which each image has none to three, independently."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, (n, 3)).astype(np.float32)
    return (labels @ rng.normal(0, 2, (3, d)) + rng.normal(0, 0.2, (n, d))).astype(np.float32), labels


# ---- the contract


@every_head
@pytest.mark.parametrize(("n", "d"), [(160, 12), (40, 200)], ids=["n > d", "n < d"])
def test_blobs_are_learnt(kind, n, d):
    codes, labels, k = of_kind(kind, n + 200, d, spread=0.3)
    probabilities = learn(kind, codes[:n], labels[:n], k).probabilities(codes[n:])
    assert probabilities.shape == (200, k) and probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert (probabilities.argmax(axis=1) == labels[n:]).mean() > 0.95


@every_head
def test_labels_that_say_nothing_are_not_learnt(kind):
    codes, labels, k = of_kind(kind, 300, 12, spread=0.3)
    shuffled = np.random.default_rng(0).permutation(labels)
    predicted = learn(kind, codes[:150], shuffled[:150], k).probabilities(codes[150:]).argmax(axis=1)
    assert abs((predicted == shuffled[150:]).mean() - 1 / k) < 0.15


@every_head
def test_the_same_rows_give_the_same_head(kind):
    codes, labels, k = of_kind(kind, 80, 20)
    first, second = (learn(kind, codes, labels, k) for _ in range(2))
    for (weight, bias), (other_weight, other_bias) in zip(first.layers, second.layers, strict=True):
        assert (weight == other_weight).all() and (bias == other_bias).all()


@every_head
def test_what_is_learnt_from_is_left_as_it_was(kind):
    codes, labels, k = of_kind(kind, 60, 20)
    kept_codes, kept_labels = codes.copy(), labels.copy()
    learn(kind, codes, labels, k).probabilities(codes)
    assert (codes == kept_codes).all() and (labels == kept_labels).all()


@every_head
@pytest.mark.parametrize("d", [12, 90], ids=["n > d", "n < d"])
def test_the_head_of_codes_as_they_are_gives_the_scores_of_the_problem(kind, d):
    codes, labels, k = of_kind(kind, 60, d)
    codes = codes * 50 + 7
    problem, solution = fitted(kind, codes, labels, k)
    rows = np.array([3, 50, 7])
    difference = problem.head(solution).logits(codes[rows]) - problem.logits(solution, rows)
    # What is added to every class is not seen in the end, so only the differences between classes count.
    np.testing.assert_allclose(difference - difference.mean(axis=1, keepdims=True), 0, atol=5e-3)


@every_head
def test_a_head_of_half_precision_codes_differs_little(kind):
    codes, labels, k = of_kind(kind, 80, 20, spread=0.3)
    head = learn(kind, codes, labels, k)
    np.testing.assert_allclose(head.probabilities(codes.astype(np.float16)), head.probabilities(codes), atol=5e-3)


@every_head
def test_probabilities_are_the_output_of_the_scores(kind):
    codes, labels, k = of_kind(kind, 60, 20)
    head = learn(kind, codes, labels, k)
    scores = head.logits(codes).astype(np.float64)
    if head.output == "votes":
        expected = np.exp(scores)
    else:
        expected = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(head.probabilities(codes), expected, atol=1e-6)


@every_head
def test_labels_that_are_held_out_have_no_influence(kind):
    codes, labels, k = of_kind(kind, 90, 12)
    kept = np.arange(90) < 60
    wrong = np.where(kept, labels, (labels + 1) % k)
    # Standardising sees the codes of all rows, as a user's new photos may be seen; their labels alone are kept from the fit.
    one, other = (learn(kind, codes, given, k, weights=kept.astype(np.float32)) for given in (labels, wrong))
    np.testing.assert_array_equal(one.logits(codes), other.logits(codes))


@every_head
def test_a_class_that_vanishes_from_a_fold_does_no_harm(kind):
    codes, labels, k = of_kind(kind, 80, 12, spread=0.3)
    seen = labels > 0
    head = learn(kind, codes, labels, k, weights=seen.astype(np.float32))
    assert head.n_classes == k and np.isfinite(head.logits(codes)).all()
    assert (head.probabilities(codes)[seen].argmax(axis=1) == labels[seen]).mean() > 0.95


@every_head
@pytest.mark.parametrize("codes", [np.ones((8, 40)), np.zeros((8, 3))], ids=["ones", "zeros"])
def test_codes_that_say_nothing_give_even_odds(kind, codes):
    head = learn(kind, codes.astype(np.float16), np.array([0, 1] * 4), 2)
    if kind == "nearest":  # which five of eight equally near ones are asked is not even
        assert np.isfinite(head.logits(codes)).all()
    else:
        np.testing.assert_allclose(head.probabilities(codes), 0.5, atol=0.02)


@every_head
def test_one_image_a_class_is_enough(kind):
    codes, labels, k = of_kind(kind, 2, 30, spread=0.1) if kind == "sigmoid" else (*blobs(4, 30, 4, spread=0.1), 4)
    more, more_labels = blobs(40, 30, k, spread=0.1)
    problem = HEADS[kind].fitter(codes, labels, k, ())
    head = problem.head(problem.fit(1 if kind == "nearest" else STRENGTH[kind]))
    assert (head.probabilities(more).argmax(axis=1) == more_labels).mean() > 0.95


@every_head
def test_each_part_is_brought_to_length_one(kind):
    codes, labels, k = of_kind(kind, 80, 20)
    louder = codes * np.where(np.arange(20) < 8, 1000, 1).astype(np.float32)
    quiet, loud = (learn(kind, c, labels, k, widths=(8, 12)) for c in (codes, louder))
    np.testing.assert_allclose(loud.probabilities(louder), quiet.probabilities(codes), atol=1e-4)
    assert quiet.widths == (8, 12)


@every_head
def test_a_part_that_is_nothing_but_noise_does_not_drown_the_other(kind):
    codes, labels, k = of_kind(kind, 300, 10, spread=0.3)
    noise = np.random.default_rng(5).normal(0, 1, (300, 10)).astype(np.float32) * 1000
    head = learn(kind, np.hstack([codes, noise])[:200], labels[:200], k, widths=(10, 10))
    assert (head.probabilities(np.hstack([codes, noise])[200:]).argmax(axis=1) == labels[200:]).mean() > 0.9


@every_head
def test_rows_of_zeros_are_finite(kind):
    codes, labels, k = of_kind(kind, 60, 20)
    codes[::7] = 0
    head = learn(kind, codes, labels, k, widths=(5, 15))
    assert np.isfinite(head.probabilities(codes)).all() and np.isfinite(head.probabilities(np.zeros((3, 20)))).all()


@every_head
def test_the_table_names_its_rows(kind):
    row = HEADS[kind]
    assert row.name == kind and row.about and row.strengths
    assert list(row.strengths) == sorted(row.strengths, reverse=True)  # the simplest answer first


# ---- several labels an image


@pytest.mark.parametrize("kind", ["sigmoid", "hidden"])
def test_several_labels_an_image_are_learnt(kind, monkeypatch):
    monkeypatch.setattr(mlp, "STEPS", 400)
    codes, labels = two_labels()
    head = learn(kind, codes[:120], labels[:120], 3)
    probabilities = head.probabilities(codes[120:])
    assert head.output == "sigmoid" and probabilities.shape == (40, 3)
    np.testing.assert_allclose(probabilities, 1 / (1 + np.exp(-head.logits(codes[120:]).astype(float))), atol=1e-6)
    assert ((probabilities > 0.5) == labels[120:]).mean() > 0.95
    assert is_right(head.logits(codes[120:]), labels[120:]).mean() > 0.9


@pytest.mark.parametrize("kind", ["sigmoid", "hidden"])
def test_labels_that_may_be_several_and_never_are_stay_independent(kind, monkeypatch):
    """Where each image happens to have one label, what is no class at all must still be told as none."""
    monkeypatch.setattr(mlp, "STEPS", 400)
    codes, labels = blobs(200, 24, 3, spread=0.2)
    multi_hot = np.eye(3, dtype=np.float32)[labels]
    kept = (np.arange(200) < 160).astype(np.float32)
    alone = learn(kind, codes, multi_hot, 3, weights=kept)
    assert ((alone.probabilities(codes) > 0.5) == multi_hot).all(axis=1).mean() > 0.95
    odd = multi_hot.copy()
    odd[160:] = 1  # of those that are held out
    np.testing.assert_array_equal(learn(kind, codes, odd, 3, weights=kept).logits(codes), alone.logits(codes))


def test_a_class_that_no_image_has_is_improbable():
    codes, labels = two_labels()
    labels[:, 1] = 0
    assert learn("sigmoid", codes, labels, 3).probabilities(codes)[:, 1].max() < 0.2


def test_each_class_is_learnt_by_itself():
    codes, labels = two_labels()
    others = labels.copy()
    others[:, 2] = np.random.default_rng(3).integers(0, 2, len(labels))
    problems = [SigmoidRegression(codes, given, 3) for given in (labels, others)]
    one, other = (p.head(p.fit(0.01, tolerance=1e-9)).probabilities(codes) for p in problems)
    np.testing.assert_allclose(one[:, :2], other[:, :2], atol=2e-3)


def test_a_sigmoid_tells_two_classes_apart_as_a_softmax_does():
    """Two weights w/2 and -w/2 cost half of what w costs: the same answer at twice the strength."""
    codes, labels = blobs(120, 20, 2, spread=2.0)
    by_sigmoid, by_softmax = (kind(codes, labels, 2) for kind in (SigmoidRegression, SoftmaxRegression))
    one = by_sigmoid.head(by_sigmoid.fit(0.02, tolerance=1e-9))
    other = by_softmax.head(by_softmax.fit(0.04, tolerance=1e-9))
    np.testing.assert_allclose(one.probabilities(codes), other.probabilities(codes), atol=2e-3)


def test_a_sigmoid_of_three_classes_and_one_label_is_refused():
    codes, labels = blobs(30, 5, 3)
    with pytest.raises(HeadstartError, match="here are 3 classes, one an image: use softmax"):
        SigmoidRegression(codes, labels, 3)


def test_the_loss_of_several_labels_is_that_of_each_added_up():
    logits = np.array([[2.0, -1.0], [0.0, 3.0]])
    labels = np.array([[1, 0], [1, 1]])
    p = 1 / (1 + np.exp(-logits))
    expected = -(np.log(p) * labels + np.log(1 - p) * (1 - labels)).sum(axis=1)
    np.testing.assert_allclose(losses(logits, labels), expected)
    assert is_right(logits, labels).tolist() == [True, False]


def test_the_loss_of_one_label_is_its_cross_entropy():
    logits = np.array([[2.0, -1.0, 900.0], [0.0, 3.0, 1.0]])
    np.testing.assert_allclose(
        losses(logits, np.array([2, 0])), [0, -np.log(np.exp(0) / np.exp([0, 3, 1]).sum())], atol=1e-9
    )
    assert is_right(logits, np.array([2, 0])).tolist() == [True, False]


# ---- regressions


@pytest.mark.parametrize(("n", "d", "k"), [(10, 1280, 2), (300, 500, 3), (2000, 64, 10), (3000, 32, 1000)])
def test_every_shape_is_learnt_by_a_softmax(n, d, k):
    codes, labels = blobs(n, d, k, spread=0.3)
    head = learn("softmax", codes, labels, k)
    ((weight, bias),) = head.layers
    assert weight.shape == (d, k) and bias.shape == (k,) == (head.n_classes,)
    assert (head.probabilities(codes).argmax(axis=1) == labels).mean() > 0.95


@pytest.mark.parametrize("d", [30, 400])  # more rows than codes, and fewer, where the problem is turned
def test_the_minimum_is_scikit_learns(d):
    from sklearn.linear_model import LogisticRegression

    codes, labels = blobs(200, d, 3, spread=2.0)
    problem = SoftmaxRegression(codes, labels, 3)
    head = problem.head(problem.fit(0.05, tolerance=1e-9))
    scaled = (unit_rows(codes.copy(), (d,)) - problem.mean) / problem.scale
    reference = LogisticRegression(C=1 / (0.05 * 200), tol=1e-8, max_iter=5000).fit(scaled, labels)
    np.testing.assert_allclose(head.probabilities(codes), reference.predict_proba(scaled), atol=2e-3)


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


def test_a_start_changes_the_way_and_not_the_minimum():
    codes, labels = blobs(200, 30, 3, spread=2.0)
    problem = SoftmaxRegression(codes, labels, 3)
    cold = problem.fit(0.01, tolerance=1e-9)
    warm = problem.fit(0.01, start=problem.fit(1.0), tolerance=1e-9)
    np.testing.assert_allclose(problem.logits(warm), problem.logits(cold), atol=5e-3)


def test_stronger_regularisation_gives_smaller_weights():
    codes, labels = blobs(200, 30, 3, spread=2.0)
    problem = SoftmaxRegression(codes, labels, 3)
    sizes = [np.abs(problem.fit(l2)[0][:-1]).mean() for l2 in (10, 0.1, 0.001)]
    assert sizes[0] < sizes[1] < sizes[2]


def test_separable_codes_stay_finite_at_the_weakest_regularisation():
    codes = np.repeat(np.eye(2, 200, dtype=np.float32), 50, axis=0) * 1000
    problem = SoftmaxRegression(codes, np.repeat([0, 1], 50), 2)
    head = problem.head(problem.fit(1e-6))
    assert np.isfinite(head.layers[0][0]).all()
    assert (head.probabilities(codes).argmax(axis=1) == np.repeat([0, 1], 50)).all()


def test_outputs_take_any_scores():
    np.testing.assert_allclose(softmax(np.array([[1e4, 0.0], [-1e4, -1e4]], np.float32)), [[1, 0], [0.5, 0.5]])
    np.testing.assert_allclose(sigmoid(np.array([[1e4, 0.0, -1e4]], np.float32)), [[1, 0.5, 0]])


# ---- the others


def test_a_hidden_layer_learns_what_no_line_divides():
    rng = np.random.default_rng(0)
    codes = np.hstack([rng.choice([-1, 1], (600, 2)), rng.normal(0, 0.1, (600, 2))]).astype(np.float32)
    labels = (codes[:, 0] * codes[:, 1] > 0).astype(int)
    right = {
        kind: (learn(kind, codes[:400], labels[:400], 2).probabilities(codes[400:]).argmax(axis=1) == labels[400:]).mean()
        for kind in ("softmax", "hidden")
    }
    assert right["hidden"] > 0.95 and right["softmax"] < 0.8


def test_the_class_means_scores_are_distances():
    codes, labels = blobs(90, 10, 3)
    problem, solution = fitted("class-mean", codes, labels, 3)
    means = np.stack([problem.rows[labels == c].mean(axis=0) for c in range(3)])
    distances = ((problem.rows[:, None] - means) ** 2).sum(axis=2)
    expected = -distances / (2 * STRENGTH["class-mean"] * 10)
    difference = problem.logits(solution) - expected
    np.testing.assert_allclose(difference - difference[:, :1], 0, atol=1e-3)


def test_the_nearest_are_asked_and_no_others():
    codes = np.array([[0, 1], [0.1, 1], [0.2, 1], [1, 0], [1, 0.1], [1, 0.2], [1, 0.3]], np.float32)
    labels = np.array([0, 0, 1, 1, 1, 1, 0])
    problem = HEADS["nearest"].fitter(codes, labels, 2)
    head = problem.head(problem.fit(3))
    near_the_first, near_the_last = head.probabilities(np.array([[0.05, 1], [1, 0.05]], np.float32))
    np.testing.assert_allclose([near_the_first, near_the_last], np.array([[2.05, 1.05], [0.05, 3.05]]) / 3.1, rtol=1e-5)
    alone = problem.head(problem.fit(30))  # more than there are
    assert alone.n_neighbours == 7
    np.testing.assert_allclose(alone.probabilities(codes), np.tile([3.05, 4.05], (7, 1)) / 7.1, rtol=1e-5)


def test_the_nearest_are_too_many_to_carry_along(monkeypatch):
    monkeypatch.setattr(nearest, "MOST_NEIGHBOURS", 50)
    codes, labels = blobs(60, 5, 2)
    with pytest.raises(HeadstartError, match="all 60 images along; it takes 50 at most: use softmax"):
        HEADS["nearest"].fitter(codes, labels, 2)


# ---- means of heads


def mean_of(codes, labels, k, members, *, kind="softmax", widths=()):
    problem = make_fitter(kind, codes, labels, k, widths, members)
    return problem, problem.fit(1e-3)


@pytest.mark.parametrize("n", [40, 160])
def test_a_mean_of_heads_is_the_mean_of_their_log_probabilities(n):
    codes, labels = blobs(n, 60, 3, spread=2.0)
    members = [Member(0, 20), Member(0, 60)]
    problem, solution = mean_of(codes, labels, 3, members, widths=(20, 40))
    head = problem.head(solution)
    apart = [learn("softmax", codes[:, : m.end], labels, 3, widths=(20, 40)[: 1 + (m.end > 20)]) for m in members]
    logs = np.mean([np.log(one.probabilities(codes[:, : m.end])) for one, m in zip(apart, members, strict=True)], axis=0)
    np.testing.assert_allclose(head.probabilities(codes), softmax(logs), atol=2e-2)
    np.testing.assert_allclose(problem.logits(solution) - head.logits(codes), 0, atol=1)  # but for a constant an image
    assert len(head.layers) == 1 and head.layers[0][0].shape == (60, 3)


def test_shares_say_how_much_each_member_counts():
    codes, labels = blobs(160, 60, 3, spread=2.0)
    whole, none = Member(0, 20, 1.0), Member(0, 60, 0.0)
    problem, solution = mean_of(codes, labels, 3, [whole, none], widths=(20, 40))
    alone = learn("softmax", codes[:, :20], labels, 3, widths=(20,))
    np.testing.assert_allclose(problem.head(solution).probabilities(codes), alone.probabilities(codes[:, :20]), atol=1e-3)


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_folds_side_by_side_are_learnt_as_one_after_another(kind):
    codes, labels, k = of_kind(kind, 150, 30, spread=2.0)
    problem = make_fitter(kind, codes, labels, k, (10, 20), [Member(0, 10), Member(0, 30)])
    weights = (np.arange(150) % 5 != np.arange(5)[:, None]).astype(np.float32)
    together = problem.fit_folds(1e-2, weights, tolerance=1e-6)
    for solution, w in zip(together, weights, strict=True):
        alone = problem.fit(1e-2, weights=w, tolerance=1e-6)
        np.testing.assert_allclose(problem.logits(solution), problem.logits(alone), atol=0.05)


@every_head
def test_every_head_learns_without_each_fold(kind):
    codes, labels, k = of_kind(kind, 150, 12, spread=0.3)
    problem = HEADS[kind].fitter(codes, labels, k)
    held_out = np.arange(150) < 40
    first, second = problem.fit_folds(STRENGTH[kind], np.stack([~held_out, np.ones(150)]).astype(np.float32))
    alone = problem.fit(STRENGTH[kind], weights=(~held_out).astype(np.float32))
    np.testing.assert_allclose(problem.logits(first), problem.logits(alone), atol=0.05)
    assert (problem.logits(second).argmax(axis=1) == labels).mean() > 0.95


def test_several_labels_have_a_mean_of_heads_too():
    codes, labels = two_labels()
    problem, solution = mean_of(codes, labels, 3, [Member(0, 12), Member(0, 24)], kind="sigmoid", widths=(12, 12))
    head = problem.head(solution)
    assert head.output == "sigmoid" and ((head.probabilities(codes) > 0.5) == labels).mean() > 0.9
