"""Reads how images are resized, cropped and normalised from the JSON files of transformers and timm."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from headstart.data.images import Preprocess


def preprocess_from(config: Mapping[str, Any]) -> Preprocess | None:
    """Read a preprocessor_config.json of transformers' or timm's; None where it is unclear.

    Its bilinear and bicubic average over what they make smaller (Pillow's do), which of ours only area does.
    """
    try:
        timm = config.get("pretrained_cfg", config)
        if "input_size" in timm:
            _, height, width = timm["input_size"]
            size, crop, mean, std = _square(height, width), timm.get("crop_pct", 1.0), timm["mean"], timm["std"]
        else:
            size, crop = _size_and_crop(config)
            if not config.get("do_rescale", True) or abs(config.get("rescale_factor", 1 / 255) - 1 / 255) > 1e-6:
                return None
            is_normalised = config.get("do_normalize", False)
            mean, std = (config["image_mean"], config["image_std"]) if is_normalised else ([0.0] * 3, [1.0] * 3)
        numbers = [float(x) for x in (*mean, *std)]
        if len(mean) != 3 or len(std) != 3 or not all(map(math.isfinite, numbers)) or min(numbers[3:]) <= 0:
            return None
        red, green, blue, *spread = numbers
        return Preprocess(size, float(crop), mean=(red, green, blue), std=(spread[0], spread[1], spread[2]))
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _size_and_crop(config: Mapping[str, Any]) -> tuple[int, float]:
    """Read the square's side, and its part of the shorter side; raises ValueError or KeyError where they are not stated."""
    resized = config["size"] if config.get("do_resize", True) else config["crop_size"]
    shorter = _side(resized)
    if config.get("do_center_crop") and config.get("do_resize", True):
        side = _side(config["crop_size"])
        if side > shorter:  # it is padded with black
            raise ValueError
        return side, side / shorter
    if isinstance(resized, dict) and "shortest_edge" in resized and "crop_pct" not in config:  # the picture is no square
        raise ValueError
    return shorter, config.get("crop_pct") or 1.0


def _side(size: Any) -> int:
    if isinstance(size, dict):
        return int(size["shortest_edge"]) if "shortest_edge" in size else _square(size["height"], size["width"])
    return int(size)


def _square(height: int, width: int) -> int:
    if height != width:
        raise ValueError
    return int(height)
