"""What people see on a terminal: progress on stderr, results on stdout."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

from headstart.evaluate import Evaluation, MultiLabelEvaluation
from headstart.printing import as_it_is, one_line, sentence
from headstart.readings import percent as percent

MOST_CLASSES = 20  # more rows than this hide the result
WORST_CLASSES = 10
MOST_CONFUSION = 10
PLAIN_SECONDS = 5.0


class Progress:
    """Shows (stage, done, total) as bars on a terminal, as a line every few seconds elsewhere, not at all when quiet."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._is_live = not quiet and sys.stderr.isatty()
        self._bars: Any = None
        self._tasks: dict[str, Any] = {}
        self._started: dict[str, float] = {}
        self._told: dict[str, float] = {}

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars:
            self._bars.stop()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Tell how far a stage is; a total of 0 means that nobody knows it."""
        if self._quiet:
            return
        now = time.monotonic()
        started = self._started.setdefault(stage, now)
        is_last = bool(total) and done >= total
        if not is_last and now - self._told.get(stage, started if not self._is_live else 0.0) < (
            0.1 if self._is_live else PLAIN_SECONDS
        ):
            return
        self._told[stage] = now
        if self._is_live:
            self._draw(stage, done, total, now - started)
        elif now - started > 1.0:  # what is over in a second needs no line in a log
            print(_plain(stage, done, total, now - started), file=sys.stderr, flush=True)

    def _draw(self, stage: str, done: int, total: int, seconds: float) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        if self._bars is None:
            columns = (
                TextColumn("{task.description:<8}"),
                BarColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
            )
            self._bars = Bars(*columns, console=Console(file=as_it_is(sys.stderr)), transient=True)
            self._bars.start()
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(stage, total=total or None, rate="")
        self._bars.update(self._tasks[stage], completed=done, rate=_rate(stage, done, total, seconds))


def _rate(stage: str, done: int, total: int, seconds: float) -> str:
    counted = f"{done:,} of {total:,}" if total else f"{done:,}"
    per_second = f"  {done / seconds:,.0f} images/s" if seconds > 0.5 and stage != "head" else ""
    return f"{counted}{'' if stage != 'head' else ' fits'}{per_second}"


def _plain(stage: str, done: int, total: int, seconds: float) -> str:
    left = f"  {seconds / done * (total - done):.0f} s left" if done and total > done else ""
    return f"{stage}: {_rate(stage, done, total, seconds)}{left}"


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
    """Print a note, a line on stderr."""
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
    lines.append(f"cross entropy {evaluation.cross_entropy:.3f}")
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
        f"all labels told rightly for {percent(evaluation.accuracy)} of {evaluation.n_images:,} {where} "
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
    header = ("label", "precision", "recall", "F1", "average precision", "from", "photos")
    lines += ["", table(header, rows)]
    if len(shown) < len(evaluation.classes):
        lines.append(f"  ... the {len(shown)} worst of {len(evaluation.classes)} labels; all of them are in run.json")
    return "\n".join(lines)


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
                f"{rung['cross_entropy']:.3f}",
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
    header = ("label \\ prediction", *(name[:10] for name in names))
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
