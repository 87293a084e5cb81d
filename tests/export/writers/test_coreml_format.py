"""Core ML's package: what is in it. Nothing here runs it, but for macOS."""

import json
import sys
from importlib.util import find_spec

import pytest

from headstart.engines import torch_coreml as coreml
from headstart.errors import ExportError
from headstart.export.export_run import export_run
from headstart.export.writers import coreml_format
from headstart.training.train import train
from support.photos import write_photos

pytestmark = pytest.mark.skipif(find_spec("coremltools") is None, reason="coremltools is not installed")


@pytest.fixture(scope="module")
def run(tmp_path_factory, deep_onnx):
    root = tmp_path_factory.mktemp("coreml")
    photos = write_photos(root / "photos", n=20)
    return train(photos, root / "run", backbone=str(deep_onnx), cache=root / "cache", precision="f32").folder


@pytest.fixture
def ct():
    with coreml._quiet():
        import coremltools
    return coremltools


def description(ct, folder):
    return ct.utils.load_spec(str(folder / coreml_format.PACKAGE)).description


def test_it_takes_a_picture_and_gives_what_vision_shows(run, ct, tmp_path):
    folder = export_run(run, format="coreml", output=tmp_path / "out").folder
    about = description(ct, folder)
    (image,) = about.input
    assert image.name == "image" and (image.type.imageType.width, image.type.imageType.height) == (32, 32)
    kinds = {output.name: output.type.WhichOneof("Type") for output in about.output}
    assert kinds == {
        "label": "stringType",
        "probabilities": "dictionaryType",
        "codes": "multiArrayType",
        "unfamiliarity": "multiArrayType",
    }
    assert about.predictedFeatureName == "label" and about.predictedProbabilitiesName == "probabilities"
    inside = json.loads(about.metadata.userDefined["classifier.json"])
    assert inside["classes"] == ["blue", "green", "red"] and "headstart" in about.metadata.author


def test_half_is_half(run, tmp_path):
    whole, half = (export_run(run, format="coreml", output=tmp_path / str(h), half=h) for h in (False, True))
    assert half.n_bytes < whole.n_bytes


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS runs it")
def test_where_nothing_runs_it_the_card_and_the_export_say_so(run, tmp_path):
    export = export_run(run, format="coreml", output=tmp_path / "out")
    assert export.parity is None and "nothing on this machine runs" in export.why
    assert "**Not checked**" in (export.folder / "card.md").read_text()


def test_a_converter_that_fails_leaves_nothing(run, ct, tmp_path, monkeypatch):
    def fails(*_, **__):
        raise NotImplementedError("no such op\nop 'grid_sampler' is not known")

    monkeypatch.setattr(ct, "convert", fails)
    with pytest.raises(ExportError, match="coremltools cannot convert this network: op 'grid_sampler' is not known; onnx"):
        export_run(run, format="coreml", output=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
