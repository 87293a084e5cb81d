"""Summaries: the text that the commands print for people: results, confusions, the ladder, the curve."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headstart.cli.console import table
from headstart.evaluation.metrics import Evaluation
from headstart.evaluation.multilabel import MultiLabelEvaluation
from headstart.record import LearningCurveRecord, RungRecord
from headstart.safety.terminal_text import one_line
from headstart.wording import counted, percent

MOST_CLASSES = 20  # more rows than this hide the result
WORST_CLASSES = 10
MOST_CONFUSION = 10
MOST_UNFAMILIAR = 20


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


def ladder_text(rungs: Sequence[RungRecord], n_learnt: int) -> str:
    """The rungs that were tried, each with what it gave on held-out photos and what became of it.

    n_learnt: photos that are learnt from in all, of which rungs may have seen a sample.
    """
    rows = []
    for rung in rungs:
        if rung["accuracy"] is None:
            rows.append((rung["name"], "-", "-", "-", "no", rung["why"]))
            continue
        low, high = (percent(share).removesuffix(" %") for share in rung.get("interval") or ())
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


def curve_text(curve: LearningCurveRecord, width: int = 40) -> str:
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
