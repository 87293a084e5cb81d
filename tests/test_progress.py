"""A stage of unknown length is told when it begins and when it ends."""

import pytest

from headstart.progress import tell, underway


def test_a_stage_begins_without_a_total_and_ends_whole():
    calls = []
    with underway(lambda *about: calls.append(about), "map"):
        calls.append("work")
    assert calls == [("map", 0, 0), "work", ("map", 1, 1)]


def test_a_stage_that_fails_ends_as_well():
    calls = []
    with pytest.raises(ZeroDivisionError), underway(lambda *about: calls.append(about), "map"):
        raise ZeroDivisionError
    assert calls[-1] == ("map", 1, 1)


def test_a_sentence_is_told_to_who_can_show_it_and_to_nobody_else():
    class Shows:
        told = ()

        def __call__(self, *_):
            pass

        def note(self, text):
            self.told = (text,)

    shows = Shows()
    tell(shows, "it takes a while")
    tell(lambda *_: None, "nobody hears this")
    assert shows.told == ("it takes a while",)
