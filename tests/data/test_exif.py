"""EXIF orientation: where a JPEG has it, what it says, and pixels the right way up."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from headstart.data.exif import exif_of_jpeg, exif_orientation, upright

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 4, 3), np.uint8)


def jpeg_with(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, "JPEG", exif=exif)
    return file.getvalue()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pixels_are_turned_as_pillow_turns_them(orientation):
    content = jpeg_with(orientation)
    assert exif_orientation(exif_of_jpeg(content)) == orientation
    with Image.open(io.BytesIO(content)) as image:
        turned = np.array(ImageOps.exif_transpose(image))
        stored = np.array(image)
    assert (upright(stored, orientation) == turned).all()


@pytest.mark.parametrize("orientation", [-1, 0, 1, 9, 65_535])
def test_what_is_no_orientation_is_upright(orientation):
    assert (upright(PIXELS, orientation) == PIXELS).all()


def test_turned_pixels_lie_one_after_another_as_decoders_leave_them():
    assert all(upright(PIXELS, orientation).flags.c_contiguous for orientation in range(1, 9))


def test_marker_bytes_may_be_padded():
    content = jpeg_with(6)
    at = content.index(b"\xff\xe1")
    assert exif_orientation(exif_of_jpeg(content[:at] + b"\xff\xff" + content[at:])) == 6


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xd8", b"\xff\xd8\xff\xe1", b"\xff\xd8\xff\xe1\xff\xff", b"\xff\xd8\xff\xda" + b"\xe1" * 40]
)
def test_a_file_that_breaks_off_or_has_none_is_upright(data):
    assert exif_of_jpeg(data) == b"" and exif_orientation(exif_of_jpeg(data)) == 1


def test_a_jpeg_cut_anywhere_never_raises():
    content = jpeg_with(3)
    assert {exif_orientation(exif_of_jpeg(content[:n])) for n in range(len(content))} <= {0, 1, 3}


@pytest.mark.parametrize("order", ["II", "MM"])
@pytest.mark.parametrize(("kind", "n_bytes"), [(3, 2), (4, 4)])
def test_both_byte_orders_and_both_sizes_of_number(order, kind, n_bytes):
    def number(value, size):
        return value.to_bytes(size, "little" if order == "II" else "big")

    value = number(8, n_bytes).ljust(4, b"\0")
    entry = number(0x0112, 2) + number(kind, 2) + number(1, 4) + value
    assert exif_orientation(order.encode() + number(42, 2) + number(8, 4) + number(1, 2) + entry) == 8


def test_a_directory_that_points_at_itself_or_beyond_ends():
    assert exif_orientation(b"II*\0" + b"\xff\xff\xff\x7f") == 1
    assert exif_orientation(b"II*\0" + b"\x00\x00\x00\x00" + b"\xff" * 20) == 1
