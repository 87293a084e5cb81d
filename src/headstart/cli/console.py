"""What people see on a terminal: progress on stderr, results on stdout."""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from headstart.evaluate import Evaluation, MultiLabelEvaluation
from headstart.printing import as_it_is, one_line, sentence
from headstart.readings import counted
from headstart.readings import percent as percent
from headstart.store import NOT_KEPT

MOST_CLASSES = 20  # more rows than this hide the result
WORST_CLASSES = 10
MOST_CONFUSION = 10
MOST_UNFAMILIAR = 20
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


def evaluation_text(evaluation: Evaluation | MultiLabelEvaluation, *, is_balanced: bool = False) -> str:
    """The result in a sentence, then a row a class; of many classes, the ones that do worst.

    is_balanced: say as well how good it is where every class counts the same.
    """
    if isinstance(evaluation, MultiLabelEvaluation):
        return _multilabel_text(evaluation)
    low, high = evaluation.interval
    where = "test photos, seen for the first time" if evaluation.split == "test" else "photos, each held out in turn"
    lines = [
        f"accuracy {percent(evaluation.accuracy)} on {evaluation.n_images:,} {where} "
        f"(95 % interval: {percent(low)} to {percent(high)}{_copies(evaluation)})",
    ]
    if is_balanced:
        low, high = evaluation.balanced_interval
        lines.append(
            f"balanced accuracy {percent(evaluation.balanced_accuracy)}, every class counted alike (95 % interval: "
            f"{percent(low)} to {percent(high)})"
        )
    lines.append(f"cross entropy {evaluation.cross_entropy:z.3f}")
    if evaluation.top5 is not None:
        lines.append(f"the right class is among the first five for {percent(evaluation.top5)}")
    scores = sorted(evaluation.classes, key=lambda c: c.f1 if c.f1 is not None else 2.0)
    shown = evaluation.classes if len(evaluation.classes) <= MOST_CLASSES else tuple(scores[:WORST_CLASSES])
    rows = [(c.label, percent(c.precision), percent(c.recall), percent(c.f1), f"{c.support:,}") for c in shown]
    lines += ["", table(("class", "precision", "recall", "F1", "photos"), rows)]
    if len(shown) < len(evaluation.classes):
        lines.append(f"  ... the {len(shown)} worst of {len(evaluation.classes)} classes; all of them are in run.json")
    return "\n".join([*lines, *_confusion_matrix(evaluation), *_confusions(evaluation)])


def _copies(evaluation: Evaluation | MultiLabelEvaluation) -> str:
    """How many photos the interval counts, where some are copies."""
    n_different = evaluation.n_different
    return f"; {n_different:,} different photos, copies count as one" if n_different < evaluation.n_images else ""


def _multilabel_text(evaluation: MultiLabelEvaluation) -> str:
    low, high = evaluation.interval
    where = "test photos, seen for the first time" if evaluation.split == "test" else "photos, each held out in turn"
    lines = [
        f"all labels right for {percent(evaluation.accuracy)} of {evaluation.n_images:,} {where} "
        f"(95 % interval: {percent(low)} to {percent(high)}{_copies(evaluation)})",
        f"mean average precision {percent(evaluation.mean_average_precision)}; F1 of all decisions together (micro) "
        f"{percent(evaluation.f1_micro)}, mean of the labels (macro) {percent(evaluation.f1_macro)}",
    ]
    scores = sorted(evaluation.classes, key=lambda c: c.f1 if c.f1 is not None else 2.0)
    shown = evaluation.classes if len(evaluation.classes) <= MOST_CLASSES else tuple(scores[:WORST_CLASSES])
    rows = [
        (
            c.label,
            *(percent(share) for share in (c.precision, c.recall, c.f1, c.average_precision)),
            f"{c.threshold:.2f}",
            f"{c.support:,}",
        )
        for c in shown
    ]
    header = ("label", "precision", "recall", "F1", "average precision", "threshold", "photos")
    lines += ["", table(header, rows)]
    if len(shown) < len(evaluation.classes):
        lines.append(f"  ... the {len(shown)} worst of {len(evaluation.classes)} labels; all of them are in run.json")
    return "\n".join(lines)


def unfamiliar_lines(added: Sequence[dict[str, Any]]) -> list[str]:
    """Say which photos that were added to a map are unfamiliar, the strangest first; added: rows as predict has them."""
    strange = sorted((row for row in added if row["unfamiliar"]), key=lambda row: -row["unfamiliarity"])
    if not strange:
        return []
    of = f"{len(strange):,} of the {counted(len(added), 'photo')} that {'was' if len(added) == 1 else 'were'} added"
    lines = [f"{of} {'is' if len(strange) == 1 else 'are'} unfamiliar, like nothing it was shown:"]
    lines += [one_line(f"  {row['path']} ({row['unfamiliarity']:.1f})") for row in strange[:MOST_UNFAMILIAR]]
    rest = len(strange) - MOST_UNFAMILIAR
    return [*lines, f"  ... and {rest:,} more: --json lists all"] if rest > 0 else lines


def ladder_text(rungs: Sequence[dict[str, Any]], n_learnt: int) -> str:
    """The rungs that were tried, each with what it gave on held-out photos and what became of it.

    n_learnt: photos that are learnt from in all, of which rungs may have seen a sample.
    """
    rows = []
    for rung in rungs:
        if rung["accuracy"] is None:
            rows.append((rung["name"], "-", "-", "-", "no", rung["why"]))
            continue
        low, high = (percent(share).removesuffix(" %") for share in rung["interval"])
        accuracy = f"{percent(rung['accuracy'])} ({low} to {high})"
        seen = f"{rung['look']}: {rung['why']}"
        rows.append(
            (
                rung["name"],
                accuracy,
                f"{rung['cross_entropy']:z.3f}",
                f"{rung['seconds']:.1f}",
                "yes" if rung["is_taken"] else "no",
                seen,
            )
        )
    n, is_balanced = rungs[0]["n_images"], rungs[0].get("is_balanced")
    among = f"a sample of {n:,} of the {n_learnt:,} to learn from" if n < n_learnt else f"{n:,}"
    header = ("rung", "balanced accuracy" if is_balanced else "cross-validated", "cross entropy", "s", "taken", "")
    alike = ", every class counted alike" if is_balanced else ""
    return f"the ladder, each rung judged on held-out photos among {among}{alike}:\n{table(header, rows, text=(0, 5))}"


def curve_text(curve: dict[str, Any], width: int = 40) -> str:
    """A learning curve as bars."""
    rows = [
        (
            f"{p['n_per_class']:,}",
            f"{p['n_images']:,}",
            f"{percent(p['accuracy'])} ({percent(p['interval'][0]).removesuffix(' %')} to {percent(p['interval'][1])})",
            "#" * round(width * p["accuracy"]),
        )
        for p in curve["points"]
    ]
    return table(("photos a class", "together", "accuracy", ""), rows, left=0, text=(3,))


def _confusion_matrix(evaluation: Evaluation) -> list[str]:
    """Labels down, predictions across; of many classes the pairs that follow say more."""
    names = [c.label for c in evaluation.classes]
    if len(names) > MOST_CONFUSION:
        return []
    header = ("label \\ prediction", *(name if len(name) <= 10 else f"{name[:9]}…" for name in names))
    rows = [(name, *(str(n) if n else "." for n in row)) for name, row in zip(names, evaluation.confusion, strict=True)]
    return ["", table(header, rows)]


def _confusions(evaluation: Evaluation, most: int = 3) -> list[str]:
    names = [c.label for c in evaluation.classes]
    pairs = [
        (n, names[i], names[j]) for i, row in enumerate(evaluation.confusion) for j, n in enumerate(row) if i != j and n > 0
    ]
    worst = sorted(pairs, key=lambda pair: -pair[0])[:most]
    if not worst:
        return []
    return ["", "most confused: " + ", ".join(f"{one_line(a)} taken for {one_line(b)} ({n})" for n, a, b in worst)]
