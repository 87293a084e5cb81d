"""Exports of a run: what is compared, what fails, and that nothing is left behind then."""

import json
import shutil
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest

from headstart.data.decoding import decode
from headstart.errors import ClassifierError, ExportError, HeadstartError, OutputError
from headstart.export import formats
from headstart.export.export_run import export_run
from headstart.export.opened import Exported
from headstart.export.original import judging_photos, open_original
from headstart.export.parity import compare
from headstart.export.writers.onnx_format import write
from headstart.files import write_output
from headstart.training.train import train
from support.disk import fill
from support.photos import write_photos


@pytest.fixture(scope="module")
def run(tmp_path_factory, deep_onnx):
    root = tmp_path_factory.mktemp("export")
    photos = write_photos(root / "photos", n=20)
    return train(photos, root / "run", backbone=str(deep_onnx), cache=root / "cache", precision="f32").folder


def outputs_of(export, image):
    session = onnxruntime.InferenceSession(export.file)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {session.get_inputs()[0].name: image}), strict=True))


def test_the_onnx_file_is_the_runs_own_to_the_byte(run, tmp_path):
    export = export_run(run, output=tmp_path / "out")
    assert export.file.read_bytes() == (run / "model.onnx").read_bytes()
    assert export.parity.n_same == export.parity.n and export.parity.probability.largest < 1e-5
    ours, theirs = export.parity.accuracies
    assert ours == theirs and 0 < ours.share <= 1


def test_half_the_weights_are_half_the_bytes_and_a_whole_classifier(run, tmp_path):
    import headstart

    export = export_run(run, output=tmp_path / "out", half=True)
    types = {w.data_type for w in onnx.load(export.file).graph.initializer if np.prod(w.dims) >= 256}
    assert types == {onnx.TensorProto.FLOAT16} and export.parity.probability.largest < 0.01
    assert headstart.load(export.file).classes == ("blue", "green", "red")


@pytest.mark.parametrize("batch, given", [("any", 5), ("4", 4)])
def test_a_batch_has_the_answer_of_each_image(run, tmp_path, batch, given):
    export = export_run(run, output=tmp_path / "out", batch=batch)
    images = np.random.default_rng(0).integers(0, 256, (given, 32, 32, 3), dtype=np.uint8)
    original = open_original(run)
    rows = outputs_of(export, images)["probabilities"]
    for image, row in zip(images, rows, strict=True):
        np.testing.assert_allclose(row, original.classifier.engine.infer(image)["probabilities"], atol=1e-5)


def test_slim_files_give_probabilities_alone(run, tmp_path):
    export = export_run(run, output=tmp_path / "out", slim=True)
    assert [o.name for o in onnx.load(export.file).graph.output] == ["probabilities"]
    assert list(json.loads((export.folder / "classifier.json").read_text())["outputs"]) == ["probabilities"]


def test_a_file_for_any_size_resizes_as_headstart_does(run, tmp_path):
    export = export_run(run, output=tmp_path / "out", any_size=True)
    assert export.parity.probability.largest < 0.01
    image = np.random.default_rng(0).integers(0, 256, (1, 77, 50, 3), dtype=np.uint8)
    assert outputs_of(export, image)["probabilities"].shape == (1, 3)
    with pytest.raises(ExportError, match="one image at a time"):
        export_run(run, output=tmp_path / "other", any_size=True, batch="4")


def wrong_answers(folder, about):
    """Says the last class of everything."""
    return Exported(lambda pixels: {"probabilities": np.eye(3)[2], "unfamiliarity": np.zeros(1)}, "a broken converter")


@pytest.fixture
def broken_format(monkeypatch):
    row = replace(formats.FORMATS["onnx"], open=wrong_answers)
    monkeypatch.setitem(formats.FORMATS, "onnx", row)


def test_an_export_that_answers_otherwise_is_refused_and_nothing_is_left(run, tmp_path, broken_format):
    with pytest.raises(ExportError, match=r"keeps \d+ of 60 labels .* became red.*--accept-loss"):
        export_run(run, output=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    export = export_run(run, output=tmp_path / "out", accept_loss=True)
    assert export.parity.same < 0.5 and "became red" in (export.folder / "card.md").read_text()


def test_a_converter_that_crashes_leaves_nothing(run, tmp_path, monkeypatch):
    def crash(original, folder, options):
        write_output(folder / "classifier.onnx", b"half of it")
        raise ExportError("the converter ended")

    monkeypatch.setitem(formats.FORMATS, "onnx", replace(formats.FORMATS["onnx"], write=crash))
    with pytest.raises(ExportError, match="the converter ended"):
        export_run(run, output=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_what_a_converter_raises_of_its_own_is_told_as_an_error(run, tmp_path, monkeypatch):
    def crash(original, folder, options):
        raise KeyError("node_17")

    monkeypatch.setitem(formats.FORMATS, "onnx", replace(formats.FORMATS["onnx"], write=crash))
    with pytest.raises(ExportError, match="the converter of the format onnx failed: 'node_17'; another format"):
        export_run(run, output=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_never_overwritten(run, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    with pytest.raises(OutputError, match="is there already"):
        export_run(run, output=tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


def test_photos_that_are_gone_are_told_and_nothing_is_said_of_agreement(run, tmp_path):
    moved = tmp_path / "run"
    shutil.copytree(run, moved)
    record = json.loads((moved / "run.json").read_text())
    record["photos"] = str(tmp_path / "nowhere")
    (moved / "run.json").write_text(json.dumps(record))
    findings = moved / "findings.npz"
    original = open_original(moved)
    assert original.saved.n_gone in (0, 60)  # names may be whole paths, which are still there
    if original.saved.n_gone == 0:
        shutil.move(run.parent / "photos", tmp_path / "photos")
    try:
        with pytest.raises(ExportError, match="nothing could be compared.*--photos.*--accept-loss"):
            export_run(moved, output=tmp_path / "out")
        export = export_run(moved, output=tmp_path / "out", accept_loss=True)
        assert export.parity is None and "Not checked" in (export.folder / "card.md").read_text()
        if (tmp_path / "photos").exists():
            named = export_run(moved, output=tmp_path / "named", photos=tmp_path / "photos")
            assert named.parity.n == 60 and named.parity.accuracies is not None
    finally:
        if (tmp_path / "photos").exists():
            shutil.move(tmp_path / "photos", run.parent / "photos")
    assert findings.is_file()


def test_a_file_alone_needs_photos_and_a_damaged_one_is_refused(run, tmp_path):
    with pytest.raises(ExportError, match="--photos"):
        export_run(run / "model.onnx", output=tmp_path / "out")
    export = export_run(run / "model.onnx", output=tmp_path / "out", photos=run.parent / "photos")
    assert export.parity.n_same == export.parity.n == 60
    damaged = tmp_path / "model.onnx"
    damaged.write_bytes((run / "model.onnx").read_bytes()[:-40])
    with pytest.raises(ClassifierError, match="not whole|not an ONNX|not a headstart"):
        export_run(damaged, output=tmp_path / "other")


def test_answers_that_are_no_numbers_differ_from_everything(run):
    original = open_original(run)
    photos = judging_photos(original, None)
    answers = original.answers(photos)
    nothing = {name: np.full_like(rows, np.nan) for name, rows in answers.items()}
    parity = compare(photos, answers, nothing, original.classifier.classes, None)
    assert parity.probability.largest == float("inf")


def test_it_is_compared_on_each_class_and_read_from_the_files(run):
    original = open_original(run)
    photos = judging_photos(original, None)
    assert len(photos.contents) == 60 and {*photos.labels} == {0, 1, 2}
    assert photos.is_tested.sum() == original.saved.record["images"]["test"]
    assert decode(photos.contents[0]).shape[2] == 3


def test_the_writer_of_onnx_gives_the_metadata_of_the_file(run, tmp_path):
    original = open_original(run)
    assert write(original, tmp_path, formats.Options())["classes"] == ["blue", "green", "red"]


@pytest.mark.parametrize(
    ("name", "options"),
    [("onnx", {}), ("onnx", {"half": True}), ("openvino", {}), ("int8", {}), ("torch", {}), ("coreml", {})],
)
def test_a_full_disk_is_told_and_nothing_is_left(name, options, run, tmp_path, mounted):
    if formats.FORMATS[name].missing:
        pytest.skip(f"{formats.FORMATS[name].missing} is not installed")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    disk = mounted("size=1m")
    fill(disk / "holiday.mp4", keep=6_000)
    with pytest.raises(HeadstartError, match=r"No space left|no space left"):
        export_run(run, format=name, output=disk / "out", **options)
    assert [path.name for path in disk.iterdir()] == ["holiday.mp4"]
    assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
