"""EXIF orientation: reads which way up a photo was taken from its metadata, and turns the pixels upright."""

from __future__ import annotations

import numpy as np


def exif_of_jpeg(data: bytes) -> bytes:
    """Find the Exif segment of a JPEG file before the picture (ITU T.81, annex B); empty where there is none."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] == 0xE1 and data[at + 4 : at + 10] == b"Exif\0\0":
            return data[at + 10 : at + 2 + length]
        at += 1 if data[at + 1] == 0xFF else 2 + length  # a marker may be padded with 0xFF
    return b""


def exif_orientation(exif: bytes) -> int:
    """Read tag 0x0112 of the first directory (TIFF 6.0, section 2); 1, upright, where there is none.

    Pillow's reader takes in every tag, which is slower, and warns about the damaged ones.
    """
    order = {b"II": "little", b"MM": "big"}.get(exif[:2])

    def number(at: int, n_bytes: int) -> int:
        return int.from_bytes(exif[at : at + n_bytes], order)  # type: ignore[arg-type]

    if order:
        directory = number(4, 4)
        for entry in range(directory + 2, directory + 2 + 12 * number(directory, 2), 12):
            if number(entry, 2) == 0x0112:
                return number(entry + 8, 4 if number(entry + 2, 2) == 4 else 2)  # type 4: a long, else a short
    return 1


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn pixels upright: undo one of the eight orientations of Exif 2.3, tag 0x0112; other values mean upright."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)
