"""Probabilities that mean what they say, photos that look like nothing known, and sets that hold the right class."""

import dataclasses
from dataclasses import replace

import numpy as np
import onnx
import pytest

from headstart.backbones.find import BackboneSpec, find_backbone
from headstart.classifier.classifier import Classifier
from headstart.classifier.network import read_head
from headstart.codes.representation import Representation, represent
from headstart.data.images import load_image
from headstart.engines.hardware import Hardware
from headstart.errors import HeadstartError
from headstart.heads.head import Head
from headstart.heads.kinds import HEADS
from headstart.heads.labelled_codes import LabelledCodes
from headstart.numerics.losses import losses, softmax
from headstart.selection.cross_validation import choose_head
from headstart.trust.calibration import best_temperature, bins_of, calibrate, calibration_error, chance_error
from headstart.trust.conformal import SCORES, held_out_scores, prediction_sets, score_threshold
from headstart.trust.fit import build_trust
from headstart.trust.unfamiliarity import FAMILIAR_SHARE, energy, fit_unfamiliarity, learn_distance, roc_auc
from support.networks import write_deep_backbone
from support.photos import COLOURS, picture

EXACT = Hardware(precision="f32")


def drawn(n: int, k: int = 4, *, too_sure: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores, and labels that come as softmax(scores / too_sure) says."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (n, k)).astype(np.float32)
    labels = (softmax(logits).cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    return logits * np.float32(too_sure), labels


# ---- calibration


@pytest.mark.parametrize("too_sure", [0.4, 1.0, 3.0])
def test_the_temperature_that_labels_were_drawn_with_is_found(too_sure):
    logits, labels = drawn(20_000, too_sure=too_sure)
    assert best_temperature(logits, labels) == pytest.approx(too_sure, rel=0.05)


@pytest.mark.parametrize("too_sure", [0.3, 3.0])
def test_calibration_takes_away_most_of_the_error(too_sure):
    logits, labels = drawn(8_000, too_sure=too_sure)
    told = calibrate(logits, labels)
    assert told.error_before > 0.1 and told.error_after < 0.03
    assert abs(told.error_after - told.bias) < 0.01  # no more than chance alone shows
    assert sum(b.n for b in told.bins) == told.n_images == 8_000
    assert all(b.interval[0] <= b.accuracy <= b.interval[1] for b in told.bins)


def test_what_is_calibrated_already_stays_as_it_is_or_gets_no_worse():
    logits, labels = drawn(300)
    told = calibrate(logits, labels)
    assert 0.8 < told.temperature < 1.25
    assert told.error_after < told.error_before + 0.01


def test_several_labels_are_calibrated_decision_by_decision():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (4_000, 3)).astype(np.float32)
    labels = (rng.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype(np.uint8)
    told = calibrate(2.5 * logits, labels, "sigmoid")
    assert told.temperature == pytest.approx(2.5, rel=0.05) and told.error_after < 0.02 < told.error_before


def test_a_handful_of_photos_makes_nobody_perfectly_sure():
    logits = np.eye(3, dtype=np.float32)[[0, 1, 2]] * 2
    assert 0.3 < best_temperature(logits, np.array([0, 1, 2])) < 1
    told = calibrate(logits, np.array([0, 1, 2]))
    assert told.temperature == 1.0 and told.n_images == 3
    assert calibrate(logits[:0], np.zeros(0, np.int64)) is None


def test_the_error_is_that_of_bins_of_equal_numbers():
    p = np.repeat(np.linspace(0.5, 0.95, 10), 10)
    right = np.tile(np.arange(10) < 6, 10)  # 60 % of each bin, in no bin more
    assert calibration_error(p, right) == pytest.approx(np.abs(np.linspace(0.5, 0.95, 10) - 0.6).mean())
    assert len(bins_of(p, right)) == 10 and {b.n for b in bins_of(p, right)} == {10}
    assert len(bins_of(p[:7], right[:7])) == 1


def test_equal_probabilities_are_in_no_order_that_knows_who_is_right():
    right = np.arange(1_000) < 700
    assert calibration_error(np.full(1_000, 0.7), right) < 0.08  # sorted by who is right it would be 0.42
    assert calibration_error(np.ones(100), np.ones(100, bool)) == 0


def test_the_chance_error_shrinks_with_the_square_root_of_the_images():
    p = np.random.default_rng(0).uniform(0.5, 1, 10_000)
    few, many = chance_error(p[:100]), chance_error(p)
    assert 0.05 < few < 0.15 and few / many == pytest.approx(10, rel=0.3)


# ---- prediction sets


@pytest.mark.parametrize("way", list(SCORES))
@pytest.mark.parametrize("coverage", [0.5, 0.9, 0.95])
@pytest.mark.parametrize("n", [60, 3_000])
def test_sets_hold_the_right_class_as_often_as_was_asked(way, coverage, n):
    covered = []
    for seed in range(150 if n < 1_000 else 60):  # as many as 0.014 needs to be four standard errors or more
        logits, labels = drawn(n + 500, k=6, too_sure=2.0, seed=seed)  # conformal sets need no calibration
        p = softmax(logits)
        allowed = score_threshold(held_out_scores(p[:n], labels[:n])[way], n, coverage)
        sets = prediction_sets(p[n:], allowed, way)
        assert sets.any(axis=1).all()
        covered.append(sets[np.arange(500), labels[n:]].mean())
    assert np.mean(covered) > coverage - 0.014
    if way == "smallest" and coverage == 0.9:
        assert np.mean(covered) < coverage + 0.03  # and is not had by sets of everything


def test_the_smallest_sets_are_smaller_and_the_adaptive_ones_fairer():
    logits, labels = drawn(20_000, k=6)
    p = softmax(logits)
    is_hard = p.max(axis=1) < np.median(p.max(axis=1))
    size, hard = {}, {}
    kept = held_out_scores(p[:10_000], labels[:10_000])
    for way in SCORES:
        sets = prediction_sets(p[10_000:], score_threshold(kept[way], kept["n"], 0.9), way)
        is_in = sets[np.arange(10_000), labels[10_000:]]
        size[way], hard[way] = sets.sum(axis=1).mean(), is_in[is_hard[10_000:]].mean()
    assert size["smallest"] < size["adaptive"] and abs(hard["adaptive"] - 0.9) < abs(hard["smallest"] - 0.9)


def test_confident_answers_have_small_sets():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 4_000)
    p = np.full((4_000, 10), 0.002)
    p[np.arange(4_000), labels] = 0.982
    wrong = rng.random(4_000) < 0.02
    labels = np.where(wrong, (labels + 1) % 10, labels)
    kept = held_out_scores(p[:2_000], labels[:2_000])
    for way in SCORES:
        sets = prediction_sets(p[2_000:], score_threshold(kept[way], kept["n"], 0.95), way)
        assert sets.sum(axis=1).mean() < 1.2 and sets[np.arange(2_000), labels[2_000:]].mean() > 0.95


def test_near_duplicates_count_once():
    """Groups of ten are ten photos of one chance: as single photos they would promise more than they can keep."""
    covered = []
    for seed in range(200):
        logits, labels = drawn(60, k=4, seed=seed)
        p, labels = np.repeat(softmax(logits), 10, axis=0), np.repeat(labels, 10)
        groups = [bytes([i]) for i in np.repeat(np.arange(60), 10)]
        kept = held_out_scores(p[:300], labels[:300], groups[:300])
        assert kept["n"] == 30
        sets = prediction_sets(p[300:], score_threshold(kept["smallest"], 30, 0.95))
        covered.append(sets[np.arange(300), labels[300:]].mean())
    assert np.mean(covered) > 0.94


def test_a_coverage_that_so_few_photos_cannot_promise_gives_every_class():
    scores = held_out_scores(np.full((10, 3), 1 / 3), np.zeros(10, np.int64))["smallest"]
    assert score_threshold(scores, 10, 0.95) == float("inf")
    assert prediction_sets(np.array([[1.0, 0.0, 0.0]]), float("inf")).all()


# ---- unfamiliarity


def clouds(n: int, seed: int = 0, *, k: int = 3, d: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Codes of k classes, well apart."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).uniform(0, 2, (k, d))
    labels = np.arange(n) % k
    return (centres[labels] + rng.normal(0, 0.3, (n, d))).astype(np.float16), labels


def digests(n: int) -> list[bytes]:
    return [i.to_bytes(32, "big") for i in np.random.default_rng(5).permutation(n).tolist()]


def trusted(codes, labels, k, kind="softmax", **options):
    names = [f"class {i}" for i in range(k)]
    choice = choose_head(LabelledCodes(codes, labels, k, digests(len(labels)), (codes.shape[1],)), kind=kind)
    return build_trust(LabelledCodes(codes, labels, len(names), digests(len(labels))), names, choice, **options)


def test_copies_calibrate_as_one_photo():
    """Six copies of each of fifty photos: the same temperature, and as much luck, as of the fifty alone."""
    codes, labels = clouds(50)
    labels = np.where(np.arange(50) % 5 == 0, (labels + 1) % 3, labels)  # some are labelled wrongly
    alone, groups = digests(50), [digest for digest in digests(50) for _ in range(6)]
    choice = choose_head(LabelledCodes(codes, labels, 3, alone, (40,)))
    copied = replace(
        choice,
        held_out=np.concatenate([6 * choice.held_out + i for i in range(6)]),
        fold=np.tile(choice.fold, 6),
        logits=np.tile(choice.logits, (6, 1)),
    )
    one = build_trust(LabelledCodes(codes, labels, len(list("abc")), alone), list("abc"), choice).calibration
    six = build_trust(
        LabelledCodes(np.repeat(codes, 6, axis=0), np.repeat(labels, 6), 3, groups), list("abc"), copied
    ).calibration
    assert six == one and six.n_images == 50


def test_the_order_of_copies_calibrates_nothing_otherwise():
    """Copies whose scores differ: which of them counts for the photo depends on neither names nor order."""
    rng = np.random.default_rng(0)
    codes, labels = clouds(60)
    groups, noisy = [digest for digest in digests(60) for _ in range(4)], codes.repeat(4, axis=0).astype(np.float32)
    noisy, labels = (noisy + rng.normal(0, 0.4, noisy.shape)).astype(np.float16), labels.repeat(4)
    choice, names = choose_head(LabelledCodes(noisy, labels, 3, groups, (40,))), list("abc")
    one = build_trust(LabelledCodes(noisy, labels, len(names), groups), names, choice).calibration
    order = rng.permutation(len(choice.held_out))
    mixed = replace(choice, held_out=choice.held_out[order], fold=choice.fold[order], logits=choice.logits[order])
    assert build_trust(LabelledCodes(noisy, labels, len(names), groups), names, mixed).calibration == one


@pytest.mark.parametrize("kind", list(HEADS))
def test_strangers_are_told_and_familiar_photos_pass(kind):
    k = 2 if kind == "sigmoid" else 3
    codes, labels = clouds(300, k=k)
    trust = trusted(codes, labels, k, kind)
    told = trust.unfamiliarity

    def of(rows):
        return told(rows, trust.choice.head.logits(rows) / np.float32(trust.choice.head.temperature))

    new = of(clouds(2_000, seed=1, k=k)[0])
    assert (new <= 1).mean() == pytest.approx(FAMILIAR_SHARE, abs=0.035)
    assert np.median(new) == pytest.approx(0.5, abs=0.1)
    strange = of(np.random.default_rng(2).uniform(0, 2, (200, 40)).astype(np.float16))
    assert (strange > 1).mean() > 0.95
    assert roc_auc(np.r_[new, strange], np.r_[np.zeros(2_000, bool), np.ones(200, bool)]) > 0.99
    assert (trust.held_out_unfamiliarity <= 1).mean() >= FAMILIAR_SHARE and len(trust.held_out_unfamiliarity) == len(
        trust.choice.held_out
    )


def test_the_distance_is_mahalanobis():
    codes, labels = clouds(900, d=6)
    distance = learn_distance(codes, labels, 3)
    x = codes.astype(np.float32) / np.linalg.norm(codes.astype(np.float32), axis=1, keepdims=True)
    means = np.stack([x[labels == i].mean(axis=0) for i in range(3)])
    apart = x - means[labels]
    covariance = apart.T @ apart / len(x)
    inverse = np.linalg.inv(covariance + np.trace(covariance) / 6 * np.eye(6))
    expected = np.min([np.einsum("nd,de,ne->n", x - m, inverse, x - m) for m in means], axis=0)
    np.testing.assert_allclose(distance(codes), expected * np.trace(covariance) / 6, atol=2e-4)


def test_energy_is_minus_the_logarithm_of_the_sum():
    np.testing.assert_allclose(energy(np.array([[0.0, 0.0], [1000.0, 0.0]])), [-np.log(2), -1000])


def test_rare_classes_have_a_mean_of_their_own():
    codes, labels = clouds(9_000, k=3)
    rare = np.flatnonzero(labels == 2)[:15]
    kept = np.sort(np.r_[np.flatnonzero(labels != 2), rare])
    distance = learn_distance(codes[kept], labels[kept], 3)
    new, of_class = clouds(300, seed=1)
    assert distance.bias.shape == (3,)
    assert np.median(distance(new[of_class == 2])) < 1.3 * np.median(distance(new[of_class != 2]))


@pytest.mark.parametrize("sizes", [(12, 2, 2), (5, 5, 5), (2, 2, 2, 2)])
def test_trials_with_too_few_to_compare_with_are_left_out(sizes):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    codes = np.random.default_rng(0).uniform(0, 2, (len(labels), 8)).astype(np.float16)
    assert trusted(codes, labels, len(sizes)).hidden_classes == ()


@pytest.mark.parametrize("n", [2, 7, 40])
def test_few_photos_are_enough_to_begin_with(n):
    codes, labels = clouds(n, k=2)
    trust = trusted(codes, labels, 2)
    if trust.unfamiliarity is not None:
        assert np.isfinite(trust.held_out_unfamiliarity).all() and np.isfinite(trust.unfamiliarity.high)


def test_identical_photos_break_nothing():
    codes = np.repeat(clouds(2, k=2)[0], 20, axis=0)
    trust = trusted(codes, np.repeat([0, 1], 20), 2)
    assert np.isfinite(trust.held_out_unfamiliarity).all()


def test_nothing_held_out_means_nothing_told():
    codes, labels = clouds(4, k=2)
    assert (
        fit_unfamiliarity(
            codes, labels, 2, n_codes=40, held_out=np.arange(0), fold=np.arange(0), logits=np.zeros((0, 2), np.float32)
        )
        is None
    )


def test_several_labels_have_one_mean_and_no_sets():
    codes, _ = clouds(200, k=1)
    labels = (np.random.default_rng(0).random((200, 3)) < 0.5).astype(np.uint8)
    choice = choose_head(LabelledCodes(codes, labels, 3, digests(200), (40,)), kind="sigmoid")
    trust = build_trust(LabelledCodes(codes, labels, len(["a", "b", "c"]), digests(200)), ["a", "b", "c"], choice)
    assert trust.conformal is None and trust.hidden_classes == () and trust.unfamiliarity.distance.bias.shape == (1,)


def test_a_class_that_is_left_out_is_noticed_where_it_is_far_from_the_others():
    codes, labels = clouds(300, k=4)
    rows = trusted(codes, labels, 4).hidden_classes
    assert [row.label for row in rows] == ["class 0", "class 1", "class 2", "class 3"]
    assert all(row.n == 75 and row.auroc > 0.99 and row.flagged > 0.9 for row in rows)


@pytest.mark.parametrize(("scores", "positive", "expected"), [([1, 2, 3], [0, 0, 1], 1.0), ([1, 1], [0, 1], 0.5)])
def test_the_area_under_the_curve_counts_pairs(scores, positive, expected):
    assert roc_auc(np.array(scores), np.array(positive, bool)) == expected
    assert np.isnan(roc_auc(np.array(scores), np.zeros(len(scores), bool)))


# ---- in the one file


PICTURES = [picture(colour, seed, (32, 32)) for seed in range(20) for colour in COLOURS.values()]


@pytest.mark.parametrize("opset", [11, 17, 20])
@pytest.mark.parametrize("kind", ["softmax", "nearest", "hidden"])
def test_the_file_says_what_the_arrays_say(opset, kind, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    backbone = find_backbone(BackboneSpec(str(write_deep_backbone(tmp_path / "deep.onnx", opset=opset))), tmp_path)
    look = Representation((backbone,), n_layers=2, is_mirrored=kind != "nearest")
    codes, labels = represent(PICTURES, look, None).values, np.tile(np.arange(3), 20)
    choice = choose_head(LabelledCodes(codes, labels, 3, digests(60), look.widths), kind=kind)
    trust = build_trust(LabelledCodes(codes, labels, len(list(COLOURS)), digests(60), look.widths), list(COLOURS), choice)
    head = dataclasses.replace(trust.choice.head, temperature=1.7)
    classifier = Classifier.build(
        look, head, list(COLOURS), {"conformal": trust.conformal}, EXACT, unfamiliarity=trust.unfamiliarity
    )
    classifier.save(tmp_path / "model.onnx")
    strange = [np.random.default_rng(i).integers(0, 256, (32, 32, 3), dtype=np.uint8) for i in range(5)]
    exact = represent([*PICTURES, *strange], look, None, hardware=EXACT).values
    logits = head.logits(exact) / np.float32(head.temperature)
    expected = trust.unfamiliarity(exact, logits)
    predictions = Classifier.load(tmp_path, EXACT).predict([*PICTURES, *strange], coverage=0.9)
    np.testing.assert_allclose([p.unfamiliarity for p in predictions], expected, rtol=0.02, atol=0.03)
    assert [p.unfamiliar for p in predictions] == [p.unfamiliarity > 1 for p in predictions]
    np.testing.assert_allclose([p.probability for p in predictions], head.output_of(head.logits(exact)).max(1), atol=5e-3)
    assert all(p.prediction == p.set[0] for p in predictions)
    session = onnxruntime.InferenceSession(classifier.content)
    (other,) = session.run(
        ["unfamiliarity"], {"image": np.stack([load_image(p, backbone.preprocess) for p in PICTURES[:4]])}
    )
    assert other.shape == (4, 1)
    np.testing.assert_allclose(other[:, 0], expected[:4], rtol=0.02, atol=0.03)
    again = read_head(onnx.load_from_string(classifier.content), look.widths)
    np.testing.assert_allclose(again.probabilities(exact), head.probabilities(exact), atol=1e-4)


def test_a_coverage_that_cannot_be_promised_is_refused_with_the_reason(tiny):
    head = Head(((np.zeros((48, 2), np.float32), np.zeros(2, np.float32)),))
    photo = picture((1, 2, 3), 0)
    plain = Classifier.build(tiny, head, ["a", "b"])
    with pytest.raises(HeadstartError, match="no coverage"):
        plain.predict(photo, coverage=0.9)
    kept = held_out_scores(np.full((20, 2), 0.5), np.zeros(20, np.int64))
    sure = Classifier.build(tiny, head, ["a", "b"], {"conformal": kept})
    assert sure.predict(photo, coverage=0.9)[0].set == ("a", "b")
    for wrong, why in (({"coverage": 1.5}, "between 0 and 1"), ({"coverage": 0.9, "sets": "x"}, "smallest, adaptive")):
        with pytest.raises(HeadstartError, match=why):
            sure.predict(photo, **wrong)
    with pytest.raises(HeadstartError, match=r"at most 0\.952"):
        sure.predict(photo, coverage=0.99)


def test_calibrating_lowers_held_out_cross_entropy_through_the_head():
    logits, labels = drawn(500, too_sure=3.0)
    told = calibrate(logits, labels)
    assert losses(logits / np.float32(told.temperature), labels).mean() < losses(logits, labels).mean()
