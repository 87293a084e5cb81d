"""Decodes image files (JPEG, PNG, WebP, HEIC ...) to upright RGB pixels; a corrupt file becomes a Failure.

Takes paths, bytes, Pillow images or arrays; gives (height, width, 3) uint8 RGB, or a Failure. It decides by content, never
by extension: which format it is, which way is up, what replaces transparency, and what is too large.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import stat
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, TypeVar

import numpy as np

from headstart.data.exif import exif_of_jpeg, exif_orientation, upright
from headstart.data.formats import FORMAT_NAMES, FORMATS, HEADER_BYTES, ImageFormat
from headstart.data.pixel_budget import IN_FLIGHT, PixelLease

if TYPE_CHECKING:
    from PIL import Image


BAND_PIXELS = 1_000_000  # that are converted at once: a large image is held once, not once for each conversion
HEAVY = ("WEBP", "AVIF", "HEIC", "TIFF")  # up to 16 bytes a pixel while they are decoded, others 7: their pixels count twice
MAX_PIXELS = 200_000_000
MAX_BYTES = 2 << 30

T = TypeVar("T")
ImageSource: TypeAlias = "str | os.PathLike[str] | bytes | Image.Image | np.ndarray"


class Failure(NamedTuple):
    """Why one image could not be used: `status` is one of FAILURES, `reason` a sentence for people."""

    status: str
    reason: str


FAILURES = ("missing", "unreadable", "empty", "not an image", "unsupported", "broken", "too large")


class _Refused(Exception):
    """Carries a Failure out of a decoder; is never raised out of this module."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.failure = Failure(status, reason)


def decode_and_apply(source: ImageSource, function: Callable[[np.ndarray], T], *, shorter_side: int = 0) -> T | Failure:
    """Decode one image, wherever it is, and give what a function returns for its (height, width, 3) uint8 RGB pixels.

    The pixels count in the budget of all threads (see pixel_budget) until the function has returned.
    """

    def decode_within_budget() -> T:
        with IN_FLIGHT.of_one_image() as lease:
            return function(_pixels(source, shorter_side, lease))

    return _catch_failure(decode_within_budget)


def read_bytes(path: str | os.PathLike[str]) -> bytes | Failure:
    """Read a file whole if it begins as an image does; nothing else is read further than its first bytes."""
    return _catch_failure(lambda: _read(path))


def decode(data: bytes, *, shorter_side: int = 0) -> np.ndarray | Failure:
    """Decode a file's bytes to (height, width, 3) uint8 RGB, upright, transparency on white.

    The pixels no longer count in the budget: it is for one image at a time; threads use `decode_and_apply`. shorter_side: in
    pixels; a JPEG may be decoded at half its size or less, as long as its shorter side keeps that many. 0: at full size.
    """
    return decode_and_apply(data, lambda pixels: pixels, shorter_side=shorter_side)


def _catch_failure(step: Callable[[], T]) -> T | Failure:
    try:
        return step()
    except _Refused as refused:
        return refused.failure
    except MemoryError:
        return Failure("too large", "there is not enough memory to read it")


def _pixels(source: ImageSource, shorter_side: int, lease: PixelLease) -> np.ndarray:
    if isinstance(source, (str, os.PathLike)):
        source = _read(source)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _decode(bytes(source), shorter_side, lease)
    return _from_array(source, lease) if isinstance(source, np.ndarray) else _from_pillow(source, lease)


def _read(path: str | os.PathLike[str]) -> bytes:
    try:
        with open(path, "rb", opener=_open_plain_file) as file:
            header = file.read(HEADER_BYTES)
            if not header:
                raise _Refused("empty", "the file is empty")
            _format_of(header)
            if os.fstat(file.fileno()).st_size > MAX_BYTES:
                raise _Refused("too large", f"the file has more than {MAX_BYTES >> 30} GiB")
            return header + file.read()
    except (FileNotFoundError, NotADirectoryError):
        raise _Refused("missing", "no such file") from None
    except IsADirectoryError:
        raise _Refused("unreadable", "it is a folder") from None
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL character
        raise _Refused("unreadable", getattr(error, "strerror", None) or str(error)) from None


def _open_plain_file(path: str, flags: int) -> int:
    """Open without waiting, so that a named pipe among the photos cannot hang the run."""
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise IsADirectoryError if stat.S_ISDIR(mode) else OSError(0, "it is not a regular file")
    return descriptor


def _format_of(header: bytes) -> ImageFormat:
    for image_format in FORMATS:
        if image_format.matches(header):
            return image_format
    raise _Refused("not an image", f"its content is none of {FORMAT_NAMES}")


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise _Refused("too large", f"{width} x {height} pixels; headstart reads up to {MAX_PIXELS // 10**6} megapixels")
    if width * height == 0:
        raise _Refused("broken", "it has no pixels")


def _decode(data: bytes, shorter_side: int, lease: PixelLease) -> np.ndarray:
    if not data:
        raise _Refused("empty", "the file is empty")
    image_format = _format_of(data[:HEADER_BYTES])
    if image_format.name == "JPEG":
        pixels = _decode_jpeg(data, shorter_side, lease)
        if pixels is not None:
            return pixels
        lease.give_back()  # Pillow decodes it at its full size
    return _decode_with_pillow(data, image_format, lease)


def _decode_jpeg(data: bytes, shorter_side: int, lease: PixelLease) -> np.ndarray | None:
    """Decode a JPEG fast; None for what simplejpeg refuses (CMYK, unusual subsampling, damage that Pillow forgives)."""
    import simplejpeg

    try:
        height, width, colourspace, _ = simplejpeg.decode_jpeg_header(data)
        _check_size(width, height)
        if colourspace in ("CMYK", "YCCK"):
            return None
        least = shorter_side if shorter_side and min(height, width) >= 2 * shorter_side else 0
        eighths = int(np.ceil(8 * least / min(height, width))) if least else 8  # libjpeg's scales
        lease.take(max(1, height * width * eighths**2 // 64))
        pixels = simplejpeg.decode_jpeg(data, "RGB", min_height=least, min_width=least)
    except ValueError:
        return None
    return upright(pixels, exif_orientation(exif_of_jpeg(data)))


def _decode_with_pillow(data: bytes, image_format: ImageFormat, lease: PixelLease) -> np.ndarray:
    """Decode by the plugin's own class: Image.open would warn about, or refuse, photos of more than 89 megapixels."""
    with _refuse_on_error(image_format.name):
        if image_format.name == "HEIC":
            return _upright_rgb(_open_heif(data, lease), lease)
        module, name = image_format.pillow.split(".")
        return _upright_rgb(getattr(importlib.import_module(f"PIL.{module}"), name)(io.BytesIO(data)), lease)


def _open_heif(data: bytes, lease: PixelLease) -> Image.Image:
    """Open HEIC with pillow-heif, or with its sibling without the GPL encoder, which our extra installs."""
    for package in ("pillow_heif", "pi_heif"):
        with contextlib.suppress(ImportError):
            file = importlib.import_module(package).open_heif(io.BytesIO(data))
            _check_size(*file.size)
            _take_pixels(lease, file.size, "HEIC")
            return file.to_pillow()
    raise _Refused("unsupported", "HEIC needs an optional package: pip install 'headstart[heic]'")


def _take_pixels(lease: PixelLease, size: tuple[int, int], image_format: str | None) -> None:
    lease.take(size[0] * size[1] * (2 if image_format in HEAVY else 1))


def _from_pillow(image: Image.Image, lease: PixelLease) -> np.ndarray:
    from PIL import Image

    if not isinstance(image, Image.Image):
        raise TypeError(f"an image is a path, bytes, a Pillow image or an array, not {type(image).__name__}")
    with _refuse_on_error("the Pillow image"):
        return _upright_rgb(image, lease)


@contextlib.contextmanager
def _refuse_on_error(what: str) -> Iterator[None]:
    """Raise _Refused for whatever a decoder raises: hostile bytes make it struct.error, IndexError, SyntaxError ..."""
    from PIL import Image

    try:
        yield
    except (_Refused, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise _Refused("too large", str(error)) from None
    except Exception as error:  # noqa: BLE001
        raise _Refused("broken", f"{what} cannot be decoded: {str(error) or type(error).__name__}") from None


def _upright_rgb(image: Image.Image, lease: PixelLease) -> np.ndarray:
    """Give a Pillow image's (height, width, 3) pixels, transparency on white."""
    _check_size(*image.size)
    _take_pixels(lease, image.size, image.format)
    image.load()  # first, for it is then that Pillow turns a TIFF upright itself, and takes the tag away
    try:
        orientation = int(image.getexif().get(0x0112, 1))
    except Exception:  # noqa: BLE001  a damaged tag is no reason to lose the photo
        orientation = 1
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    if image.mode.startswith("I") or image.mode == "F":
        white = _white_level(image)
        for rows, band in _split_into_bands(image):
            pixels[rows] = _grey_to_8_bits(np.asarray(band), white)[:, :, None]
    else:
        is_transparent = image.has_transparency_data
        for rows, band in _split_into_bands(image):
            pixels[rows] = np.asarray(_on_white(band) if is_transparent else band.convert("RGB"))
    return upright(pixels, orientation)


def _split_into_bands(image: Image.Image) -> Iterator[tuple[slice, Image.Image]]:
    """Yield an image's rows, some at a time: to convert all of them at once takes the memory of another image."""
    height = max(1, BAND_PIXELS // image.width)
    for top in range(0, image.height, height):
        bottom = min(top + height, image.height)
        is_all = bottom - top == image.height
        yield slice(top, bottom), image if is_all else image.crop((0, top, image.width, bottom))


def _on_white(image: Image.Image) -> Image.Image:
    from PIL import Image

    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def _white_level(image: Image.Image) -> float:
    """The grey value of an image of 16 or 32 bits, whole or floating, that becomes white.

    16 bits are scaled by their range, never by their content, so that every image of a set is treated alike. 32 bits have
    no agreed range: the smallest of 1 (floating only), 255 and 65535 that holds the values, else their own maximum.
    """
    if image.mode.startswith("I;16"):
        return 65535.0
    top = max(float(_finite_values(np.asarray(band)).max(initial=0.0)) for _, band in _split_into_bands(image))
    return next((r for r in ((1.0, 255.0, 65535.0) if image.mode == "F" else (255.0, 65535.0)) if top <= r), top)


def _finite_values(values: np.ndarray) -> np.ndarray:
    return np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)


def _grey_to_8_bits(values: np.ndarray, white: float) -> np.ndarray:
    """Bring grey values of 16 or 32 bits, whole or floating, to uint8."""
    if values.dtype.kind == "u" and values.dtype.itemsize == 2:  # of either byte order
        return (values >> 8).astype(np.uint8)
    return np.clip(np.rint(_finite_values(values) * (255.0 / white)), 0, 255).astype(np.uint8)


def _from_array(pixels: np.ndarray, lease: PixelLease) -> np.ndarray:
    """Take (h, w, 3) RGB, (h, w, 4) RGBA or (h, w) grey, uint8, as an image."""
    from PIL import Image

    grey = pixels.ndim == 2
    if pixels.dtype != np.uint8 or not (grey or (pixels.ndim == 3 and pixels.shape[2] in (3, 4))):
        raise _Refused(
            "unsupported",
            f"an array of shape {pixels.shape} and type {pixels.dtype}; expected (height, width, 3) of uint8, RGB",
        )
    _check_size(pixels.shape[1], pixels.shape[0])
    if grey:
        return np.repeat(pixels[:, :, None], 3, axis=2)
    return pixels if pixels.shape[2] == 3 else _from_pillow(Image.fromarray(pixels), lease)
