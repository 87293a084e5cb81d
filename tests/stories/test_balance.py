"""With --balance every class counts the same: in what is learnt, in every choice, and in all that is told."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import onnx
import pytest

from headstart.classifier.classifier import Classifier
from headstart.classifier.network import read_head
from headstart.cli import summaries
from headstart.cli.main import main
from headstart.codes.representation import Representation, represent
from headstart.data.splits import TEST, content_folds
from headstart.engines.hardware import Hardware
from headstart.errors import HeadstartError
from headstart.evaluation.metrics import balanced_accuracy, evaluate
from headstart.heads import mlp
from headstart.heads.head import Head
from headstart.heads.kinds import HEADS
from headstart.heads.labelled_codes import LabelledCodes
from headstart.numerics.intervals import wilson_interval
from headstart.numerics.losses import balanced_weights, losses, softmax
from headstart.report.sentences import numbers, result, trust
from headstart.runs.findings import Findings
from headstart.selection import cross_validation, rungs
from headstart.selection.cross_validation import Choice, choose_head
from headstart.selection.sample import sample
from headstart.training.train import train
from headstart.trust.calibration import calibrate, calibrate_probabilities
from headstart.trust.conformal import held_out_scores, prediction_sets, score_threshold
from support.photos import write_photos


def digests(n, start=0):
    return [hashlib.sha256(str(i).encode()).digest() for i in range(start, start + n)]


def mean_of_classes(values, labels):
    """The mean over classes of each class's mean."""
    return float(np.mean([values[labels == c].mean() for c in np.unique(labels)]))


# ---- calibration


def two_worlds(n=3_000, n_rare=60, seed=0):
    """Scores of 0 for the common class that are too modest, and of a rare one that are far too sure; and the labels."""
    rng = np.random.default_rng(seed)
    labels = (np.arange(n) < n_rare).astype(np.int64)
    margin = np.where(labels == 1, rng.normal(0.3, 4, n), rng.normal(3, 0.5, n))
    sign = np.where(labels == 1, 1.0, -1.0)
    return np.stack([-sign * margin / 2, sign * margin / 2], axis=1).astype(np.float32), labels


def test_the_temperature_of_a_balanced_head_is_that_of_a_balanced_world():
    logits, labels = two_worlds()
    before = mean_of_classes(losses(logits, labels), labels)

    def balanced(told):
        return mean_of_classes(losses(logits / np.float32(told.temperature), labels), labels)

    plain, alike = calibrate(logits, labels), calibrate(logits, labels, is_balanced=True)
    assert balanced(plain) > before + 0.1  # what helps the common class alone
    assert balanced(alike) < before and alike.temperature > 1 > plain.temperature


def test_photos_of_a_balanced_set_count_as_they_do_without_balance():
    rng = np.random.default_rng(1)
    labels, logits = np.arange(400) % 4, rng.normal(0, 3, (400, 4)).astype(np.float32)
    logits[np.arange(400), labels] += 2
    plain, alike = calibrate(logits, labels), calibrate(logits, labels, is_balanced=True)
    assert alike.temperature == pytest.approx(plain.temperature, rel=1e-3)
    assert (alike.error_after, alike.bias) == pytest.approx((plain.error_after, plain.bias), abs=1e-4)
    assert [b.n for b in alike.bins] == [b.n for b in plain.bins] and alike.is_balanced and not plain.is_balanced
    assert sum(b.share for b in alike.bins) == pytest.approx(1)
    assert [b.interval for b in alike.bins] == [pytest.approx(b.interval, abs=1e-4) for b in plain.bins]


def test_the_error_that_is_told_counts_classes_alike():
    """Probabilities that are true of the common class, and 0.9 where they should be a half of the rare one."""
    rng = np.random.default_rng(0)
    labels = (np.arange(4_000) < 80).astype(np.int64)
    right = rng.random(4_000) < np.where(labels == 1, 0.5, 0.9)
    said = np.where(right, labels, 1 - labels)
    p = np.full((4_000, 2), 0.1)
    p[np.arange(4_000), said] = 0.9
    plain = calibrate_probabilities(p, labels, None)
    alike = calibrate_probabilities(p, labels, {"temperature": 1.0, "is_balanced": True})
    assert plain["error_after"] < 0.03 and alike["error_after"] > 0.1
    assert alike["is_balanced"] and alike["n_images"] == 4_000
    widest = [max(b["interval"][1] - b["interval"][0] for b in told["bins"]) for told in (plain, alike)]
    assert widest[1] > 2 * widest[0]  # half of all rests on 80 photos


@pytest.mark.parametrize("n_rare", [1, 2])
def test_a_rare_class_of_one_or_two_photos_makes_no_extreme_temperature(n_rare):
    logits, labels = two_worlds(n_rare=n_rare)
    told = calibrate(logits, labels, is_balanced=True)
    assert 0.2 < told.temperature < 5 and np.isfinite(told.bias) and np.isfinite(told.error_after)


def true_of_two(seed):
    """Probabilities that are true where two classes are equally common, of 970 images of the one and 30 of the other."""
    rng = np.random.default_rng(seed)
    p = softmax(rng.normal(0, 1.5, (4_000, 2)).astype(np.float32))
    labels = (rng.random(len(p)) < p[:, 1]).astype(np.int64)
    some = np.r_[np.flatnonzero(labels == 0)[:970], np.flatnonzero(labels == 1)[:30]]
    return p[some], labels[some]


def test_chance_alone_is_told_for_a_balanced_set_too():
    """The error of true probabilities is what chance alone makes."""
    errors, biases = [], []
    for seed in range(20):
        told = calibrate_probabilities(*true_of_two(seed), {"is_balanced": True})
        errors.append(told["error_after"])
        biases.append(told["bias"])
    assert np.mean(errors) == pytest.approx(np.mean(biases), rel=0.25) and np.mean(biases) > 0.05


def test_many_photos_do_not_lose_a_rare_class(monkeypatch):
    """A temperature is found from a part of very many photos; the rare class is in it, by its weight."""
    monkeypatch.setattr("headstart.trust.calibration.MOST_NUMBERS", 2_000)
    logits, labels = two_worlds(n=20_000, n_rare=12, seed=3)
    told = calibrate(logits, labels, is_balanced=True)
    weights = balanced_weights(labels, 2)
    of_all = np.average(losses(logits / np.float32(told.temperature), labels), weights=weights)
    assert of_all < np.average(losses(logits, labels), weights=weights)


# ---- the folds that choose


def rare_class(n, n_rare, *, place=1, k=4, d=12, apart=2.0, seed=0):
    """Codes and labels of k classes, one of which has n_rare images, and stands at `place` in the alphabet."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % (k - 1)
    labels = np.where(np.arange(n) < n_rare, k - 1, labels)
    codes = rng.normal(0, 1, (n, d)) + (rng.normal(0, 1, (k, d)) * apart)[labels]
    named = np.array([c for c in range(k) if c != place] + [place])
    return codes.astype(np.float16), named[labels]


@pytest.mark.parametrize("n_rare", [2, 3, 5, 40])
@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_a_rare_class_is_held_out_whatever_its_name(n_rare, place):
    """From 2,500 images on one fold is held out; with balance never without a class that has two different photos."""
    codes, labels = rare_class(2_600, n_rare, place=place)
    choice = choose_head(LabelledCodes(codes, labels, 4, digests(2_600)), balance=True)
    assert (labels[choice.held_out] == place).sum() >= n_rare // 5 + 1 - (n_rare % 5 == 0)
    assert np.unique(labels[choice.held_out]).size == 4 and choice.is_balanced


def test_one_fold_is_enough_where_classes_are_balanced_already(monkeypatch):
    monkeypatch.setattr(cross_validation, "ONE_FOLD_FROM", 500)
    codes, labels = rare_class(500, 125)
    names = digests(500)
    assert len(choose_head(LabelledCodes(codes, labels, 4, names), balance=True).held_out) == pytest.approx(100, abs=3)
    codes, labels = rare_class(500, 20)  # as good as 4 x 20 / 5 or so: too few to choose by, so all are held out in turn
    assert len(choose_head(LabelledCodes(codes, labels, 4, names), balance=True).held_out) == 500
    assert len(choose_head(LabelledCodes(codes, labels, 4, names)).held_out) == pytest.approx(100, abs=3)


def test_a_class_of_one_photo_costs_no_folds(monkeypatch):
    """It cannot be held out: nothing would be left to learn it from. Neither can one of many copies of one photo."""
    monkeypatch.setattr(cross_validation, "ONE_FOLD_FROM", 400)
    codes, labels = rare_class(500, 7)
    names = digests(500)
    names[:7] = [names[0]] * 7
    choice = choose_head(LabelledCodes(codes, labels, 4, names), balance=True)
    assert len(choice.held_out) < 130 and (labels[choice.held_out] != 1).all()


def test_folds_do_not_know_what_classes_are_called():
    names, labels = digests(300), np.random.default_rng(0).integers(0, 9, 300)
    again = np.random.default_rng(1).permutation(9)[labels]
    np.testing.assert_array_equal(content_folds(names, labels, 5), content_folds(names, again, 5))
    many = np.eye(9, dtype=np.uint8)
    np.testing.assert_array_equal(content_folds(names, many[labels], 5), content_folds(names, many[again], 5))


def test_folds_of_tiny_classes_are_equally_large():
    fold = content_folds(digests(200), np.arange(200) % 100, 5)
    assert np.bincount(fold).tolist() == [40] * 5


def test_what_is_told_of_each_strength_counts_classes_alike():
    codes, labels = rare_class(480, 16, apart=0.5)
    choice = choose_head(LabelledCodes(codes, labels, 4, digests(480)), balance=True)
    (told,) = [t for t in choice.trials if t.strength == choice.strength]
    truth = labels[choice.held_out]
    assert told.accuracy == pytest.approx(mean_of_classes(choice.logits.argmax(axis=1) == truth, truth))
    assert told.cross_entropy == pytest.approx(mean_of_classes(losses(choice.logits, truth), truth), rel=1e-4)


def test_several_labels_an_image_are_not_balanced():
    labels = np.random.default_rng(0).integers(0, 2, (40, 3)).astype(np.uint8)
    with pytest.raises(HeadstartError, match="several labels an image cannot be balanced"):
        choose_head(LabelledCodes(np.zeros((40, 4), np.float16), labels, 3, digests(40)), kind="sigmoid", balance=True)


# ---- the rungs


def tried(logits, labels, *, balance, look="", groups=None) -> rungs.Attempt:
    n, k = logits.shape
    held_out, turn = np.arange(n), np.zeros(n, np.int64)
    head = Head(((np.zeros((1, k), np.float32), np.zeros(k, np.float32)),))
    choice = Choice(head, "softmax", 1.0, held_out, turn, logits.astype(np.float32), (), balance)
    return rungs.Attempt(look, choice, 0.0, labels, groups or digests(n))


def rivals(n=1_000, n_rare=20):
    """Scores that find the rare class and take some others for it, and ones that find half of it and every other image."""
    labels = (np.arange(n) < n_rare).astype(np.int64)
    sure = np.where(labels == 1, 3.0, -3.0)
    first = np.where((labels == 0) & (np.arange(n) % 10 == 0), 0.5, sure)  # a tenth of the common ones
    second = np.where((labels == 1) & (np.arange(n) % 2 == 0), -0.5, sure)
    return (np.stack([-s, s], axis=1) for s in (first, second)), labels


def test_a_rung_that_loses_the_rare_class_is_taken_without_balance_only():
    (first, second), labels = rivals()
    said = {}
    for balance in (False, True):
        before, after = (tried(logits, labels, balance=balance) for logits in (first, second))
        said[balance], why = rungs.compare_attempts(before, after)
    assert said == {False: True, True: False}
    assert before.accuracy[0] == pytest.approx(0.95) and after.accuracy[0] == pytest.approx(0.75)
    assert "98 more right, 10 more wrong, balanced accuracy -20.0 points; calibrated balanced cross entropy +" in why
    assert rungs.compare_attempts(after, before)[0]  # the other way round it is better


def test_the_numbers_of_a_rung_are_the_ones_that_were_compared(tiny):
    (first, second), labels = rivals()
    look = rungs.Candidate(Representation((tiny,)), "softmax")
    for balance in (False, True):
        before, after = (tried(logits, labels, balance=balance, look=look) for logits in (first, second))
        one, other = (rungs.rung_of("x", trial, True, "") for trial in (before, after))
        assert one.is_balanced == balance and one.interval[0] < one.accuracy < one.interval[1]
        told = float(rungs.compare_attempts(before, after)[1].rsplit(" ", 1)[1])
        assert other.cross_entropy - one.cross_entropy == pytest.approx(told, abs=6e-4)


def test_a_verdict_of_equal_classes_is_the_same_with_balance():
    rng = np.random.default_rng(0)
    labels = np.arange(300) % 3
    for seed in range(10):
        one, other = (rng.normal(0, 1, (300, 3)) + 2 * np.eye(3)[labels] for _ in range(2))
        said = [
            rungs.compare_attempts(*(tried(logits, labels, balance=balance) for logits in (one, other)))[0]
            for balance in (False, True)
        ]
        assert said[0] == said[1], seed


def test_copies_use_up_no_sample():
    """Ten photos of one class with a hundred copies each, 990 photos of another: different photos come first."""
    contents = digests(1_990)
    groups = [contents[i // 100] if i < 1_000 else contents[i] for i in range(1_990)]
    labels = (np.arange(1_990) >= 1_000).astype(np.int64)
    for balance in (False, True):
        kept = sample(groups, labels, 2, most=600, digests=contents, balance=balance)
        assert len({groups[i] for i in kept}) == len(kept) and 600 <= len(kept) <= 610
        assert len({groups[i] for i in kept if labels[i] == 0}) == 10
        order = np.random.default_rng(0).permutation(1_990)
        shuffled = {"digests": [contents[i] for i in order], "balance": balance}
        again = sample([groups[i] for i in order], labels[order], 2, most=600, **shuffled)
        assert sorted(order[again].tolist()) == kept.tolist()


def test_copies_make_no_rung_surer():
    """Nine photos more right, five more wrong, thirty copies of one of those five: nothing is gained."""
    n, labels = 200, np.zeros(200, np.int64)
    right = np.stack([np.full(n, 2.0), np.zeros(n)], axis=1)
    first, second = right.copy(), right.copy()
    first[:40] = first[:40, ::-1]  # thirty copies of one photo, and ten others
    second[195:] = second[195:, ::-1]
    alone = digests(n)
    copies = [alone[0]] * 30 + alone[30:]
    plain, grouped = (tried(first, labels, balance=False, groups=g).accuracy[1] for g in (alone, copies))
    assert np.diff(grouped) > 1.5 * np.diff(plain)
    lead = [
        rungs._standard_errors_ahead(*(tried(z, labels, balance=False, groups=g) for z in (first, second)))
        for g in (alone, copies)
    ]
    assert lead[0] > 2 * lead[1] > 0


def test_the_sample_of_the_ladder_holds_different_photos_of_a_rare_class():
    """Twelve copies of one photo are no ten photos: the others of its class must be there to be held out."""
    names, labels = digests(500), np.zeros(500, np.int64)
    labels[:16] = 1
    names[:12] = [b"\0" * 32] * 12
    names[12:16] = [b"\xff" * 31 + bytes([i]) for i in range(4)]
    kept = sample(names, labels, 2, most=50)
    assert len({names[i] for i in kept if labels[i] == 1}) == 5


def test_the_balanced_sample_holds_as_many_of_each_class_as_there_are():
    names, labels = digests(2_000), np.arange(2_000) % 3
    labels[:50] = 3
    kept = sample(names, labels, 4, most=300, balance=True)
    assert np.bincount(labels[kept]).tolist() == pytest.approx([83, 83, 83, 50], abs=1) and len(kept) == 300
    assert np.bincount(labels[sample(names, labels, 4, most=300)])[3] < 20
    order = np.random.default_rng(0).permutation(2_000)
    again = sample([names[i] for i in order], labels[order], 4, most=300, balance=True)
    assert {names[i] for i in kept} == {names[order[i]] for i in again}


# ---- balanced accuracy


def test_balanced_accuracy_is_the_mean_recall_of_the_classes_there_are():
    labels, right = np.array([0] * 8 + [2] * 2), np.array([1] * 6 + [0] * 2 + [1, 0], bool)
    share, (low, high) = balanced_accuracy(right, labels)
    assert share == pytest.approx((0.75 + 0.5) / 2) and 0 < low < share < high < 1


def test_of_one_class_it_is_the_accuracy():
    right = np.arange(50) < 40
    share, interval = balanced_accuracy(right, np.zeros(50, np.int64))
    assert share == pytest.approx(0.8) and interval == pytest.approx(wilson_interval(40, 50))


@pytest.mark.parametrize("sizes", [(400, 8), (500, 100, 20), (60, 60), (300, 300, 300, 300, 3)])
def test_its_interval_holds_the_true_mean_recall(sizes):
    rng = np.random.default_rng(0)
    recall = np.linspace(0.95, 0.6, len(sizes))
    labels = np.repeat(np.arange(len(sizes)), sizes)
    covered = []
    for _ in range(1_000):
        low, high = balanced_accuracy(rng.random(len(labels)) < recall[labels], labels)[1]
        covered.append(low <= recall.mean() <= high)
    assert 0.92 < np.mean(covered)


# ---- every kind of head


def overlapping(n=1_200, n_rare=60, seed=0):
    """Codes of two classes that lie close together, one of them rare; and as many new ones of each."""
    rng = np.random.default_rng(seed)
    labels = (np.arange(n) < n_rare).astype(np.int64)
    new = np.arange(1_000) % 2
    learnt, others = (rng.normal(0, 1, (len(of), 6)) + 0.6 * of[:, None] for of in (labels, new))
    return learnt.astype(np.float16), labels, others.astype(np.float16), new


@pytest.mark.parametrize("kind", HEADS)
def test_balance_reaches_every_kind_of_head(kind, monkeypatch):
    """Class means are balanced by nature; all others forget the rare class without it."""
    monkeypatch.setattr(mlp, "STEPS", 100)
    codes, labels, new, truth = overlapping()
    recall = {}
    for balance in (False, True):
        head = choose_head(LabelledCodes(codes, labels, 2, digests(1_200)), kind=kind, balance=balance).head
        recall[balance] = head.logits(new).argmax(axis=1)
    found = {balance: mean_of_classes(said == truth, truth) for balance, said in recall.items()}
    rare = {balance: (said[truth == 1] == 1).mean() for balance, said in recall.items()}
    assert found[True] > 0.65 and rare[True] > 0.55
    assert rare[True] > rare[False] + 0.3 or kind == "class-mean"


def test_votes_of_the_nearest_count_by_class():
    codes = np.array([[0, 1], [0.1, 1], [0.2, 1], [1, 0]], np.float32)
    labels, weights = np.array([0, 0, 1, 0]), np.array([0.5, 0.5, 2.0, 0.5])
    problem = HEADS["nearest"].fitter(codes, labels, 2)
    head = problem.head(problem.fit(3, weights=weights))
    np.testing.assert_allclose(head.probabilities(codes[:1]), np.array([[1.05, 2.05]]) / 3.1, rtol=1e-5)


def test_the_file_counts_votes_as_the_head_does(tiny, tmp_path):
    rng = np.random.default_rng(0)
    labels = (np.arange(60) < 12).astype(np.int64)
    pictures = [np.clip(rng.normal(100 + 15 * label, 60, (32, 32, 3)), 0, 255).astype(np.uint8) for label in labels]
    exact = Hardware(precision="f32")
    codes = represent(pictures, Representation((tiny,)), None, hardware=exact).values
    choice = choose_head(LabelledCodes(codes, labels, 2, digests(60)), kind="nearest", balance=True)
    head = replace(choice.head, temperature=1.4)
    assert len(np.unique(head.votes)) == 3  # nothing, and what each class's image counts
    classifier = Classifier.build(tiny, head, ["a", "b"], hardware=exact)
    said = np.array([[dict(p.top)[name] for name in "ab"] for p in classifier.predict(pictures)])
    np.testing.assert_allclose(said, head.probabilities(codes), atol=5e-3)
    again = read_head(onnx.load_from_string(classifier.content), head.widths)
    np.testing.assert_allclose(again.probabilities(codes), head.probabilities(codes), atol=1e-5)


# ---- what is told


def judged(*, balance=True, n_rare=10, found=3):
    """run.json, so far as it matters: two classes, one of 190 photos, all found, and a rare one, of which some are."""
    p = np.zeros((190 + n_rare, 2))
    labels = (np.arange(len(p)) >= 190).astype(np.int64)
    said = np.where(np.arange(len(p)) >= 190 + found, 0, labels)
    p[np.arange(len(p)), said] = 1
    about = {
        "classes": ["common", "rare"],
        "images": {"used": 1_000, "train": 800, "validation": 0, "test": 200},
        "images_of_class": {"common": 950, "rare": 50},
        "arguments": {"balance": balance, "test": 0.2},
        "evaluation": evaluate(p, labels, ["common", "rare"]).to_json(),
    }
    return json.loads(json.dumps(about))


def test_the_balanced_accuracy_is_said_beside_the_accuracy():
    balanced, plain = judged(), judged(balance=False)
    e = balanced["evaluation"]
    assert e["accuracy"] == pytest.approx(193 / 200) and e["balanced_accuracy"] == pytest.approx((1 + 0.3) / 2)
    assert "96.5 %. Every class counted alike, that is 65.0 % (balanced accuracy)." in result.result(balanced)
    low, high = (f"{100 * x:.1f} %" for x in e["balanced_interval"])
    assert f"The balanced accuracy would be between {low} and {high}." in result.chance(balanced)
    assert "balanced" not in result.result(plain) + result.chance(plain) + result.verdict(plain)


def test_a_balanced_result_is_compared_with_guessing_in_a_balanced_world():
    """Always answering the commonest class would be right for 95 %, and for half where every class counts alike."""
    verdict = result.verdict(judged(found=9))
    assert "Much better than always answering any one class (50.0 %)" in verdict
    assert "Only 10 photos of “\u2068rare\u2069” judged it: add photos of the rarest classes" in verdict
    assert "not shown to be better than always answering any one class" in result.verdict(judged(found=0))
    assert "a number to rely on" in result.verdict(judged(n_rare=500, found=480))
    assert "not shown to be better than always answering “\u2068common" in result.verdict(judged(balance=False, found=0))


def test_a_run_of_before_says_nothing_of_balance():
    about = judged()
    del about["evaluation"]["balanced_accuracy"]
    assert not numbers.is_balanced(about) and "balanced" not in result.result(about)


def test_the_terminal_says_it_too():
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]])
    result = evaluate(probabilities, np.array([0, 0, 0, 1]), ["cat", "dog"])
    text = summaries.evaluation_text(result, is_balanced=True)
    assert "accuracy 75.0 % on" in text and "balanced accuracy 50.0 %, every class counted alike (95 % interval: " in text
    assert "balanced" not in summaries.evaluation_text(result)


def test_calibration_that_counts_classes_alike_says_so():
    logits, labels = two_worlds()
    about = {"calibration": calibrate(logits, labels, is_balanced=True).to_json()}
    assert "every class counted alike, differ by" in trust.calibration(about)
    for seed in range(10):  # true probabilities, by weights that are far apart
        told = calibrate_probabilities(*true_of_two(seed), {"is_balanced": True})
        assert not trust.is_off({"calibration": told}), seed


@pytest.mark.parametrize("head", ["auto", "nearest"])
def test_a_balanced_training_tells_balanced_numbers(head, tmp_path, tiny_onnx, capsys):
    photos = write_photos(tmp_path / "photos", n=25)
    for path in sorted((photos / "red").iterdir())[8:]:
        path.unlink()
    run = tmp_path / "run"
    asked = ["train", str(photos), "-o", str(run), "--backbone", str(tiny_onnx), "--balance", "--head", head, "--quiet"]
    assert main(asked) == 0
    about = json.loads((run / "run.json").read_text())
    assert "balanced accuracy" in capsys.readouterr().out
    assert about["calibration"]["is_balanced"] and all(rung["is_balanced"] for rung in about["ladder"])
    assert about["cross_validation"]["balanced_accuracy"] > 0.8 and about["evaluation"]["balanced_interval"][0] > 0
    findings = Findings.load(run)
    held_out = findings.splits[findings.held_out] != TEST
    truth = findings.labels[findings.held_out[held_out]]
    right = findings.probabilities[held_out].argmax(axis=1) == truth
    assert about["cross_validation"]["balanced_accuracy"] == pytest.approx(mean_of_classes(right, truth))
    assert "balanced accuracy" in (run / "report.html").read_text()
    others = write_photos(tmp_path / "others", n=40)  # most of them it has learnt from
    assert main(["evaluate", str(run), str(others), "-o", str(tmp_path / "judged"), "--quiet"]) == 0
    again = json.loads((tmp_path / "judged" / "run.json").read_text())
    assert numbers.is_balanced(again) and again["calibration"]["is_balanced"]
    assert "balanced accuracy" in capsys.readouterr().out
    classifier = Classifier.load(run)
    assert classifier.about["calibration"]["is_balanced"] and classifier.about["conformal"]["is_balanced"]


def test_balancing_several_labels_is_refused_before_any_work(tmp_path, tiny_onnx):
    photos = write_photos(tmp_path / "photos", n=4)
    rows = [f"{path.relative_to(photos)},{path.parent.name}|warm" for path in sorted(photos.rglob("*.png"))]
    (photos / "table.csv").write_text("\n".join(["path,label", *rows]))
    with pytest.raises(HeadstartError, match="several labels each: every label is learnt by itself .* leave --balance away"):
        train(photos / "table.csv", tmp_path / "run", backbone=str(tiny_onnx), balance=True)
    assert not (tmp_path / "run").exists()


# ---- sets of classes


@pytest.mark.parametrize("coverage", [0.8, 0.9])
def test_balanced_sets_hold_the_right_class_as_often_as_was_asked_on_average_over_classes(coverage):
    """The rare classes are the hard ones: sets that count photos alike cover them far less often."""
    centres, spread = np.random.default_rng(5).normal(0, 1.2, (4, 3)), np.linspace(0.7, 1.6, 4)

    def drawn(sizes, rng):
        labels = np.repeat(np.arange(4), sizes)
        codes = centres[labels] + rng.normal(0, 1, (len(labels), 3)) * spread[labels, None]
        return softmax(-((codes[:, None] - centres) ** 2).sum(axis=2) / 2), labels

    covered = {False: [], True: []}
    for seed in range(60):
        rng = np.random.default_rng(seed)
        (p, labels), (new, truth) = drawn((800, 20, 20, 20), rng), drawn((100,) * 4, rng)
        for is_balanced, shares in covered.items():
            kept = held_out_scores(p, labels, is_balanced=is_balanced)
            is_in = prediction_sets(new, score_threshold(kept["smallest"], kept["n"], coverage))
            shares.append(mean_of_classes(is_in[np.arange(400), truth], truth))
    assert np.mean(covered[True]) > coverage - 0.01 and np.mean(covered[False]) < coverage - 0.05


def test_balanced_sets_of_equal_classes_are_the_same_sets():
    rng = np.random.default_rng(0)
    p, labels = softmax(rng.normal(0, 2, (300, 3))), np.arange(300) % 3
    plain, alike = (held_out_scores(p, labels, is_balanced=is_balanced) for is_balanced in (False, True))
    assert {**plain, "is_balanced": True} == alike


def test_a_promise_over_classes_that_a_few_photos_cannot_keep_is_refused(tiny):
    p, labels = np.full((100, 2), 0.5), (np.arange(100) < 3).astype(np.int64)
    kept = held_out_scores(p, labels, is_balanced=True)
    assert kept["n"] == 6  # two classes, three photos of the rarer one
    head = Head(((np.zeros((48, 2), np.float32), np.zeros(2, np.float32)),))
    sure = Classifier.build(tiny, head, ["a", "b"], {"conformal": kept})
    with pytest.raises(HeadstartError, match=r"so few held-out photos of the rarest class; at most 0\.857 can"):
        sure.predict(np.zeros((32, 32, 3), np.uint8), coverage=0.9)
    assert sure.predict(np.zeros((32, 32, 3), np.uint8), coverage=0.8)[0].status == "ok"
