"""How sentences name what there may be many of."""

import pytest

from headstart.wording import counted, duration, listed, percent, points, quote_name, whole_percent


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ([], ""),
        (["a"], "a"),
        (["a", "b"], "a and b"),
        (["a", "b", "c"], "a, b and c"),
        (list("abcde"), "a, b, c, d and e"),
        (list("abcdef"), "a, b, c, d, e and 1 more"),
        ([str(i) for i in range(1_205)], "0, 1, 2, 3, 4 and 1,200 more"),
    ],
)
def test_of_many_names_the_first_stand_there_and_how_many_more(names, text):
    assert listed(names) == text == listed(iter(names))


def test_the_word_and_the_number_of_names_can_be_chosen():
    assert listed("abc", "or", most=2) == "a, b or 1 more"


def test_shares_and_differences():
    assert (percent(0.12345), percent(1), percent(None)) == ("12.3 %", "100.0 %", "-")
    assert (whole_percent(0.125), whole_percent(0.996)) == ("12 %", "100 %")
    assert points(-0.031) == points(0.031) == "3.1 points"


@pytest.mark.parametrize(("n", "text"), [(0, "0 photos"), (1, "1 photo"), (2, "2 photos"), (1_200, "1,200 photos")])
def test_one_thing_and_several(n, text):
    assert counted(n, "photo") == text


def test_a_class_written_from_right_to_left_is_isolated():
    assert quote_name("וררד") == "“\u2068וררד\u2069”"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (99.4, "99 s"), (100, "2 min"), (5_900, "98 min"), (9_000, "2.5 h")]
)
def test_times_are_said_in_units_that_people_wait_in(seconds, text):
    assert duration(seconds) == text
