"""Draws the map of photos as a PNG with a legend, with Pillow, for `headstart map -o map.png`.

Takes what the map's page takes (MapContents); plots/photos.py draws the map of `plot --kind map` with matplotlib. It
decides how large dots are and which classes the legend names.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from headstart.data.labels import are_many
from headstart.report.colours import NEUTRAL, UNFAMILIAR, class_colours
from headstart.report.maps.page import MapContents, NewPhotos, map_sentence, map_title
from headstart.report.sprites import square

INK, SOFT = "#1c2430", "#5b6675"
MOST_LETTERS = 18  # of a class's name in the legend
HEAD, LEGEND, MARGIN, LINE, PICTURE, SCALE = 80, 240, 24, 24, 40, 2  # pixels of the PNG, which is drawn SCALE times as large


def map_picture(contents: MapContents, *, size: tuple[int, int] = (1_400, 1_000)) -> bytes:
    """Draw the map as a PNG of `size` pixels: a dot of its label's colour for each photo, a diamond for each new one.

    Diamonds of unfamiliar photos are pink, the others black. Of the photos that have pictures, as many as find room are
    drawn instead of dots.
    """
    from PIL import Image, ImageDraw

    findings, pictures, new = contents.findings, contents.pictures, contents.new
    classes = contents.record["classes"]
    labels = _first_labels(findings.labels) if are_many(findings.labels) else findings.labels
    colours = np.array([*class_colours(len(classes)), NEUTRAL])
    image = Image.new("RGB", (size[0] * SCALE, size[1] * SCALE), "white")
    draw, room = ImageDraw.Draw(image), (size[0] - LEGEND, size[1] - HEAD)
    both = np.concatenate([findings.positions, new.positions]).astype(np.float64)
    at = (_fit_positions(both, room, MARGIN + PICTURE // 2) + (0, HEAD)) * SCALE
    radius = SCALE * float(np.clip(90 / np.sqrt(max(1, len(both))), 1.2, 5.0))
    # In random order: class by class, the last one would lie on top of all others.
    has_picture = [p is not None for p in pictures] or [False] * len(findings.names)
    for i in np.random.default_rng(0).permutation(len(findings.names)).tolist():
        if np.isfinite(at[i]).all() and not has_picture[i]:
            _draw_dot(draw, at[i], radius, colours[labels[i]])
    if any(pictures):
        _draw_pictures(image, at, pictures, colours[labels])
    for place, is_unfamiliar in zip(at[len(findings.names) :], new.are_unfamiliar, strict=True):
        if np.isfinite(place).all():
            _draw_diamond(draw, place, 1.6 * radius + SCALE, UNFAMILIAR if is_unfamiliar else "black")
    counts = np.bincount(labels, minlength=len(classes) + 1)
    entries = _legend_classes(counts, size, n_more=len(_new_entries(new)))
    for row, i in enumerate(entries):
        _draw_dot(draw, _mark_position(row, size), 6 * SCALE, colours[i])
    for row, (_, _, colour) in enumerate(_new_entries(new), start=_first_new_row(counts, entries)):
        _draw_diamond(draw, _mark_position(row, size), 7 * SCALE, colour)
    image = image.resize(size, Image.Resampling.LANCZOS)
    _draw_words(ImageDraw.Draw(image), contents, counts, entries, size)
    content = io.BytesIO()
    image.save(content, "PNG")
    return content.getvalue()


def _first_labels(applies: np.ndarray) -> np.ndarray:
    """Give the first label of each image, or the number of classes where it has none."""
    return np.where(applies.any(axis=1), applies.argmax(axis=1), applies.shape[1])


def _fit_positions(positions: np.ndarray, room: tuple[int, int], margin: int) -> np.ndarray:
    """Scale positions to pixels: as large as the room allows, in its middle, y downwards."""
    finite = positions[np.isfinite(positions).all(axis=1)]
    if not len(finite):
        return positions
    low, high = finite.min(axis=0), finite.max(axis=0)
    inner = np.array(room) - 2 * margin
    scale = (inner / np.maximum(high - low, 1e-9)).min() if (high > low).any() else 1.0
    return (positions - (low + high) / 2) * (scale, -scale) + np.array(room) / 2


def _draw_dot(draw: Any, at: np.ndarray, radius: float, colour: str) -> None:
    draw.ellipse([at[0] - radius, at[1] - radius, at[0] + radius, at[1] + radius], fill=colour)


def _draw_diamond(draw: Any, at: np.ndarray, radius: float, colour: str) -> None:
    (x, y), r = at, radius
    draw.polygon([(x, y - r), (x + r, y), (x, y + r), (x - r, y)], fill=colour, outline="white")


def _mark_position(row: int, size: tuple[int, int]) -> np.ndarray:
    """Give the middle of a row's mark in the legend."""
    return np.array([size[0] - LEGEND + 22, HEAD + 20 + row * LINE]) * SCALE


def _new_entries(new: NewPhotos) -> list[tuple[str, int, str]]:
    """List the legend's rows of new photos: their name, how many there are, and their colour."""
    n_unfamiliar = int(new.are_unfamiliar.sum())
    rows = [("new", len(new.names) - n_unfamiliar, "black"), ("new, unfamiliar", n_unfamiliar, UNFAMILIAR)]
    return [row for row in rows if row[1]]


def _first_new_row(counts: np.ndarray, entries: Sequence[int]) -> int:
    """Give the legend's row of the new photos: below the classes and the line that counts the classes without a row."""
    return len(entries) + int((counts > 0).sum() > len(entries))


def _draw_pictures(image: Any, at: np.ndarray, pictures: Sequence[bytes | None], colours: np.ndarray) -> None:
    from PIL import Image

    occupied, side, edge = set(), PICTURE * SCALE, 2 * SCALE
    for (x, y), picture, colour in zip(at[: len(pictures)], pictures, colours, strict=True):
        if picture is None or not np.isfinite(x + y):
            continue
        cell = int(x // (side + 2 * edge)), int(y // (side + 2 * edge))
        if cell not in occupied:
            occupied.add(cell)
            left, top = (int(p * (side + 2 * edge)) + edge for p in cell)
            image.paste(colour, (left - edge // 2, top - edge // 2, left + side + edge // 2, top + side + edge // 2))
            image.paste(Image.fromarray(square(picture, side)), (left, top))


def _legend_classes(counts: np.ndarray, size: tuple[int, int], *, n_more: int) -> list[int]:
    """Choose the classes that the legend has room for beside n_more rows: the largest ones, in the classes' order."""
    n_rows = min((size[1] - HEAD) // LINE - 2 - n_more, int((counts > 0).sum()))
    return sorted(np.argsort(-counts, kind="stable")[:n_rows].tolist())


def _draw_words(draw: Any, contents: MapContents, counts: np.ndarray, entries: Sequence[int], size: tuple[int, int]) -> None:
    from PIL import ImageFont

    large, small = ImageFont.load_default(26), ImageFont.load_default(16)
    draw.text((MARGIN, 14), _printable(map_title(contents.record)), INK, large)
    draw.text((MARGIN, 48), _printable(map_sentence(contents)), SOFT, small)
    names, left, top = [*contents.record["classes"], "no label"], size[0] - LEGEND + 38, HEAD + 10
    for row, i in enumerate(entries):
        name = _printable(names[i])
        name = name if len(name) <= MOST_LETTERS else f"{name[: MOST_LETTERS - 1]}…"
        draw.text((left, top + row * LINE), f"{name}  {counts[i]:,}", INK, small)
    if (rest := int((counts > 0).sum()) - len(entries)) > 0:
        draw.text((left, top + len(entries) * LINE), f"and {rest:,} more classes", SOFT, small)
    for row, (name, n, _) in enumerate(_new_entries(contents.new), start=_first_new_row(counts, entries)):
        draw.text((left, top + row * LINE), f"{name}  {n:,}", INK, small)


def _printable(text: str) -> str:
    """Replace what cannot be drawn: bytes of a name that are not UTF-8, and line ends."""
    return "".join(c if c.isprintable() else "?" for c in text)
