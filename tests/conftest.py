"""A backbone that is compiled in milliseconds, photos that can be learnt, and the way to the real ones."""

import shutil
import subprocess
from pathlib import Path

import pytest

from headstart.backbones.backbone import Backbone
from headstart.backbones.find import BackboneSpec, find_backbone
from headstart.codes.store import Store
from support.networks import write_deep_backbone, write_tiny_backbone
from support.photos import write_photos

SHARED = Path(__file__).resolve().parents[2] / "shared"


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


@pytest.fixture(scope="session")
def tiny_onnx(tmp_path_factory) -> Path:
    return write_tiny_backbone(tmp_path_factory.mktemp("backbone") / "tiny.onnx")


@pytest.fixture
def tiny(tiny_onnx, tmp_path) -> Backbone:
    return find_backbone(BackboneSpec(str(tiny_onnx)), tmp_path / "cache")


@pytest.fixture(scope="session")
def deep_onnx(tmp_path_factory) -> Path:
    return write_deep_backbone(tmp_path_factory.mktemp("backbone") / "deep.onnx")


@pytest.fixture
def deep(deep_onnx, tmp_path) -> Backbone:
    """A backbone whose codes come from four depths: 24 of the last layer, then 16, 12 and 8."""
    return find_backbone(BackboneSpec(str(deep_onnx)), tmp_path / "cache")


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
