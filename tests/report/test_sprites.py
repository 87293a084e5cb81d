"""Sheets of small pictures: where each stands, and what stands where none is."""

import io

import numpy as np
import pytest
from PIL import Image

from headstart.report.sprites import GREY, SHEET_SIDE, make_sprites, square
from support.maps import jpeg_of_colour

COLOURS = [(250, 10, 10), (10, 250, 10), (10, 10, 250), (240, 240, 20), (20, 240, 240)]  # OpenCV's order


def sheet_of(sprites, number=0):
    return np.array(Image.open(io.BytesIO(sprites.sheets[number])))


def middle_of(sprites, i):
    sheet = sheet_of(sprites, i // sprites.per_sheet)
    row, column = divmod(i % sprites.per_sheet, sprites.columns)
    return sheet[row * sprites.side + sprites.side // 2, column * sprites.side + sprites.side // 2]


def test_pictures_fill_a_row_and_then_the_next():
    side = SHEET_SIDE // 4
    sprites = make_sprites([jpeg_of_colour(c) for c in COLOURS], side, quality=90)
    assert (sprites.columns, sprites.per_sheet, len(sprites.sheets)) == (4, 16, 1)
    assert sheet_of(sprites).shape == (2 * side, 4 * side, 3)  # no taller than its rows
    for i, colour in enumerate(COLOURS):
        assert np.abs(middle_of(sprites, i).astype(int) - colour[::-1]).max() < 12


def test_a_picture_that_is_not_there_is_grey_and_so_is_the_rest_of_the_row():
    sprites = make_sprites([jpeg_of_colour(COLOURS[0]), None, *[jpeg_of_colour(COLOURS[1])] * 3], SHEET_SIDE // 4)
    assert np.abs(middle_of(sprites, 1).astype(int) - GREY).max() < 8
    assert np.abs(middle_of(sprites, 5).astype(int) - GREY).max() < 8


def test_more_than_a_sheet_holds_begin_another():
    sprites = make_sprites([None] * 4 + [jpeg_of_colour(COLOURS[0])], SHEET_SIDE // 2)
    assert len(sprites.sheets) == 2 and sheet_of(sprites, 1).shape[:2] == (SHEET_SIDE // 2, SHEET_SIDE)


def test_no_picture_needs_no_sheet():
    assert make_sprites([], 64).sheets == ()


@pytest.mark.parametrize("size", [(40, 100), (100, 40), (1, 9)])
def test_a_square_is_the_middle_of_a_picture(size):
    width, height = size
    pixels = np.zeros((height, width, 3), np.uint8)
    side = min(size)
    top, left = (height - side) // 2, (width - side) // 2
    pixels[top : top + side, left : left + side] = 200
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=95, subsampling=0)
    assert square(file.getvalue(), 16).shape == (16, 16, 3) and square(file.getvalue(), 16).mean() > 160
