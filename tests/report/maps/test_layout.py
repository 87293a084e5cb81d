"""The map: photos that look alike lie together, however many; a page and a picture that hold whatever names there are."""

import base64
import io
import json
import logging
import re
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headstart.data.splits import TEST
from headstart.numerics import pca
from headstart.numerics.neighbours import nearest_neighbours
from headstart.numerics.pca import along_axes, principal_axes
from headstart.report.colours import UNFAMILIAR, class_colours, page_colours
from headstart.report.maps import layout
from headstart.report.maps import page as page_module
from headstart.report.maps.image import map_picture
from headstart.report.maps.layout import place, place_on
from headstart.report.maps.page import MapContents, NewPhotos, map_data, map_page
from support.maps import HOSTILE_NAMES, findings_of, jpeg_of_colour


def clouds(n_each=40, n_clouds=4, d=64, seed=0):
    """Codes around a few middles, and which one each is around."""
    rng = np.random.default_rng(seed)
    middles = rng.normal(size=(n_clouds, d))
    labels = np.repeat(np.arange(n_clouds), n_each)
    return (middles[labels] + rng.normal(0, 0.2, (len(labels), d))).astype(np.float16), labels


def picture_of(*known, **more):
    return Image.open(io.BytesIO(map_picture(MapContents(*known, **more))))


def data_of(page):
    return json.loads(re.search(r'<script id="data" type="application/json">(.*?)</script>', page, re.S)[1])


# -- axes


def test_axes_are_those_of_the_singular_value_decomposition():
    codes, _ = clouds()
    space, mean, axes = principal_axes(codes, n_axes=3)
    rows = codes.astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    np.testing.assert_allclose(mean, rows.mean(axis=0), atol=1e-5)
    _, _, exact = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    np.testing.assert_allclose(np.abs(np.sum(axes.T * exact[:3], axis=1)), 1, atol=1e-3)
    np.testing.assert_allclose(space, (rows - mean) @ axes, atol=1e-4)
    assert np.all(np.diff(space.var(axis=0)) < 0)


def test_other_photos_come_to_where_they_would_have_been():
    codes, _ = clouds()
    space, mean, axes = principal_axes(codes, widths=(40, 24))
    np.testing.assert_allclose(along_axes(codes[:7], mean, axes, widths=(40, 24)), space[:7], atol=1e-5)
    assert along_axes(codes[:0], mean, axes).shape == (0, axes.shape[1])


def test_many_rows_are_the_same_axes_as_some_of_them(monkeypatch):
    """Axes come from at most so many rows, and positions along them from all, some at a time."""
    codes, _ = clouds(n_each=300)
    whole = principal_axes(codes, n_axes=3)
    monkeypatch.setattr(pca, "ROWS_FOR_AXES", 400)
    monkeypatch.setattr(pca, "BLOCK", 250)
    some = principal_axes(codes, n_axes=3)
    assert some[0].shape == whole[0].shape
    np.testing.assert_allclose(some[1], whole[1], atol=1e-5)
    # The same plane: within it, axes that codes differ along equally much may turn.
    assert np.linalg.svd(some[2].T @ whole[2])[1].min() > 0.99
    np.testing.assert_allclose(some[0].mean(axis=0), 0, atol=1e-4)


@pytest.mark.parametrize("n", [1, 2, 3, 12])
def test_few_or_identical_codes_have_axes(n):
    for codes in (np.ones((n, 8), np.float16), np.zeros((n, 8), np.float16), np.eye(n, 8, dtype=np.float16)):
        space, mean, axes = principal_axes(codes)
        assert len(space) == n and mean.shape == (8,) and axes.shape == (8, space.shape[1])
        assert all(np.isfinite(a).all() for a in (space, mean, axes))


# -- places


def test_neighbours_are_the_nearest_nearest_first():
    rows = np.random.default_rng(0).normal(size=(600, 5)).astype(np.float32)
    nearest, distances = nearest_neighbours(rows, rows, 7, threads=2, is_same=True)
    every = np.linalg.norm(rows[:, None] - rows, axis=2)
    np.fill_diagonal(every, np.inf)
    np.testing.assert_array_equal(nearest, np.argsort(every, axis=1)[:, :7])
    np.testing.assert_allclose(distances, np.sort(every, axis=1)[:, :7], rtol=1e-5)


def test_what_is_alike_lies_together():
    codes, labels = clouds()
    positions = place(principal_axes(codes)[0])
    nearest, _ = nearest_neighbours(positions, positions, 5, threads=1, is_same=True)
    assert positions.dtype == np.float32
    assert (labels[nearest] == labels[:, None]).mean() > 0.95


def test_the_same_seed_gives_the_same_map_on_any_number_of_threads():
    space = principal_axes(clouds()[0])[0]
    first = place(space, seed=3)
    np.testing.assert_array_equal(first, place(space, seed=3, threads=2))
    assert not np.array_equal(first, place(space, seed=4))


@pytest.mark.parametrize("n", [0, 1, 2, 3, 5, 9, 10, 11, 20])
@pytest.mark.parametrize("kind", ["different", "identical", "zero", "two spots"])
def test_any_number_of_photos_has_a_map_and_nothing_is_said(n, kind, capfd):
    rng = np.random.default_rng(0)
    space = {
        "different": rng.normal(size=(n, 6)),
        "identical": np.ones((n, 6)),
        "zero": np.zeros((n, 6)),
        "two spots": np.arange(n)[:, None] % 2 * np.ones((1, 6)),
    }[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        positions = place(space.astype(np.float16))
    assert positions.shape == (n, 2) and positions.dtype == np.float32 and np.isfinite(positions).all()
    assert capfd.readouterr() == ("", "")


def test_one_axis_is_enough():
    np.testing.assert_array_equal(place(np.array([[1.0], [2.0]])), [[1, 0], [2, 0]])
    assert np.isfinite(place(np.arange(30.0)[:, None])).all()


def test_progress_is_told_and_ends():
    seen = []
    place(np.random.default_rng(0).normal(size=(30, 4)), progress=lambda *step: seen.append(step))
    assert seen[-1][1] == seen[-1][2] and {name for name, *_ in seen} == {"map"}
    assert [done for _, done, _ in seen] == sorted({done for _, done, _ in seen})


def test_many_photos_are_placed_by_a_grid(monkeypatch):
    """From MANY photos on there are other stages: the picture is as good."""
    monkeypatch.setattr(layout, "MANY", 100)
    codes, labels = clouds()
    positions = place(principal_axes(codes)[0], threads=1)
    nearest, _ = nearest_neighbours(positions, positions, 5, threads=1, is_same=True)
    assert (labels[nearest] == labels[:, None]).mean() > 0.95


def test_new_photos_go_to_their_likes_and_the_map_stays():
    codes, labels = clouds(n_each=60)
    space = principal_axes(codes)[0]
    is_new = np.arange(len(codes)) % 6 == 0
    positions = place(space[~is_new])
    before = positions.copy()
    placed = place_on(space[is_new], space[~is_new], positions)
    np.testing.assert_array_equal(positions, before)
    nearest, _ = nearest_neighbours(placed, positions, 5, threads=1)
    assert (labels[~is_new][nearest] == labels[is_new][:, None]).mean() > 0.95
    together = place_on(space[is_new][:3], space[~is_new], positions)
    np.testing.assert_allclose(together, placed[:3], atol=1e-3)  # new photos do not see each other


@pytest.mark.parametrize("n", [0, 1, 3, 9, 10, 14, 40])
def test_new_photos_find_a_place_on_a_map_of_any_size(n):
    rng = np.random.default_rng(0)
    space, positions = rng.normal(size=(n, 4)), rng.normal(size=(n, 2)).astype(np.float32)
    for new in (rng.normal(size=(3, 4)), np.zeros((3, 4)), space[:1], np.zeros((0, 4))):
        placed = place_on(new, space, positions)
        assert placed.shape == (len(new), 2) and np.isfinite(placed).all()


def test_photos_that_are_not_on_the_map_are_not_asked():
    rng = np.random.default_rng(0)
    space, positions = rng.normal(size=(30, 4)), rng.normal(size=(30, 2)).astype(np.float32)
    some = positions.copy()
    some[20:] = np.nan
    np.testing.assert_array_equal(place_on(space[:2], space, some), place_on(space[:2], space[:20], positions[:20]))


def test_openTSNE_says_nothing_even_where_nobody_listens(capfd, caplog):
    """A logger without a handler writes its warnings to stderr."""
    caplog.set_level(logging.WARNING)
    place(np.random.default_rng(0).normal(size=(12, 3)))
    assert not caplog.records and capfd.readouterr() == ("", "")


# -- the page's data


def test_data_says_of_each_photo_what_is_known():
    names = ["/p/a.jpg", "/p/b.jpg", "/p/c.jpg"]
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2]], np.float32)
    findings = findings_of(names, np.array([0, 1, 1]), probabilities=probabilities, held_out=[0, 1])
    issues = [{"kind": "near_duplicate", "path": None, "paths": ["/p/c.jpg"]}, {"kind": "label_error", "path": "/p/b.jpg"}]
    data = map_data(MapContents({"classes": ["x", "y"]}, findings, pictures=[None] * 3, issues=issues))
    assert (data["root"], data["names"], data["originals"]) == ("/p/", ["a.jpg", "b.jpg", "c.jpg"], "file://")
    assert numbers(data["label"], "i16") == [0, 1, 1]
    assert numbers(data["prediction"], "i16") == [0, 0, -1]
    assert numbers(data["isCorrect"], "i8") == [1, 0, -1]
    assert numbers(data["split"], "i8") == [0, 1, 2]
    assert [data["issue"]["of"][i] if i >= 0 else None for i in numbers(data["issue"], "i8")] == [
        None,
        "label_error",
        "near_duplicate",
    ]
    np.testing.assert_allclose(numbers(data["x"], "f32"), findings.positions[:, 0])
    np.testing.assert_allclose(numbers(data["probability"], "f32"), [0.9, 0.8, -1])
    assert data["sprites"] is None and not any(numbers(data["isNew"], "u8"))


def numbers(packed, kind):
    return np.frombuffer(base64.b64decode(packed[kind]), {"f32": "<f4", "i8": "i1", "u8": "u1", "i16": "<i2"}[kind]).tolist()


def test_several_labels_a_photo_are_lists():
    labels = np.array([[1, 0, 1], [0, 0, 0]], np.uint8)
    probabilities = np.array([[0.9, 0.2, 0.4], [0.1, 0.1, 0.1]], np.float32)
    findings = findings_of(["a", "b"], labels, probabilities=probabilities)
    findings = replace(findings, splits=np.full(2, TEST, np.int8))  # judged by the run's own thresholds
    about = {"classes": ["x", "y", "z"], "thresholds": [0.5, 0.5, 0.3]}
    data = map_data(MapContents(about, findings, pictures=[None, None]))
    assert (data["label"], data["prediction"]) == ([[0, 2], []], [[0, 2], []])
    assert numbers(data["isCorrect"], "i8") == [1, 1]
    assert data["originals"] is None  # names that are no whole paths: nobody knows where they lie
    assert picture_of(about, findings).size == (1_400, 1_000)


def test_new_photos_are_told_apart():
    findings = findings_of(["a", "b"], np.array([0, 1]))
    new = NewPhotos(("c",), np.array([[1.0, 2.0]]), np.array([1]), np.array([0.7]), np.array([1.5]), (jpeg_of_colour(200),))
    data = map_data(MapContents({"classes": ["x", "y"]}, findings, pictures=[jpeg_of_colour(0), None], new=new))
    assert data["names"] == ["a", "b", "c"] and numbers(data["isNew"], "u8") == [0, 0, 1]
    assert numbers(data["label"], "i16") == [0, 1, -1] and numbers(data["prediction"], "i16")[2] == 1
    assert (data["sprites"]["side"], data["sprites"]["columns"], len(data["sprites"]["sheets"])) == (64, 3, 1)


def test_no_more_pictures_than_a_browser_can_take(monkeypatch):
    monkeypatch.setattr(page_module, "MANY_PICTURES", 2)
    monkeypatch.setattr(page_module, "MOST_PICTURES", 4)
    findings = findings_of([str(i) for i in range(6)], np.zeros(6, np.int64))
    page = map_page(MapContents({"classes": ["x"]}, findings, pictures=[jpeg_of_colour(9)] * 6))
    assert "The first 4 have pictures" in page
    assert (data_of(page)["sprites"]["side"], data_of(page)["sprites"]["columns"]) == (32, 4)


def test_hostile_names_stay_names():
    findings = findings_of(HOSTILE_NAMES, np.arange(len(HOSTILE_NAMES)))
    page = map_page(
        MapContents({"classes": HOSTILE_NAMES, "photos": HOSTILE_NAMES[0]}, findings, pictures=[None] * len(HOSTILE_NAMES))
    )
    assert data_of(page)["names"] == HOSTILE_NAMES and data_of(page)["classes"] == HOSTILE_NAMES
    assert "alert(1)</script>" not in page and page.count("<script") == 2
    page.encode("utf-8", "surrogateescape")
    assert picture_of({"classes": HOSTILE_NAMES, "photos": HOSTILE_NAMES[4]}, findings).format == "PNG"


def test_the_page_asks_nothing_of_anybody():
    page = map_page(MapContents({"classes": ["x"]}, findings_of(["a"], np.zeros(1, np.int64)), pictures=[None]))
    assert not re.search(r"https?://|@import|<link(?! rel=\"icon\" href=\"data:)|{{", page)


@pytest.mark.parametrize("n", [0, 1])
def test_hardly_anything_is_still_a_page_and_a_picture(n):
    findings = findings_of(["a.jpg"][:n], np.zeros(n, np.int64))
    assert data_of(map_page(MapContents({"classes": ["x"]}, findings, pictures=[None] * n)))["names"] == ["a.jpg"][:n]
    assert picture_of({"classes": ["x"]}, findings).size == (1_400, 1_000)


# -- the picture


def test_the_picture_has_a_dot_of_its_colour_for_each_photo():
    findings = findings_of(
        ["a", "b", "c"], np.array([0, 1, 2]), positions=np.array([[0, 0], [1, 1], [np.nan, 0]], np.float32)
    )
    pixels = np.asarray(picture_of({"classes": ["x", "y", "z"]}, findings))[80:, :1160]
    for colour, is_there in zip(class_colours(3), [True, True, False], strict=True):
        rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        where = np.argwhere((np.abs(pixels.astype(int) - rgb) < 8).all(axis=2))
        assert bool(len(where)) == is_there
    dots = [
        np.argwhere((np.abs(pixels.astype(int) - [int(c[i : i + 2], 16) for i in (1, 3, 5)]) < 8).all(axis=2))
        for c in class_colours(2)
    ]
    assert dots[0][:, 0].mean() > dots[1][:, 0].mean()  # y upwards


def test_the_picture_shows_which_new_photos_are_unfamiliar():
    findings = findings_of(["a", "b"], np.array([0, 1]), positions=np.array([[0, 0], [1, 1]], np.float32))
    at, of = np.array([[0.0, 1.0], [1.0, 0.0], [0.5, 0.5]]), np.array([0, 0, 1])
    new = NewPhotos(("c", "d", "e"), at, of, np.full(3, 0.5), np.array([0.5, 3.0, np.nan]), (None,) * 3)
    pixels = np.asarray(picture_of({"classes": ["x", "y"]}, findings, new=new)).astype(int)
    pink = (np.abs(pixels - [int(UNFAMILIAR[i : i + 2], 16) for i in (1, 3, 5)]) < 8).all(axis=2)
    row, column = np.argwhere(pink[:, :1160]).mean(axis=0)
    assert row > 600 and column > 700  # below, to the right
    assert pink[80:, 1160:].sum() > 30  # and in the legend
    alone = NewPhotos(("c",), at[:1], of[:1], np.full(1, 0.5), np.array([np.nan]), (None,))
    assert "unfamiliar" not in map_page(MapContents({"classes": ["x", "y"]}, findings, new=alone)).split("<script")[0]
    assert alone.to_json(["x", "y"])[0]["unfamiliar"] is None


def test_new_photos_may_have_several_labels():
    labels = np.array([[1, 0], [0, 1]], np.uint8)
    new = NewPhotos(("c",), np.zeros((1, 2)), np.array([[True, True]]), np.array([0.9]), np.array([0.5]), (None,))
    data = map_data(MapContents({"classes": ["x", "y"], "thresholds": [0.5, 0.5]}, findings_of(["a", "b"], labels), new=new))
    assert data["prediction"][2] == [0, 1] and new.to_json(["x", "y"])[0]["prediction"] == "x|y"


def test_a_picture_of_a_thousand_classes_says_how_many_it_leaves_out():
    findings = findings_of([str(i) for i in range(1_000)], np.arange(1_000))
    assert picture_of({"classes": [f"class {i}" for i in range(1_000)]}, findings).format == "PNG"


def test_photos_can_be_drawn_instead_of_dots():
    findings = findings_of(["a", "b"], np.array([0, 1]), positions=np.array([[0, 0], [1, 1]], np.float32))
    pixels = np.asarray(picture_of({"classes": ["x", "y"]}, findings, pictures=[jpeg_of_colour(90), None]))
    assert ((np.abs(pixels[80:, :1160].astype(int) - 90) < 6).all(axis=2)).sum() > 1_000


def test_page_and_picture_have_the_same_colours():
    """The page's data has the table; the script has no colour of a class, a split or a verdict of its own."""
    script = (Path(layout.__file__).parents[1] / "web" / "map.js").read_text()
    assert not re.findall("#[0-9a-f]{6}", script)
    table = map_data(MapContents({"classes": ["x"]}, findings_of(["a"], np.zeros(1, np.int64))))["colours"]
    assert table == page_colours() and table["classes"] == class_colours(50) and table["unfamiliar"] == UNFAMILIAR
    assert {*re.findall(r"(?<!/)\bcolours\.(\w+)", script)} == table.keys()
    assert len(set(class_colours(40))) == 40 and all(re.fullmatch("#[0-9a-f]{6}", c) for c in class_colours(1_000))
