"""Bottleneck files of retrain.py: the codes of one photo as text, `IMAGE_ARCHITECTURE.txt`, numbers with commas.

headstart keeps its codes in its cache; these are read where somebody has them, and written where somebody asks for them.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from headstart.compat.image_lists import ImageList
from headstart.files import write_output


def path_of(folder: str | os.PathLike[str], images: ImageList, i: int, architecture: str) -> Path:
    """Where the file of a photo lies: below its class's folder."""
    name = architecture.replace("/", "~").replace(":", "~")
    return Path(folder, images.folders[images.of_image[i]], f"{os.path.basename(images.paths[i])}_{name}.txt")


def read_bottleneck(file: Path, width: int) -> np.ndarray | None:
    """Read a file of so many finite numbers, (width,) float32; None for any other, and where there is none."""
    try:
        numbers = np.array([float(text) for text in file.read_text("ascii").split(",")], np.float32)
    except (OSError, ValueError):
        return None
    return numbers if len(numbers) == width and all(map(math.isfinite, numbers)) else None


def write_bottleneck(file: Path, codes: np.ndarray) -> None:
    """Write the codes of a photo; raises OutputError where that cannot be."""
    write_output(file, ",".join(map(repr, codes.astype(np.float32).astype(float).tolist())))


def read_all(
    folder: str | os.PathLike[str], images: ImageList, rows: Sequence[int], architecture: str, codes: np.ndarray
) -> int:
    """Put what is in the files in place of computed codes (n, d), in place; gives how many there were."""
    n = 0
    for i in rows:
        numbers = read_bottleneck(path_of(folder, images, i, architecture), codes.shape[1])
        if numbers is not None:
            codes[i], n = numbers, n + 1
    return n
