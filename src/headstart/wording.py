"""Words for numbers and names in sentences: plurals, percentages, lists of names, quoted classes."""

from __future__ import annotations

from collections.abc import Iterable

MOST_NAMED = 5


def listed(names: Iterable[str], word: str = "and", most: int = MOST_NAMED) -> str:
    """Join names in a sentence: `a, b and c`; of more than `most` the first ones, `a, b and 7 more`."""
    names = list(names)
    if len(names) > most:
        return f"{', '.join(names[:most])} {word} {len(names) - most:,} more"
    return f" {word} ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part)


def percent(share: float | None) -> str:
    """Write a share as a percentage with one decimal, `93.5 %`; `-` for None."""
    return "-" if share is None else f"{100 * share:.1f} %"


def whole_percent(share: float) -> str:
    """Write a share as a whole percentage, `94 %`."""
    return f"{100 * share:.0f} %"


def points(difference: float) -> str:
    """Write the difference of two shares in percentage points, `1.2 points`."""
    return f"{100 * abs(difference):.1f} points"


def counted(n: int, thing: str) -> str:
    """Write a number and what it counts: `1 photo`, `1,200 photos`, `5 classes`."""
    return f"{n:,} {thing}{'' if n == 1 else 'es' if thing.endswith('s') else 's'}"


def first_line(error: BaseException) -> str:
    """The first line of an exception's message, or the exception's type where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def quote_name(name: str) -> str:
    """Put a class's name in quotation marks, isolated, so that one written from right to left does not reorder the rest."""
    return f"“\u2068{name}\u2069”"


def duration(seconds: float) -> str:
    """A time for people who wait: "40 s", "3 min", "2.5 h"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6_000 else f"{seconds / 3600:.1f} h"
