"""retrain.py and label_image.py: command lines of tutorials, run whole, with their lines and files."""

import re
import shutil

import numpy as np
import pytest

import headstart
from headstart.classifier.classifier import Classifier
from headstart.cli.main import main
from headstart.compat import bottlenecks
from headstart.compat.architecture import find_architecture
from headstart.compat.gradient_descent import Batches, judge, learn
from headstart.compat.graph_file import write_graph
from headstart.compat.image_lists import list_images
from headstart.compat.label_image import LabelOptions, label_image, resize_as_tensorflow_1
from headstart.compat.retrain import RetrainOptions, labels_text, retrain
from headstart.compat.training_summaries import Summaries
from headstart.errors import BackboneError, ClassifierError, DataError, MissingExtra
from headstart.heads.scaling import Standardised
from support.photos import write_photos

STAMP = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}"


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """No test asks the hub for timm's weights."""
    import importlib.util

    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "tensorflow" else find_spec(name, *a))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("retrain") / "flower photos", n=60)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def flags(tmp_path, photos, deep_onnx, cache, *more):
    places = {
        "output_graph": tmp_path / "retrained_graph.pb",
        "output_labels": tmp_path / "retrained_labels.txt",
        "summaries_dir": tmp_path / "summaries",
        "model_dir": tmp_path / "models",
        "tfhub_module": deep_onnx,
    }
    words = [f"--{name}={place}" for name, place in places.items()]
    return ["retrain", f"--image_dir={photos}", *words, "--cache", str(cache), *more]


def test_the_tutorials_line_gives_its_lines_and_files(tmp_path, photos, deep_onnx, cache, capsys):
    more = [
        "--how_many_training_steps=25",
        "--bottleneck_dir",
        str(tmp_path / "bottlenecks"),
        "--print_misclassified_test_images",
    ]
    assert main(flags(tmp_path, photos, deep_onnx, cache, *more)) == 0
    told = capsys.readouterr()
    lines = told.out.splitlines()
    assert lines[0] == "100 bottleneck files created."
    steps = [line for line in lines if ": Step " in line]
    for step in (0, 10, 20, 24):
        accuracy, entropy, validation = (line for line in steps if f": Step {step}:" in line)
        assert re.fullmatch(rf"{STAMP}: Step {step}: Train accuracy = \d+\.\d%", accuracy)
        assert re.fullmatch(rf"{STAMP}: Step {step}: Cross entropy = \d+\.\d{{6}}", entropy)
        assert re.fullmatch(rf"{STAMP}: Step {step}: Validation accuracy = \d+\.\d% \(N=100\)", validation)
    assert len(steps) == 12
    final = next(i for i, line in enumerate(lines) if line.startswith("Final"))
    assert re.fullmatch(r"Final test accuracy = \d+\.\d% \(N=\d+\)", lines[final])
    assert lines[final + 1] == "=== MISCLASSIFIED TEST IMAGES ==="
    assert (tmp_path / "retrained_labels.txt").read_text() == "blue\ngreen\nred\n"
    assert "TensorFlow is not installed" in told.err and (tmp_path / "retrained_graph.onnx").is_file()
    for split in ("train", "validation"):
        (events,) = (tmp_path / "summaries" / split).iterdir()
        content = events.read_bytes()
        for tag in ("accuracy_1", "cross_entropy_1", "final_training_ops/weights/summaries/mean"):
            assert tag.encode() in content
    files = list((tmp_path / "bottlenecks").rglob("*.txt"))
    assert len(files) == 180 and files[0].parent.name in ("blue", "green", "red")
    photo = next((photos / "red").iterdir())
    graph, labels = tmp_path / "retrained_graph.pb", tmp_path / "retrained_labels.txt"
    assert main(["label_image", "--graph", str(graph), f"--labels={labels}", "--image", str(photo)]) == 0
    said = capsys.readouterr().out
    assert re.match(r"\nEvaluation time \(1-image\): \d+\.\d{3}s\n\nred \(score=\d\.\d{5}\)\n", said)


def options(tmp_path, photos, deep_onnx, **more):
    return RetrainOptions(
        image_dir=str(photos),
        output_graph=str(tmp_path / "graph.onnx"),
        output_labels=str(tmp_path / "labels.txt"),
        summaries_dir=str(tmp_path / "logs"),
        model_dir=str(tmp_path / "models"),
        tfhub_module=str(deep_onnx),
        **{"how_many_training_steps": 200, "learning_rate": 1.0, **more},
    )


def test_it_is_a_classifier_of_headstarts_and_the_same_twice(tmp_path, photos, deep_onnx, cache):
    first = retrain(options(tmp_path, photos, deep_onnx), cache_dir=cache)
    content = first.graph.read_bytes()
    second = retrain(options(tmp_path, photos, deep_onnx), cache_dir=cache)
    assert first.accuracy == second.accuracy > 0.9 and first.n_tested > 5
    assert second.graph.read_bytes() == content
    assert retrain(options(tmp_path, photos, deep_onnx, seed=1), cache_dir=cache).graph.read_bytes() != content
    photo = next((photos / "blue").iterdir())
    assert headstart.load(first.graph).predict(photo)[0].prediction == "blue"


def test_distortions_are_learnt_from_and_never_judge(tmp_path, photos, deep_onnx, cache):
    plain = retrain(options(tmp_path, photos, deep_onnx), cache_dir=cache)
    every = {"flip_left_right": True, "random_crop": 10, "random_scale": 20, "random_brightness": 30}
    assert options(tmp_path, photos, deep_onnx, **every).views() == ("mirrored", "crop=10", "zoom=20", "brightness=30")
    distorted = retrain(options(tmp_path, photos, deep_onnx, **every), cache_dir=cache)
    assert distorted.n_tested == plain.n_tested and distorted.accuracy > 0.8
    assert distorted.graph.read_bytes() != plain.classifier.content


def test_graphs_on_the_way_and_another_place(tmp_path, photos, deep_onnx, cache):
    place = tmp_path / "a" / "b"
    asked = options(
        tmp_path,
        photos,
        deep_onnx,
        intermediate_store_frequency=80,
        intermediate_output_graphs_dir=str(place),
    )
    retrain(asked, cache_dir=cache)
    assert sorted(path.name for path in place.iterdir()) == ["intermediate_160.onnx", "intermediate_80.onnx"]
    assert Classifier.load(place / "intermediate_80.onnx").classes == ("blue", "green", "red")


def test_bottlenecks_that_somebody_has_are_read(tmp_path, photos, deep_onnx, cache):
    asked = options(tmp_path, photos, deep_onnx, bottleneck_dir=str(tmp_path / "b"))
    plain, said = retrain(asked, cache_dir=cache), []
    images = list_images(str(photos), testing=10, validation=10)
    path = bottlenecks.path_of(tmp_path / "b", images, 0, "deep")
    codes = bottlenecks.read_bottleneck(path, len(path.read_text().split(",")))
    bottlenecks.write_bottleneck(path, codes + 5)
    changed = retrain(asked, cache_dir=cache, warn=said.append)
    assert any("180 bottleneck files" in line for line in said)
    assert changed.graph.read_bytes() != plain.classifier.content
    path.write_text("1,2,three")
    assert bottlenecks.read_bottleneck(path, 3) is None and bottlenecks.read_bottleneck(tmp_path / "none", 3) is None


def test_a_photo_that_cannot_be_read_is_left_out_and_named(tmp_path, photos, deep_onnx, cache):
    shutil.copytree(photos, tmp_path / "photos")
    broken = tmp_path / "photos" / "red" / "broken.png"
    broken.write_bytes(next((photos / "red").iterdir()).read_bytes()[:60])
    said = []
    assert retrain(options(tmp_path, tmp_path / "photos", deep_onnx), cache_dir=cache, warn=said.append).accuracy > 0.8
    assert any("broken.png" in line for line in said)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("how_many_training_steps", 0),
        ("eval_step_interval", 0),
        ("train_batch_size", -1),
        ("test_batch_size", 0),
        ("learning_rate", 0.0),
    ],
)
def test_numbers_that_cannot_be_are_told_before_any_work(name, value, tmp_path, photos, deep_onnx, cache):
    with pytest.raises(DataError, match=f"--{name} must be"):
        retrain(options(tmp_path, photos, deep_onnx, **{name: value}), cache_dir=cache)


def test_a_saved_model_without_tensorflow_is_refused_at_the_start(tmp_path, photos, deep_onnx, cache):
    with pytest.raises(MissingExtra, match=r"headstart\[tensorflow\]"):
        retrain(options(tmp_path, photos, deep_onnx, saved_model_dir=str(tmp_path / "saved")), cache_dir=cache)
    assert not (tmp_path / "labels.txt").exists()


def test_an_unknown_flag_is_told(tmp_path, photos, deep_onnx, cache, capsys):
    with pytest.raises(SystemExit):
        main(flags(tmp_path, photos, deep_onnx, cache, "--learning_rte=0.1"))
    assert "did you mean --learning_rate?" in capsys.readouterr().err


# ---- the parts


def test_gradient_descent_learns_what_can_be_learnt_and_draws_classes_alike():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [200, 20, 20])
    data = Standardised(rng.normal(0, 1, (240, 6)).astype(np.float32) + 4 * np.eye(6, dtype=np.float32)[labels])
    batches = Batches([np.flatnonzero(labels == i) for i in range(3)], 300)
    drawn = np.bincount(labels[batches.draw(rng)])
    assert drawn.min() > 60
    *_, last = learn(data, labels, 3, batches, steps=400, rate=0.5)
    accuracy, entropy = judge(data, labels, last, np.arange(240))
    assert accuracy > 0.97 and entropy < 0.3 and last.number == 399
    assert Batches([np.array([4, 2]), np.empty(0, np.int64)], -1).draw(rng).tolist() == [2, 4]


def test_weights_at_hand_are_the_backbone_and_others_are_stood_in_for(tmp_path, deep_onnx, monkeypatch):
    from headstart.compat import architecture

    cache = tmp_path / "cache"
    backbone, line = find_architecture(str(deep_onnx), tmp_path, cache)
    assert backbone.name == "deep" and "is the backbone" in line
    (tmp_path / "models" / "mobilenet_v1_0.50_192").mkdir(parents=True)
    shutil.copy(deep_onnx, tmp_path / "models" / "mobilenet_v1_0.50_192" / "mobilenet_v1_0.50_192_frozen.onnx")
    address = "https://tfhub.dev/google/imagenet/mobilenet_v1_050_192/feature_vector/1"
    for name in ("mobilenet_0.50_192", address):
        backbone, line = find_architecture(name, tmp_path / "models", cache)
        assert backbone.widths[0] and "its weights in" in line
    real = architecture.find_backbone

    def without_timm(spec, folder):
        if spec.name.startswith("timm:"):
            raise MissingExtra("timm's networks", "torch")
        return real(spec, folder)

    monkeypatch.setattr(architecture, "find_backbone", without_timm)
    for name in ("inception_v3", "mobilenet_0.25_128_quantized", "https://tfhub.dev/google/imagenet/nasnet_large/1"):
        backbone, line = find_architecture(name, tmp_path / "models", cache)
        assert backbone.name == "efficientnet-lite0" and "stands in for it" in line and "put its .onnx" in line
    with pytest.raises(BackboneError, match="did you mean"):
        find_architecture("inception_v33", tmp_path, cache)


def test_summaries_are_what_tensorboard_reads(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    summaries = Summaries(tmp_path)
    for step in (0, 10):
        summaries.add("train", step, 0.5 + step / 100, 1.0, np.arange(6.0).reshape(3, 2), np.zeros(2))
    summaries.write()
    events = accumulator.EventAccumulator(str(tmp_path / "train"))
    events.Reload()
    assert [(e.step, round(e.value, 3)) for e in events.Scalars("accuracy_1")] == [(0, 0.5), (10, 0.6)]
    assert events.Scalars("final_training_ops/weights/summaries/mean")[0].value == 2.5
    assert "final_training_ops/biases/summaries/histogram" in events.Tags()["histograms"]
    assert not (tmp_path / "validation").exists()


def test_resizing_is_tensorflows_old_one():
    image = np.arange(4 * 4 * 3, dtype=np.uint8).reshape(4, 4, 3)
    assert (resize_as_tensorflow_1(image, 4, 4) == image).all()
    assert (resize_as_tensorflow_1(image, 2, 2) == image[::2, ::2]).all()  # corners on corners, no mean
    larger = resize_as_tensorflow_1(image, 8, 8)
    assert (larger[1, 0] == (image[0, 0].astype(float) + image[1, 0]) / 2).all() and (larger[7, 7] == image[3, 3]).all()


def test_label_image_takes_a_run_and_says_what_it_does_not_heed(tmp_path, photos, deep_onnx, cache):
    run = headstart.train(photos, tmp_path / "run", backbone=str(deep_onnx), cache=cache, report="none")
    photo = next((photos / "green").iterdir())
    labelled = label_image(LabelOptions(str(photo), graph=str(run.folder), input_height=299, input_mean=0), cache_dir=cache)
    assert labelled.scores[0][0] == "green" and sum(score for _, score in labelled.scores) == pytest.approx(1, abs=1e-3)
    assert any("--input_height 299 is not heeded" in note for note in labelled.notes)
    (tmp_path / "two.txt").write_text("a\nb\n")
    with pytest.raises(DataError, match="has 2 labels, and the graph gives 3 scores"):
        label_image(LabelOptions(str(photo), graph=str(run.folder), labels=str(tmp_path / "two.txt")), cache_dir=cache)
    (tmp_path / "names.txt").write_text(labels_text(["x", "y", "z"]))
    renamed = label_image(
        LabelOptions(str(photo), graph=str(run.folder), labels=str(tmp_path / "names.txt")), cache_dir=cache
    )
    assert renamed.scores[0][0] == "y" and any("other labels" in note for note in renamed.notes)


def test_label_image_tells_what_is_not_there(tmp_path, photos, cache):
    photo = next((photos / "green").iterdir())
    with pytest.raises(ClassifierError, match="there is no graph .*headstart retrain"):
        label_image(LabelOptions(str(photo), graph=str(tmp_path / "none.pb")), cache_dir=cache)
    (tmp_path / "graph.pb").write_bytes(b"graph")
    with pytest.raises(MissingExtra, match=r"headstart\[tensorflow\]"):
        label_image(LabelOptions(str(photo), graph=str(tmp_path / "graph.pb")), cache_dir=cache)
    (tmp_path / "photo.jpg").write_bytes(b"no photo")
    with pytest.raises(DataError, match=r"photo\.jpg"):
        label_image(LabelOptions(str(tmp_path / "photo.jpg"), graph=str(tmp_path / "graph.pb")), cache_dir=cache)


def test_label_image_imagenet(capsys, cache, tmp_path):
    from PIL import Image
    from skimage import data as pictures

    Image.fromarray(pictures.chelsea()).save(tmp_path / "cat.png")
    assert main(["label_image", "--graph", "imagenet", "--image", str(tmp_path / "cat.png"), "--cache", str(cache)]) == 0
    assert "cat" in capsys.readouterr().out.lower()


def test_a_frozen_graph_needs_tensorflow(tmp_path, photos, deep_onnx, cache):
    classifier = retrain(options(tmp_path, photos, deep_onnx), cache_dir=cache).classifier
    with pytest.raises(MissingExtra):
        write_graph(classifier, tmp_path / "graph.pb", "final_result")
    assert not (tmp_path / "graph.pb").exists()
