"""What people see on a terminal: progress bars and notes on stderr, tables and JSON on stdout, and commands to type next."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shlex
import shutil
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from headstart.codes.database import NOT_KEPT
from headstart.files import Output, output_file
from headstart.safety.terminal_text import STDOUT, HarmlessBytes, harmless_line, printable, raw_stream

LIVE_SECONDS, PLAIN_SECONDS = 0.1, 5.0  # between two showings, on a terminal and in a log
QUICK_SECONDS = 1.0  # what is over by then needs no line in a log; where nothing is counted, not before PLAIN_SECONDS
MINUTES_FROM = 120  # seconds
BAR_WIDTH = 12  # characters: with the text beside it, a line of 80
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

    def note(self, text: str) -> None:
        """Show a sentence to those who wait; see headstart.progress.tell."""
        if not self._quiet:
            with self._lock:
                if self._bars:
                    self._bars.console.print(f"headstart: {harmless_line(text)}", highlight=False, markup=False)
                else:
                    print_note(text)

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Tell how far a stage is; see headstart.progress."""
        if self._quiet:
            return
        with self._lock:
            now = time.monotonic()
            entry = self._stages.get(stage)
            if entry is None or done < entry.done:  # another time: it has a rate of its own
                self._close(stage)
                entry = self._stages[stage] = _Stage(now, -math.inf if self._is_live else now, now)
                if self._is_live:
                    entry.row = self._add_row(stage, entry)
            while (inner := next(reversed(self._stages))) != stage:
                self._close(inner)
            entry.changed = now if done != entry.done else entry.changed
            entry.done, entry.total = done, total
            if entry.is_over() or now - entry.shown >= (LIVE_SECONDS if self._is_live else PLAIN_SECONDS):
                self._show(stage, entry, now)
            if entry.is_over():
                self._close(stage)

    def _show(self, name: str, stage: _Stage, now: float) -> None:
        stage.shown = now
        if self._is_live:
            self._bars.update(stage.row, completed=stage.done, total=stage.total or None)
        elif now - stage.started > (QUICK_SECONDS if stage.total > 1 else PLAIN_SECONDS):
            print(f"{name}: {_stage_text(name, stage, now)}", file=sys.stderr, flush=True)

    def _close(self, stage: str) -> None:
        entry = self._stages.pop(stage, None)
        if entry is not None and entry.row is not None:
            self._bars.remove_task(entry.row)

    def _tick(self) -> None:
        """Show in a log what is under way even while no stage calls."""
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

        class DoneColumn(ProgressColumn):
            """How much is done, for how long that took, and how long the rest will take."""

            def render(self, task: Task) -> Text:
                return Text(_stage_text(task.description, task.fields["stage"], time.monotonic()), no_wrap=True)

        if self._bars is None:
            columns = (TextColumn("{task.description:<8}"), BarColumn(BAR_WIDTH), DoneColumn())
            self._bars = Bars(*columns, console=Console(file=raw_stream(sys.stderr)), transient=True)
            self._bars.start()
        return self._bars.add_task(name, total=None, stage=stage)


def _stage_text(name: str, stage: _Stage, now: float) -> str:
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

    cells = [[printable(c) for c in row] for row in (header, *rows)]
    widths = [max(cell_len(row[i]) for row in cells) for i in range(len(header))]
    lines = []
    for row in cells:
        padded = [
            c + " " * (w - cell_len(c)) if i < left or i in text else " " * (w - cell_len(c)) + c
            for i, (c, w) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  " + "  ".join(padded).rstrip())
    return "\n".join(lines)


def print_note(note: object) -> None:
    """Print a note, a line on stderr, unless the log said it when it happened."""
    if not str(note).startswith(NOT_KEPT):
        print(f"headstart: {harmless_line(note)}", file=sys.stderr)


def print_notes(notes: Iterable[object]) -> None:
    """Print a line on stderr for each note."""
    for note in notes:
        print_note(note)


def print_json(answer: object) -> int:
    """Print an answer as JSON; gives the exit code of a command that has said all."""
    print(json.dumps(answer, indent=2))
    return 0


def print_done(path: Path, text: str, *, is_json: bool, more: dict[str, Any] | None = None) -> int:
    """Print that a file is written, as text for people or as JSON with `more` of it; gives the exit code."""
    if is_json:
        return print_json({"file": str(path), **(more or {})})
    print(text)
    return 0


@contextlib.contextmanager
def rows_output(path: Path | None, *, overwrite: bool) -> Iterator[IO[bytes]]:
    """Open stdout, or a file that has its name once it is whole; see files.output_file for what a stop leaves."""
    if path is None:
        stdout = Output(sys.stdout.buffer, STDOUT)
        yield HarmlessBytes(stdout) if sys.stdout.isatty() else stdout  # type: ignore[misc, arg-type]
        return
    with output_file(path, overwrite=overwrite) as file:
        yield file


# ---- commands to type next


def program() -> str:
    """What to type to run this again: `headstart`, or its path where a shell does not find it by its name."""
    if shutil.which("headstart") or not sys.argv[0].endswith("headstart"):
        return "headstart"
    return quoted(os.path.relpath(sys.argv[0]))


def quoted(path: str | os.PathLike[str]) -> str:
    """A path as a shell reads it."""
    return shlex.quote(os.fspath(path))
