"""Probes: pictures of none of the classes, to test whether a classifier notices that they are unfamiliar.

TensorFlow's tutorial of 2021 showed its alpaca classifier a goldfish and a chocolate cake by hand. These need no download:
two photos and a digit of scikit-learn's, and a few that are drawn.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

SIDE = 288
SAMPLES = {"a temple": "china.jpg", "a dahlia": "flower.jpg"}


def probes() -> dict[str, np.ndarray]:
    """Make the probes: pictures by what they show, (h, w, 3) uint8 RGB each."""
    return {**_photos(), **{name: draw() for name, draw in DRAWN.items()}}


def _photos() -> dict[str, np.ndarray]:
    from sklearn.datasets import load_sample_image

    return {name: np.asarray(load_sample_image(file)) for name, file in SAMPLES.items()}


def _digit() -> np.ndarray:
    from sklearn.datasets import load_digits

    digit = 255 - load_digits().images[3] * (255 / 16)
    return np.repeat(np.kron(digit, np.ones((SIDE // 8, SIDE // 8)))[:, :, None], 3, axis=2).astype(np.uint8)


def _noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)


def _stripes() -> np.ndarray:
    lines = (np.arange(SIDE) // 16 % 2 * 255).astype(np.uint8)
    return np.repeat(np.tile(lines, (SIDE, 1))[:, :, None], 3, axis=2)


def _sky() -> np.ndarray:
    top, bottom = np.array([90, 140, 220]), np.array([220, 235, 250])
    column = top + (bottom - top) * np.linspace(0, 1, SIDE)[:, None]
    return np.repeat(column[:, None], SIDE, axis=1).astype(np.uint8)


DRAWN: dict[str, Callable[[], np.ndarray]] = {
    "a handwritten three": _digit,
    "noise": _noise,
    "stripes": _stripes,
    "an empty sky": _sky,
}
