"""Which format a file has, by its first bytes."""

import io

import pytest
from PIL import Image

from headstart.data.formats import FORMAT_NAMES, FORMATS, HEADER_BYTES, is_image


def matching(header):
    return [image_format.name for image_format in FORMATS if image_format.matches(header[:HEADER_BYTES])]


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WebP", "GIF", "BMP", "TIFF", "AVIF"])
def test_the_first_format_that_matches_a_file_is_its_own(name):  # AVIF's files are compatible with HEIC's brand
    file = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(file, name)
    assert matching(file.getvalue())[0] == name and is_image(file.getvalue()[:HEADER_BYTES])


@pytest.mark.parametrize("brand", [b"heic", b"heix", b"hevc", b"heim", b"heis"])
def test_heic_is_known_by_its_major_brand(brand):
    assert matching(b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0mif1") == ["HEIC"]


def test_a_brand_that_a_file_is_compatible_with_counts_and_one_beyond_the_box_does_not():
    assert matching(b"\0\0\0\x18ftypmif2\0\0\0\0heicmif2") == ["HEIC"]
    assert matching(b"\0\0\0\x10ftypmp42\0\0\0\0heic") == []  # the box ends before


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"\xff\xd8",
        b"BM",
        b"BMW is a car, not a picture",
        b"RIFF\0\0\0\0WAVE",
        b"GIF88a",
        b"II*",
        b"%PDF-1.7",
        b"<svg>",
        b"\0" * 64,
    ],
)
def test_what_begins_otherwise_is_no_image(header):
    assert matching(header) == [] and not is_image(header)


def test_no_two_formats_begin_alike_and_all_are_named():
    assert FORMAT_NAMES.split(", ") == [image_format.name for image_format in FORMATS]
    assert len({image_format.pillow for image_format in FORMATS}) == len(FORMATS)
