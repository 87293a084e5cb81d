"""The programs that come along label photos as headstart does."""

import subprocess
import sys

import pytest

import headstart
from headstart.errors import ExportError
from headstart.export.example import LANGUAGES, PYTHON
from headstart.export.export_run import export_run
from headstart.export.formats import FORMATS, format_named
from headstart.training.train import train
from support.photos import write_photos


@pytest.fixture(scope="module")
def run(tmp_path_factory, deep_onnx):
    root = tmp_path_factory.mktemp("example")
    photos = write_photos(root / "photos", n=20)
    return train(photos, root / "run", backbone=str(deep_onnx), cache=root / "cache", precision="f32").folder


@pytest.mark.parametrize("name", PYTHON)
def test_the_python_program_runs_by_itself(name, run, tmp_path):
    package = PYTHON[name][0].replace("-", "_")
    if format_named(name).missing:
        pytest.skip(f"{format_named(name).missing} is not installed")
    pytest.importorskip(package)
    folder = export_run(run, format=name, output=tmp_path / "out", example="python").folder
    photos = sorted((run.parent / "photos").rglob("*.png"))[::9]
    command = [sys.executable, "-W", "ignore", str(folder / "example.py"), *map(str, photos)]
    lines = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path).stdout.splitlines()
    answers = headstart.load(run, precision="f32").predict(photos)
    for line, answer in zip(lines, answers, strict=True):
        path, told = line.split(": ")
        label, probability, *strange = told.split(maxsplit=2)
        assert path == answer.path and bool(strange) == answer.unfamiliar
        if "int8" not in name:
            assert label == answer.prediction and float(probability) == pytest.approx(answer.probability, abs=2e-3)


def test_examples_are_for_formats_that_there_are_and_others_are_refused(run, tmp_path):
    assert all(set(formats) <= FORMATS.keys() for _, formats in LANGUAGES.values())
    for options, why in (
        ({"example": "cobol"}, "no example in 'cobol'; there are python, js, c"),
        ({"example": "js"}, "for the format onnx; there is one for web"),
        ({"example": "python", "any_size": True}, "for the format onnx --any-size"),
        ({"example": "swift"}, "add --any-size"),
        ({"example": "kotlin", "format": "openvino"}, "for the format openvino; there is one for onnx"),
    ):
        with pytest.raises(ExportError, match=why):
            export_run(run, output=tmp_path / "out", **options)


def test_the_program_in_cpp_has_the_preprocessing(run, tmp_path):
    file = export_run(run, output=tmp_path / "out", example="c++").folder / "example.cpp"
    text = file.read_text()
    assert "kSize = 32" in text and "cv::INTER_AREA" in text and "$size" not in text and "classifier.onnx" in text


@pytest.mark.parametrize(("language", "name"), [("kotlin", "Classifier.kt"), ("swift", "Classifier.swift")])
def test_the_programs_for_phones_use_the_names_that_the_file_has(language, name, run, tmp_path):
    import onnxruntime

    export = export_run(run, output=tmp_path / "out", any_size=True, example=language)
    text = (export.folder / name).read_text()
    session = onnxruntime.InferenceSession(export.file)
    (taken,) = session.get_inputs()
    assert f'"{taken.name}"' in text and "classifier.onnx" in text and "$" not in text.replace("$0.bind", "")
    assert "probabilities" in [output.name for output in session.get_outputs()] and '"probabilities"' in text
