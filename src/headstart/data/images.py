"""Preprocessing: cuts the central square out of any image and resizes it to what a backbone takes.

Takes paths, bytes, Pillow images or arrays and a Preprocess; gives (size, size, 3) uint8 RGB, or a Failure that says why
not. It decides which part of an image is used, and how it is resized.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from headstart.data.decoding import Failure, ImageSource, decode_and_apply


@dataclass(frozen=True)
class Preprocess:
    """How an image is cropped, resized and normalised for a backbone; stored with the weights and with every classifier.

    size: side of the square that the backbone takes, in pixels. crop: the part of the shorter side that the central
    square keeps. resample: a key of RESAMPLING. mean, std: per channel RGB, in units of the pixel range [0, 1]; the
    backbone's input is (pixel / 255 - mean) / std.
    """

    size: int
    crop: float = 0.875
    resample: str = "area"
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    def __post_init__(self) -> None:
        is_whole = isinstance(self.size, int) and len(self.mean) == len(self.std) == 3
        if not is_whole or self.size < 1 or not 0 < self.crop <= 1 or self.resample not in RESAMPLING:
            raise ValueError(f"no images can be made ready by {self}")


# How a square is made smaller / made larger, as OpenCV flags (their values, so that cv2 need not be imported here).
# Only area averages over every source pixel; bilinear and bicubic are for networks that were trained without that.
RESAMPLING = {"area": (3, 2), "bilinear": (1, 1), "bicubic": (2, 2)}


def load_image(source: ImageSource, preprocess: Preprocess) -> np.ndarray | Failure:
    """Turn one image, wherever it is, into the (size, size, 3) uint8 RGB square that a backbone sees.

    A JPEG is decoded at its full size: at half of it a photo of 12 megapixels takes 15 to 30 ms less of 50 to 70, but
    probabilities move by 0.03, and nobody else decodes so (docs/LOG.md).
    """
    return decode_and_apply(source, lambda pixels: crop_and_resize(pixels, preprocess))


def crop_and_resize(pixels: np.ndarray, preprocess: Preprocess) -> np.ndarray:
    """Cut the central square out of (height, width, 3) pixels and scale it to the backbone's size."""
    import cv2

    height, width = pixels.shape[:2]
    side = max(1, round(min(height, width) * preprocess.crop))
    top, left = (height - side) // 2, (width - side) // 2
    square = pixels[top : top + side, left : left + side]
    smaller, larger = RESAMPLING[preprocess.resample]
    interpolation = smaller if side > preprocess.size else larger
    return cv2.resize(square, (preprocess.size, preprocess.size), interpolation=interpolation)


def display_name(source: Any) -> str:
    """Name an image in a table or a message: its path, or its type."""
    if isinstance(source, tuple):  # a tables.TableImage, whose text is its table and row
        return str(source)
    return os.fspath(source) if isinstance(source, (str, os.PathLike)) else f"<{type(source).__name__}>"
