"""Every export format: what it writes answers as the original does, on the run's own photos."""

import importlib.util
import json
from hashlib import sha256

import pytest

from headstart.errors import ExportError, MissingExtra
from headstart.export.export_run import export_all, export_run
from headstart.export.formats import FORMATS, format_named
from headstart.export.options import Options
from headstart.training.train import train
from support.photos import write_photos

NEEDS_FILES = {"web"}  # of onnxruntime-web; see tests/pages/test_web_classifier.py


@pytest.fixture(scope="module")
def run(tmp_path_factory, deep_onnx):
    root = tmp_path_factory.mktemp("export")
    photos = write_photos(root / "photos", n=20)
    return train(photos, root / "run", backbone=str(deep_onnx), cache=root / "cache", precision="f32").folder


@pytest.fixture
def before(run):
    """The bytes of the run, which no export may change."""
    state = {path: sha256(path.read_bytes()).digest() for path in run.rglob("*") if path.is_file()}
    yield
    assert state == {path: sha256(path.read_bytes()).digest() for path in run.rglob("*") if path.is_file()}


def installed(name):
    return format_named(name).missing is None


@pytest.mark.parametrize("name", sorted(FORMATS.keys() - NEEDS_FILES))
def test_it_answers_as_the_original_does_and_says_everything_about_itself(name, run, before, tmp_path):
    if not installed(name):
        pytest.skip(f"{format_named(name).missing} is not installed")
    row = format_named(name)
    export = export_run(run, format=name, output=tmp_path / "out")
    assert export.file.is_file() and export.folder == tmp_path / "out" and export.n_bytes > 1000
    about = json.loads((export.folder / "classifier.json").read_text())
    assert about["classes"] == (export.folder / "labels.txt").read_text().splitlines() == ["blue", "green", "red"]
    assert about["preprocess"]["size"] == 32 and about["sha256"] == sha256(export.file.read_bytes()).hexdigest()
    if row.open is None:
        assert export.parity is None and "not checked" in (export.folder / "card.md").read_text().lower()
        return
    assert export.parity.same >= row.least_same and export.parity.n >= 40
    told = json.loads((export.folder / "parity.json").read_text())
    assert told["parity"]["n"] == export.parity.n and told["milliseconds"]["export"] > 0
    card = (export.folder / "card.md").read_text()
    assert "blue, green and red" in card and "32 x 32" in card and str(tmp_path) not in card
    if row.least_same > 0.99:
        assert export.parity.probability.largest < 0.01


def test_all_that_are_installed_come_in_one_table(run, before, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))  # no npm
    exports, failures = export_all(run, output=tmp_path / "all")
    quick = {name for name in FORMATS if installed(name)} - NEEDS_FILES
    assert {export.format for export in exports} | {name for name, _ in failures} == FORMATS.keys()
    assert quick <= {export.format for export in exports} | {name for name, why in failures if "labels" in why}
    assert all((tmp_path / "all" / export.format / "card.md").is_file() for export in exports)
    assert "npm install" in dict(failures)["web"]


def test_an_option_that_a_format_does_not_have_is_refused_before_any_work(run):
    with pytest.raises(ExportError, match="the format openvino has no --any-size; it has --half, --slim"):
        export_run(run, format="openvino", any_size=True)
    with pytest.raises(ExportError, match="there is no format 'tensorrt'; there are onnx"):
        export_run(run, format="tensorrt")
    with pytest.raises(ExportError, match="whole number"):
        Options(batch="0")


@pytest.mark.parametrize("name", [name for name, row in FORMATS.items() if row.packages])
def test_a_package_that_is_missing_is_named_with_the_line_that_installs_it(name, run, tmp_path, monkeypatch):
    packages = format_named(name).packages
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda asked: None if asked in packages else find_spec(asked))
    with pytest.raises(MissingExtra, match=r"pip install 'headstart\["):
        export_run(run, format=name, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()
