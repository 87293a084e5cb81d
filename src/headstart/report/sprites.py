"""Packs small pictures into sprite sheets, a few large JPEGs, for pages that show thousands of photos in one file.

Takes the small pictures; gives sheets with `columns` squares a row, filled row by row. The square of a missing picture is
grey.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SHEET_SIDE = 2_048  # pixels: browsers decode a sheet of this size in some milliseconds, and old phones take no larger one
GREY = 128


@dataclass(frozen=True)
class Sprites:
    """Sprite sheets: squares of `side` pixels, `columns` a row and `per_sheet` a sheet; sheets: JPEG files."""

    side: int
    columns: int
    per_sheet: int
    sheets: tuple[bytes, ...]


def make_sprites(pictures: Sequence[bytes | None], side: int, *, quality: int = 60) -> Sprites:
    """Pack small pictures, JPEG files of any size or None, into sheets, in their order."""
    import simplejpeg

    columns = max(1, min(SHEET_SIDE // side, len(pictures)))
    per_sheet = columns * (SHEET_SIDE // side)
    sheets = []
    for start in range(0, len(pictures), per_sheet):
        part = pictures[start : start + per_sheet]
        sheet = np.full((-(-len(part) // columns) * side, columns * side, 3), GREY, np.uint8)
        for i, picture in enumerate(part):
            top, left = i // columns * side, i % columns * side
            sheet[top : top + side, left : left + side] = GREY if picture is None else square(picture, side)
        sheets.append(simplejpeg.encode_jpeg(sheet, quality=quality, colorspace="RGB", colorsubsampling="420"))
    return Sprites(side, columns, per_sheet, tuple(sheets))


def square(picture: bytes, side: int) -> np.ndarray:
    """Decode a small JPEG as (side, side, 3) uint8: its middle square, scaled."""
    import cv2
    import simplejpeg

    pixels = simplejpeg.decode_jpeg(picture, "RGB")
    height, width = pixels.shape[:2]
    length = min(height, width)
    top, left = (height - length) // 2, (width - length) // 2
    return cv2.resize(pixels[top : top + length, left : left + length], (side, side), interpolation=cv2.INTER_AREA)
