"""Image formats, recognised by a file's first bytes and never by its extension."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

HEADER_BYTES = 64


class ImageFormat(NamedTuple):
    """A format: what its files begin with, and the class of Pillow that reads it."""

    name: str
    matches: Callable[[bytes], bool]
    pillow: str  # module and class in PIL


def _brands(header: bytes) -> set[bytes]:
    """The brands of an ISO media file (AVIF, HEIC): the major one and those it is compatible with."""
    if header[4:8] != b"ftyp":
        return set()
    length = min(int.from_bytes(header[:4], "big"), len(header))
    return {header[8:12], *(header[i : i + 4] for i in range(16, length - 3, 4))}


_BMP_HEADERS = {n.to_bytes(4, "little") for n in (12, 40, 52, 56, 64, 108, 124)}
FORMATS = (
    ImageFormat("JPEG", lambda h: h.startswith(b"\xff\xd8\xff"), "JpegImagePlugin.JpegImageFile"),
    ImageFormat("PNG", lambda h: h.startswith(b"\x89PNG\r\n\x1a\n"), "PngImagePlugin.PngImageFile"),
    ImageFormat("WebP", lambda h: h[:4] == b"RIFF" and h[8:12] == b"WEBP", "WebPImagePlugin.WebPImageFile"),
    ImageFormat("GIF", lambda h: h[:6] in (b"GIF87a", b"GIF89a"), "GifImagePlugin.GifImageFile"),
    ImageFormat("BMP", lambda h: h[:2] == b"BM" and h[14:18] in _BMP_HEADERS, "BmpImagePlugin.BmpImageFile"),
    ImageFormat("TIFF", lambda h: h[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), "TiffImagePlugin.TiffImageFile"),
    ImageFormat("AVIF", lambda h: bool(_brands(h) & {b"avif", b"avis"}), "AvifImagePlugin.AvifImageFile"),
    ImageFormat("HEIC", lambda h: bool(_brands(h) & {b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1"}), "heif"),
)
FORMAT_NAMES = ", ".join(f.name for f in FORMATS)


def is_image(header: bytes) -> bool:
    """Whether the first HEADER_BYTES of a file are those of one of FORMATS."""
    return any(image_format.matches(header) for image_format in FORMATS)
