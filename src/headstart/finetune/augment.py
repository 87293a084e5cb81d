"""Augmentation for fine-tuning: random crops, mirroring, RandAugment, mixup and cutmix, each step another view of an image.

Takes squares of pixels and a generator; gives what a network takes, on the squares' device. It decides how far a view may
be from the image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from headstart.data.images import Preprocess

LEAST_AREA = 0.4  # of the central square that a view shows


@dataclass(frozen=True)
class Views:
    """Views of images: theta (n, 2, 3), where each point of a view lies in [-1, 1]²; colour (n, 3), see render_views."""

    theta: np.ndarray
    colour: np.ndarray

    def of(self, rows: slice) -> Views:
        """Those of some of the images."""
        return Views(self.theta[rows], self.colour[rows])


def centre_views(n: int, share: float) -> Views:
    """The middle of each image, a share of its side wide: what the backbone sees at other times."""
    theta = np.tile(np.array([[share, 0, 0], [0, share, 0]], np.float32), (n, 1, 1))
    return Views(theta, np.ones((n, 3), np.float32))


def draw_views(n: int, random: np.random.Generator, *, is_strong: bool) -> Views:
    """Draw a window and a side for each image (Szegedy et al. 2015); strong views also have two changes out of five.

    Two of many at a strength drawn for each is RandAugment (Cubuk et al. 2020), here in one resampling: turned, sheared,
    brighter, more contrast, more colour.
    """
    area, ratio = random.uniform(LEAST_AREA, 1, n), np.exp(random.uniform(np.log(3 / 4), np.log(4 / 3), n))
    width, height = np.minimum(1, np.sqrt(area * ratio)), np.minimum(1, np.sqrt(area / ratio))
    x, y = (random.uniform(-1, 1, n) * (1 - side) for side in (width, height))
    mirror = np.where(random.random(n) < 0.5, -1, 1)
    changes = random.uniform(-1, 1, (n, 5)) * (random.random((n, 5)).argsort(axis=1) < 2) * is_strong
    angle, shear = 0.5 * changes[:, 0], 0.3 * changes[:, 1]
    cos, sin = np.cos(angle), np.sin(angle)
    turned = np.stack([np.stack([cos, cos * shear - sin], 1), np.stack([sin, sin * shear + cos], 1)], 1)
    scaled = turned * np.stack([width * mirror, height], 1)[:, None, :]
    theta = np.concatenate([scaled, np.stack([x, y], 1)[:, :, None]], axis=2)
    return Views(theta.astype(np.float32), (1 + 0.5 * changes[:, 2:]).astype(np.float32))


def render_views(squares: Any, views: Views, preprocess: Preprocess) -> Any:
    """Resample (n, side, side, 3) uint8 squares to views (n, 3, S, S), normalised, on the squares' device.

    Colours are multiplied: all by the first number, their distance from the image's mean by the second, from grey by the
    third.
    """
    x = squares.permute(0, 3, 1, 2).float() / 255
    shape = [len(x), 3, preprocess.size, preprocess.size]
    theta, colour = (torch.from_numpy(np.ascontiguousarray(a)).to(x.device) for a in (views.theta, views.colour))
    if len(x):
        grid = functional.affine_grid(theta, shape, align_corners=False)
        x = functional.grid_sample(x, grid, padding_mode="reflection", align_corners=False)
    if (views.colour != 1).any():
        brightness, contrast, saturation = (c[:, None, None, None] for c in colour.T)
        mean, grey = x.mean(dim=(1, 2, 3), keepdim=True), x.mean(dim=1, keepdim=True)
        x = grey + (x - grey) * saturation
        x = ((mean + (x - mean) * contrast) * brightness).clamp(0, 1)
    mean, std = (torch.tensor(numbers, device=x.device)[:, None, None] for numbers in (preprocess.mean, preprocess.std))
    return (x - mean) / std


def mix(x: Any, y: Any, random: np.random.Generator) -> tuple[Any, Any]:
    """Mix half of all batches with themselves backwards, as a whole (mixup) or in a box (cutmix); leave the other half.

    Zhang et al. 2018, Yun et al. 2019.
    """
    kind, share = random.random(), float(random.beta(0.2, 0.2))
    if kind < 0.5:
        return x, y
    if kind < 0.75:
        return x.lerp(x.flip(0), share), y.lerp(y.flip(0), share)
    side = x.shape[-1]
    length = round(side * math.sqrt(random.random()))
    top, left = random.integers(0, side - length + 1, 2)
    boxed = x.clone()
    boxed[:, :, top : top + length, left : left + length] = x.flip(0)[:, :, top : top + length, left : left + length]
    return boxed, y.lerp(y.flip(0), (length / side) ** 2)
