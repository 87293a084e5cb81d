"""A picture of a heat map: the photo, the evidence on it, and the photos of the training that are most like it."""

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
    """Write a .png or .jpg; raises OutputError for other names, and where it cannot be written.

    square: (S, S, 3) uint8. heat: (h, w) float32 in [0, 1]. nearest: photos to show below, if they are there.
    """
    import cv2

    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        raise OutputError(f"{path}: what kind of picture is that? name it .png or .jpg")
    photo = cv2.resize(square, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    rows = [_beside([photo, overlaid(photo, heat)])]
    looks = [load_image(name, Preprocess(SMALL, crop=1.0)) for name in nearest]
    small = [look for look in looks if not isinstance(look, Failure)]
    if small:
        rows.append(_widened(_beside(small), rows[0].shape[1]))
    space = np.full((GAP, rows[0].shape[1], 3), WHITE, np.uint8)
    whole = np.concatenate([part for row in rows for part in (row, space)][:-1])
    write_output(path, cv2.imencode(kind, whole[:, :, ::-1])[1].tobytes())


def overlaid(photo: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """The photo with the evidence in colours, the more the warmer: where there is none it stays as it is, but paler."""
    import cv2

    strength = cv2.resize(heat, photo.shape[1::-1], interpolation=cv2.INTER_CUBIC).clip(0, 1)
    colours = cv2.applyColorMap((255 * strength).astype(np.uint8), cv2.COLORMAP_INFERNO)[:, :, ::-1].astype(np.float32)
    grey = np.repeat(photo.mean(axis=2, keepdims=True), 3, axis=2)
    pale = photo * 0.5 + grey * 0.5
    share = STRENGTH * strength[:, :, None]
    return (pale * (1 - share) + colours * share).clip(0, 255).astype(np.uint8)


def _beside(pictures: Sequence[np.ndarray]) -> np.ndarray:
    space = np.full((pictures[0].shape[0], GAP, 3), WHITE, np.uint8)
    return np.concatenate([part for picture in pictures for part in (picture, space)][:-1], axis=1)


def _widened(picture: np.ndarray, width: int) -> np.ndarray:
    rest = np.full((picture.shape[0], max(0, width - picture.shape[1]), 3), WHITE, np.uint8)
    return np.concatenate([picture, rest], axis=1)[:, :width]
