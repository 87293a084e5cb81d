"""What people see on a terminal: progress on stderr, results on stdout."""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from headstart.codes.database import NOT_KEPT
from headstart.safety.terminal_text import as_it_is, one_line, sentence

LIVE_SECONDS, PLAIN_SECONDS = 0.1, 5.0  # between two showings, on a terminal and in a log
QUICK_SECONDS = 1.0  # what is over by then needs no line in a log; where nothing is counted, not before PLAIN_SECONDS
MINUTES_FROM = 120  # seconds
BAR_WIDTH = 12  # characters: with what is told beside it, a line of 80
IMAGES = "images"
UNITS = {  # what a stage counts, where that is not images
    "rung": "tried",
    "head": "fits",
    "labels": "rounds",
    "curve": "fits",
    "map": "rounds",
    "explain": "mistakes",
}


@dataclass
class _Stage:
    """A stage that is shown. started, shown, changed: seconds; when it began, was last shown, and got its number `done`."""

    started: float
    shown: float
    changed: float
    done: int = 0
    total: int = 0
    row: Any = None

    def is_over(self) -> bool:
        return 0 < self.total <= self.done

    def seconds_left(self, now: float) -> float | None:
        """As long as pieces took on average, the one in work with them where it takes longer; None before the first."""
        if not 0 < self.done < self.total:
            return None
        each = max((self.changed - self.started) / self.done, (now - self.started) / (self.done + 1))
        return each * (self.total - self.done) - min(now - self.changed, each)


class Progress:
    """Shows stages that are under way: as bars on a terminal, as a line every few seconds elsewhere, not at all when quiet.

    A stage that begins while another is under way is part of that one, and over when it goes on.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._is_live = not quiet and sys.stderr.isatty()
        self._bars: Any = None
        self._stages: dict[str, _Stage] = {}  # those that are under way, the inner ones last
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._ticker = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> Progress:
        if not self._quiet and not self._is_live:
            self._ticker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._ticker.ident is not None:
            self._ticker.join()
        if self._bars:
            self._bars.stop()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Tell how far a stage is; see headstart.progress."""
        if self._quiet:
            return
        with self._lock:
            now = time.monotonic()
            found = self._stages.get(stage)
            if found is None or done < found.done:  # another time: it has a rate of its own
                self._close(stage)
                found = self._stages[stage] = _Stage(now, -math.inf if self._is_live else now, now)
                if self._is_live:
                    found.row = self._add_row(stage, found)
            while (inner := next(reversed(self._stages))) != stage:
                self._close(inner)
            found.changed = now if done != found.done else found.changed
            found.done, found.total = done, total
            if found.is_over() or now - found.shown >= (LIVE_SECONDS if self._is_live else PLAIN_SECONDS):
                self._show(stage, found, now)
            if found.is_over():
                self._close(stage)

    def _show(self, name: str, stage: _Stage, now: float) -> None:
        stage.shown = now
        if self._is_live:
            self._bars.update(stage.row, completed=stage.done, total=stage.total or None)
        elif now - stage.started > (QUICK_SECONDS if stage.total > 1 else PLAIN_SECONDS):
            print(f"{name}: {_told(name, stage, now)}", file=sys.stderr, flush=True)

    def _close(self, stage: str) -> None:
        found = self._stages.pop(stage, None)
        if found is not None and found.row is not None:
            self._bars.remove_task(found.row)

    def _tick(self) -> None:
        """Show in a log what is under way even while nobody tells anything."""
        while not self._ended.wait(PLAIN_SECONDS):
            with self._lock:
                now = time.monotonic()
                if self._stages and now - (inner := next(reversed(self._stages.items())))[1].shown >= PLAIN_SECONDS:
                    self._show(*inner, now)

    def _add_row(self, name: str, stage: _Stage) -> Any:
        """A bar, which rich draws anew ten times a second."""
        from rich.console import Console
        from rich.progress import BarColumn, ProgressColumn, Task, TextColumn
        from rich.progress import Progress as Bars
        from rich.text import Text

        class Told(ProgressColumn):
            """How much is done, for how long that took, and how long the rest will take."""

            def render(self, task: Task) -> Text:
                return Text(_told(task.description, task.fields["stage"], time.monotonic()), no_wrap=True)

        if self._bars is None:
            columns = (TextColumn("{task.description:<8}"), BarColumn(BAR_WIDTH), Told())
            self._bars = Bars(*columns, console=Console(file=as_it_is(sys.stderr)), transient=True)
            self._bars.start()
        return self._bars.add_task(name, total=None, stage=stage)


def _told(name: str, stage: _Stage, now: float) -> str:
    """How much of a stage is done, unless it is one piece, how fast that goes, and its time."""
    done, total, unit, seconds = stage.done, stage.total, UNITS.get(name, IMAGES), now - stage.started
    counted = f"{done:,}{f' of {total:,}' if total else ''}{'' if unit == IMAGES else f' {unit}'}  " if total != 1 else ""
    rate = f"{done / seconds:,.0f} images/s  " if counted and unit == IMAGES and done and seconds > 0.5 else ""
    left = stage.seconds_left(now) or 0.0
    to_come = f", about {_duration(left)} left" if left >= 0.5 else ""  # overdue, nobody knows
    return f"{counted if done or total else ''}{rate}{_duration(seconds)}{to_come}"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < MINUTES_FROM else f"{seconds / 60:.0f} min"


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1, text: Sequence[int] = ()) -> str:
    """Align columns by the width of characters on a terminal: the first `left` ones and those of `text` to the left."""
    from rich.cells import cell_len

    cells = [[one_line(c) for c in row] for row in (header, *rows)]
    widths = [max(cell_len(row[i]) for row in cells) for i in range(len(header))]
    lines = []
    for row in cells:
        padded = [
            c + " " * (w - cell_len(c)) if i < left or i in text else " " * (w - cell_len(c)) + c
            for i, (c, w) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  " + "  ".join(padded).rstrip())
    return "\n".join(lines)


def tell(note: object) -> None:
    """Print a note, a line on stderr, unless the log said it when it happened."""
    if not str(note).startswith(NOT_KEPT):
        print(f"headstart: {sentence(note)}", file=sys.stderr)
