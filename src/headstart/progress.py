"""Progress: how far long work is, told to whoever wants to show it.

It decides nothing; terminal.py shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called as (stage, done, total). A total of 0: nobody knows it. From done = total on, the stage is over."""


@contextmanager
def underway(progress: Progress, stage: str) -> Iterator[None]:
    """Tell that a stage begins, and that it is over: for work that cannot be counted, or that holds other stages."""
    progress(stage, 0, 0)
    try:
        yield
    finally:
        progress(stage, 1, 1)
