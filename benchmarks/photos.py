"""Photos for the benchmarks of speed: quarters of the shared ones, so that none is a near duplicate of another."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from headstart.data.datasets import load_dataset

SETS = ("flowers", "trash", "dtd10", "ants_bees", "alpaca")
N_CLASSES = 5
QUALITY = 90


def quarters(shared: Path, folder: Path, n: int) -> list[str]:
    """Cut photos in four and enlarge each quarter to the size of the whole; gives the paths of n of them, 4,400 at most.

    Quarters of a photo have no pixel in common. The classes of the sets share five names, so that the classes are about as
    hard to tell apart as those of flowers.
    """
    paths: list[str] = []
    photos = [
        (Path(str(image)), f"{name} {i}", int(label) % N_CLASSES)
        for name in SETS
        for data in [load_dataset(shared / "data" / name)]
        for i, (image, label) in enumerate(zip(data.images, data.labels, strict=True))
    ]
    for quarter in range(4):
        for path, name, label in photos[: n - len(paths)]:
            image = Image.open(path).convert("RGB")
            width, height = image.size[0] // 2, image.size[1] // 2
            left, top = (quarter % 2) * width, (quarter // 2) * height
            part = image.crop((left, top, left + width, top + height)).resize(image.size, Image.Resampling.BICUBIC)
            file = io.BytesIO()
            part.save(file, "JPEG", quality=QUALITY)
            target = folder / f"class {label}" / f"{name} {quarter}.jpg"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.getvalue())
            paths.append(str(target))
    return paths
