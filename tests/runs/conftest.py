"""A finished run on a few photos, which the tests of this folder read and never change."""

import pytest

import headstart
from support.photos import write_photos


@pytest.fixture(scope="session")
def finished(tmp_path_factory, tiny_onnx):
    """The folder of a run on photos/red, photos/green and photos/blue beside it."""
    root = tmp_path_factory.mktemp("finished")
    photos = write_photos(root / "photos", n=6)
    return headstart.train(photos, root / "run", backbone=str(tiny_onnx), budget=0, cache=root / "cache").folder
