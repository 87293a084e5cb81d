"""One label an image, or several: the same questions, answered for both."""

import numpy as np
import pytest

from headstart.data import labels
from headstart.data.splits import TEST, TRAIN, UNASSIGNED, assign_splits, contradictions

ONE = np.array([2, 0, 2, 2])
MANY = np.array([[0, 0, 1], [1, 0, 1], [0, 0, 0], [1, 0, 1]], np.uint8)


@pytest.mark.parametrize(("of_image", "expected"), [(ONE, [1, 0, 3]), (MANY, [2, 0, 3])])
def test_classes_are_counted_those_without_an_image_too(of_image, expected):
    assert labels.counts(of_image, 3).tolist() == expected
    assert [len(found) for found in labels.members(of_image, 3)] == expected


@pytest.mark.parametrize(("of_image", "expected"), [(ONE, ["c", "a", "c", "c"]), (MANY, ["c", "a|c", "", "a|c"])])
def test_classes_without_an_image_go_and_names_stay(of_image, expected):
    present = labels.counts(of_image, 3) > 0
    left = labels.only(of_image, present)
    assert [labels.label_text(label, ("a", "c")) for label in left] == expected
    assert [labels.label_text(label, ("a", "b", "c")) for label in of_image] == expected


def test_a_label_whose_every_image_drew_the_test_split_keeps_one():
    digests = [bytes([i]) * 32 for i in range(40)]
    many = np.zeros((40, 2), np.uint8)
    many[:, 0] = 1
    given = np.full(40, UNASSIGNED, np.int8)
    drawn = assign_splits(given, digests, many, seed=0, validation=0.0, test=0.5)
    tested = np.flatnonzero(drawn == TEST)
    many[tested[:3], 1] = 1  # a label that only images of the test split have
    assert (assign_splits(given, digests, many, seed=0, validation=0.0, test=0.5)[tested[:3]] == TRAIN).sum() == 1


def test_the_same_bytes_with_other_labels_contradict_each_other():
    many = np.array([[1, 0], [1, 1], [1, 0], [1, 0]], np.uint8)
    assert contradictions(many, [b"a", b"a", b"b", b"b"]) == [[0, 1]]
