"""The one file that is the classifier: the same answer everywhere, and nothing else is ever loaded."""

import hashlib
import json

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image

import headstart
from headstart.classifier import Classifier, _seal, _sealed
from headstart.engine import Hardware
from headstart.errors import ClassifierError
from headstart.heads import Head
from headstart.images import load_image

EXACT = Hardware(precision="f32")


@pytest.fixture
def classifier(tiny):
    rng = np.random.default_rng(0)
    head = Head(rng.normal(0, 1, (48, 3)).astype(np.float32), rng.normal(0, 1, 3).astype(np.float32))
    return Classifier.build(tiny, head, ["a", "b", "ü \U0001f98a"], hardware=EXACT)


@pytest.fixture
def photo(tmp_path):
    """A PNG, so that every way to read it gives the same pixels."""
    pixels = np.random.default_rng(1).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_one_answer_by_path_bytes_picture_and_array(classifier, photo):
    picture = Image.open(photo)
    images = [photo, str(photo), photo.read_bytes(), picture, np.asarray(picture)]
    answers = [p.top for p in classifier.predict(images)]
    assert len(set(answers)) == 1 and len(answers) == 5
    assert [p.top for image in images for p in classifier.predict(image)] == answers


def test_another_runtime_gives_the_same_probabilities(classifier, photo):
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(classifier.content)
    pixels = np.stack([load_image(photo, classifier.preprocess)] * 2)
    probabilities, codes = session.run(["probabilities", "codes"], {"image": pixels})
    (prediction,) = classifier.predict(photo, top=3)
    ours = dict(prediction.top)
    np.testing.assert_allclose([ours[name] for name in classifier.classes], probabilities[1], atol=1e-4)
    assert probabilities.shape == (2, 3) and codes.shape == (2, 48)


def test_a_real_backbone_agrees_with_another_runtime(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    data = pytest.importorskip("skimage.data")
    imagenet = headstart.imagenet_classifier(hardware=EXACT)
    pixels = load_image(data.cat(), imagenet.preprocess)
    (theirs,) = onnxruntime.InferenceSession(imagenet.content).run(["probabilities"], {"image": pixels[None]})
    (prediction,) = imagenet.predict(data.cat(), top=1000)
    ours = dict(prediction.top)
    np.testing.assert_allclose([ours[name] for name in imagenet.classes], theirs[0], atol=1e-4)
    assert "cat" in prediction.prediction or prediction.prediction == "tabby"


def test_saved_and_loaded_it_says_the_same(classifier, photo, tmp_path):
    classifier.save(tmp_path / "run" / "model.onnx")
    for path in (tmp_path / "run", tmp_path / "run" / "model.onnx"):
        loaded = headstart.load(path, precision="f32")
        assert loaded.predict(photo) == classifier.predict(photo)
        assert (loaded.classes, loaded.preprocess, loaded.about) == (
            classifier.classes,
            classifier.preprocess,
            classifier.about,
        )
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["model.onnx"]  # no temporary file is left behind


def test_top_lists_the_likeliest_first(classifier, photo):
    (prediction,) = classifier.predict(photo, top=2)
    assert len(prediction.top) == 2 and prediction.top[0] == (prediction.prediction, prediction.probability)
    assert prediction.top[0][1] >= prediction.top[1][1]
    (everything,) = classifier.predict(photo, top=99)
    assert sum(p for _, p in everything.top) == pytest.approx(1, abs=1e-5)


def test_what_cannot_be_read_is_a_prediction_that_says_why(classifier, photo, tmp_path):
    (tmp_path / "text.jpg").write_text("not a photo")
    wrong = np.zeros((4, 4), np.float64)
    predictions = classifier.predict([tmp_path / "none.jpg", tmp_path / "text.jpg", photo, b"", wrong])
    assert [p.status for p in predictions] == ["missing", "not an image", "ok", "empty", "unsupported"]
    assert all(p.reason and p.prediction is None and p.top == () for p in predictions if p.status != "ok")
    assert list(predictions[0].to_json()) == ["path", "status", "reason", "prediction", "probability", "top"]


def test_many_arrays_are_many_images(classifier):
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    assert [p.prediction for p in classifier.predict(images)] == [classifier.predict(i)[0].prediction for i in images]


def test_one_float_array_is_one_image_that_cannot_be_used(classifier):
    (prediction,) = classifier.predict(np.zeros((48, 64, 3), np.float32))
    assert prediction.status == "unsupported" and "float32" in prediction.reason


def test_no_image_is_no_prediction(classifier):
    assert classifier.predict([]) == []


def test_an_object_that_is_no_image_is_told(classifier):
    with pytest.raises(TypeError, match="path, bytes"):
        classifier.predict([42])


# ---- what is not loaded


def assert_refused(tmp_path, content, match):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ClassifierError, match=match):
        headstart.load(path)


def test_every_damaged_byte_is_noticed(classifier, tmp_path):
    content = bytearray(classifier.content)
    for position in np.linspace(0, len(content) - 1, 40).astype(int):
        damaged = content.copy()
        damaged[position] ^= 1
        assert_refused(tmp_path, bytes(damaged), "changed|not whole|not a headstart|not describe|not an ONNX")


@pytest.mark.parametrize("share", [0, 0.3, 0.9, 0.999])
def test_a_file_that_is_cut_short(classifier, tmp_path, share):
    assert_refused(
        tmp_path, classifier.content[: int(share * len(classifier.content))], "not an ONNX|not a headstart|not whole"
    )


def test_somebody_elses_network(tiny_onnx, tmp_path):
    assert_refused(tmp_path, tiny_onnx.read_bytes(), "not a headstart classifier.*--backbone")
    assert_refused(tmp_path, b"\x00" * 100, "not an ONNX|not a headstart")


def resealed(classifier, change, about=None):
    """What somebody can make who knows how the seal is made: whole, and wrong."""
    model = onnx.load_from_string(classifier.content)
    del model.metadata_props[:]
    change(model)
    return _sealed(model, classifier.about if about is None else about)


def test_weights_in_other_files(classifier, tmp_path):
    def move_out(model):
        weights = next(w for w in model.graph.initializer if w.name == "head.weight")
        weights.ClearField("raw_data")
        weights.data_location = onnx.TensorProto.EXTERNAL
        weights.external_data.add(key="location", value="/etc/passwd")

    assert_refused(tmp_path, resealed(classifier, move_out), "other files")


def test_weights_in_other_files_of_a_constant_in_a_subgraph(classifier, tmp_path):
    def hide(model):
        tensor = onnx.TensorProto(data_type=1, dims=[1], data_location=onnx.TensorProto.EXTERNAL)
        tensor.external_data.add(key="location", value="x")
        constant = onnx.helper.make_node("Constant", [], ["hidden"])
        constant.attribute.append(onnx.helper.make_attribute("value", numpy_helper.from_array(np.zeros(1, np.float32))))
        constant.attribute[0].t.CopyFrom(tensor)
        graph = onnx.helper.make_graph([constant], "inner", [], [])
        model.graph.node.append(onnx.helper.make_node("If", ["x"], ["y"], then_branch=graph, else_branch=graph))

    assert_refused(tmp_path, resealed(classifier, hide), "other files")


def test_operations_from_outside_the_standard(classifier, tmp_path):
    assert_refused(
        tmp_path,
        resealed(classifier, lambda m: m.opset_import.append(onnx.helper.make_opsetid("com.example", 1))),
        "outside the ONNX standard",
    )


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"format": 99}, "format 99.*upgrade"),
        ({"classes": ["a", "b"]}, "inputs and outputs"),
        ({"classes": None}, "does not describe itself"),
        ({"preprocess": {"size": 32, "unknown": 1}}, "does not describe itself"),
        ({"backbone": []}, "does not describe itself"),
        ({"classes": [1, 2, 3]}, "does not describe itself"),
        ({"preprocess": {"size": 32, "crop": -3.0, "mean": [0, 0, 0], "std": [1, 1, 1]}}, "does not describe itself"),
        ({"preprocess": {"size": 32, "resample": "x", "mean": [0, 0, 0], "std": [1, 1, 1]}}, "does not describe itself"),
    ],
)
def test_metadata_that_does_not_fit(classifier, tmp_path, change, match):
    assert_refused(tmp_path, resealed(classifier, lambda m: None, {**classifier.about, **change}), match)


def test_metadata_that_is_no_json(classifier, tmp_path):
    model = onnx.load_from_string(classifier.content)
    del model.metadata_props[:]
    model.metadata_props.add(key="headstart", value="{")
    body = model.SerializeToString()
    assert_refused(tmp_path, body + _seal(hashlib.sha256(body).hexdigest()), "does not describe itself")


def test_places_without_a_classifier(tmp_path):
    for path, match in (
        (tmp_path, "holds no model.onnx"),
        (tmp_path / "none", "cannot be read: No such file"),
        (tmp_path / "\0", "cannot be read"),
    ):
        with pytest.raises(ClassifierError, match=match):
            headstart.load(path)


def test_the_metadata_says_all_that_a_stranger_needs(classifier):
    model = onnx.load_from_string(classifier.content)
    about = json.loads({p.key: p.value for p in model.metadata_props}["headstart"])
    assert about["classes"] == ["a", "b", "ü \U0001f98a"]
    assert about["preprocess"]["size"] == 32 and about["backbone"]["license"] == "unknown"
    onnx.checker.check_model(model, full_check=True)


def test_one_classifier_serves_many_threads(classifier, photo):
    from concurrent.futures import ThreadPoolExecutor

    (expected,) = classifier.predict(photo)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: classifier.predict(photo)[0], range(40)))
    assert answers == [expected] * 40


def test_any_runtime_gives_these_probabilities_in_the_way_that_the_documents_tell(tmp_path):
    pytest.importorskip("onnxruntime")
    from pathlib import Path

    text = (Path(__file__).resolve().parents[1] / "docs" / "commands.md").read_text()
    recipe = text.split("```python\n")[1].split("```")[0]
    classifier = headstart.imagenet_classifier(hardware=EXACT)
    classifier.save(tmp_path / "RUN" / "model.onnx")
    for size in ((200, 150), (640, 480), (231, 517)):
        pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize(size).save(tmp_path / "photo.png")
        spoken = recipe.replace('"RUN/model.onnx"', repr(str(tmp_path / "RUN" / "model.onnx")))
        names: dict = {}
        exec(spoken.replace('"photo.png"', repr(str(tmp_path / "photo.png"))), names)  # noqa: S102
        (prediction,) = classifier.predict(tmp_path / "photo.png", top=1)
        best = names["probabilities"][0].argmax()
        assert names["about"]["classes"][best] == prediction.prediction
        assert names["probabilities"][0][best] == pytest.approx(prediction.probability, abs=1e-4)
