"""A backbone that is compiled in milliseconds, photos that can be learnt, and the way to the real ones."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from PIL import Image

from headstart.backbones import Backbone, load_backbone
from headstart.codes import Store

SHARED = Path(__file__).resolve().parents[2] / "shared"
COLOURS = {"blue": (40, 60, 200), "green": (50, 180, 60), "red": (200, 50, 40)}


def pytest_collection_modifyitems(items):
    if SHARED.is_dir():
        return
    for item in items:
        if "shared" in item.keywords:
            item.add_marker(pytest.mark.skip(reason=f"there is no {SHARED}"))


@pytest.fixture(scope="session")
def shared():
    """The folder of real photos and weights; tests that use it are marked `shared`."""
    return SHARED


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """No test ever touches the user's own cache."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("HEADSTART_CACHE", str(folder))
    return folder


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "cache")
    yield store
    store.close()


def write_tiny_backbone(path: Path, *, batch: int | str = "n") -> Path:
    """An ONNX file (n, 3, 32, 32) -> `features` (n, 48): the mean colour of each field of a 4 x 4 grid."""
    graph = helper.make_graph(
        [
            helper.make_node("AveragePool", ["pixels"], ["grid"], kernel_shape=[8, 8], strides=[8, 8]),
            helper.make_node("Flatten", ["grid"], ["features"], axis=1),
        ],
        "tiny",
        [helper.make_tensor_value_info("pixels", onnx.TensorProto.FLOAT, [batch, 3, 32, 32])],
        [helper.make_tensor_value_info("features", onnx.TensorProto.FLOAT, [batch, 48])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


@pytest.fixture(scope="session")
def tiny_onnx(tmp_path_factory) -> Path:
    return write_tiny_backbone(tmp_path_factory.mktemp("backbone") / "tiny.onnx")


@pytest.fixture
def tiny(tiny_onnx, tmp_path) -> Backbone:
    return load_backbone(str(tiny_onnx), cache_dir=tmp_path / "cache")


def picture(colour: tuple[int, int, int], seed: int, size: tuple[int, int] = (48, 40)) -> np.ndarray:
    """A noisy (height, width, 3) picture of one colour, another one for each seed."""
    noise = np.random.default_rng(seed).normal(0, 40, (*size[::-1], 3))
    return np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)


def write_photos(root: Path, *, n: int = 20, suffix: str = ".png") -> Path:
    """A folder per colour, with n pictures each."""
    for i, (name, colour) in enumerate(COLOURS.items()):
        folder = root / name
        folder.mkdir(parents=True)
        for j in range(n):
            Image.fromarray(picture(colour, 1000 * i + j)).save(folder / f"{name} {j}{suffix}")
    return root


@pytest.fixture
def photos(tmp_path) -> Path:
    return write_photos(tmp_path / "photos")
