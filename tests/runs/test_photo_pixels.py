"""A run's photo is read again only while it is the same photo."""

import shutil
from dataclasses import replace

import numpy as np
from PIL import Image

from headstart.runs.open import open_run
from headstart.runs.photo_pixels import pixels_of_photo


def test_a_photo_is_decoded_from_where_it_lies(finished):
    saved = open_run(finished)
    with Image.open(saved.findings.names[0]) as image:
        np.testing.assert_array_equal(pixels_of_photo(saved, 0), np.asarray(image.convert("RGB")))


def test_a_photo_that_is_gone_or_another_by_now_has_no_pixels(finished, tmp_path):
    saved = open_run(finished)
    (tmp_path / "text.png").write_text("no photo")
    shutil.copy(saved.findings.names[0], tmp_path / "copy.png")
    for image in (None, saved.findings.names[1], str(tmp_path / "text.png"), str(tmp_path / "nowhere.png")):
        assert pixels_of_photo(replace(saved, images=[image, *saved.images[1:]]), 0) is None
    assert pixels_of_photo(replace(saved, images=[str(tmp_path / "copy.png"), *saved.images[1:]]), 0) is not None
