"""The style of matplotlib figures: fonts, text colours, axes, shortened names; and writing them as PNG, SVG or PDF.

Figures are made without pyplot, whose global state is never touched.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable
from functools import cache, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec
from unicodedata import bidirectional

from headstart.errors import MissingExtra, OutputError
from headstart.files import write_output

if TYPE_CHECKING:
    from matplotlib.figure import Figure


P = ParamSpec("P")

RIGHT_TEXT, WRONG_TEXT = "#00704F", "#B84C00"  # green and orange, dark enough for letters
BLACK, QUIET, PALE = "#222222", "#767676", "#BBBBBB"
STYLE: dict[str, Any] = {
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": PALE,
    "axes.labelcolor": BLACK,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#E6E6E6",
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "legend.frameon": False,
    "lines.linewidth": 2.0,
}
FONTS = (
    *("DejaVu Sans", "Noto Sans CJK JP", "Noto Sans CJK SC", "WenQuanYi Micro Hei", "Hiragino Sans", "Microsoft YaHei"),
    *("Noto Sans Hebrew", "Noto Sans Arabic", "Noto Sans Devanagari", "Noto Sans Thai", "Noto Emoji", "Segoe UI Symbol"),
)
MISSING = "□"  # for a letter that no font here has
LEFT_TO_RIGHT = "\u200e"  # an invisible mark
FORMATS: dict[str, dict[str, Any]] = {  # by suffix, and what keeps the clock out of the file
    ".png": {"dpi": 150},
    ".svg": {"metadata": {"Date": None}},
    ".pdf": {"metadata": {"CreationDate": None}},
}
MOST_LETTERS = 24  # of a class's name


def in_style(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Decorate a function that draws a Figure: it draws in our style, whatever the user's is; raises MissingExtra."""

    @wraps(draw)
    def styled(*arguments: P.args, **options: P.kwargs) -> Figure:
        try:
            import matplotlib
        except ImportError:
            raise MissingExtra("drawing plots", "plot") from None
        style: Any = {**matplotlib.rcParamsDefault, **STYLE, "font.family": list(_fonts())}
        del style["backend"]  # setting it would load pyplot
        with matplotlib.rc_context(style):
            return draw(*arguments, **options)

    return styled


def new_figure(width: float, height: float) -> Figure:
    """Make an empty figure; inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def percent_axis(axis: Any) -> None:
    """Write the numbers along an x or y axis as people read shares: `80 %`."""
    from matplotlib.ticker import PercentFormatter

    axis.set_major_formatter(PercentFormatter(1, symbol=" %"))


def wrapped(text: str, width: int) -> str:
    """Break each line of a text where it is longer than `width` letters."""
    return "\n".join(textwrap.fill(line, max(width, 30)) for line in text.split("\n"))


@cache
def _fonts() -> dict[str, frozenset[int]]:
    """Find the fonts of FONTS that are installed, and the code points of each."""
    from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font

    installed = {font.name for font in fontManager.ttflist}
    files = {name: findfont(FontProperties(family=[name])) for name in FONTS if name in installed}
    return {name: frozenset(get_font(file).get_charmap()) for name, file in files.items()}


@cache
def _letters() -> frozenset[int]:
    return frozenset().union(*_fonts().values())


def readable(name: str) -> str:
    """Make a class's name drawable: one short line, without letters that no font has, and without math markup."""
    short = " ".join(name.split())
    short = short if len(short) <= MOST_LETTERS else f"{short[: MOST_LETTERS - 1]}…"
    line = "".join(c if ord(c) in _letters() else MISSING for c in short).replace("$", r"\$") or "(no name)"
    if any(bidirectional(c) in ("R", "AL") for c in line):  # what stands around it keeps its order
        line = f"{LEFT_TO_RIGHT}{line}{LEFT_TO_RIGHT}"
    return line


def save(figure: Figure, path: Path) -> None:
    """Write a figure as .png, .svg or .pdf, by the path's suffix; raises OutputError for others and where it cannot be."""
    options = FORMATS.get(path.suffix.lower())
    if options is None:
        raise OutputError(f"{path} ends in {path.suffix or 'nothing'}; a plot is written as {', '.join(FORMATS)}")
    import matplotlib

    content = io.BytesIO()
    salt: Any = {"svg.hashsalt": "headstart"}  # or else the same figure is another file each time
    with matplotlib.rc_context(salt):
        figure.savefig(content, format=path.suffix[1:].lower(), **options)
    write_output(path, content.getvalue())
