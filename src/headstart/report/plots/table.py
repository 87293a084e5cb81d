"""The plots of a run, a row of PLOTS each: figures for papers, slides and notebooks, drawn by the modules beside it.

A new plot is one row: its name (`plot --kind NAME`), a function that draws a Figure from run.json, findings and pictures,
decorated with style.in_style, and, where it shows photos, a function that chooses their rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headstart.data.labels import label_text
from headstart.record import RunRecord
from headstart.report.plots.curves import curves
from headstart.report.plots.photos import Pictures, held_out_rows, map_, mistake_rows, photos, predictions, training_rows
from headstart.report.plots.results import calibration, confusion
from headstart.report.plots.style import save
from headstart.runs.findings import Findings

if TYPE_CHECKING:
    from matplotlib.figure import Figure


__all__ = ["PLOTS", "Plot", "calibration", "confusion", "curves", "map_", "photos", "predictions", "save"]


@dataclass(frozen=True)
class Plot:
    """A row of PLOTS. draw: from run.json, findings and pictures by row; rows: the rows whose pictures it draws."""

    draw: Callable[[RunRecord, Findings, Pictures], Figure]
    rows: Callable[[RunRecord, Findings], list[int]] = lambda record, findings: []


def _preview(record: RunRecord, findings: Findings, pictures: Pictures) -> Figure:
    rows = training_rows(record, findings)
    labels = [label_text(findings.labels[i], record["classes"]) or "(none)" for i in rows]
    return photos(labels, [pictures.get(i) for i in rows])


PLOTS: dict[str, Plot] = {
    "curves": Plot(lambda record, findings, pictures: curves(record)),
    "confusion": Plot(lambda record, findings, pictures: confusion(record)),
    "calibration": Plot(lambda record, findings, pictures: calibration(record)),
    "map": Plot(lambda record, findings, pictures: map_(record, findings)),
    "mistakes": Plot(lambda record, findings, pictures: predictions(record, findings, pictures, "mistakes"), mistake_rows),
    "predictions": Plot(lambda record, findings, pictures: predictions(record, findings, pictures, "random"), held_out_rows),
    "photos": Plot(_preview, training_rows),
}
