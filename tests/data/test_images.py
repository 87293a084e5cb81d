"""Whatever a file holds becomes upright RGB pixels, or a Failure that says why not; nothing that it holds can end a run."""

import base64
import contextlib
import io
import os
import socket
import struct
import sys
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from headstart.data.decoding import FAILURES, Failure, decode, read_bytes
from headstart.data.formats import FORMATS
from headstart.data.images import Preprocess, crop_and_resize, display_name, load_image

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (30, 40, 220), "yellow": (240, 240, 60)}
NAMES = list(COLOURS)
SQUARE = Preprocess(32, crop=1.0)
ORIENTATION = 0x0112
# How the camera stored what is upright `red green / blue yellow`, for each value of the tag (Exif 2.3, 4.6.4).
STORED = {
    1: np.asarray,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a, -1),
}
# 64 x 48 pixels of PICTURE, as pillow-heif writes them; kept as text, for our extra can only read HEIC.
HEIC = base64.b64decode(
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAX1tZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAAACJpbG9jAAAAAERAAA"
    "EAAQAAAAABoQABAAAAAAAAAJYAAAAjaWluZgAAAAAAAQAAABVpbmZlAgAAAAABAABodmMxAAAAAA5waXRtAAAAAAABAAAA/WlwcnAAAADdaXBjbwAAAHZo"
    "dmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH//wNwAAADAJAAAAMAAAMAHroCQGEAAQAqQgEBA3AAAAMAkAAAAwAAAwAeoCCBBZbq5Ka5uA"
    "hoMCAAAAMDIAAAAwAhYgABAAZEAcFzwIkAAAATY29scm5jbHgAAQANAAaAAAAAFGlzcGUAAAAAAAAAQAAAAEAAAAAoY2xhcAAAAEAAAAABAAAAMAAAAAEA"
    "AAAAAAAAAv////AAAAACAAAAEHBpeGkAAAAAAwgICAAAABhpcG1hAAAAAAAAAAEAAQWBAgMFhAAAAJ5tZGF0AAAAkigBrxOA5TH3/7f5P9+jP8kyZk6gxC"
    "/6fj7qAb+lxLEG46eJ87y/scv8oiiCjQL2sbQoPUwpK8BrqTNvSgdH6SFcVLF84Xt/wOmB2xGWHz+LbAnE0wF2LtjQzkISRngAeffX92RKAPXVyP1POsjZ"
    "gliGOLDu2eu5hURcqcrkmgm5rVaLob612urj0EtddevglChg"
)


def quarters(width: int = 64, height: int = 48) -> np.ndarray:
    """Red and green above, blue and yellow below: tells every way that a picture can be turned."""
    pixels = np.zeros((height, width, 3), np.uint8)
    for i, colour in enumerate(COLOURS.values()):
        pixels[i // 2 * height // 2 :, i % 2 * width // 2 :] = colour
    return pixels


PICTURE = Image.fromarray(quarters())


def encoded(image: Image.Image, image_format: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def exif(orientation: int) -> bytes:
    tags = Image.Exif()
    tags[ORIENTATION] = orientation
    return tags.tobytes()


def corners(pixels: np.ndarray) -> list[str]:
    """The names of the colours in the four quarters, row by row."""
    assert isinstance(pixels, np.ndarray), pixels
    assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3
    height, width = pixels.shape[:2]
    seen = [pixels[y * height // 4, x * width // 4].astype(int) for y in (1, 3) for x in (1, 3)]
    distances = [[np.abs(colour - pixel).max() for colour in COLOURS.values()] for pixel in seen]
    assert np.min(distances, axis=1).max() <= 12, "a colour that is not in the picture"
    return [NAMES[np.argmin(d)] for d in distances]


FILES = {
    "JPEG": encoded(PICTURE, "JPEG"),
    "PNG": encoded(PICTURE, "PNG"),
    "WebP": encoded(PICTURE, "WEBP"),
    "GIF": encoded(PICTURE, "GIF"),
    "BMP": encoded(PICTURE, "BMP"),
    "TIFF": encoded(PICTURE, "TIFF", compression="tiff_lzw"),
    "AVIF": encoded(PICTURE, "AVIF"),
    "HEIC": HEIC,
}


def test_every_format_of_the_table_is_tested():
    assert list(FILES) == [f.name for f in FORMATS]


# ---- what is decoded


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("suffix", [".jpg", ".txt", ""])
def test_the_content_decides_whatever_the_extension_says(name, suffix, tmp_path):
    path = tmp_path / f"photo{suffix}"
    path.write_bytes(FILES[name])
    assert corners(load_image(path, SQUARE)) == NAMES
    assert decode(read_bytes(path)).shape == (48, 64, 3)


@pytest.mark.parametrize("package", ["pi_heif", "pillow_heif"])
def test_heic_by_either_package(package, monkeypatch):
    pytest.importorskip(package)
    other = {"pi_heif": "pillow_heif", "pillow_heif": "pi_heif"}[package]
    monkeypatch.setitem(sys.modules, other, None)
    assert corners(decode(HEIC)) == NAMES


def test_heic_without_its_package_says_which_line_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    failure = decode(HEIC)
    assert failure.status == "unsupported"
    assert "pip install 'headstart[heic]'" in failure.reason


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize(
    ("image_format", "mode"),
    [("JPEG", "RGB"), ("JPEG", "CMYK"), ("PNG", "RGB"), ("WEBP", "RGB"), ("TIFF", "RGB"), ("AVIF", "RGB")],
)
def test_all_eight_orientations_give_the_same_upright_picture(image_format, mode, orientation):
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](quarters()))).convert(mode)
    upright = decode(encoded(stored, image_format, exif=exif(orientation)))
    assert corners(upright) == NAMES
    assert upright.shape == (48, 64, 3)


@pytest.mark.parametrize("orientation", STORED)
def test_a_pillow_image_is_turned_by_its_exif(orientation, tmp_path):
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](quarters())))
    for image_format in ("JPEG", "TIFF"):
        with Image.open(io.BytesIO(encoded(stored, image_format, exif=exif(orientation)))) as image:
            assert corners(load_image(image, SQUARE)) == NAMES
    stored.getexif()[ORIENTATION] = orientation
    assert corners(load_image(stored, SQUARE)) == NAMES


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_means_upright(value):
    assert corners(decode(encoded(PICTURE, "JPEG", exif=exif(value)))) == NAMES


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2, "big") + body


def with_segments(jpeg: bytes, *segments: bytes) -> bytes:
    return jpeg[:2] + b"".join(segments) + jpeg[2:]


def test_exif_is_found_behind_other_segments_and_not_in_what_follows_the_picture():
    turned = encoded(Image.fromarray(np.rot90(quarters(), 1)), "JPEG")
    tag = segment(0xE1, exif(6))
    profile = segment(0xE2, b"ICC_PROFILE\0" + bytes(60_000))
    assert corners(decode(with_segments(turned, profile, profile, b"\xff", tag))) == NAMES
    assert corners(decode(FILES["JPEG"] + segment(0xE1, exif(6)))) == NAMES
    assert corners(decode(with_segments(FILES["JPEG"], segment(0xFE, b"a comment about Exif\0\0" + exif(6)[6:])))) == NAMES


@given(cut=st.integers(0, 40), noise=st.lists(st.tuples(st.integers(0, 39), st.integers(0, 255)), max_size=3))
@settings(max_examples=60, deadline=None)
def test_a_damaged_exif_loses_no_photo(cut, noise):
    tag = bytearray(exif(1).ljust(40, b"\0"))
    for position, value in noise:
        tag[position] = value
    pixels = decode(with_segments(FILES["JPEG"], segment(0xE1, bytes(tag[: len(tag) - cut]))))
    assert sorted(corners(pixels)) == sorted(NAMES)


@given(
    orientation=st.integers(1, 8),
    others=st.dictionaries(st.sampled_from([0x010E, 0x010F, 0x0110, 0x0131, 0x9003]), st.text("abc", max_size=9)),
    date=st.integers(0, 2**32 - 1),
)
@settings(max_examples=100, deadline=None)
def test_the_orientation_is_found_among_other_tags_in_both_byte_orders(orientation, others, date):
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](quarters())))
    for endian in "<>":
        tags = Image.Exif()
        tags.endian = endian
        tags.update({**others, ORIENTATION: orientation, 0x0100: date})
        assert corners(decode(with_segments(encoded(stored, "JPEG"), segment(0xE1, tags.tobytes())))) == NAMES


def test_a_turned_photo_with_its_orientation_as_a_long_number():
    tiff = b"MM\0*" + struct.pack(">LH", 8, 1) + struct.pack(">HHLL", ORIENTATION, 4, 1, 6) + bytes(4)
    turned = encoded(Image.fromarray(np.rot90(quarters(), 1)), "JPEG")
    assert corners(decode(with_segments(turned, segment(0xE1, b"Exif\0\0" + tiff)))) == NAMES


RAMP = np.repeat(np.arange(256, dtype=np.uint8)[None], 48, axis=0)


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "TIFF", "BMP", "GIF"])
def test_grey_is_the_same_in_three_channels(image_format):
    pixels = decode(encoded(Image.fromarray(RAMP), image_format))
    assert np.abs(pixels.astype(int) - RAMP[:, :, None]).max() <= 3


def grey_tiff(values: np.ndarray) -> bytes:
    """An uncompressed grey TIFF in the byte order of the array, of any depth."""
    big = values.dtype.byteorder == ">"
    order, kind = ("MM", ">") if big else ("II", "<")
    height, width = values.shape
    sample_format = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    tags = {256: width, 257: height, 258: 8 * values.itemsize, 259: 1, 262: 1, 273: 8, 277: 1, 278: height}
    tags |= {279: values.nbytes, 339: sample_format}
    entries = b"".join(struct.pack(kind + "HHLL", tag, 4, 1, value) for tag, value in tags.items())
    header = order.encode() + struct.pack(kind + "HL", 42, 8 + values.nbytes)
    return header + values.tobytes() + struct.pack(kind + "H", len(tags)) + entries + bytes(4)


@pytest.mark.parametrize("dark", [False, True])
def test_sixteen_bits_are_scaled_by_their_range_and_not_by_what_they_hold(dark):
    wide = RAMP.astype(np.uint16) * 257 // (100 if dark else 1)
    files = {
        "PNG": encoded(Image.fromarray(wide), "PNG"),
        "little-endian": grey_tiff(wide.astype("<u2")),
        "big-endian": grey_tiff(wide.astype(">u2")),
    }
    for name, data in files.items():
        assert np.array_equal(decode(data)[:, :, 1], wide >> 8), name


@pytest.mark.parametrize(
    ("dtype", "white"),
    [
        ("<f4", 1.0),
        (">f4", 1.0),
        ("<f4", 255.0),
        ("<f4", 65535.0),
        ("<f4", 1e6),
        ("<i4", 255),
        ("<i4", 65535),
        ("<i4", 10**6),
    ],
)
def test_thirty_two_bits_are_scaled_by_the_range_that_holds_them(dtype, white):
    values = (RAMP / 255 * white).astype(dtype)
    pixels = decode(grey_tiff(values))
    assert np.abs(pixels[:, :, 0].astype(int) - RAMP).max() <= 1


def test_numbers_that_are_no_numbers_are_black():
    values = (RAMP / 255).astype("<f4")
    values[0, :4] = np.nan, np.inf, -np.inf, -5
    pixels = decode(grey_tiff(values))
    assert pixels[0, :4].max() == 0 and pixels[0, 255].min() == 255


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "HSV", "RGBA", "PA", "RGBX", "LAB", "I", "F", "LA"])
def test_a_pillow_image_of_any_mode(mode):
    stripes = Image.new("L", (64, 48), "white")
    stripes.paste(0, (0, 0, 32, 48))
    image = stripes.convert("RGB").convert(mode) if mode != "LAB" else Image.new("LAB", (64, 48), (255, 128, 128))
    pixels = load_image(image, SQUARE)
    assert pixels[16, 28].min() >= 245
    assert mode == "LAB" or pixels[16, 4].max() <= 10


def transparent(mode: str) -> Image.Image:
    """A black square with its left half seen through; a palette has one colour for that."""
    if mode == "P":
        image = Image.new("P", (64, 48), 0)
        image.putpalette([0, 0, 0, 1, 1, 1])
        image.paste(1, (0, 0, 32, 48))
        image.info["transparency"] = 1
        return image
    alpha = Image.new("L", (64, 48), 255)
    alpha.paste(0, (0, 0, 32, 48))
    image = Image.new("L", (64, 48), 0)
    image.putalpha(alpha)
    return image.convert(mode)


@pytest.mark.parametrize(
    ("mode", "image_format"),
    [("RGBA", "PNG"), ("LA", "PNG"), ("P", "PNG"), ("P", "GIF"), ("RGBA", "WEBP"), ("RGBA", "TIFF"), ("RGBA", "AVIF")],
)
def test_white_lies_behind_transparency(mode, image_format):
    pixels = decode(encoded(transparent(mode), image_format))
    assert pixels[24, 16].min() >= 250
    assert pixels[24, 48].max() <= 8


def test_half_transparent_is_half_white():
    assert decode(encoded(Image.new("RGBA", (8, 8), (0, 0, 0, 128)), "PNG"))[4, 4].tolist() == [127, 127, 127]


def test_a_palette_with_many_degrees_of_transparency():
    image = Image.new("P", (3, 1))
    image.putpalette([0, 0, 0] * 3)
    image.putdata([0, 1, 2])
    assert decode(encoded(image, "PNG", transparency=bytes([0, 128, 255])))[0, :, 0].tolist() == [255, 127, 0]


@pytest.mark.parametrize("image_format", ["GIF", "WEBP", "TIFF", "PNG"])
def test_the_first_frame_counts(image_format):
    frames = [Image.new("RGB", (64, 48), colour) for colour in ("black", "white")]
    options = {"lossless": True} if image_format == "WEBP" else {}
    data = encoded(PICTURE, image_format, save_all=True, append_images=frames, **options)
    assert corners(decode(data)) == NAMES


# ---- JPEG: the fast way, and the other


@pytest.mark.parametrize(
    "options",
    [
        {"progressive": True},
        {"subsampling": "4:4:4"},
        {"subsampling": "4:2:2"},
        {"subsampling": "4:1:1"},
        {"keep_rgb": True},
    ],
)
def test_kinds_of_jpeg(options):
    assert corners(decode(encoded(PICTURE, "JPEG", **options))) == NAMES


def test_cmyk_jpeg():
    assert corners(decode(encoded(PICTURE.convert("CMYK"), "JPEG"))) == NAMES


def odd_jpeg() -> bytes:
    """A grey 32 x 16 JPEG, 50 on the left and 200 on the right, whose chroma is subsampled 4 x 2: one block for eight."""
    codes = {0: "0", 7: "10", 8: "110"}  # Huffman codes of the sizes in bits that occur
    steps = [50 - 128, 0, 150, 0, -150, 0, 150, 0, 0, 0]  # from each block's mean to the next one's: 8 Y, Cb, Cr
    bits = ""
    for step in steps:
        size = abs(step).bit_length()
        bits += codes[size] + (f"{step if step > 0 else step + 2**size - 1:0{size}b}" if size else "") + "0"
    bits += "1" * (-len(bits) % 8)
    return b"".join(
        [
            b"\xff\xd8",
            segment(0xDB, bytes([0] + [8] * 64)),
            segment(0xC0, bytes([8, 0, 16, 0, 32, 3, 1, 0x42, 0, 2, 0x11, 0, 3, 0x11, 0])),
            segment(0xC4, bytes([0x00, 1, 1, 1] + [0] * 13 + [0, 7, 8]) + bytes([0x10, 1] + [0] * 15 + [0])),
            segment(0xDA, bytes([3, 1, 0, 2, 0, 3, 0, 0, 63, 0])),
            int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0"),
            b"\xff\xd9",
        ]
    )


def test_what_the_fast_decoder_refuses_is_decoded_the_slow_way(monkeypatch):
    with pytest.raises(ValueError, match="subsampling"):
        simplejpeg.decode_jpeg(odd_jpeg())
    pixels = decode(odd_jpeg())
    assert pixels.shape == (16, 32, 3)
    assert (pixels[8, 4] == 50).all() and (pixels[8, 28] == 200).all()
    monkeypatch.setattr(simplejpeg, "decode_jpeg", lambda *_, **__: (_ for _ in ()).throw(ValueError("no")))
    assert corners(decode(encoded(Image.fromarray(np.rot90(quarters(), 1)), "JPEG", exif=exif(6)))) == NAMES


def landscape(width: int, height: int) -> np.ndarray:
    """Smooth shapes with a sharp edge and some grain, as photos have them."""
    y, x = np.mgrid[0:height, 0:width] / max(width, height)
    waves = np.stack([np.sin(9 * x + 3 * y), np.cos(7 * y), np.sin(20 * x * y)], axis=2) * 90 + 128
    waves[y > x] *= 0.6
    return np.clip(waves + np.random.default_rng(0).normal(0, 6, waves.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("size", [(800, 600), (1500, 2000), (3000, 700)])
def test_large_jpegs_are_decoded_whole_so_that_the_answer_is_everywhere_the_same(size):
    data = simplejpeg.encode_jpeg(landscape(*size), quality=90)
    np.testing.assert_array_equal(crop_and_resize(decode(data), Preprocess(128)), load_image(data, Preprocess(128)))


@given(width=st.integers(1, 900), height=st.integers(1, 900), wanted=st.integers(0, 400))
@settings(max_examples=60, deadline=None)
def test_scaled_decoding_never_falls_below_what_is_wanted(width, height, wanted):
    pixels = decode(simplejpeg.encode_jpeg(np.zeros((height, width, 3), np.uint8)), shorter_side=wanted)
    assert min(pixels.shape[:2]) >= min(wanted or 10_000, width, height)
    assert abs(pixels.shape[1] / width - pixels.shape[0] / height) <= 1 / min(width, height)
    assert wanted or pixels.shape == (height, width, 3)


# ---- sizes and ways in


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (2, 3), (33, 31)])
@pytest.mark.parametrize("resample", ["area", "bilinear", "bicubic"])
@pytest.mark.parametrize("crop", [0.875, 1.0])
def test_any_size_becomes_the_square(size, resample, crop):
    image = Image.new("RGB", size, (220, 30, 30))
    for image_format in ("PNG", "JPEG"):
        pixels = load_image(encoded(image, image_format), Preprocess(24, crop, resample))
        assert pixels.shape == (24, 24, 3)
        assert np.abs(pixels.astype(int) - (220, 30, 30)).max() <= 4


def test_the_central_square_is_kept():
    wide = np.zeros((100, 300, 3), np.uint8)
    wide[:, 100:200] = 255
    assert load_image(wide, Preprocess(20, crop=1.0)).min() == 255
    tall = wide.swapaxes(0, 1)
    tall = np.where(np.indices(tall.shape[:2])[1][:, :, None] % 99 < 12, 0, tall).astype(np.uint8)
    assert load_image(tall, Preprocess(20, crop=0.75)).min() == 255


def test_one_answer_by_every_way_in(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (61, 83, 3), np.uint8)
    image = Image.fromarray(noise)
    data = encoded(image, "PNG")
    path = tmp_path / "photo.png"
    path.write_bytes(data)
    with Image.open(path) as opened:
        ways = [path, str(path), data, bytearray(data), memoryview(data), image, opened, noise, noise[::-1][::-1]]
        answers = [load_image(way, Preprocess(40)) for way in ways]
    for answer in answers:
        assert np.array_equal(answer, crop_and_resize(noise, Preprocess(40)))


def test_arrays_that_are_images():
    array = quarters()
    assert corners(load_image(array, SQUARE)) == NAMES
    assert corners(load_image(np.asfortranarray(array), SQUARE)) == NAMES
    assert corners(load_image(array[:, ::-1], SQUARE)) == ["green", "red", "yellow", "blue"]
    opaque = np.dstack([array, np.full((48, 64), 255, np.uint8)])
    assert corners(load_image(opaque, SQUARE)) == NAMES
    assert load_image(opaque * np.uint8([1, 1, 1, 0]), SQUARE).min() == 255
    grey = load_image(np.full((20, 30), 77, np.uint8), SQUARE)
    assert grey.shape == (32, 32, 3) and (grey == 77).all()


@pytest.mark.parametrize(
    "array",
    [
        quarters() / 255,
        quarters().astype(np.int64),
        quarters().astype(np.uint16),
        quarters() > 100,
        quarters().astype(object),
        quarters()[None],
        quarters()[:, :, :2],
        quarters().ravel(),
        np.array(3, np.uint8),
        np.array(["photo.jpg"]),
    ],
    ids=lambda a: f"{a.dtype}{a.shape}",
)
def test_arrays_that_are_not_images_say_what_they_are(array):
    failure = load_image(array, SQUARE)
    assert failure.status == "unsupported"
    assert str(array.shape) in failure.reason and str(array.dtype) in failure.reason


@pytest.mark.parametrize("source", [None, 3, 2.5, ["photo.jpg"], object()])
def test_what_is_no_image_at_all_is_a_mistake_of_the_caller(source):
    with pytest.raises(TypeError, match="an image is a path, bytes, a Pillow image or an array"):
        load_image(source, SQUARE)


@pytest.mark.parametrize("empty", [np.zeros((0, 5, 3), np.uint8), np.zeros((5, 0), np.uint8), Image.new("RGB", (0, 7))])
def test_pictures_without_pixels(empty):
    assert load_image(empty, SQUARE) == Failure("broken", "it has no pixels")


def test_a_pillow_image_that_cannot_be_loaded():
    data = encoded(Image.effect_noise((64, 48), 90), "PNG")
    with Image.open(io.BytesIO(data[: len(data) // 2])) as lazy:
        assert load_image(lazy, SQUARE).status == "broken"
    assert load_image(Image.new("La", (4, 4)), SQUARE).status == "broken"


def test_pixels_cannot_be_changed_through_the_image_that_they_came_from():
    array = quarters()
    before = load_image(array, SQUARE).copy()
    pixels = load_image(array, SQUARE)
    array[:] = 0
    assert np.array_equal(pixels, before)


def test_what_images_are_called_in_a_table(tmp_path):
    assert display_name(tmp_path / "a b.jpg") == str(tmp_path / "a b.jpg")
    assert display_name("photos/a.jpg") == "photos/a.jpg"
    assert display_name(b"\xff\xd8") == "<bytes>"
    assert display_name(quarters()) == "<ndarray>"


# ---- what cannot be used


@pytest.mark.parametrize(
    "data",
    [b"hello", b"\0" * 100, b"%PDF-1.7", b"<svg/>", b"<!doctype html>", b"PK\x03\x04", b"\x89PNG", b"BM is no bitmap"],
)
def test_what_is_no_image_is_told_by_its_first_bytes(data, tmp_path):
    path = tmp_path / "holiday.jpg"
    path.write_bytes(data)
    for failure in (load_image(path, SQUARE), read_bytes(path), decode(data)):
        assert failure.status == "not an image"
        assert "JPEG, PNG" in failure.reason


def test_empty(tmp_path):
    (tmp_path / "empty.jpg").touch()
    failures = [load_image(tmp_path / "empty.jpg", SQUARE), read_bytes(tmp_path / "empty.jpg"), decode(b"")]
    assert {f.status for f in failures} == {"empty"}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("share", [0.12, 0.3, 0.5, 0.85])
def test_truncated_files_are_broken(name, share):
    data = FILES[name]
    failure = decode(data[: int(len(data) * share)])
    assert failure.status in ("broken", "not an image") and failure.reason
    assert failure.status == "broken" or int(len(data) * share) < 20


def png_of(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    head = (b"IHDR", struct.pack(">LLBBBBB", width, height, 8, 2, 0, 0, 0))
    parts = [
        struct.pack(">L", len(body)) + kind + body + struct.pack(">L", zlib.crc32(kind + body))
        for kind, body in (head, *chunks)
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def jpeg_of(width: int, height: int) -> bytes:
    at = FILES["JPEG"].index(b"\xff\xc0")
    return FILES["JPEG"][: at + 5] + struct.pack(">HH", height, width) + FILES["JPEG"][at + 9 :]


def webp_of(width: int, height: int) -> bytes:
    body = b"WEBPVP8X" + struct.pack("<LL", 10, 0) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"RIFF" + struct.pack("<L", len(body) + 30) + body + b"VP8 " + bytes(26)


@contextlib.contextmanager
def at_most(mb: int):
    """The block takes no more memory than that; seen only where Linux tells of a process's peak."""

    def peak() -> int:
        with contextlib.suppress(OSError, ValueError, StopIteration):
            lines = Path("/proc/self/status").read_text().splitlines()
            return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
        return 0

    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew from here
    before = peak()
    yield
    assert (peak() - before) / 1024 < mb


HUGE = {
    "PNG": png_of(60_000, 60_000, (b"IDAT", zlib.compress(bytes(1000)))),
    "JPEG": jpeg_of(20_000, 20_000),
    "GIF": b"GIF89a" + struct.pack("<HHBBB", 60_000, 60_000, 0, 0, 0) + FILES["GIF"][13:],
    "BMP": FILES["BMP"][:18] + struct.pack("<ll", 20_000, 20_000) + FILES["BMP"][26:],
    "TIFF": grey_tiff(RAMP).replace(struct.pack("<HHLL", 256, 4, 1, 256), struct.pack("<HHLL", 256, 4, 1, 10**7)),
    "WebP": webp_of(16_000, 16_000),
}


@pytest.mark.parametrize("name", HUGE)
def test_more_than_200_megapixels_are_refused_without_decoding(name):
    decode(FILES[name])  # so that the decoder's own memory is there already
    with at_most(mb=50):
        assert decode(HUGE[name]).status == "too large"


def test_200_megapixels_are_the_limit_for_pictures_in_memory_too():
    row = np.broadcast_to(np.zeros((1, 1, 3), np.uint8), (20_001, 10_000, 3))  # strides of zero: no memory
    assert load_image(row, SQUARE).status == "too large"
    assert "200 megapixels" in load_image(row, SQUARE).reason


def test_bombs_take_no_memory():
    zeros = zlib.compress(bytes(200 << 20), 1)
    text = png_of(8, 8, (b"zTXt", b"bomb\0\0" + zeros), (b"IDAT", zlib.compress(bytes(8 * 25))), (b"IEND", b""))
    with at_most(mb=50):
        assert decode(text).status == "broken"
        assert decode(png_of(8, 8, (b"IDAT", zeros), (b"IEND", b""))).shape == (8, 8, 3)


def test_a_picture_that_does_not_fit_in_memory_is_too_large(monkeypatch):
    def no_memory(*_, **__):
        raise MemoryError

    monkeypatch.setattr(simplejpeg, "decode_jpeg", no_memory)
    assert decode(FILES["JPEG"]).status == "too large"
    monkeypatch.setattr(ImageFile.ImageFile, "load", no_memory)
    assert decode(FILES["BMP"]).status == "too large"


def test_a_file_of_more_than_2_gib_is_not_read(tmp_path):
    path = tmp_path / "long.jpg"
    with path.open("wb") as file:
        file.write(FILES["JPEG"])
        file.truncate((2 << 30) + 1)  # a hole: takes no disk
    with at_most(mb=50):
        assert load_image(path, SQUARE).status == "too large"


# ---- what a path can be


def test_paths_that_lead_nowhere(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "dangling.jpg").symlink_to(tmp_path / "gone.jpg")
    (tmp_path / "self.jpg").symlink_to(tmp_path / "self.jpg")
    for name in ("gone.jpg", "no/such/folder.jpg", "file/below.jpg", "dangling.jpg"):
        assert load_image(tmp_path / name, SQUARE) == Failure("missing", "no such file")
    for path in (tmp_path / "self.jpg", f"{tmp_path}/nul\0.jpg", tmp_path / ("long" * 100)):
        assert load_image(path, SQUARE).status == "unreadable"
    assert load_image("", SQUARE).status == "missing"


def test_a_folder_is_no_image(tmp_path):
    assert load_image(tmp_path, SQUARE) == Failure("unreadable", "it is a folder")


@pytest.mark.skipif(os.name == "nt" or not os.getuid(), reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path):
    path = tmp_path / "secret.jpg"
    path.write_bytes(FILES["JPEG"])
    path.chmod(0)
    assert load_image(path, SQUARE) == Failure("unreadable", "Permission denied")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_pipes_sockets_and_devices_do_not_hang(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    os.mkfifo("pipe.jpg")
    answers = []
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind("socket.jpg")
        paths = ["pipe.jpg", "socket.jpg", "/dev/zero"]
        thread = threading.Thread(target=lambda: answers.extend(load_image(p, SQUARE) for p in paths), daemon=True)
        thread.start()
        thread.join(10)
    assert [a.status for a in answers] == ["unreadable"] * 3


def test_a_name_that_is_not_utf8(tmp_path):
    path = os.fsencode(tmp_path) + b"/caf\xe9 \xff.jpg"
    try:
        with open(path, "wb") as file:
            file.write(FILES["PNG"])
    except OSError:
        pytest.skip("this file system has no such names")
    assert corners(load_image(os.fsdecode(path), SQUARE)) == NAMES


def test_links_to_files_work(tmp_path):
    (tmp_path / "photo").write_bytes(FILES["PNG"])
    (tmp_path / "link.jpg").symlink_to("photo")
    assert corners(load_image(tmp_path / "link.jpg", SQUARE)) == NAMES


# ---- never an exception


def is_pixels_or_failure(answer: np.ndarray | Failure) -> bool:
    if isinstance(answer, Failure):
        return answer.status in FAILURES and bool(answer.reason)
    return answer.dtype == np.uint8 and answer.ndim == 3 and answer.shape[2] == 3 and answer.size > 0


@given(data=st.binary(max_size=200), name=st.sampled_from([None, *FILES]), head=st.integers(0, 64))
@settings(max_examples=300, deadline=None)
def test_random_bytes_behind_any_header(data, name, head):
    assert is_pixels_or_failure(decode((FILES[name][:head] if name else b"") + data))


@pytest.mark.parametrize("name", FILES)
@given(
    damage=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=8)), min_size=1, max_size=6),
    cut=st.one_of(st.just(1.0), st.floats(0, 1)),
)
@settings(max_examples=100, deadline=None)
def test_random_damage(name, damage, cut):
    data = bytearray(FILES[name])
    for position, noise in damage:
        at = int(position * len(data))
        data[at : at + len(noise)] = noise
    assert is_pixels_or_failure(decode(bytes(data[: int(cut * len(data))]), shorter_side=8))
