"""Wording: how sentences name what there may be many of."""

from __future__ import annotations

from collections.abc import Iterable

MOST_NAMED = 5


def listed(names: Iterable[str], word: str = "and", most: int = MOST_NAMED) -> str:
    """Names as people list them: `a, b and c`; of many the first, and how many more there are."""
    names = list(names)
    if len(names) > most:
        return f"{', '.join(names[:most])} {word} {len(names) - most:,} more"
    return f" {word} ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part)


def percent(share: float | None) -> str:
    """A share as people read it."""
    return "-" if share is None else f"{100 * share:.1f} %"


def whole_percent(share: float) -> str:
    """A share as people read it where tenths say nothing."""
    return f"{100 * share:.0f} %"


def points(difference: float) -> str:
    """A difference of two shares as people read it."""
    return f"{100 * abs(difference):.1f} points"


def counted(n: int, thing: str) -> str:
    """A number and what it counts: `1 photo`, `1,200 photos`."""
    return f"{n:,} {thing}{'' if n == 1 else 's'}"


def first_line(error: BaseException) -> str:
    """The first line of an exception's message, or the exception's type where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def quote_name(name: str) -> str:
    """Put a class's name in quotation marks, isolated, so that one written from right to left does not reorder the rest."""
    return f"“\u2068{name}\u2069”"
