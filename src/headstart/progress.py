"""The type of a progress callback, which says how far long work is.

cli/console.py shows it as a bar.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called as (stage, done, total); total is 0 where it is unknown. With done = total, the stage is over."""


@contextmanager
def underway(progress: Progress, stage: str) -> Iterator[None]:
    """Report that a stage begins, and that it is over: for work that cannot be counted, or that holds other stages."""
    progress(stage, 0, 0)
    try:
        yield
    finally:
        progress(stage, 1, 1)


def tell(progress: Progress, note: str) -> None:
    """Tell those who wait a sentence, where the callback has a function `note` for that, as console.Progress has."""
    show = getattr(progress, "note", None)
    if show is not None:
        show(note)
