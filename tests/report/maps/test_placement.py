"""Photos on the map of a finished run, placed by whoever asks: a command, a server, a notebook."""

from dataclasses import replace

import numpy as np
import pytest

import headstart
from headstart.errors import DataError
from headstart.report.maps.placement import place_all, place_new_photos
from headstart.runs.open import open_run
from support.photos import COLOURS, picture, write_photos


@pytest.fixture(scope="module")
def saved(tmp_path_factory, tiny_onnx):
    root = tmp_path_factory.mktemp("placement")
    photos = write_photos(root / "photos", n=8)
    return open_run(headstart.train(photos, root / "run", backbone=str(tiny_onnx), budget=0, cache=root / "cache").folder)


def test_positions_of_the_training_stay_unless_asked(saved):
    assert place_all(saved.findings) is saved.findings
    first, same, other = (place_all(saved.findings, again=True, seed=seed).positions for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, same)
    assert np.abs(first - other).max() > 1e-3


def test_photos_that_the_training_did_not_place_are_placed(saved):
    positions = saved.findings.positions.copy()
    positions[0] = np.nan
    assert np.isfinite(place_all(replace(saved.findings, positions=positions)).positions).all()


def test_new_photos_of_any_source_are_placed_and_the_others_are_told(saved, tmp_path, capsys):
    (tmp_path / "none.jpg").write_text("no photo")
    images = [
        picture(COLOURS["red"], 901),
        str(tmp_path / "none.jpg"),
        picture(COLOURS["blue"], 902),
        str(tmp_path / "gone"),
    ]
    calls = []
    new, skipped = place_new_photos(
        saved.classifier(), saved.findings, iter(images), n_images=4, progress=lambda *call: calls.append(call)
    )
    assert [row["prediction"] for row in new.to_json(saved.record["classes"])] == ["red", "blue"]
    assert new.positions.shape == (2, 2) and np.isfinite(new.positions).all() and all(new.pictures)
    assert [(path, bool(reason)) for path, reason in skipped] == [(images[1], True), (images[3], True)]
    assert calls == [("photos", n, 4) for n in (1, 2, 3, 4)] and capsys.readouterr() == ("", "")


def test_where_no_photo_can_be_placed_the_reason_is_told(saved, tmp_path):
    with pytest.raises(DataError, match="gone.jpg can be used as an image; the first: no such file"):
        place_new_photos(saved.classifier(), saved.findings, [str(tmp_path / "gone.jpg")])
    with pytest.raises(DataError, match="no new photos"):
        place_new_photos(saved.classifier(), saved.findings, [])
