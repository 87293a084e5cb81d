"""The wheel as a stranger installs it: what is in it, and that it works with nothing of the repository beside it."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from support.photos import write_photos

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """An empty folder that the wheel was unpacked into.

    Without hatchling, which builds it, the files that hatchling would take: the packages that pyproject.toml names, without
    what git ignores.
    """
    folder = tmp_path_factory.mktemp("site")
    if importlib.util.find_spec("hatchling"):
        built = tmp_path_factory.mktemp("wheel")
        command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(built)]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        (wheel,) = built.glob("headstart-*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
        return folder
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        pytest.skip("without hatchling and git, nobody knows what a wheel would hold")
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    for package in settings["packages"]:
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", package]
        listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout
        for name in map(os.fsdecode, filter(None, listed.split(b"\0"))):
            if (ROOT / name).is_file():
                target = folder / Path(name).relative_to(Path(package).parent)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / name, target)
    return folder


def test_every_file_that_is_no_module_is_in_it(site):
    expected = {"py.typed", "classifier/imagenet_classes.txt"}
    expected |= {f"report/web/{p.name}" for p in (ROOT / "src" / "headstart" / "report" / "web").iterdir() if p.is_file()}
    there = {p.relative_to(site / "headstart").as_posix() for p in (site / "headstart").rglob("*") if p.is_file()}
    assert len(expected) > 5 and expected <= there
    sources = ROOT / "src" / "headstart"
    assert {p.relative_to(sources).as_posix() for p in sources.rglob("*.py")} <= there
    assert not [name for name in there if "test" in name or name.endswith((".pyc", ".onnx"))]


STRANGER = """
import json, sys
import headstart
from headstart.classifier.imagenet import imagenet_classifier
photos, backbone, cache = sys.argv[1:]
run = headstart.train(photos, "run", backbone=backbone, cache=cache, budget=0)
(prediction,) = headstart.load("run").predict(photos + "/red/red 0.png")
print(json.dumps([headstart.__file__, prediction.prediction, len(imagenet_classifier(cache_dir=cache).classes)]))
"""


def test_it_trains_draws_its_pages_and_predicts_by_itself(site, tiny_onnx, tmp_path):
    photos = write_photos(tmp_path / "photos", n=6)
    environment = {**os.environ, "PYTHONPATH": str(site)}
    arguments = [str(photos), str(tiny_onnx), str(tmp_path / "cache")]
    options = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True}
    done = subprocess.run([sys.executable, "-c", STRANGER, *arguments], **options)
    assert done.returncode == 0, done.stderr
    place, prediction, n_classes = json.loads(done.stdout.splitlines()[-1])
    assert Path(place).is_relative_to(site) and (prediction, n_classes) == ("red", 1000)
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    for name in ("report.js", "report.css"):
        lines = (site / "headstart" / "report" / "web" / name).read_text("utf-8").splitlines()
        assert max(lines, key=len).strip() in page, name
    done = subprocess.run([sys.executable, "-m", "headstart", "map", "run", "-o", "map.html"], **options)
    assert done.returncode == 0 and (tmp_path / "map.html").stat().st_size > 10_000, done.stderr
