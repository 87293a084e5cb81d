"""Checks JSON of unknown origin against types, before anything of it is used.

A check takes a value and its place in the file, and raises ValueError, which names both, where the value does not fit. It
decides how deep JSON may be nested, and how large its numbers may be.
"""

from __future__ import annotations

import collections.abc
import json
import math
import types
from collections.abc import Callable, Mapping
from typing import Annotated, Any, NotRequired, TypeAlias, Union, get_args, get_origin, get_type_hints, is_typeddict

Check: TypeAlias = Callable[[Any, str], None]

MOST_DEEP = 40  # lists within lists; ours are 6 deep
MOST = 2**53  # beyond, floats and JavaScript's numbers have no whole numbers
MOST_SHOWN = 60  # characters of a value in a message


def read_json(content: bytes | str) -> Any:
    """Parse JSON of unknown origin: finite numbers of usual size, text that can be written, not too deeply nested.

    Raises ValueError with the reason."""
    try:
        value = json.loads(content, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError(f"it is nested more than {MOST_DEEP} deep") from None
    level, depth = [value], 0
    while level:
        if depth > MOST_DEEP:
            raise ValueError(f"it is nested more than {MOST_DEEP} deep")
        level, depth = [part for value in level for part in _parts(value)], depth + 1
    return value


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"it holds the number {name}")


def _parts(value: Any) -> list[Any]:
    """List the values within a value, the names of an object's entries too; raises ValueError for one that is refused."""
    if isinstance(value, str):
        value.encode("utf-8", "surrogateescape")  # half of a character cannot be written to any file
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError("it holds a number that is too large")
    elif isinstance(value, int) and abs(value) > MOST:
        raise ValueError(f"it holds a number beyond {MOST:,}")
    elif isinstance(value, dict):
        return [*value, *value.values()]
    return value if isinstance(value, list) else []


def _refuse(value: Any, where: str, expected: str) -> None:
    text = json.dumps(value)
    excerpt = text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."
    raise ValueError(f"{where or 'all of it'} is {excerpt}; expected {expected}")


def _within(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


# ---- checks


def anything(value: Any, where: str) -> None:
    """Whatever JSON may hold."""


def text(value: Any, where: str) -> None:
    """Some text."""
    if not isinstance(value, str):
        _refuse(value, where, "text")


def path(value: Any, where: str) -> None:
    """The name of a file or a folder."""
    if not isinstance(value, str) or "\0" in value:
        _refuse(value, where, "a path")


def flag(value: Any, where: str) -> None:
    """True or false."""
    if not isinstance(value, bool):
        _refuse(value, where, "true or false")


def number(low: float = -1e30, high: float = 1e30) -> Check:
    """Make a check: a number in [low, high]."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
            _refuse(value, where, f"a number from {low:g} to {high:g}")

    return check


def whole(low: int = 0, high: int = MOST) -> Check:
    """Make a check: a whole number in [low, high]."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            _refuse(value, where, f"a whole number from {low:,} to {high:,}")

    return check


def one_of(*values: Any) -> Check:
    """Make a check: one of these values."""

    def check(value: Any, where: str) -> None:
        if not any(value == one and type(value) is type(one) for one in values):
            _refuse(value, where, f"one of {', '.join(map(str, values))}")

    return check


def maybe(inner: Check) -> Check:
    """Make a check: null, or what another check takes."""

    def check(value: Any, where: str) -> None:
        if value is not None:
            inner(value, where)

    return check


def each(inner: Check, n: int | None = None, *, least: int = 0) -> Check:
    """Make a check: a list of what another check takes, of exactly n, or at least so many."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, list) or len(value) < least or (n is not None and len(value) != n):
            _refuse(value, where, f"a list of {n}" if n is not None else f"a list of at least {least}")
        for i, part in enumerate(value):
            inner(part, f"{where}[{i}]")

    return check


def mapping(inner: Check) -> Check:
    """Make a check: an object whose every entry another check takes."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, dict):
            _refuse(value, where, "an object")
        for name, part in value.items():
            inner(part, _within(where, name))

    return check


def fields(needed: Mapping[str, Check], others: Mapping[str, Check] | None = None) -> Check:
    """Make a check: an object with these entries, perhaps some of those others, and any further ones, unchecked."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, dict):
            _refuse(value, where, "an object")
        lacking = [name for name in needed if name not in value]
        if lacking:
            raise ValueError(f"{where or 'it'} does not say its {' and '.join(lacking)}")
        for name, inner in {**needed, **(others or {})}.items():
            if name in value:
                inner(value[name], _within(where, name))

    return check


share = number(0, 1)


def interval(value: Any, where: str) -> None:
    """Two shares, the lower first."""
    each(share, 2)(value, where)
    if value[0] > value[1]:
        _refuse(value, where, "the lower end first")


Path: TypeAlias = Annotated[str, path]


def check_of(kind: Any) -> Check:
    """Make the check of a type: a TypedDict of str, bool, int, float, lists, dicts and None, and of other TypedDicts.

    A type that is Annotated with a check of this module is checked by that; entries that are NotRequired may be missing.
    Raises TypeError for a type that JSON has no values of.
    """
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        check: Check = kind.__metadata__[0]
        return check
    if origin in (Union, types.UnionType) and len(parts) == 2 and type(None) in parts:
        return maybe(check_of(next(part for part in parts if part is not type(None))))
    if origin in (list, collections.abc.Sequence):
        return each(check_of(parts[0]))
    if origin is dict:
        return mapping(check_of(parts[1]))
    if is_typeddict(kind):
        return _check_of_typed_dict(kind)
    plain = {str: text, bool: flag, int: whole(-MOST), float: number(), Any: anything}
    if kind not in plain:
        raise TypeError(f"JSON has no values of {kind}")
    return plain[kind]


def _check_of_typed_dict(kind: Any) -> Check:
    needed: dict[str, Check] = {}
    others: dict[str, Check] = {}
    for name, hint in get_type_hints(kind, include_extras=True).items():
        # Not kind.__required_keys__: where annotations are postponed, Python 3.11 does not see NotRequired in them.
        is_optional = get_origin(hint) is NotRequired or not kind.__total__
        (others if is_optional else needed)[name] = check_of(get_args(hint)[0] if get_origin(hint) is NotRequired else hint)
    return fields(needed, others)
