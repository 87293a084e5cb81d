"""The training set: who is in which split, and what is left out so that the test stays honest."""

from hashlib import sha256
from types import SimpleNamespace

import numpy as np
import pytest

from headstart.codes.compute import Codes
from headstart.codes.workspace import Workspace
from headstart.data.datasets import Dataset, Skipped
from headstart.data.decoding import Failure
from headstart.data.splits import TEST, TRAIN, UNASSIGNED
from headstart.engines.hardware import Hardware
from headstart.errors import DataError
from headstart.training.steps.load import LabelledPhotos
from headstart.training.steps.training_set import build_training_set, untested


@pytest.fixture
def build(tmp_path):
    """Builds the training set of photos with these labels, splits and contents; `gone` are positions that cannot be read."""

    def build(labels, *, splits=None, contents=None, groups=None, gone=(), skipped=(), test=0.2):
        labels = np.asarray(labels)
        n = len(labels)
        names = tuple("abcdefgh"[: int(labels.max()) + 1])
        splits = np.full(n, UNASSIGNED) if splits is None else np.asarray(splits)
        dataset = Dataset([f"{i}.png" for i in range(n)], labels, names, splits.astype(np.int8), tuple(skipped))
        index = np.array([i for i in range(n) if i not in gone], np.int64)
        digests = [sha256(str((contents or range(n))[i]).encode()).digest() for i in index]
        failures = {i: Failure("broken", "it cannot be decoded") for i in gone}
        codes = Codes(np.arange(2 * len(index)).reshape(-1, 2).astype(np.float16), (2,), index, digests, failures, 0)
        copies = SimpleNamespace(groups=digests if groups is None else [groups[i] for i in index], notes=("a note",))
        options = SimpleNamespace(seed=0, test=test)
        photos = LabelledPhotos("photos", dataset, dataset, "softmax")
        with Workspace(tmp_path, Hardware()) as workspace:
            return build_training_set(photos, codes, copies, options, workspace, ("on the network",))

    return build


def test_splits_are_drawn_and_rows_belong_together(build):
    data = build(np.arange(400) % 2)
    assert 56 <= len(data.test) <= 104  # 80, and three standard deviations of a binomial draw
    assert sorted([*data.test, *data.learn]) == list(range(400))
    assert data.learn_groups == [data.groups[i] for i in data.learn]
    assert data.names[7] == "7.png" and data.labels[7] == 1 and data.codes[7].tolist() == [14, 15]
    assert data.notes[-1] == "on the network" and "a note" in data.notes


def test_copies_share_a_split(build):
    groups = [bytes([i % 10]) * 32 for i in range(40)]
    data = build(np.arange(40) // 20, groups=groups)
    assert not {data.groups[i] for i in data.test} & {data.groups[i] for i in data.learn}


def test_what_cannot_be_read_is_left_out_with_its_reason(build):
    data = build(np.arange(20) % 2, gone=(3,), skipped=[Skipped("x.txt", "not an image")])
    assert len(data.images) == 19 and "3.png" not in data.names and data.labels[3] == 0
    assert data.skipped == (("x.txt", "not an image"), ("3.png", "it cannot be decoded"))


def test_a_class_whose_images_are_all_broken_is_no_class(build):
    data = build([0, 1] * 6 + [2], gone=(12,))
    assert data.classes == ("a", "b") and any("no image of 'c' can be used" in note for note in data.notes)


def test_the_very_bytes_of_the_test_split_are_not_learnt_from(build):
    splits, contents = [TRAIN] * 8 + [TEST] * 4, [*range(8), 0, 1, 20, 21]
    data = build(np.arange(12) % 2, splits=splits, contents=contents)
    assert data.names[:2] == ["2.png", "3.png"] and len(data.learn) == 6
    assert any("2 images of train or validation stand, byte for byte the same" in note for note in data.notes)
    assert [reason for _, reason in data.skipped] == ["the very same image is in the test split"] * 2
    assert data.rows.tolist() == list(range(2, 12)) and data.codes[0].tolist() == [4, 5]


def test_a_class_of_a_single_photo_is_told_and_nothing_but_such_is_refused(build):
    data = build([0] * 10 + [1])
    assert untested(data) == [1] and any("'b' has a single photo" in note for note in data.notes)
    with pytest.raises(DataError, match="a single photo of each class"):
        build([0, 0, 1, 1], groups=[b"a", b"a", b"b", b"b"])


def test_a_class_that_the_test_split_has_all_of_is_refused(build):
    with pytest.raises(DataError, match="leaves 'b' with no image to learn from"):
        build([0] * 8 + [1] * 4, splits=[TRAIN] * 6 + [TEST] * 6)


def test_one_content_with_two_labels_is_told(build):
    data = build(np.arange(20) % 2, contents=[0, 0, *range(2, 20)])
    assert any("1 photos have more than one label, byte for byte the same" in note for note in data.notes)
