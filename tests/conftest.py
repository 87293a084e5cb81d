"""A backbone that is compiled in milliseconds, photos that can be learnt, and the way to the real ones."""

import contextlib
import os
import shutil
import subprocess
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


@pytest.fixture(scope="module")
def browser():
    """A real browser, which asks nothing of a network by itself; WebGL is drawn without a graphics card."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser"))), None)
    if found is None:
        pytest.skip("there is no chromium, google-chrome or chromium-browser on the PATH")
    quiet = ("--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(
            executable_path=found, args=["--no-sandbox", *quiet, "--enable-unsafe-swiftshader"]
        )
        yield opened
        opened.close()


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


DEPTHWISE_WIDTHS = (16, 12, 8)  # of the deep backbone's taps, the last first


def write_deep_backbone(path: Path, *, batch: int | str = "n", opset: int = 17, seed: int = 0) -> Path:
    """An ONNX file (n, 3, 32, 32) -> `features` (n, 24): a MobileNet of three blocks, with weights drawn at random."""
    rng = np.random.default_rng(seed)
    weights, nodes, value = {}, [], "pixels"

    def convolve(name: str, n_in: int, n_out: int, size: int, stride: int, group: int = 1) -> None:
        nonlocal value
        weight = rng.normal(0, np.sqrt(2 / (n_in // group * size**2)), (n_out, n_in // group, size, size))
        weights[f"{name}.weight"], weights[f"{name}.bias"] = weight, rng.normal(0, 0.1, n_out)
        options = {"kernel_shape": [size] * 2, "strides": [stride] * 2, "pads": [size // 2] * 4, "group": group}
        nodes.append(helper.make_node("Conv", [value, f"{name}.weight", f"{name}.bias"], [f"{name}.sums"], **options))
        nodes.append(helper.make_node("Relu", [f"{name}.sums"], [name]))
        value = name

    convolve("stem", 3, 8, 3, 2)
    for i, (n, n_next) in enumerate(((8, 12), (12, 16), (16, 24)), start=1):
        convolve(f"depthwise{i}", n, n, 3, 2 if i == 2 else 1, group=n)
        convolve(f"pointwise{i}", n, n_next, 1, 1)
    nodes.append(helper.make_node("GlobalAveragePool", [value], ["mean"]))
    nodes.append(helper.make_node("Flatten", ["mean"], ["features"], axis=1))
    graph = helper.make_graph(
        nodes,
        "deep",
        [helper.make_tensor_value_info("pixels", onnx.TensorProto.FLOAT, [batch, 3, 32, 32])],
        [helper.make_tensor_value_info("features", onnx.TensorProto.FLOAT, [batch, 24])],
        [onnx.numpy_helper.from_array(w.astype(np.float32), name) for name, w in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), str(path))
    return path


@pytest.fixture(scope="session")
def deep_onnx(tmp_path_factory) -> Path:
    return write_deep_backbone(tmp_path_factory.mktemp("backbone") / "deep.onnx")


@pytest.fixture
def deep(deep_onnx, tmp_path) -> Backbone:
    """A backbone whose codes come from four depths: 24 of the last layer, then 16, 12 and 8."""
    return load_backbone(str(deep_onnx), cache_dir=tmp_path / "cache")


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


@pytest.fixture
def mounted(tmp_path):
    """Mounts a small disk of its own in memory, which root alone may do."""
    folders = []

    def mount(*options, name="disk") -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(folder)]
        try:
            done = subprocess.run(command, capture_output=True)
        except OSError:
            pytest.skip("there is no mount here")
        if done.returncode:
            pytest.skip("this user may not mount")
        folders.append(folder)
        return folder

    yield mount
    for folder in folders:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(path, keep=0):
    """Write a file until the disk is full, but for some bytes."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"x" * 4096):
            pass
    os.truncate(path, max(0, path.stat().st_size - keep))
