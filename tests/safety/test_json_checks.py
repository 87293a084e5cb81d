"""Checks of JSON: a type is its own check, whatever stands in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, NotRequired, TypedDict

import pytest

from headstart.safety.json_checks import check_of, whole


class Inner(TypedDict):
    name: str


class Outer(TypedDict):
    inner: Inner
    counts: dict[str, Annotated[int, whole()]]
    flags: Sequence[bool]
    share: float | None
    anything: Any
    note: NotRequired[str]


class Loose(TypedDict, total=False):
    name: str


WHOLE = {"inner": {"name": "a"}, "counts": {"b": 3}, "flags": [True], "share": None, "anything": [{}]}


@pytest.mark.parametrize("more", [{}, {"note": "n"}, {"share": 0.5}, {"share": 1}, {"flags": []}, {"unknown": 1}])
def test_what_a_type_allows_is_let_through(more):
    assert check_of(Outer)({**WHOLE, **more}, "") is None


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"inner": {}}, "inner does not say its name"),
        ({"inner": {"name": 3}}, "inner.name is 3; expected text"),
        ({"counts": {"b": -1}}, "counts.b is -1"),
        ({"counts": {"b": True}}, "counts.b is true"),
        ({"flags": [1]}, r"flags\[0\] is 1; expected true or false"),
        ({"share": "x"}, 'share is "x"'),
        ({"note": None}, "note is null"),
    ],
)
def test_what_it_does_not_allow_is_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        check_of(Outer)({**WHOLE, **wrong}, "")


def test_what_lacks_is_named_and_what_may_lack_is_not():
    for name in WHOLE:
        with pytest.raises(ValueError, match=name):
            check_of(Outer)({k: v for k, v in WHOLE.items() if k != name}, "")
    check_of(Loose)({}, "")
    with pytest.raises(ValueError, match="expected text"):
        check_of(Loose)({"name": None}, "")


def test_a_type_that_json_has_no_values_of_is_refused():
    with pytest.raises(TypeError, match="JSON has no values"):
        check_of(bytes)
