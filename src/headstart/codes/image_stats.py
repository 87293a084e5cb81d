"""Image statistics: size, brightness, contrast, sharpness, a perceptual hash (pHash) and a thumbnail of each photo.

Takes image references and their sha256; gives arrays with a row each, computed once a photo and then stored, so that photos
can be shown and compared without reading them again. A photo that is gone, or has changed since its sha256 was taken, has
zeros and no thumbnail.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from headstart.codes.shelf import Shelf
from headstart.codes.store import Store, chunks
from headstart.data.decoding import Failure, decode_and_apply
from headstart.data.tables import ImageRef, same_content_of
from headstart.engines.hardware import available_cores
from headstart.engines.ordered import Result, in_order
from headstart.progress import Progress

VERSION = 3  # raise it when anything below gives other numbers or pictures than before
LUMA_SIDE = 160  # pixels of the shorter side that numbers are measured at, so that they can be compared between photos
PICTURE_SIDE = 64  # pixels of a picture's shorter side
PICTURE_LONGEST = 128  # a panorama of 1:20 would fill its row otherwise
LAGS = (1, 4)  # pixels; see _sharpness
NOISE = 1e-5  # squared steps of luma: one grey level of 255, so that rounding alone says nothing of sharpness
QUALITIES = (80, 65, 50, 35, 20, 10, 5, 1)  # of JPEG: the first that fits; 80 or 65 does for nearly all photos of flowers
HEAD = [("width", "<i4"), ("height", "<i4"), ("brightness", "<f4"), ("contrast", "<f4"), ("sharpness", "<f4")]
ROW = np.dtype([*HEAD, ("n_bytes", "<i4"), ("hash", "<u8"), ("jpeg", "u1", 2_528)])
MIRROR_BITS = np.uint64(sum(1 << bit for bit in range(64) if bit % 2))  # of a hash: the odd columns, see _hash


@dataclass(frozen=True)
class ImageStats:
    """Statistics of n photos; one that is gone has zeros, and no picture.

    widths, heights: (n,) int32 pixels, upright. brightness: (n,) float32, mean luma in [0, 1]; contrast: (n,) float32, its
    standard deviation. sharpness: (n,) float32 in (0, 1], the same for a photo at any size: below 0.09 it is most likely
    blurred (benchmarks/duplicates.py), but for star fields, which start higher. hashes: (n,) uint64, perceptual: copies
    differ in few bits. pictures: n thumbnails, small JPEG files.
    """

    widths: np.ndarray
    heights: np.ndarray
    brightness: np.ndarray
    contrast: np.ndarray
    sharpness: np.ndarray
    hashes: np.ndarray
    pictures: tuple[bytes | None, ...]

    def numbers(self) -> list[np.ndarray]:
        """The arrays, without the pictures."""
        return [getattr(self, field.name) for field in fields(self) if field.name != "pictures"]

    def only(self, rows: np.ndarray) -> ImageStats:
        """The statistics of some of the photos; rows: (m,) positions."""
        arrays = {f.name: getattr(self, f.name)[rows] for f in fields(self) if f.name != "pictures"}
        return ImageStats(**arrays, pictures=tuple(self.pictures[i] for i in rows.tolist()))


class StatsWriter:
    """The statistics that the store holds, and those that are added to it. shelf: to be entered while rows are put."""

    def __init__(self, store: Store) -> None:
        recipe = {"version": VERSION, "preprocess": {"size": LUMA_SIDE}, "view": "original", "precision": "-"}
        self.shelf = Shelf(store, recipe, "glance", [ROW.itemsize // 2], is_whole=_is_whole)

    def wants(self, digest: bytes) -> bool:
        """Whether a photo's statistics are not stored."""
        return self.shelf.get(digest) is None

    def put(self, digest: bytes, row: bytes) -> None:
        """Store what `measure` gave."""
        self.shelf.put(digest, np.frombuffer(row, np.float16), None)


def compute_image_stats(
    images: Sequence[ImageRef],
    digests: Sequence[bytes],
    store: Store | None,
    *,
    threads: int | None = None,
    progress: Progress = lambda *_: None,
) -> ImageStats:
    """Measure every image, reading only those that the store does not hold; digests: the sha256 of each when it was listed.

    threads: by default as many as there are cores. Neither a photo nor a store that cannot be written raises an error.
    """
    rows: dict[bytes, bytes] = {}
    writer = StatsWriter(store) if store else None
    if writer:
        _fill_from_store(digests, writer.shelf, rows)
    todo = [i for i, digest in enumerate(digests) if digest not in rows]

    def compute(index: int, i: int) -> Result[int]:
        is_known = digests[i] in rows  # by now, of a copy
        return Result(index, i, None, None if is_known else _compute_row(images[i], digests[i]))

    stream = in_order(todo, compute, workers=max(1, min(threads or available_cores(), len(todo))))
    with writer.shelf if writer else contextlib.nullcontext(), contextlib.closing(stream):
        for done, result in enumerate(stream, start=1):
            digest, row = digests[result.item], result.instead
            if row is not None and digest not in rows:
                rows[digest] = row
                if writer:
                    writer.put(digest, row)
            progress("glance", done, len(todo))
    return _stack_rows([rows.get(digest, b"") for digest in digests])


def picture_of(pixels: np.ndarray) -> bytes:
    """Make the thumbnail, a JPEG file that fits into a row of the store, of (height, width, 3) uint8 RGB pixels."""
    import simplejpeg

    height, width = pixels.shape[:2]
    small = np.ascontiguousarray(
        _shrink(pixels, min(PICTURE_SIDE / min(height, width), PICTURE_LONGEST / max(height, width)))
    )
    for quality in QUALITIES:
        picture = simplejpeg.encode_jpeg(small, quality=quality, colorspace="RGB", colorsubsampling="420")
        if len(picture) <= ROW["jpeg"].itemsize:
            break
    return picture


def _fill_from_store(digests: Sequence[bytes], shelf: Shelf, rows: dict[bytes, bytes]) -> None:
    for chunk in chunks(list(dict.fromkeys(digests))):
        for digest, row in shelf.get_many(chunk).items():
            rows[digest] = row.tobytes()
    shelf.store.touch(list(rows))


def _is_whole(row: np.ndarray) -> bool:
    """Whether a stored row can be a photo's."""
    if row.nbytes != ROW.itemsize:
        return False
    fields = row.view(ROW)[0]
    numbers = [float(fields[name]) for name in ("brightness", "contrast", "sharpness")]
    has_size = fields["width"] > 0 and fields["height"] > 0 and 0 <= fields["n_bytes"] <= ROW["jpeg"].itemsize
    return bool(has_size and all(map(math.isfinite, numbers)))


def _compute_row(image: ImageRef, digest: bytes) -> bytes | None:
    """Compute one photo's row; None where it can no longer be read, or is another photo by now."""
    content = same_content_of(image, digest)
    row = content if isinstance(content, Failure) else decode_and_apply(content, measure)
    return None if isinstance(row, Failure) else row


def measure(pixels: np.ndarray) -> bytes:
    """Measure an image that was decoded at its full size, (height, width, 3) uint8; gives a row of the store."""
    row = np.zeros(1, ROW)
    row["height"], row["width"] = pixels.shape[:2]
    luma = _luma(pixels)
    row["brightness"], row["contrast"], row["sharpness"] = luma.mean(), luma.std(), _sharpness(luma)
    row["hash"] = _hash(luma)
    picture = picture_of(pixels)
    row["n_bytes"] = len(picture)
    row["jpeg"][0, : len(picture)] = np.frombuffer(picture, np.uint8)
    return row.tobytes()


def _luma(pixels: np.ndarray) -> np.ndarray:
    """Luma (ITU-R BT.601) in [0, 1], (h, w) float32, the shorter side LUMA_SIDE or what it was, if that was less."""
    import cv2

    grey = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY)
    return _shrink(grey, LUMA_SIDE / min(grey.shape)).astype(np.float32) / np.float32(255)


def _shrink(pixels: np.ndarray, factor: float) -> np.ndarray:
    import cv2

    height, width = pixels.shape[:2]
    if factor >= 1:
        return pixels
    return cv2.resize(pixels, (max(1, round(width * factor)), max(1, round(height * factor))), interpolation=cv2.INTER_AREA)


def _sharpness(luma: np.ndarray) -> float:
    """Measure sharpness: how much of the change over 4 pixels of luma happens within one.

    That is the ratio of luma's structure functions, mean squares of the differences at the two lags (Kolmogorov 1941), along
    the axis where it is less, for motion blurs along one.

    A gradient, or anything blurred by more than the lags, gives 1/16, edges about 1/4, noise and flat grey 1. Of 150 flower
    photos, blurred (Gaussian, sigma 2 pixels of 320; motion, 12) 98 and 99 % lie below the lowest 1 % of sharp ones, by
    the variance of the Laplacian over that of luma 85 and 32 %.
    """
    near, far = (
        [float(np.square(luma[lag:] - luma[:-lag]).mean()), float(np.square(luma[:, lag:] - luma[:, :-lag]).mean())]
        if min(luma.shape) > lag
        else [0.0, 0.0]
        for lag in LAGS
    )
    return min((n + NOISE) / (f + NOISE) for n, f in zip(near, far, strict=True))


def _hash(luma: np.ndarray) -> int:
    """Compute the perceptual hash: the signs of the 8 x 8 lowest frequencies of the cosine transform of luma at 32 x 32.

    pHash: Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010. Frequency (row, column) is at
    bit 8 row + column.

    Signs, not what lies above the median, so that a mirror image has the same hash but for MIRROR_BITS: it turns the sign of
    every odd column. The mean, at bit 0, is left out.
    """
    import cv2

    square = cv2.resize(luma, (32, 32), interpolation=cv2.INTER_AREA)
    lowest = cv2.dct(square)[:8, :8].reshape(-1)
    bits = lowest > NOISE
    bits[0] = False
    return int(np.packbits(bits, bitorder="little").view("<u8")[0])


def _stack_rows(rows: Sequence[bytes]) -> ImageStats:
    blank = bytes(ROW.itemsize)
    start = ROW.fields["jpeg"][1]  # type: ignore[index]
    heads = np.frombuffer(b"".join((row or blank)[:start] for row in rows), np.dtype(ROW.descr[:-1]))
    pictures = (row[start : start + n] if n else None for row, n in zip(rows, heads["n_bytes"].tolist(), strict=True))
    widths, heights, brightness, contrast, sharpness, hashes = (
        heads[name].copy() for name in ("width", "height", "brightness", "contrast", "sharpness", "hash")
    )
    return ImageStats(widths, heights, brightness, contrast, sharpness, hashes, tuple(pictures))
