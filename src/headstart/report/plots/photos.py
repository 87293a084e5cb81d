"""Photo plots: the map, and photos with their labels and with what was said of them.

Takes run.json, findings and pictures by row; gives a Figure. It decides which rows are shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from headstart.data.labels import are_many, counts, label_text
from headstart.data.splits import TEST, TRAIN
from headstart.errors import DataError
from headstart.report.plots.style import (
    BLACK,
    COLOURS,
    QUIET,
    RIGHT,
    STYLE,
    WRONG,
    About,
    drawn,
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


@drawn
def map_(about: About, findings: Findings) -> Figure:
    """Draw the map: each photo a point, alike photos near each other, coloured by label; mistakes have a ring.

    Raises DataError where no photo is on the map.
    """
    on_map = np.isfinite(findings.positions).all(axis=1)
    if not on_map.any():
        raise DataError("this run has no map; `headstart map` draws one")
    figure = new_figure(7.6, 5.6)
    axis = figure.subplots()
    labels, names = _one_label(findings.labels, about["classes"])
    order = np.argsort(-counts(labels, len(names)), kind="stable").tolist()
    size = float(np.clip(6_000 / on_map.sum(), 3, 26))
    for rank, label in enumerate(order):
        x, y = findings.positions[on_map & (labels == label)].T
        if len(x):
            colour, marker = COLOURS[rank % len(COLOURS)], MARKERS[rank // len(COLOURS) % len(MARKERS)]
            axis.scatter(x, y, size, color=colour, marker=marker, alpha=0.75, lw=0, label=f" {names[label]}")
    wrong = findings.mistakes(about.get("thresholds"))
    wrong = wrong[on_map[wrong]]
    if len(wrong):
        x, y = findings.positions[wrong].T
        ring: dict[str, Any] = {"facecolors": "none", "edgecolors": BLACK, "lw": 0.9}
        axis.scatter(x, y, 3 * size, label=f" labelled wrongly ({len(wrong):,})", **ring)
    handles, told = axis.get_legend_handles_labels()
    if len(handles) > MOST_IN_LEGEND:
        handles, told = [*handles[: MOST_IN_LEGEND - 1], handles[-1]], [*told[: MOST_IN_LEGEND - 1], told[-1]]
        figure.supxlabel(f"named: the {MOST_IN_LEGEND - 1} most common labels", color=QUIET, size=9)
    axis.legend(handles, told, loc="center left", bbox_to_anchor=(1, 0.5), markerscale=float(np.sqrt(26 / size)))
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set_visible(False)
    axis.set_aspect("equal", "datalim")
    axis.set_title(f"{counted(int(on_map.sum()), 'photo')}; near each other where the backbone sees them alike")
    return figure


def _one_label(labels: np.ndarray, classes: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """Labels as (n,) positions among names; an image of several labels, or of none, is of a class of its own."""
    names = [readable(name) for name in classes]
    if not are_many(labels):
        return labels, names
    n_given, k = labels.sum(axis=1), len(names)
    one = np.where(n_given == 1, labels.argmax(axis=1), np.where(n_given == 0, k + 1, k))
    return one, [*names, "several labels", "no label"]


def mistakes(about: About, findings: Findings) -> list[int]:
    """The rows that `predictions` shows of kind `mistakes`: what is labelled wrongly, the surest first."""
    return findings.mistakes(about.get("thresholds"))[: GRID[0] * GRID[1]].tolist()


def tested(about: About, findings: Findings) -> list[int]:
    """The rows that `predictions` shows of kind `random`: photos of the test split, else any that were held out."""
    rows = findings.held_out[findings.splits[findings.held_out] == TEST]
    return _draw_lots(rows if len(rows) else findings.held_out, GRID[0] * GRID[1], about)


def learnt(about: About, findings: Findings) -> list[int]:
    """The rows that PLOTS["photos"] shows: some of the train split."""
    return _draw_lots(np.flatnonzero(findings.splits == TRAIN), PREVIEW[0] * PREVIEW[1], about)


GRID, PREVIEW = (2, 3), (3, 3)  # rows, columns: as in the tutorials
KINDS = {"mistakes": mistakes, "random": tested}


def _draw_lots(rows: np.ndarray, n: int, about: About) -> list[int]:
    seed = (about.get("arguments") or {}).get("seed") or 0
    return np.random.default_rng(seed).permutation(rows)[:n].tolist()


@drawn
def predictions(about: About, findings: Findings, pictures: Pictures, kind: str = "random") -> Figure:
    """Draw photos with what was said of them: green and ✓ where it is right, orange and ✗ where it is wrong.

    pictures: (h, w, 3) uint8 RGB or JPEG files, by row; of what is not there a grey square is drawn. kind: a key of KINDS.
    """
    rows = KINDS[kind](about, findings)
    if not rows:
        raise DataError("no photo that was held out is labelled wrongly" if kind == "mistakes" else "none was held out")
    names = [readable(name) for name in about["classes"]]
    judged = findings.judged(about.get("thresholds"))
    titles = []
    for j in np.searchsorted(findings.held_out, rows).tolist():
        said, label = (label_text(what[j], names) or "(none)" for what in (judged.predictions, judged.labels))
        sure = "" if are_many(findings.labels) else f" ({whole_percent(judged.sureness[j])})"
        is_right = judged.is_right[j]
        first = f"{'✓' if is_right else '✗'} {said}{sure}"
        titles.append((first if is_right else f"{first}\nlabel: {label}", RIGHT if is_right else WRONG))
    figure = _photo_grid([pictures.get(i) for i in rows], titles, GRID)
    n_wrong = int((~judged.is_right).sum())
    n = f"{n_wrong:,} of {counted(len(findings.held_out), 'photo')} {'was' if n_wrong == 1 else 'were'}"
    shown = "the surest of them:" if kind == "mistakes" else "some at random, right and wrong:"
    title = f"{n} labelled wrongly by fits that had not seen them; {shown}"
    lines = wrapped(title, int(LETTERS_AN_INCH * figure.get_figwidth()))
    figure.suptitle(lines, x=0.01, ha="left", fontsize=STYLE["axes.titlesize"])
    return figure


@drawn
def photos(labels: Sequence[str], pictures: Sequence[Picture | None]) -> Figure:
    """Draw a preview of photos with their labels, nine at most; pictures as in `predictions`, None where there is none."""
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
        pixels = _square(picture)
        axis.imshow(pixels, interpolation="bicubic" if len(pixels) < SMALL else "antialiased")
        if picture is None:
            axis.text(0.5, 0.5, "not there", color="white", ha="center", va="center", transform=axis.transAxes)
    return figure


def _square(picture: Picture | None) -> np.ndarray:
    """The middle of a picture, (s, s, 3) uint8."""
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
