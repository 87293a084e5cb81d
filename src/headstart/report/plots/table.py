"""Plots: what a run found, as matplotlib figures for papers, slides and notebooks; a row of PLOTS for each.

The door to the modules that draw: figures, curve_plots, result_plots and photo_plots.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headstart.data.labels import label_text
from headstart.report.plots.curves import curves
from headstart.report.plots.photos import Pictures, learnt, map_, mistakes, photos, predictions, tested
from headstart.report.plots.results import calibration, confusion
from headstart.report.plots.style import About, save
from headstart.runs.findings import Findings

if TYPE_CHECKING:
    from matplotlib.figure import Figure


__all__ = ["PLOTS", "Plot", "calibration", "confusion", "curves", "map_", "mistakes", "photos", "predictions", "save"]


@dataclass(frozen=True)
class Plot:
    """A row of PLOTS. draw: from run.json, findings and pictures by row; rows: which rows' pictures it wants."""

    draw: Callable[[About, Findings, Pictures], Figure]
    rows: Callable[[About, Findings], list[int]] = lambda about, findings: []


def _preview(about: About, findings: Findings, pictures: Pictures) -> Figure:
    rows = learnt(about, findings)
    labels = [label_text(findings.labels[i], about["classes"]) or "(none)" for i in rows]
    return photos(labels, [pictures.get(i) for i in rows])


PLOTS: dict[str, Plot] = {
    "curves": Plot(lambda about, findings, pictures: curves(about)),
    "confusion": Plot(lambda about, findings, pictures: confusion(about)),
    "calibration": Plot(lambda about, findings, pictures: calibration(about)),
    "map": Plot(lambda about, findings, pictures: map_(about, findings)),
    "mistakes": Plot(lambda about, findings, pictures: predictions(about, findings, pictures, "mistakes"), mistakes),
    "predictions": Plot(lambda about, findings, pictures: predictions(about, findings, pictures, "random"), tested),
    "photos": Plot(_preview, learnt),
}
