"""Check: each kind of issue is found where it is put, clean sets are left alone, and odd sets do no harm."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from headstart.checks.check_photos import check_photos
from headstart.checks.duplicates import Pair
from headstart.checks.issue import MAX_SCORE, CheckInputs, Issue
from headstart.checks.kinds import KINDS, find_issues
from headstart.codes.image_stats import ImageStats
from headstart.data.datasets import NO_CLASS, Skipped
from headstart.data.splits import TEST, TRAIN, UNASSIGNED
from headstart.errors import DataError, HeadstartError
from support.photos import COLOURS, picture, write_photos

ODD_NAMES = ["<script>alert(1)</script>.jpg", 'a "b", c.jpg', "🌷.jpg", "\u202bورد\u202c.jpg", "caf\udce9.jpg"]


def image_stats(n, seed=0, **other):
    """What n unremarkable photos of 400 x 300 pixels look like."""
    rng = np.random.default_rng(seed)
    numbers = {
        "widths": np.full(n, 400, np.int32),
        "heights": np.full(n, 300, np.int32),
        "brightness": rng.normal(0.45, 0.1, n).clip(0.15, 0.8).astype(np.float32),
        "contrast": rng.normal(0.2, 0.04, n).clip(0.08, 0.4).astype(np.float32),
        "sharpness": rng.normal(0.2, 0.04, n).clip(0.1, 0.5).astype(np.float32),
        "hashes": rng.integers(0, 2**63, n).astype(np.uint64),
    }
    return ImageStats(**{**numbers, **other}, pictures=(None,) * n)


def inputs(n=60, k=3, **other):
    """n photos of k classes that are told apart well, with nothing wrong; what is named is changed."""
    rng = np.random.default_rng(0)
    labels = np.arange(n) % k
    probabilities = np.full((n, k), 0.1 / max(k - 1, 1), np.float32)
    probabilities[np.arange(n), labels] = 0.9 if k > 1 else 1.0
    of_photos = {
        "names": [f"photos/{i}.jpg" for i in range(n)],
        "labels": labels,
        "classes": [f"class {j}" for j in range(k)],
        "digests": [int(i).to_bytes(32, "big") for i in range(n)],
        "splits": np.full(n, UNASSIGNED, np.int8),
        "is_split_given": False,
        "codes": np.abs(rng.normal(1, 0.3, (n, 32))).astype(np.float16),
        "probabilities": probabilities,
        "image_stats": image_stats(n),
        "pairs": [],
        "skipped": [],
    }
    of_photos |= other
    groups = list(of_photos["digests"])
    for first, second, _ in of_photos["pairs"]:
        joined = {groups[first], groups[second]}
        groups = [min(joined) if group in joined else group for group in groups]
    return CheckInputs(**{"groups": groups, **of_photos})


def one(issues, kind):
    found = [issue for issue in issues if issue.kind == kind]
    assert len(found) == 1, [issue.sentence for issue in issues]
    return found[0]


def with_value(n, name, i, value):
    numbers = getattr(image_stats(n), name).copy()
    numbers[i] = value
    return image_stats(n, **{name: numbers})


def test_a_clean_set_has_no_issues():
    assert find_issues(inputs()) == ()


def test_a_wrong_label_is_told_with_its_numbers():
    known = inputs()
    known.probabilities[4] = [0.02, 0.01, 0.97]
    issue = one(find_issues(known), "label")
    assert issue.paths == ("photos/4.jpg",) and issue.labels == ("class 1",) and issue.suggested_label == "class 2"
    assert issue.sentence == "labelled class 1, but looks like class 2 (97 %)"
    assert issue.score == pytest.approx(0.01 / 0.98, abs=1e-4)


def test_several_labels_an_image_are_told_one_by_one():
    labels = np.stack([np.arange(60) % 2, np.arange(60) // 30], axis=1).astype(np.uint8)
    probabilities = np.where(labels, 0.95, 0.05).astype(np.float32)
    probabilities[3] = [0.03, 0.96]  # is labelled with the first
    known = inputs(labels=labels, classes=["cat", "sofa"], probabilities=probabilities)
    issue = one(find_issues(known), "label")
    assert issue.sentence == "labelled cat, but cat seems wrong (3 %), sofa seems missing (96 %)"
    assert issue.labels == ("cat",) and issue.suggested_label == "sofa"


@pytest.mark.parametrize(
    ("labels", "score", "words", "suggested"),
    [([0, 0], 0.4, "all labelled class 0", None), ([0, 1], 0.0, "labelled class 0 and class 1", "class 1")],
)
def test_the_same_bytes_twice(labels, score, words, suggested):
    known = inputs()
    known.labels[[0, 3]] = labels
    known.probabilities[[0, 3]] = [0.9, 0.05, 0.05] if labels == [0, 0] else [0.02, 0.96, 0.02]
    known.digests[3] = known.digests[0]
    issue = one([i for i in find_issues(known) if i.kind != "label"], "duplicate")
    assert issue.paths == ("photos/0.jpg", "photos/3.jpg") and issue.score == score and issue.suggested_label == suggested
    assert issue.sentence.startswith("2 files hold the same photo, byte for byte") and words in issue.sentence


def test_without_a_clear_answer_copies_that_contradict_each_other_get_no_label():
    known = inputs()
    known.digests[1] = known.digests[0]
    known.probabilities[:2] = [0.5, 0.45, 0.05]
    issue = one(find_issues(known), "duplicate")
    assert issue.suggested_label is None and "decide which label is right" in issue.suggestion


def test_near_duplicates_are_told_once_a_group():
    known = inputs(pairs=[Pair(0, 3, 0.97), Pair(3, 6, 0.9), Pair(20, 21, 0.85)])
    same, contradicting = sorted((i for i in find_issues(known) if i.kind == "near-duplicate"), key=lambda i: -len(i.paths))
    assert same.paths == ("photos/0.jpg", "photos/3.jpg", "photos/6.jpg") and "(97 % alike)" in same.sentence
    assert contradicting.score < 0.1 < same.score < MAX_SCORE and "class 2 and class 0" in contradicting.sentence


@pytest.mark.parametrize("is_exact", [True, False])
def test_leaks_are_told_loudly_and_once(is_exact):
    splits = np.where(np.arange(60) < 45, TRAIN, TEST).astype(np.int8)
    known = inputs(splits=splits, is_split_given=True, pairs=[] if is_exact else [Pair(3, 57, 0.9)])
    if is_exact:
        known.digests[57] = known.digests[3]
    issues = find_issues(known)
    leak = one(issues, "leak")
    assert len(issues) == 1 and leak.score == (0.0 if is_exact else pytest.approx(0.01))
    assert leak.paths == ("photos/57.jpg", "photos/3.jpg"), "the test split's comes first"
    assert "1 in test and 1 in train" in leak.sentence and ("very same" in leak.sentence) == is_exact


def test_a_split_of_our_own_cannot_leak():
    splits = np.where(np.arange(60) < 45, TRAIN, TEST).astype(np.int8)
    assert {i.kind for i in find_issues(inputs(splits=splits, pairs=[Pair(3, 57, 0.9)]))} == {"near-duplicate"}


def test_a_photo_that_looks_like_none_of_the_others():
    known = inputs()
    known.codes[7] = 0
    known.codes[7, 5] = 1
    issue = one(find_issues(known), "outlier")
    assert issue.paths == ("photos/7.jpg",) and issue.score < MAX_SCORE and "0.05 is usual" in issue.sentence


def test_an_outlier_is_told_although_it_is_there_twice():
    known = inputs()
    known.codes[[7, 10]] = np.eye(32)[5]
    known.digests[10] = known.digests[7]
    assert [i.paths[0] for i in find_issues(known) if i.kind == "outlier"] == ["photos/7.jpg", "photos/10.jpg"]


@pytest.mark.parametrize(
    ("kind", "name", "value", "words"),
    [
        ("blank", "contrast", 0.0, "a contrast of 0.000"),
        ("blurred", "sharpness", 0.06, "a sharpness of 0.06"),
        ("dark", "brightness", 0.03, "3 % of full brightness"),
        ("bright", "brightness", 0.97, "97 % of full brightness"),
        ("tiny", "heights", 20, "400 x 20 pixels"),
        ("odd-aspect", "widths", 3000, "3000 x 300 pixels"),
    ],
)
def test_a_picture_that_is_wrong_by_itself_and_stands_out(kind, name, value, words):
    issue = one([i for i in find_issues(inputs(image_stats=with_value(60, name, 8, value))) if i.kind == kind], kind)
    assert issue.paths == ("photos/8.jpg",) and words in issue.sentence and issue.score < MAX_SCORE


@pytest.mark.parametrize(("name", "value"), [("brightness", 0.04), ("sharpness", 0.07), ("heights", 32), ("contrast", 0.02)])
def test_what_is_usual_in_a_set_is_no_issue(name, value):
    """Photos of stars are all dark, and old ones all small."""
    numbers = {name: np.full(60, value, np.int32 if name == "heights" else np.float32)}
    widths = {"widths": np.full(60, 32, np.int32)} if name == "heights" else {}
    assert find_issues(inputs(image_stats=image_stats(60, **numbers, **widths))) == ()


def test_photos_that_have_gone_are_passed_over():
    gone = image_stats(60, **{name: np.zeros(60, np.int32) for name in ("widths", "heights")})
    assert find_issues(inputs(image_stats=gone)) == () == find_issues(inputs(image_stats=None))


def test_classes_that_are_too_small():
    labels = np.zeros(60, np.int64)
    labels[:1], labels[1:5] = 1, 2
    few = find_issues(inputs(labels=labels, probabilities=np.eye(3, dtype=np.float32)[labels]))
    assert [(i.labels, i.paths) for i in few] == [(("class 1",), ()), (("class 2",), ())]
    assert few[0].sentence.startswith("class 1 has 1 photo:") and few[0].score < few[1].score < MAX_SCORE
    many = one(find_issues(inputs(60, 30)), "small-class")
    assert len(many.labels) == 30 and many.sentence.startswith("30 of 30 classes have fewer than 10 photos")


def test_classes_that_cannot_be_told_apart():
    known = inputs(300)
    known.probabilities[known.labels == 1] = [0.46, 0.44, 0.1]
    issue = one(find_issues(known), "similar-classes")
    assert issue.labels == ("class 0", "class 1") and "100 of 200 photos" in issue.sentence and issue.score < MAX_SCORE


def test_of_labels_by_chance_only_some_pairs_of_classes_are_told():
    rng = np.random.default_rng(0)
    known = inputs(3000, 30, probabilities=rng.dirichlet(np.ones(30), 3000).astype(np.float32))
    assert sum(i.kind == "similar-classes" for i in find_issues(known)) == 10


def test_files_that_could_not_be_used():
    skipped = [Skipped(name, "its content is no image") for name in ODD_NAMES] + [Skipped("empty", NO_CLASS)]
    issues = find_issues(inputs(skipped=skipped))
    assert {i.kind for i in issues} == {"unreadable"} and [i.paths[0] for i in issues] == ODD_NAMES
    assert "its content is no image" in issues[0].sentence


def test_the_worst_come_first_and_every_score_is_below_the_border():
    known = inputs(
        pairs=[Pair(20, 23, 0.8)], skipped=[Skipped("x", "broken")], image_stats=with_value(60, "brightness", 9, 0.02)
    )
    known.digests[1] = known.digests[0]
    known.probabilities[4] = [0.02, 0.01, 0.97]
    issues = find_issues(known)
    scores = [issue.score for issue in issues]
    assert [i.kind for i in issues] == ["duplicate", "label", "dark", "unreadable", "near-duplicate"]
    assert scores == sorted(scores) and max(scores) < MAX_SCORE


@pytest.mark.parametrize(
    ("n", "k"),
    [(0, 1), (1, 1), (2, 1), (3, 2), (30, 1), (2000, 1000)],
    ids=["none", "one", "two", "three", "one class", "many"],
)
def test_odd_sets(n, k):
    issues = find_issues(inputs(n, k))
    assert {i.kind for i in issues} <= {"small-class"} and all(0 <= i.score <= 1 for i in issues)


def test_names_are_given_as_they_are_and_fit_into_json():
    known = inputs(names=ODD_NAMES + [f"{i}" for i in range(55)], classes=["</script>", '"', "🌷"])
    known.probabilities[4] = [0.02, 0.01, 0.97]
    issue = one(find_issues(known), "label")
    assert issue.paths == (ODD_NAMES[4],) and issue.suggested_label == "🌷"
    assert json.loads(json.dumps(issue.to_json()))["path"] == ODD_NAMES[4]
    assert issue.to_json()["label"] == '"'


def test_every_kind_says_what_it_means():
    assert all(kind.title and kind.meaning for kind in KINDS.values())
    known = {"leak", "duplicate", "near-duplicate", "label", "outlier", "blurred", "dark", "bright", "blank", "tiny"}
    assert known | {"odd-aspect", "small-class", "similar-classes", "unreadable"} == set(KINDS)


# ---- from photos


@pytest.fixture
def messy(tmp_path):
    """60 photos of three colours, and one of each of many issues."""
    photos = write_photos(tmp_path / "photos", n=20)
    shutil.copy(photos / "red" / "red 0.png", photos / "red" / "copy.png")
    Image.fromarray(picture(COLOURS["blue"], 77)).save(photos / "green" / "wrong.png")
    Image.fromarray(np.full((40, 48, 3), 90, np.uint8)).save(photos / "blue" / "blank.png")
    (photos / "green" / "broken.png").write_bytes(b"no picture")
    return photos


def test_a_folder_is_checked(messy, tiny_onnx, tmp_path):
    told = []
    before = sorted((p, p.stat().st_mtime_ns) for p in messy.rglob("*"))
    checked = check_photos(messy, backbone=str(tiny_onnx), cache=tmp_path / "c", progress=lambda *a: told.append(a[0]))
    found = {issue.kind: issue for issue in checked.issues}
    assert found["label"].paths == (str(messy / "green" / "wrong.png"),) and found["label"].suggested_label == "blue"
    assert set(found["duplicate"].paths) == {str(messy / "red" / "red 0.png"), str(messy / "red" / "copy.png")}
    assert found["blank"].paths == (str(messy / "blue" / "blank.png"),)
    assert found["unreadable"].paths == (str(messy / "green" / "broken.png"),)
    assert checked.n_images == 63 and checked.classes == ("blue", "green", "red") and checked.n_of_class == (21, 21, 21)
    assert {"codes", "compare", "labels"} <= set(told)
    assert before == sorted((p, p.stat().st_mtime_ns) for p in messy.rglob("*")), "nothing was changed"
    told = json.loads(json.dumps(checked.to_json()))
    assert told["images"] == 63 and told["kinds"]["duplicate"] == 1 and len(told["issues"]) == len(checked.issues)


def test_checking_again_and_with_another_seed_finds_the_same(messy, tiny_onnx, tmp_path):
    first, again, other = (
        check_photos(messy, backbone=str(tiny_onnx), cache=tmp_path / "c", seed=seed) for seed in (0, 0, 1)
    )
    assert first.issues == again.issues
    assert not np.array_equal(first.inputs.probabilities, other.inputs.probabilities)
    assert {i.paths for i in other.issues if i.kind == "duplicate"} == {
        i.paths for i in first.issues if i.kind == "duplicate"
    }


def test_given_splits_that_leak(messy, tiny_onnx, tmp_path):
    root = tmp_path / "split"
    shutil.copytree(messy, root / "train")
    write_photos(root / "test", n=3)  # the first three of each class once more
    checked = check_photos(root, backbone=str(tiny_onnx), cache=tmp_path / "c")
    leaks = [i for i in checked.issues if i.kind == "leak"]
    assert len(leaks) == 9 and checked.issues[:9] == tuple(leaks)


def test_a_folder_without_a_photo_that_can_be_used(tmp_path, tiny_onnx):
    for name in ("a", "b"):
        (tmp_path / "p" / name).mkdir(parents=True)
        for i in range(2):
            (tmp_path / "p" / name / f"{i}.jpg").write_bytes(b"\xff\xd8\xff nothing")
    with pytest.raises(DataError, match="none of the 4 files"):
        check_photos(tmp_path / "p", backbone=str(tiny_onnx), cache=tmp_path / "c")
    with pytest.raises(HeadstartError, match="seed"):
        check_photos(tmp_path / "p", seed=-1)


@pytest.mark.shared
@pytest.mark.parametrize("name", ["ants_bees", "alpaca"])
def test_clean_sets_are_told_next_to_nothing(shared, name, tmp_path):
    """Looked at as pictures: the two of ants_bees are a table top and a jar, the one of alpaca is out of focus."""
    checked = check_photos(shared / "data" / name, cache=tmp_path)
    assert len(checked.issues) <= 3, [issue.sentence for issue in checked.issues]


def test_an_issue_is_a_value():
    assert Issue("dark", ("a",), ("b",), 0.1, "s", "t") == Issue("dark", ("a",), ("b",), 0.1, "s", "t")
