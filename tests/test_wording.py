"""Wording: what a sentence says where there is more than it can name."""

import pytest

from headstart.wording import some


@pytest.mark.parametrize(
    ("n", "most", "told"),
    [
        (0, 5, ""),
        (1, 5, "0"),
        (5, 5, "0, 1, 2, 3, 4"),
        (6, 5, "0, 1, 2, 3, 4 and 1 more"),
        (1_205, 2, "0, 1 and 1,203 more"),
    ],
)
def test_a_list_that_is_cut_says_how_much_is_left_out(n, most, told):
    assert some(map(str, range(n)), most) == told
