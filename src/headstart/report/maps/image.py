"""The map as a picture, for a paper or a message.

Takes what the map's page takes; gives a PNG with a legend. It decides the colours of classes, which are those of the page,
how large dots are and which classes the legend names.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from headstart.data.labels import are_many
from headstart.report.maps.page import MapContents, NewPhotos, sentence, title
from headstart.report.sprites import square

# As in web/map.js: Okabe & Ito 2008 without black, yellow darkened, then three of Tol's.
PALETTE = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7", "#999933", "#332288", "#44aa99", "#882255")
LIGHTNESS = (0, 0.45, -0.35, 0.65, -0.55)
GREY, INK, SOFT = "#8d96a1", "#1c2430", "#5b6675"
STRANGE = "#e6007e"  # of unfamiliar new photos
LONGEST = 18  # characters of a class in the legend
HEAD, LEGEND, MARGIN, LINE, PICTURE, SCALE = 80, 240, 24, 24, 40, 2  # pixels of the PNG, which is drawn SCALE times as large


def map_picture(contents: MapContents, *, size: tuple[int, int] = (1_400, 1_000)) -> bytes:
    """Draw the map as a PNG of `size` pixels: a dot of its label's colour for each photo, a diamond for each new one.

    Diamonds of unfamiliar photos are pink, the others black. Of the photos that have pictures, as many as find room are
    drawn instead of dots.
    """
    from PIL import Image, ImageDraw

    findings, pictures, new = contents.findings, contents.pictures, contents.new
    classes = contents.about["classes"]
    first = findings.labels if not are_many(findings.labels) else _first_labels(findings.labels)
    paints = np.array([*colours(len(classes)), GREY])
    image = Image.new("RGB", (size[0] * SCALE, size[1] * SCALE), "white")
    draw, room = ImageDraw.Draw(image), (size[0] - LEGEND, size[1] - HEAD)
    both = np.concatenate([findings.positions, new.positions]).astype(np.float64)
    at = (_fitted(both, room, MARGIN + PICTURE // 2) + (0, HEAD)) * SCALE
    radius = SCALE * float(np.clip(90 / np.sqrt(max(1, len(both))), 1.2, 5.0))
    # In a drawn order: class by class, the last one would lie on top of all others.
    has_picture = [p is not None for p in pictures] or [False] * len(findings.names)
    for i in np.random.default_rng(0).permutation(len(findings.names)).tolist():
        if np.isfinite(at[i]).all() and not has_picture[i]:
            _dot(draw, at[i], radius, paints[first[i]])
    if any(pictures):
        _draw_pictures(image, at, pictures, paints[first])
    for place, is_strange in zip(at[len(findings.names) :], new.are_unfamiliar, strict=True):
        if np.isfinite(place).all():
            _diamond(draw, place, 1.6 * radius + SCALE, STRANGE if is_strange else "black")
    counts = np.bincount(first, minlength=len(classes) + 1)
    listed = _listed(counts, size, n_more=len(_kinds_of_new(new)))
    for row, i in enumerate(listed):
        _dot(draw, _mark(row, size), 6 * SCALE, paints[i])
    for row, (_, _, colour) in enumerate(_kinds_of_new(new), start=_first_row_of_new(counts, listed)):
        _diamond(draw, _mark(row, size), 7 * SCALE, colour)
    image = image.resize(size, Image.Resampling.LANCZOS)
    _draw_words(ImageDraw.Draw(image), contents, counts, listed, size)
    content = io.BytesIO()
    image.save(content, "PNG")
    return content.getvalue()


def colours(n: int) -> list[str]:
    """The colours of n classes, `#rrggbb`, as in web/map.js: ten that are told apart in colour blindness, then lighter and
    darker ones."""
    result = []
    for i in range(n):
        shift = LIGHTNESS[i // len(PALETTE) % len(LIGHTNESS)]
        rgb = [int(PALETTE[i % len(PALETTE)][c : c + 2], 16) for c in (1, 3, 5)]
        goal = 255 if shift > 0 else 0
        result.append("#" + "".join(f"{int(part + (goal - part) * abs(shift) + 0.5):02x}" for part in rgb))
    return result


def _first_labels(applies: np.ndarray) -> np.ndarray:
    """The first label of each image, or the number of classes where it has none."""
    return np.where(applies.any(axis=1), applies.argmax(axis=1), applies.shape[1])


def _fitted(positions: np.ndarray, room: tuple[int, int], margin: int) -> np.ndarray:
    """Positions in pixels: as large as the room allows, in its middle, y downwards."""
    finite = positions[np.isfinite(positions).all(axis=1)]
    if not len(finite):
        return positions
    low, high = finite.min(axis=0), finite.max(axis=0)
    inner = np.array(room) - 2 * margin
    scale = (inner / np.maximum(high - low, 1e-9)).min() if (high > low).any() else 1.0
    return (positions - (low + high) / 2) * (scale, -scale) + np.array(room) / 2


def _dot(draw: Any, at: np.ndarray, radius: float, colour: str) -> None:
    draw.ellipse([at[0] - radius, at[1] - radius, at[0] + radius, at[1] + radius], fill=colour)


def _diamond(draw: Any, at: np.ndarray, radius: float, colour: str) -> None:
    (x, y), r = at, radius
    draw.polygon([(x, y - r), (x + r, y), (x, y + r), (x - r, y)], fill=colour, outline="white")


def _mark(row: int, size: tuple[int, int]) -> np.ndarray:
    """The middle of a row's mark in the legend."""
    return np.array([size[0] - LEGEND + 22, HEAD + 20 + row * LINE]) * SCALE


def _kinds_of_new(new: NewPhotos) -> list[tuple[str, int, str]]:
    """The legend's rows of new photos: what they are called, how many, and their colour."""
    n_strange = int(new.are_unfamiliar.sum())
    rows = [("new", len(new.names) - n_strange, "black"), ("new, unfamiliar", n_strange, STRANGE)]
    return [row for row in rows if row[1]]


def _first_row_of_new(counts: np.ndarray, listed: Sequence[int]) -> int:
    """Where the new photos stand in the legend: below the classes, and below the line that counts those without a row."""
    return len(listed) + int((counts > 0).sum() > len(listed))


def _draw_pictures(image: Any, at: np.ndarray, pictures: Sequence[bytes | None], paints: np.ndarray) -> None:
    from PIL import Image

    taken, side, edge = set(), PICTURE * SCALE, 2 * SCALE
    for (x, y), picture, colour in zip(at[: len(pictures)], pictures, paints, strict=True):
        if picture is None or not np.isfinite(x + y):
            continue
        place_taken = int(x // (side + 2 * edge)), int(y // (side + 2 * edge))
        if place_taken not in taken:
            taken.add(place_taken)
            left, top = (int(p * (side + 2 * edge)) + edge for p in place_taken)
            image.paste(colour, (left - edge // 2, top - edge // 2, left + side + edge // 2, top + side + edge // 2))
            image.paste(Image.fromarray(square(picture, side)), (left, top))


def _listed(counts: np.ndarray, size: tuple[int, int], *, n_more: int) -> list[int]:
    """The classes that the legend has room for beside n_more rows, the largest ones, in their order."""
    n_rows = min((size[1] - HEAD) // LINE - 2 - n_more, int((counts > 0).sum()))
    return sorted(np.argsort(-counts, kind="stable")[:n_rows].tolist())


def _draw_words(draw: Any, contents: MapContents, counts: np.ndarray, listed: Sequence[int], size: tuple[int, int]) -> None:
    from PIL import ImageFont

    large, small = ImageFont.load_default(26), ImageFont.load_default(16)
    draw.text((MARGIN, 14), _printable(title(contents.about)), INK, large)
    draw.text((MARGIN, 48), _printable(sentence(contents)), SOFT, small)
    names, left, top = [*contents.about["classes"], "no label"], size[0] - LEGEND + 38, HEAD + 10
    for row, i in enumerate(listed):
        name = _printable(names[i])
        name = name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"
        draw.text((left, top + row * LINE), f"{name}  {counts[i]:,}", INK, small)
    if (rest := int((counts > 0).sum()) - len(listed)) > 0:
        draw.text((left, top + len(listed) * LINE), f"and {rest:,} more classes", SOFT, small)
    for row, (name, n, _) in enumerate(_kinds_of_new(contents.new), start=_first_row_of_new(counts, listed)):
        draw.text((left, top + row * LINE), f"{name}  {n:,}", INK, small)


def _printable(text: str) -> str:
    """Bytes of a name that are no UTF-8 cannot be drawn, and a line's end would begin another line."""
    return "".join(c if c.isprintable() else "?" for c in text)
