"""Draws a heat map as a PNG or JPEG: the photo, the evidence for a class over it, and the most similar training photos."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from headstart.data.decoding import Failure
from headstart.data.images import Preprocess, load_image
from headstart.errors import OutputError
from headstart.files import write_output

SIDE, GAP, SMALL = 448, 16, 144  # pixels
WHITE = 255
STRENGTH = 0.6  # of the colours over the photo
FORMATS = {".png": ".png", ".jpg": ".jpg", ".jpeg": ".jpg"}


def write_heat(path: Path, square: np.ndarray, heat: np.ndarray, nearest: Sequence[str]) -> None:
    """Write the picture of a heat map; raises OutputError unless the name ends in .png or .jpg and can be written.

    square: (S, S, 3) uint8. heat: (h, w) float32 in [0, 1]. nearest: paths of photos to show below, as far as they exist.
    """
    import cv2

    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        raise OutputError(f"{path}: what kind of picture is that? name it .png or .jpg")
    photo = cv2.resize(square, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    rows = [_side_by_side([photo, overlaid(photo, heat)])]
    pictures = [load_image(name, Preprocess(SMALL, crop=1.0)) for name in nearest]
    small = [picture for picture in pictures if not isinstance(picture, Failure)]
    if small:
        rows.append(_pad_to_width(_side_by_side(small), rows[0].shape[1]))
    space = np.full((GAP, rows[0].shape[1], 3), WHITE, np.uint8)
    whole = np.concatenate([part for row in rows for part in (row, space)][:-1])
    write_output(path, cv2.imencode(kind, whole[:, :, ::-1])[1].tobytes())


def overlaid(photo: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Overlay a photo with its heat in colours, the more evidence the warmer; without evidence it is only paler."""
    import cv2

    strength = cv2.resize(heat, photo.shape[1::-1], interpolation=cv2.INTER_CUBIC).clip(0, 1)
    colours = cv2.applyColorMap((255 * strength).astype(np.uint8), cv2.COLORMAP_INFERNO)[:, :, ::-1].astype(np.float32)
    grey = np.repeat(photo.mean(axis=2, keepdims=True), 3, axis=2)
    pale = photo * 0.5 + grey * 0.5
    share = STRENGTH * strength[:, :, None]
    return (pale * (1 - share) + colours * share).clip(0, 255).astype(np.uint8)


def _side_by_side(pictures: Sequence[np.ndarray]) -> np.ndarray:
    space = np.full((pictures[0].shape[0], GAP, 3), WHITE, np.uint8)
    return np.concatenate([part for picture in pictures for part in (picture, space)][:-1], axis=1)


def _pad_to_width(picture: np.ndarray, width: int) -> np.ndarray:
    rest = np.full((picture.shape[0], max(0, width - picture.shape[1]), 3), WHITE, np.uint8)
    return np.concatenate([picture, rest], axis=1)[:, :width]
