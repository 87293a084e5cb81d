"""Curve plots: how it was learnt, step by step, epoch by epoch, and with more and more photos.

Takes run.json; gives a Figure. It decides which curves stand beside which, and the sentence above them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from headstart.errors import DataError
from headstart.report.plots.style import BLUE, GREEN, ORANGE, PINK, QUIET, About, drawn, new_figure, percent_axis, wrapped
from headstart.wording import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


OF_SPLIT = {"train": BLUE, "validation": ORANGE}


class _Measure(NamedTuple):
    """What is drawn over the steps: its key, its name, the keys of fine-tuning's epochs, whether high is good."""

    key: str
    name: str
    of_epoch: dict[str, str]
    is_share: bool


MEASURES = (
    _Measure("accuracy", "accuracy", {"train": "train_accuracy", "validation": "validation_accuracy"}, True),
    _Measure("cross_entropy", "cross entropy", {"train": "train_loss", "validation": "validation_loss"}, False),
)


@drawn
def curves(about: About) -> Figure:
    """Draw accuracy and cross entropy at each step, fine-tuning behind a line, and the learning curve.

    Raises DataError where the run holds none of them.
    """
    steps = (about.get("fitting") or {}).get("steps") or []
    epochs = (about.get("fine_tuning") or {}).get("history") or []
    points = (about.get("learning_curve") or {}).get("points") or []
    has_curve = len(points) > 1
    n_panels = 2 * bool(steps or epochs) + has_curve
    if not n_panels:
        raise DataError(
            "this run holds no curve: its head was not learnt in steps, or it is an evaluation, or of an earlier release"
        )
    figure = new_figure(4.6 * n_panels, 4)
    axes = figure.subplots(1, n_panels, squeeze=False)[0]
    for axis, measure in zip(axes, MEASURES if steps or epochs else (), strict=False):
        _draw_steps(axis, steps, epochs, measure)
    if has_curve:
        _draw_learning_curve(axes[-1], about["learning_curve"], len(about["classes"]))
    return figure


def _draw_steps(axis: Axes, steps: Sequence[About], epochs: Sequence[About], measure: _Measure) -> None:
    last = steps[-1]["step"] if steps else 0
    stride = max(last, 1) / max(len(epochs) - 1, 1)  # fine-tuning is as wide as what was before
    ends = []
    for split, colour in OF_SPLIT.items():
        before = [(s["step"], s.get(f"{split}_{measure.key}")) for s in steps]
        after = [(last + e["epoch"] * stride, e.get(measure.of_epoch[split])) for e in epochs]
        for label, line in ((split, before), (split if not steps else "", after)):
            known = [(x, y) for x, y in line if y is not None]
            if known:
                style = "o-" if len(known) < 3 or line is after else "-"
                axis.plot(*zip(*known, strict=True), style, ms=4, color=colour, label=label)
                ends.append((split, known))
    if epochs and steps:
        axis.axvline(last, color=QUIET, lw=1, ls="--", label="fine-tuning starts")
    _tick_steps(axis, last, stride, len(epochs))
    if measure.is_share:
        percent_axis(axis.yaxis)
    else:
        axis.set_ylim(bottom=0)
    axis.set_ylabel(measure.name)
    axis.legend(loc="lower right" if measure.is_share else "upper right")
    axis.set_title(_told_of_steps(ends, measure))


def _tick_steps(axis: Axes, last: float, stride: float, n_epochs: int) -> None:
    """Number the steps from 0, and behind them the epochs of fine-tuning from 0 again."""
    if not n_epochs:
        axis.set_xlabel("step")
        return
    from matplotlib.ticker import MaxNLocator

    steps = [t for t in MaxNLocator(4, integer=True).tick_values(0, last) if 0 <= t < last]
    epochs = [t for t in MaxNLocator(4, integer=True).tick_values(0, n_epochs - 1) if 0 < t < n_epochs]
    axis.set_xticks([*steps, *(last + t * stride for t in epochs)], [f"{t:g}" for t in (*steps, *epochs)])
    axis.set_xlabel("step, then epoch of fine-tuning" if last else "epoch of fine-tuning")


def _told_of_steps(ends: list[tuple[str, list[tuple[float, float]]]], measure: _Measure) -> str:
    """The sentence above: where both splits are at the end."""
    at_end = {split: known[-1][1] for split, known in ends}
    shown = {s: percent(y) if measure.is_share else f"{y:z.2f}" for s, y in at_end.items()}
    if not shown:
        return measure.name.capitalize()
    return f"{measure.name.capitalize()} at the end: " + ", ".join(f"{s} {y}" for s, y in shown.items())


def _draw_learning_curve(axis: Axes, curve: About, n_classes: int) -> None:
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

    points = curve["points"]
    x, y = np.array([p["n_images"] for p in points]), np.array([p["accuracy"] for p in points])
    low, high = np.array([p["interval"] for p in points]).T
    axis.fill_between(x, low, high, color=GREEN, alpha=0.18, lw=0, label="95 % interval")
    axis.plot(x, y, "o-", ms=4, color=GREEN, label="measured")
    if ahead := curve.get("forecast"):
        low, high = ahead["interval"]
        then = x[-1] + ahead["n_more"] * n_classes
        axis.plot([x[-1], then], [y[-1], (low + high) / 2], ":", color=PINK)
        axis.errorbar(
            [then], [(low + high) / 2], [[(high - low) / 2]], fmt="none", color=PINK, capsize=4, label="forecast (90 %)"
        )
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=8))
    axis.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axis.xaxis.set_minor_locator(NullLocator())
    percent_axis(axis.yaxis)
    axis.set_xlabel("photos learnt from")
    axis.set_ylabel(f"accuracy, {'test' if curve.get('split') == 'test' else 'cross-validated'}")
    axis.legend(loc="lower right")
    axis.set_title(wrapped(curve.get("sentence") or "Accuracy by number of photos", 46))
