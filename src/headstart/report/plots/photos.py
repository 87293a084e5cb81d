"""Draws the map of photos as a figure, and grids of photos with their labels and predictions.

Takes run.json, findings and pictures by row; gives a Figure. It decides which rows are shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from headstart.data.labels import are_many, counts, label_text
from headstart.data.splits import TEST, TRAIN
from headstart.errors import DataError
from headstart.record import RunRecord
from headstart.report.colours import NEUTRAL, PALETTE, class_colours
from headstart.report.maps.page import MapContents, map_sentence, map_title
from headstart.report.plots.style import (
    BLACK,
    QUIET,
    RIGHT_TEXT,
    STYLE,
    WRONG_TEXT,
    in_style,
    new_figure,
    readable,
    wrapped,
)
from headstart.runs.findings import Findings
from headstart.wording import counted, whole_percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure


Picture: TypeAlias = bytes | np.ndarray
Pictures: TypeAlias = Mapping[int, Picture]

MARKERS = "osD^v"  # with the colours 35 classes look different
MOST_IN_LEGEND = 20
LETTERS_AN_INCH = 13  # of a title
SMALL = 160  # pixels: a picture below is smoothed where it is drawn larger


@in_style
def map_(record: RunRecord, findings: Findings) -> Figure:
    """Draw the map: each photo a point, alike photos near each other, coloured by label; mistakes have a ring.

    Raises DataError where no photo is on the map. `headstart map -o map.png` draws it with new photos and pictures, without
    matplotlib; both have the colours, the order of classes and the title of the map's page.
    """
    on_map = np.isfinite(findings.positions).all(axis=1)
    if not on_map.any():
        raise DataError("this run has no map; `headstart map` draws one")
    figure = new_figure(7.6, 5.6)
    axis = figure.subplots()
    labels, names = _one_label(findings.labels, record["classes"])
    colours = [*class_colours(len(record["classes"])), BLACK, NEUTRAL]
    size = float(np.clip(6_000 / on_map.sum(), 3, 26))
    dots: dict[int, Any] = {}
    by_size = np.argsort(-counts(labels, len(names)), kind="stable").tolist()
    for label in by_size:  # the largest class lies below the others
        x, y = findings.positions[on_map & (labels == label)].T
        if len(x):
            marker = MARKERS[label // len(PALETTE) % len(MARKERS)]
            style: dict[str, Any] = {"color": colours[label], "marker": marker, "alpha": 0.75, "lw": 0}
            dots[label] = axis.scatter(x, y, size, label=f" {names[label]}", **style)
    wrong = findings.mistakes(record.get("thresholds"))
    wrong = wrong[on_map[wrong]]
    rings = []
    if len(wrong):
        x, y = findings.positions[wrong].T
        ring: dict[str, Any] = {"facecolors": "none", "edgecolors": BLACK, "lw": 0.9}
        rings.append(axis.scatter(x, y, 3 * size, label=f" labelled wrongly ({len(wrong):,})", **ring))
    n_named = MOST_IN_LEGEND - len(rings)
    if len(dots) > n_named:
        figure.supxlabel(f"named: the {n_named} most common labels", color=QUIET, size=9)
    handles = [*(dots[label] for label in sorted(list(dots)[:n_named])), *rings]
    axis.legend(handles=handles, loc="center left", bbox_to_anchor=(1, 0.5), markerscale=float(np.sqrt(26 / size)))
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set_visible(False)
    axis.set_aspect("equal", "datalim")
    title = f"Map of {readable(map_title(record))}: {map_sentence(MapContents(record, findings))}"
    axis.set_title(wrapped(title, int(LETTERS_AN_INCH * figure.get_figwidth())))
    return figure


def _one_label(labels: np.ndarray, classes: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """Give labels as (n,) positions among names; images of several labels, or of none, are classes of their own."""
    names = [readable(name) for name in classes]
    if not are_many(labels):
        return labels, names
    n_labels, k = labels.sum(axis=1), len(names)
    one = np.where(n_labels == 1, labels.argmax(axis=1), np.where(n_labels == 0, k + 1, k))
    return one, [*names, "several labels", "no label"]


def mistake_rows(record: RunRecord, findings: Findings) -> list[int]:
    """Choose the rows of `predictions` of kind `mistakes`: wrong predictions, the most confident first."""
    return findings.mistakes(record.get("thresholds"))[: GRID[0] * GRID[1]].tolist()


def held_out_rows(record: RunRecord, findings: Findings) -> list[int]:
    """Choose the rows of `predictions` of kind `random`: photos of the test split, else any that were held out."""
    rows = findings.held_out[findings.splits[findings.held_out] == TEST]
    return _draw_lots(rows if len(rows) else findings.held_out, GRID[0] * GRID[1], record)


def training_rows(record: RunRecord, findings: Findings) -> list[int]:
    """Choose the rows that PLOTS["photos"] shows: some of the train split."""
    return _draw_lots(np.flatnonzero(findings.splits == TRAIN), PREVIEW[0] * PREVIEW[1], record)


GRID, PREVIEW = (2, 3), (3, 3)  # rows, columns: as in the tutorials
KINDS = {"mistakes": mistake_rows, "random": held_out_rows}


def _draw_lots(rows: np.ndarray, n: int, record: RunRecord) -> list[int]:
    seed = (record.get("arguments") or {}).get("seed") or 0
    return np.random.default_rng(seed).permutation(rows)[:n].tolist()


@in_style
def predictions(record: RunRecord, findings: Findings, pictures: Pictures, kind: str = "random") -> Figure:
    """Draw photos with their predictions: green and ✓ for right ones, orange and ✗ for wrong ones.

    pictures: (h, w, 3) uint8 RGB or JPEG files, by row; a missing one is a grey square. kind: a key of KINDS.
    """
    rows = KINDS[kind](record, findings)
    if not rows:
        raise DataError("no photo that was held out is labelled wrongly" if kind == "mistakes" else "none was held out")
    names = [readable(name) for name in record["classes"]]
    outcomes = findings.outcomes(record.get("thresholds"))
    titles = []
    for j in np.searchsorted(findings.held_out, rows).tolist():
        prediction, label = (label_text(array[j], names) or "(none)" for array in (outcomes.predictions, outcomes.labels))
        sure = "" if are_many(findings.labels) else f" ({whole_percent(outcomes.confidence[j])})"
        is_right = outcomes.is_right[j]
        first = f"{'✓' if is_right else '✗'} {prediction}{sure}"
        titles.append((first if is_right else f"{first}\nlabel: {label}", RIGHT_TEXT if is_right else WRONG_TEXT))
    figure = _photo_grid([pictures.get(i) for i in rows], titles, GRID)
    n_wrong = int((~outcomes.is_right).sum())
    n = f"{n_wrong:,} of {counted(len(findings.held_out), 'photo')} {'was' if n_wrong == 1 else 'were'}"
    choice = "the surest of them:" if kind == "mistakes" else "some at random, right and wrong:"
    title = f"{n} labelled wrongly by fits that had not seen them; {choice}"
    lines = wrapped(title, int(LETTERS_AN_INCH * figure.get_figwidth()))
    figure.suptitle(lines, x=0.01, ha="left", fontsize=STYLE["axes.titlesize"])
    return figure


@in_style
def photos(labels: Sequence[str], pictures: Sequence[Picture | None]) -> Figure:
    """Draw a preview of photos with their labels, nine at most; pictures as in `predictions`, or None."""
    if not labels:
        raise DataError("there is no photo to show")
    titles = [(readable(label), BLACK) for label in labels]
    return _photo_grid(pictures, titles, PREVIEW)


def _photo_grid(pictures: Sequence[Picture | None], titles: Sequence[tuple[str, str]], grid: tuple[int, int]) -> Figure:
    n_rows, n_columns = min(grid[0], -(-len(titles) // grid[1])), min(grid[1], len(titles))
    n_lines = 1 + max(title.count("\n") for title, _ in titles)
    figure = new_figure(max(2.5 * n_columns, 5), (2.45 + 0.19 * n_lines) * n_rows + 0.3)
    axes = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
    for axis, picture, (title, colour) in zip(axes, pictures, titles, strict=False):
        axis.set_title(title, color=colour, loc="center", pad=4)
        pixels = _middle_square(picture)
        axis.imshow(pixels, interpolation="bicubic" if len(pixels) < SMALL else "antialiased")
        if picture is None:
            axis.text(0.5, 0.5, "not there", color="white", ha="center", va="center", transform=axis.transAxes)
    return figure


def _middle_square(picture: Picture | None) -> np.ndarray:
    """Give the middle square of a picture, (s, s, 3) uint8."""
    if picture is None:
        return np.full((1, 1, 3), 170, np.uint8)
    if isinstance(picture, np.ndarray):
        pixels = picture
    else:
        import simplejpeg

        pixels = simplejpeg.decode_jpeg(picture, "RGB")
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return pixels[top : top + side, left : left + side]
