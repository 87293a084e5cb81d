"""Labelled codes: some of the images, with all that belongs to them."""

import numpy as np

from headstart.heads.labelled_codes import LabelledCodes


def test_some_of_the_images_keep_their_labels_and_groups():
    codes, groups = np.arange(24, dtype=np.float16).reshape(4, 6), [b"a", b"b", b"b", b"c"]
    data = LabelledCodes(codes, np.array([0, 1, 1, 0]), 2, groups, (4, 2))
    some = data.of(np.array([3, 1]))
    assert len(data) == 4 and len(some) == 2
    assert some.codes[:, 0].tolist() == [18, 6] and some.labels.tolist() == [0, 1] and some.groups == [b"c", b"b"]
    assert (some.n_classes, some.widths) == (2, (4, 2))


def test_the_width_is_that_of_the_last_layer_with_views_or_without():
    labels, groups = np.array([0, 1]), [b"a", b"b"]
    assert LabelledCodes(np.zeros((2, 6)), labels, 2, groups, (4, 2)).width == 4
    assert LabelledCodes(np.zeros((2, 6)), labels, 2, groups).width == 6
    assert LabelledCodes(np.zeros((2, 3, 6)), labels, 2, groups).width == 6
