"""A look is a value, and its codes are put together out of those that every backbone and view has."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headstart.backbones.backbone import FEW, MORE, WHOLE
from headstart.backbones.find import BackboneSpec, find_backbone
from headstart.codes import compute as codes_module
from headstart.codes.compute import _mean, compute_codes
from headstart.codes.representation import Representation, pixels_for, represent
from headstart.data.views import DrawnViews
from headstart.engines.hardware import Hardware
from headstart.errors import DataError
from support.networks import write_deep_backbone
from support.photos import picture

EXACT = Hardware(precision="f32")
PICTURES = [picture((40 * i, 200 - 30 * i, 90), i) for i in range(5)]


@pytest.fixture
def other(tmp_path):
    return find_backbone(BackboneSpec(str(write_deep_backbone(tmp_path / "other.onnx", seed=1))), tmp_path)


@pytest.mark.parametrize("depth", [1, 2, 4, 9])
def test_a_look_reads_as_many_layers_as_it_says(depth, deep, store):
    look = Representation((deep,), depth)
    looked = represent(PICTURES, look, store)
    everything = compute_codes(PICTURES, deep, store, is_deep=True)
    assert look.widths == looked.widths == deep.widths[:depth]
    np.testing.assert_array_equal(looked.values, everything.values[:, : sum(look.widths)])
    assert looked.digests == everything.digests


def test_backbones_stand_side_by_side(deep, other, store):
    look = Representation((deep, other), 2)
    looked = represent(PICTURES, look, store)
    each = [represent(PICTURES, Representation((b,), 2), store).values for b in (deep, other)]
    np.testing.assert_array_equal(looked.values, np.hstack(each))
    assert (look.name, look.widths, looked.widths) == ("deep+other", (24, 16, 24, 16), (24, 16, 24, 16))
    assert not np.allclose(*each)


def test_mirrored_is_the_mean_of_both(deep, store):
    plain = compute_codes(PICTURES, deep, store, is_deep=True).values.astype(np.float32)
    turned = compute_codes(PICTURES, deep, store, views=DrawnViews(("mirrored",)), is_deep=True).values.astype(np.float32)
    looked = represent(PICTURES, Representation((deep,), 4, is_mirrored=True), store)
    assert looked.values.dtype == np.float16
    np.testing.assert_allclose(looked.values, (plain + turned) / 2, rtol=1e-3, atol=1e-6)
    assert np.abs(plain - turned).max() > 0.01


def test_many_rows_are_averaged_as_few_are():
    """It is done a thousand rows at a time, and in single precision: two codes of 60,000 have a mean."""
    a, b = (np.random.default_rng(seed).uniform(-1, 1, (2001, 3)).astype(np.float16) * 60_000 for seed in (0, 1))
    np.testing.assert_array_equal(_mean([a, b]), ((a.astype(np.float32) + b.astype(np.float32)) / 2).astype(np.float16))


def test_mirrored_looks_see_a_picture_and_its_mirror_image_alike(deep):
    square = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    whole = replace(deep, preprocess=replace(deep.preprocess, crop=1.0))
    one, other = represent(
        [square, square[:, ::-1].copy()], Representation((whole,), 4, is_mirrored=True), None, hardware=EXACT
    ).values
    np.testing.assert_allclose(one, other, atol=2e-3)


def test_views_come_after_the_photo_itself(deep, store):
    looked = represent(PICTURES, Representation((deep,), 2, views=("mirrored", "rotation=30")), store, seed=3)
    assert looked.values.shape == (5, 3, 40)
    for i, view in enumerate(("original", "mirrored", "rotation=30")):
        expected = compute_codes(PICTURES, deep, store, views=DrawnViews((view,), 3), is_deep=True)
        assert expected.n_computed == 0
        np.testing.assert_array_equal(looked.values[:, i], expected.values[:, :40])


def test_another_seed_gives_other_views_and_the_same_photo(deep, store):
    one, same, another = (
        represent(PICTURES, Representation((deep,), views=("rotation=30",)), store, seed=s).values for s in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, same)
    np.testing.assert_array_equal(one[:, 0], another[:, 0])
    assert (one[:, 1] != another[:, 1]).any(axis=1).all()


def test_a_mirrored_look_judges_the_mean_and_learns_from_views_beside_it(deep, store):
    looked = represent(PICTURES, Representation((deep,), is_mirrored=True, views=("crop=20",)), store)
    mean = represent(PICTURES, Representation((deep,), is_mirrored=True), store)
    np.testing.assert_array_equal(looked.values[:, 0], mean.values)


@pytest.mark.parametrize("changes", [{"n_layers": 3}, {"is_mirrored": True}, {"views": ("shear=10", "zoom=20")}])
def test_what_was_looked_at_is_not_computed_again(changes, deep, other, store):
    look = replace(Representation((deep, other)), **changes)
    first, again = (represent(PICTURES, look, store) for _ in range(2))
    assert first.n_computed > 0 and again.n_computed == 0
    np.testing.assert_array_equal(first.values, again.values)


def test_images_that_cannot_be_used_are_told_whatever_the_look(deep, other, store, tmp_path):
    images = [PICTURES[0], b"text", PICTURES[1], str(tmp_path / "none.png")]
    looked = represent(images, Representation((deep, other), 2, is_mirrored=True, views=("rotation=15",)), store)
    assert looked.index.tolist() == [0, 2] and looked.values.shape == (2, 2, 80)
    assert {i: f.status for i, f in looked.failures.items()} == {1: "not an image", 3: "missing"}


def test_a_photo_that_changes_between_two_views_stops(deep, store, tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(PICTURES[0]).save(path)
    time.sleep(codes_module.TICK_NANOSECONDS / 1e9)

    def change(stage, done, total):
        if done == total:
            Image.fromarray(PICTURES[1]).save(path)

    with pytest.raises(DataError, match=r"photo\.png changed while their codes were computed.*start again"):
        represent([str(path)], Representation((deep,), views=("rotation=15",)), store, progress=change)


def test_a_photo_that_vanishes_between_two_backbones_stops_with_its_name(deep, other, store, tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(PICTURES[0]).save(path)

    def remove(stage, done, total):
        if done:  # the first backbone has seen it
            Path(path).unlink(missing_ok=True)

    with pytest.raises(DataError, match=r"photo\.png could not be read again"):
        represent([str(path)], Representation((deep, other)), store, progress=remove)


@pytest.mark.parametrize(("shorter", "expected"), [(8, FEW), (32, FEW), (33, WHOLE), (40, WHOLE), (195, MORE), (300, MORE)])
def test_no_more_pixels_are_asked_for_than_the_photos_have(shorter, expected, tmp_path):
    pixels = picture((9, 99, 199), 1, (2 * shorter, shorter))
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    content = (tmp_path / "photo.png").read_bytes()
    for image in (pixels, Image.fromarray(pixels), str(tmp_path / "photo.png"), tmp_path / "photo.png", content):
        assert pixels_for([image] * 3, 224) == expected
    assert pixels_for([b"text", str(tmp_path / "none.png"), content, content], 224) == expected
    assert pixels_for([np.zeros((500, 500, 3), np.uint8), *[content] * 60], 224) == expected  # one photo does not decide
