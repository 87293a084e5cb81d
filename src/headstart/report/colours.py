"""Colours of classes, splits and verdicts on the report, the map and in plots: one table, safe for colour blindness.

The pages get it as the `colours` of their data (web/map.js), maps/image.py and plots/ import it. It decides what happens
where there are more classes than colours: lighter and darker ones follow.
"""

from __future__ import annotations

# Okabe & Ito 2008, "Color universal design", yellow darkened, then three of Paul Tol's.
BLUE, AMBER, GREEN, ORANGE, SKY, PINK = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7"
PALETTE = (BLUE, AMBER, GREEN, ORANGE, SKY, PINK, "#999933", "#332288", "#44aa99", "#882255")
LIGHTNESS = (0, 0.45, -0.35, 0.65, -0.55)  # of each further ten classes: towards white, towards black
NEUTRAL, PALE_NEUTRAL = "#8d96a1", "#b9c0c8"  # no label, no prediction, not judged; no issue
UNFAMILIAR = "#e6007e"
RIGHT, WRONG = SKY, ORANGE
SPLIT_COLOURS = (SKY, GREEN, ORANGE)  # in the order of data.splits.SPLITS
FIRST_ISSUE = 3  # the colour of the first kind of issue among those of classes


def class_colours(n: int) -> list[str]:
    """Give the colours of n classes, `#rrggbb`: PALETTE, then lighter and darker ones, and then all again."""
    return [_shaded(PALETTE[i % len(PALETTE)], LIGHTNESS[i // len(PALETTE) % len(LIGHTNESS)]) for i in range(n)]


def _shaded(colour: str, shift: float) -> str:
    """Mix a colour with white (shift > 0) or with black (shift < 0), by the share |shift|."""
    goal = 255 if shift > 0 else 0
    parts = [int(colour[start : start + 2], 16) for start in (1, 3, 5)]
    return "#" + "".join(f"{int(part + (goal - part) * abs(shift) + 0.5):02x}" for part in parts)


def page_colours() -> dict[str, str | list[str]]:
    """Give the table as web/map.js reads it: `classes` are reused from the start where there are more."""
    classes = class_colours(len(PALETTE) * len(LIGHTNESS))
    return {
        "classes": classes,
        "issues": classes[FIRST_ISSUE:] + classes[:FIRST_ISSUE],
        "splits": list(SPLIT_COLOURS),
        "right": RIGHT,
        "wrong": WRONG,
        "unfamiliar": UNFAMILIAR,
        "neutral": NEUTRAL,
        "noIssue": PALE_NEUTRAL,
    }
