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
