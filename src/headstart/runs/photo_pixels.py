"""The pixels of a run's photo, read from where it lies now; the same photo by its sha256, or none."""

from __future__ import annotations

import numpy as np

from headstart.data.decoding import Failure, decode
from headstart.data.tables import same_content_of
from headstart.runs.open import SavedRun

SIDE = 448  # pixels of the shorter side, about


def pixels_of_photo(saved: SavedRun, row: int, *, shorter_side: int = SIDE) -> np.ndarray | None:
    """Decode a photo of a run, (h, w, 3) uint8; None where it is gone, or where another photo has its name by now.

    row: its place in the findings. shorter_side: what is needed of it; a JPEG may be decoded at a fraction of its size.
    """
    image = saved.images[row]
    if image is None:
        return None
    content = same_content_of(image, saved.findings.digests[row].tobytes())
    if isinstance(content, Failure):
        return None
    pixels = decode(content, shorter_side=shorter_side)
    return None if isinstance(pixels, Failure) else pixels
