"""Photos that a tiny backbone can learn, and photos with edges at every size, with their copies."""

from hashlib import sha256
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
from PIL import Image

from headstart.codes.image_stats import ImageStats, compute_image_stats


def resaved(pixels: np.ndarray, n: int, seed: int = 0) -> list[bytes]:
    """A photo n times over, each of another size and quality."""
    rng = np.random.default_rng(seed)
    height, width, _ = pixels.shape
    sizes = [(int(width * scale), int(height * scale)) for scale in rng.uniform(0.6, 1.0, n)]
    qualities = rng.permutation(np.linspace(40, 95, n)).round(3)
    return [jpeg(cv2.resize(pixels, s, interpolation=cv2.INTER_AREA), int(q)) for s, q in zip(sizes, qualities, strict=True)]


def scene(seed: int, width: int = 256, height: int = 192) -> np.ndarray:
    """A picture with edges at every size, another one for each seed: dead leaves, a model of photos (Lee et al. 2001)."""
    rng = np.random.default_rng(seed)
    pixels = np.full((height, width, 3), rng.integers(90, 160, 3), np.uint8)
    for radius in np.sort(rng.pareto(1.5, 200) * 4 + 2)[::-1]:
        centre = (int(rng.integers(0, width)), int(rng.integers(0, height)))
        cv2.circle(pixels, centre, int(min(radius, 60)), (rng.integers(20, 236) + rng.integers(-20, 20, 3)).tolist(), -1)
    return pixels


def jpeg(pixels: np.ndarray, quality: int = 90) -> bytes:
    return simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality=quality, colorspace="RGB", colorsubsampling="444")


def codes_of(image_stats: ImageStats) -> np.ndarray:
    """Codes that mirroring leaves alone: the mean colours of five rings of the small picture. They tell little apart."""
    rows = []
    for picture in image_stats.pictures:
        small = np.full((16, 16, 3), 128.0) if picture is None else simplejpeg.decode_jpeg(picture, "RGB")
        small = cv2.resize(small, (16, 16), interpolation=cv2.INTER_AREA).astype(np.float64)
        rows.append(np.concatenate([(small[i : 16 - i, i : 16 - i].mean((0, 1))) for i in (0, 2, 4, 6)]))
    return np.array(rows, np.float16)


def looked_at(contents):
    digests = [sha256(content).digest() for content in contents]
    image_stats = compute_image_stats(contents, digests, None)
    return codes_of(image_stats), image_stats, digests


COLOURS = {"blue": (40, 60, 200), "green": (50, 180, 60), "red": (200, 50, 40)}


def picture(colour: tuple[int, int, int], seed: int, size: tuple[int, int] = (48, 40)) -> np.ndarray:
    """A noisy (height, width, 3) picture of one colour, another one for each seed."""
    noise = np.random.default_rng(seed).normal(0, 40, (*size[::-1], 3))
    return np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)


def write_photos(root: Path, *, n: int = 20, suffix: str = ".png") -> Path:
    """A folder per colour, with n pictures each."""
    for i, (name, colour) in enumerate(COLOURS.items()):
        folder = root / name
        folder.mkdir(parents=True)
        for j in range(n):
            Image.fromarray(picture(colour, 1000 * i + j)).save(folder / f"{name} {j}{suffix}")
    return root
