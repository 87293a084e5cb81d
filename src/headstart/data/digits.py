"""The demonstration: writes scikit-learn's handwritten digits out as a folder of pictures per class."""

from __future__ import annotations

import io
from pathlib import Path

from headstart.files import write_output

SIDE = 64  # pixels; the digits have 8, and a person should be able to look at them


def write_digits(folder: Path) -> int:
    """Write the 1,797 digits as PNG files, a folder per class; gives how many. Those that are there are left as they are.

    The digits are the test set of Alpaydin & Kaynak 1998 (UCI, CC BY 4.0), which scikit-learn carries: 8 x 8 counts of ink
    from 0 to 16, here dark on white and enlarged, with the margin that a photo would have.
    """
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    for i, (ink, digit) in enumerate(zip(digits.images, digits.target, strict=True)):
        path = folder / str(digit) / f"{i:04}.png"
        if path.exists():
            continue
        paper = np.pad(255 - ink * (255 / 16), 1, constant_values=255).astype(np.uint8)
        png = io.BytesIO()
        Image.fromarray(paper).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(png, "PNG")
        write_output(path, png.getvalue())
    return len(digits.target)
