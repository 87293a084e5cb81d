"""The one file that is the classifier: the same answer everywhere, and nothing else is ever loaded."""

import copy
import hashlib
import json
import os
import pickle
import subprocess
import sys
import threading
import time

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image

import headstart
from headstart.backbones.find import BackboneSpec, find_backbone
from headstart.classifier.classifier import Classifier
from headstart.classifier.model_file import _seal_entry, seal
from headstart.codes.representation import Representation, represent
from headstart.codes.store import Store
from headstart.data.images import load_image
from headstart.engines.hardware import Hardware
from headstart.engines.openvino_engine import OpenVINOEngine
from headstart.errors import BackboneError, ClassifierError
from headstart.heads import mlp
from headstart.heads.head import Head
from headstart.heads.kinds import HEADS
from support.networks import write_deep_backbone
from support.photos import picture

EXACT = Hardware(precision="f32")


@pytest.fixture
def classifier(tiny):
    rng = np.random.default_rng(0)
    head = Head(((rng.normal(0, 1, (48, 3)).astype(np.float32), rng.normal(0, 1, 3).astype(np.float32)),))
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
    names = ["path", "status", "reason", "prediction", "probability", "top", "unfamiliar", "unfamiliarity", "set"]
    assert list(predictions[0].to_json()) == names


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
    return seal(model, classifier.about if about is None else about)


def test_weights_in_other_files(classifier, tmp_path):
    def move_out(model):
        weights = next(w for w in model.graph.initializer if w.name == "head.weight0")
        weights.ClearField("raw_data")
        weights.data_location = onnx.TensorProto.EXTERNAL
        weights.external_data.add(key="location", value="/etc/passwd")

    assert_refused(tmp_path, resealed(classifier, move_out), "other files")


@pytest.mark.parametrize("is_there", [True, False])
def test_a_classifier_that_another_program_saved_in_two_files(classifier, tmp_path, is_there):
    model = onnx.load_from_string(classifier.content)
    onnx.save_model(model, tmp_path / "model.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    if not is_there:
        (tmp_path / "weights.bin").unlink()
    with pytest.raises(ClassifierError, match=r"keeps weights in other files \(weights\.bin\).*as headstart wrote it"):
        headstart.load(tmp_path / "model.onnx")


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


ODD_METADATA = {
    "thresholds": ([0.5], [0.5] * 4, [0.5, None, 0.5], [0.5, "x", 0.5], "abc", 0.5, {"a": 1}, [True] * 3, [0.5, 0.5, 9]),
    "labels": ("several", None, 3, ["one"]),
    "conformal": (
        {}, {"n": 5}, {"n": 5, "smallest": [0.1]}, {"n": 0, "smallest": [0.1], "adaptive": [0.1]}, [1], "x",
        {"n": 5, "smallest": [], "adaptive": []}, {"n": 5.5, "smallest": [0.1], "adaptive": ["0.1"]},
        {"n": 5, "smallest": 0.1, "adaptive": [None]},
    ),
    "preprocess": tuple(
        {"size": 32, "mean": [0.5] * 3, "std": [0.5] * 3, **odd}
        for odd in (
            {"size": 10**9}, {"size": 0}, {"size": 32.0}, {"size": True}, {"size": "32"}, {"crop": 0}, {"crop": "1"},
            {"crop": 1e300}, {"resample": None}, {"resample": []}, {"mean": [0.5] * 2}, {"mean": "abc"}, {"std": [None] * 3},
            {"mean": {"0": 1}}, {"std": 0.5}, {"more": 1},
        )
    ),
    "backbone": tuple(
        {"name": "x", "n_codes": 48, "parts": [48], "mirrored": False, **odd}
        for odd in (
            {"parts": []}, {"parts": [24]}, {"parts": 48}, {"parts": [-1, 49]}, {"parts": ["48"]}, {"n_codes": None},
            {"mirrored": "no"}, {"name": 3}, {"n_codes": 1e300},
        )
    ),
    "classes": ("abc", [], [["a"], "b", "c"], [None] * 3, {"a": 1}),
    "has_unfamiliarity": (None, 0, "no", []),
    "license_notes": ("x", [1], {}),
    "format": (None, [], "3", 3.5),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD_METADATA)
def test_every_entry_of_the_metadata_has_its_kind_and_its_size(classifier, tmp_path, name):
    for odd in ODD_METADATA[name]:
        content = resealed(classifier, lambda m: None, {**classifier.about, "labels": "many", name: odd})
        assert_refused(tmp_path, content, "does not describe itself|format|inputs and outputs")


@pytest.mark.parametrize("name", ["classes", "preprocess", "backbone", "has_unfamiliarity", "format"])
def test_an_entry_that_is_lacking(classifier, tmp_path, name):
    about = {key: value for key, value in classifier.about.items() if key != name}
    assert_refused(tmp_path, resealed(classifier, lambda m: None, about), "does not describe itself|format None")


@pytest.mark.parametrize(
    "metadata",
    [
        "{", "", "[]", "3", "null", '"x"', "[" * 100_000, '{"a":' * 100_000, '{"format": NaN}', '{"format": -Infinity}',
        '{"format": 1e999}', '{"format": ' + "9" * 5_000 + "}", '{"format": 3, "more": ' + "[" * 50 + "]" * 50 + "}",
        '{"format": 3, "classes": ["\\ud800"]}',
    ],
)  # fmt: skip
def test_metadata_that_is_no_json_or_too_odd(classifier, tmp_path, metadata):
    model = onnx.load_from_string(classifier.content)
    del model.metadata_props[:]
    model.metadata_props.add(key="headstart", value=metadata)
    body = model.SerializeToString()
    assert_refused(tmp_path, body + _seal_entry(hashlib.sha256(body).hexdigest()), "does not describe itself")


def test_a_network_that_gives_other_numbers_than_it_says(classifier, photo, tmp_path):
    def widen(model):
        (softmax,) = (node for node in model.graph.node if node.output[0] == "probabilities")
        softmax.output[0] = "narrow"
        model.graph.node.append(onnx.helper.make_node("Concat", ["narrow", "narrow"], ["probabilities"], axis=1))

    path = tmp_path / "model.onnx"
    path.write_bytes(resealed(classifier, widen))
    with pytest.raises(ClassifierError, match="6 probabilities"):
        headstart.load(path).predict(photo)


def test_inputs_and_outputs_of_another_type(classifier, tmp_path):
    def as_float(model):
        model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT

    assert_refused(tmp_path, resealed(classifier, as_float), "inputs and outputs")


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


def test_threads_that_come_at_once_wait_for_one_compilation(classifier, photo, monkeypatch):
    from concurrent.futures import ThreadPoolExecutor

    made, together = [], threading.Barrier(16)

    def slowly(network, hardware):
        time.sleep(0.05)
        made.append(OpenVINOEngine(network, hardware))
        return made[-1]

    def predict(_):
        together.wait()
        return classifier.predict(photo)[0]

    monkeypatch.setattr("headstart.classifier.classifier.open_engine", slowly)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(predict, range(16)))
    assert len(made) == 1 and len(set(answers)) == 1


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda c: pickle.loads(pickle.dumps(c))])
def test_a_copy_of_one_that_has_predicted_says_the_same(copied, classifier, photo):
    expected = classifier.predict(photo)
    again = copied(classifier)
    assert again.predict(photo) == expected == classifier.predict(photo)
    assert again.engine is not classifier.engine and again.content == classifier.content


FORKED = """
import os, sys, threading, time
import numpy as np
from headstart.classifier.classifier import Classifier
from headstart.errors import HeadstartError
from headstart.classifier.explain import Explainer

def in_child(work):
    child = os.fork()
    if child == 0:
        try:
            result = work()
            sys.stdout.write(f"{result}\\n")
        except HeadstartError as error:
            sys.stdout.write(f"{type(error).__name__}: {error}\\n")
        sys.exit(0)  # which frees what was inherited
    os.waitpid(child, 0)

classifier, photo = Classifier.load(sys.argv[1]), np.zeros((40, 40, 3), np.uint8)
"""


def forked(classifier, tmp_path, code):
    """What a program prints that forks; a child that hangs ends the test."""
    classifier.save(tmp_path / "model.onnx")
    command = [sys.executable, "-W", "ignore", "-c", FORKED + code, str(tmp_path / "model.onnx")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.stderr, done.returncode) == ("", 0)
    return done.stdout


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_one_that_has_predicted_predicts_in_a_forked_child(classifier, tmp_path):
    code = """
explainer = Explainer(classifier)
expected, heat = classifier.predict(photo), explainer.explain(photo)
in_child(lambda: classifier.predict(photo) == expected)
in_child(lambda: np.array_equal(explainer.explain(photo).values, heat.values))
in_child(lambda: in_child(lambda: classifier.predict(photo) == expected))
print(classifier.predict(photo) == expected)
"""
    assert forked(classifier, tmp_path, code).split() == ["True", "True", "True", "None", "True"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_child_forked_while_a_thread_predicts_or_from_within_a_stream_says_so(classifier, tmp_path):
    code = """
engine = classifier.engine
in_child(lambda: engine.infer(np.zeros((32, 32, 3), np.uint8)))
stream = classifier.stream(photo for _ in range(10**6))
next(stream)
in_child(lambda: list(stream))
stream.close()

class Slow:
    def infer(self, *arguments, **options):
        started.set()
        ended.wait(9)
        return [np.zeros((1, 3))] * len(engine.outputs)

started, ended = threading.Event(), threading.Event()
while not engine._idle.empty():
    engine._idle.get()
engine._n_requests = 1
engine._idle.put([Slow()])
threading.Thread(target=lambda: engine.infer(np.zeros((32, 32, 3), np.uint8))).start()
started.wait()
in_child(lambda: classifier.predict(photo))
ended.set()
"""
    inherited, stream, busy = forked(classifier, tmp_path, code).splitlines()
    assert inherited.startswith("BackboneError: this network was compiled before the process was forked")
    assert "stream of predictions ends with the process" in stream
    assert busy.startswith("BackboneError: this process was forked while a thread predicted") and "spawn" in busy


def test_any_runtime_gives_these_probabilities_in_the_way_that_the_documents_tell(tmp_path):
    pytest.importorskip("onnxruntime")
    from pathlib import Path

    text = (Path(__file__).resolve().parents[2] / "docs" / "run-folder.md").read_text()
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


# ---- every head behind every look


@pytest.fixture
def few_steps(monkeypatch):
    monkeypatch.setattr(mlp, "STEPS", 100)


@pytest.fixture
def other_deep(tmp_path):
    return find_backbone(BackboneSpec(str(write_deep_backbone(tmp_path / "other.onnx", seed=1))), tmp_path)


LOOKS = {
    "one backbone": lambda deep, other: Representation((deep,)),
    "two backbones": lambda deep, other: Representation((deep, other)),
    "mirrored": lambda deep, other: Representation((deep,), is_mirrored=True),
    "deep": lambda deep, other: Representation((deep,), n_layers=3),
    "all of it": lambda deep, other: Representation((deep, other), n_layers=9, is_mirrored=True, views=("rotation=15",)),
}
PICTURES = [picture(colour, seed) for seed in range(10) for colour in ((200, 60, 50), (60, 180, 60), (50, 60, 200))]
LABELS = np.arange(30) % 3


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A store for all tests, whose networks are the same: each look's codes are computed once."""
    with Store(tmp_path_factory.mktemp("kept")) as store:
        yield store


def learnt(kind, codes, widths) -> Head:
    labels = np.eye(3, dtype=np.float32)[LABELS] if kind == "sigmoid" else LABELS
    problem = HEADS[kind].fitter(codes, labels, 3, widths)
    return problem.head(problem.fit({"softmax": 0.1, "sigmoid": 0.1, "hidden": 0.5, "class-mean": 0.3, "nearest": 5}[kind]))


def in_another_runtime(classifier, images):
    onnxruntime = pytest.importorskip("onnxruntime")
    pixels = np.stack([load_image(image, classifier.preprocess) for image in images])
    session = onnxruntime.InferenceSession(classifier.content)
    return session, pixels, *session.run(["probabilities", "codes"], {"image": pixels})


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("name", LOOKS)
def test_every_head_behind_every_look(kind, name, deep, other_deep, kept, few_steps):
    look = LOOKS[name](deep, other_deep)
    alone = Representation(look.backbones, look.n_layers, look.is_mirrored)  # views are for learning
    codes = represent(PICTURES, alone, kept, hardware=EXACT).values
    head = learnt(kind, codes, look.widths)
    classifier = Classifier.build(look, head, ["red", "green", "blue"], hardware=EXACT)
    onnx.checker.check_model(onnx.load_from_string(classifier.content), full_check=True)

    session, pixels, probabilities, theirs = in_another_runtime(classifier, PICTURES)
    assert theirs.shape == (30, sum(look.widths)) and probabilities.shape == (30, 3)
    np.testing.assert_allclose(theirs, codes, rtol=1e-3, atol=1e-3)  # but for the rounding to 16 bits
    np.testing.assert_allclose(probabilities, head.probabilities(theirs), atol=1e-4)
    if kind != "nearest":  # where rounding may bring another neighbour
        np.testing.assert_allclose(probabilities, head.probabilities(codes), atol=5e-3)
    assert (probabilities.argmax(axis=1) == LABELS).mean() > 0.9

    for i in range(0, 30, 7):
        (one,) = session.run(["probabilities"], {"image": pixels[i : i + 1]})
        np.testing.assert_allclose(one[0], probabilities[i], atol=1e-5)
        np.testing.assert_allclose(classifier.engine.infer(pixels[i])["probabilities"], probabilities[i], atol=1e-4)


MERGED = "engine.py asks the compiled network for its outputs' names, which OpenVINO has merged with others"


@pytest.mark.parametrize("depth", [1, 2])
def test_the_engine_gives_codes_under_their_name(depth, deep):
    look = Representation((deep,), depth)
    codes = represent(PICTURES, look, None, hardware=EXACT).values
    classifier = Classifier.build(look, learnt("softmax", codes, look.widths), ["a", "b", "c"], hardware=EXACT)
    outputs = classifier.engine.infer(load_image(PICTURES[0], classifier.preprocess))
    np.testing.assert_allclose(outputs["codes"], codes[0], rtol=1e-3, atol=1e-3)


def test_the_file_says_which_look_it_is_of(deep, other_deep, tmp_path):
    look = Representation((deep, other_deep), n_layers=2, is_mirrored=True)
    head = learnt("softmax", represent(PICTURES, look, None).values, look.widths)
    Classifier.build(look, head, ["a", "b", "c"]).save(tmp_path / "model.onnx")
    about = headstart.load(tmp_path).about
    assert (about["format"], about["labels"]) == (3, "one")
    assert about["backbone"] == {
        "name": "deep+other",
        "sha256": [deep.sha256, other_deep.sha256],
        "n_codes": 80,
        "parts": [24, 16, 24, 16],
        "mirrored": True,
        "n_parameters": deep.n_parameters + other_deep.n_parameters,
        "license": "unknown",
    }
    several = learnt("sigmoid", represent(PICTURES, look, None).values, look.widths)
    assert Classifier.build(look, several, ["a", "b", "c"]).about["labels"] == "many"


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_the_file_holds_what_its_head_uses_and_nothing_else(depth, deep):
    look = Representation((deep,), depth)
    head = learnt("softmax", represent(PICTURES, look, None).values, look.widths)
    graph = onnx.load_from_string(Classifier.build(look, head, ["a", "b", "c"]).content).graph
    made = {name for node in graph.node for name in node.output}
    used = {name for node in graph.node for name in node.input}
    assert made - used == {"probabilities", "codes"}
    assert {w.name for w in graph.initializer} <= used
    assert {f"0/tap{i}" for i in range(1, 4)} & made == {f"0/tap{i}" for i in range(1, depth)}


def test_codes_that_are_all_zero_are_told_alike_everywhere(deep, tmp_path):
    """A black picture leaves a layer of ReLUs silent: a row of zeros has no direction, and must not become no number."""
    network = onnx.load(write_deep_backbone(tmp_path / "silent.onnx"))
    for weight in network.graph.initializer:
        if weight.name == "depthwise3.bias":
            weight.CopyFrom(numpy_helper.from_array(np.full(16, -100, np.float32), weight.name))
    onnx.save(network, tmp_path / "silent.onnx")
    look = Representation((find_backbone(BackboneSpec(str(tmp_path / "silent.onnx")), tmp_path),), n_layers=2)
    codes = represent(PICTURES, look, None, hardware=EXACT).values
    assert (codes[:, 24:] == 0).all()
    head = learnt("softmax", codes, look.widths)
    classifier = Classifier.build(look, head, ["a", "b", "c"], hardware=EXACT)
    _, pixels, probabilities, _ = in_another_runtime(classifier, PICTURES)
    np.testing.assert_allclose(probabilities, head.probabilities(codes), atol=1e-3)
    np.testing.assert_allclose(classifier.engine.infer(pixels[0])["probabilities"], probabilities[0], atol=1e-4)


@pytest.mark.parametrize(
    ("opset", "kind"),
    [*((opset, "softmax") for opset in (7, 9, 10, 13, 21)), *((o, k) for k in ("hidden", "nearest") for o in (7, 11, 21))],
)
def test_networks_of_every_age_carry_every_head_or_say_why_not(opset, kind, tmp_path, few_steps):
    path = write_deep_backbone(tmp_path / "aged.onnx", opset=opset)
    backbone = find_backbone(BackboneSpec(str(path)), tmp_path)
    look = Representation((backbone,), n_layers=2, is_mirrored=True)
    assert (backbone.opset, backbone.can_mirror) == (opset, opset >= 10)
    codes = represent(PICTURES, look, None, hardware=EXACT).values  # codes themselves can always be had
    head = learnt(kind, codes, look.widths)
    if kind == "nearest" and opset < 11:
        with pytest.raises(BackboneError, match=f"opset 11 or later; this one has {opset}: export it again, or choose"):
            Classifier.build(Representation((backbone,), n_layers=2), head, ["a", "b", "c"])
        return
    if opset < 10:
        with pytest.raises(BackboneError, match="mirror"):
            Classifier.build(look, head, ["a", "b", "c"])
        look = Representation((backbone,), n_layers=2)
        codes = represent(PICTURES, look, None, hardware=EXACT).values
        head = learnt(kind, codes, look.widths)
    classifier = Classifier.build(look, head, ["a", "b", "c"], hardware=EXACT)
    _, pixels, probabilities, _ = in_another_runtime(classifier, PICTURES)
    np.testing.assert_allclose(probabilities, head.probabilities(codes), atol=2e-3)
    np.testing.assert_allclose(classifier.engine.infer(pixels[1])["probabilities"], probabilities[1], atol=1e-4)


def test_a_network_of_one_image_at_a_time_cannot_average_its_mirror_image(tmp_path):
    path = write_deep_backbone(tmp_path / "single.onnx", batch=1)
    backbone = find_backbone(BackboneSpec(str(path)), tmp_path)
    look = Representation((backbone,), n_layers=2, is_mirrored=True)
    head = learnt("softmax", represent(PICTURES, look, None).values, look.widths)
    assert not backbone.can_mirror
    with pytest.raises(
        BackboneError,
        match="single takes one image at a time, and so cannot be given a photo together with its mirror image",
    ):
        Classifier.build(look, head, ["a", "b", "c"])
    (prediction,) = Classifier.build(Representation((backbone,), n_layers=2), head, ["a", "b", "c"]).predict(PICTURES[0])
    assert prediction.status == "ok"


def test_mirrored_averaging_tells_a_picture_and_its_mirror_image_alike(deep):
    look = Representation((deep,), is_mirrored=True)
    head = learnt("softmax", represent(PICTURES, look, None).values, look.widths)
    classifier = Classifier.build(look, head, ["a", "b", "c"], hardware=EXACT)
    square = np.random.default_rng(3).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    one, other = (classifier.engine.infer(p)["probabilities"] for p in (square, square[:, ::-1].copy()))
    plain = OpenVINOEngine(deep.network, EXACT)
    assert np.abs(plain.infer(square)["codes"] - plain.infer(square[:, ::-1].copy())["codes"]).max() > 1e-3
    np.testing.assert_allclose(one, other, atol=1e-5)
