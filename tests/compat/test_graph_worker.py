"""Frozen graphs, where TensorFlow is installed: what retrain writes, and how the old label_image.py reads it.

Run it in an environment with the extra [tensorflow] (`make test-tensorflow`).
"""

import json
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest

from headstart.compat import graph_worker
from headstart.compat.graph_file import run_graph, write_graph, write_saved_model
from headstart.compat.label_image import LabelOptions, label_image
from headstart.compat.retrain import RetrainOptions, retrain
from headstart.errors import ClassifierError
from support.photos import write_photos

pytestmark = pytest.mark.skipif(find_spec("tensorflow") is None, reason="TensorFlow is not installed")
OLD_LABEL_IMAGE = """
import sys
import numpy as np
import tensorflow.compat.v1 as tf
graph = tf.Graph()
definition = tf.GraphDef()
definition.ParseFromString(open(sys.argv[1], "rb").read())
with graph.as_default():
    tf.import_graph_def(definition)
image = np.load(sys.argv[2])
with tf.Session(graph=graph) as session:
    output = graph.get_operation_by_name("import/final_result").outputs[0]
    taken = graph.get_operation_by_name("import/input").outputs[0]
    print(np.squeeze(session.run(output, {taken: image})).tolist())
"""


@pytest.fixture(scope="module")
def retrained(tmp_path_factory, deep_onnx):
    root = tmp_path_factory.mktemp("graph")
    photos = write_photos(root / "photos", n=30)
    options = RetrainOptions(
        image_dir=str(photos),
        output_graph=str(root / "graph.pb"),
        output_labels=str(root / "labels.txt"),
        summaries_dir=str(root / "logs"),
        model_dir=str(root),
        tfhub_module=str(deep_onnx),
        how_many_training_steps=200,
        learning_rate=1.0,
        saved_model_dir=str(root / "saved"),
    )
    return retrain(options, cache_dir=root / "cache"), photos


def test_the_old_label_image_reads_what_retrain_writes(retrained, tmp_path):
    done, photos = retrained
    assert done.graph.suffix == ".pb"
    pixels = np.random.default_rng(1).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    np.save(tmp_path / "image.npy", ((pixels.astype(np.float32) - 128) / 128)[None])
    command = [sys.executable, "-W", "ignore", "-c", OLD_LABEL_IMAGE, str(done.graph), str(tmp_path / "image.npy")]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1]
    np.testing.assert_allclose(json.loads(told), done.classifier.engine.infer(pixels)["probabilities"], atol=0.01)


def test_label_image_takes_it_with_the_tutorials_flags(retrained):
    done, photos = retrained
    photo = next((photos / "red").iterdir())
    options = LabelOptions(str(photo), graph=str(done.graph), labels=str(done.labels), input_height=32, input_width=32)
    labelled = label_image(options, cache_dir=done.graph.parent)
    assert labelled.scores[0][0] == "red" and sum(score for _, score in labelled.scores) == pytest.approx(1, abs=1e-3)


def test_a_layer_that_is_not_there_is_told_with_those_that_are(retrained):
    done, _ = retrained
    image = np.zeros((32, 32, 3), np.float32)
    with pytest.raises(ClassifierError, match="has no layer 'Mul' .*--input_layer.* it has input, final_result"):
        run_graph(done.graph, image, "Mul", "final_result")
    with pytest.raises(ClassifierError, match="has no layer 'softmax' .*--output_layer"):
        run_graph(done.graph, image, "input", "softmax")


def test_what_is_no_graph_is_told(tmp_path):
    (tmp_path / "graph.pb").write_bytes(b"no graph at all")
    with pytest.raises(ClassifierError, match="is no frozen TensorFlow graph"):
        run_graph(tmp_path / "graph.pb", np.zeros((8, 8, 3), np.float32), "input", "final_result")


def test_a_graph_that_touches_files_is_not_run(tmp_path):
    script = f"""
import tensorflow.compat.v1 as tf
g = tf.Graph()
with g.as_default():
    x = tf.placeholder(tf.float32, [None, 8, 8, 3], name="input")
    tf.io.read_file("/etc/hostname", name="final_result")
open({str(tmp_path / "graph.pb")!r}, "wb").write(g.as_graph_def().SerializeToString())
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=True, capture_output=True)
    assert "ReadFile" in graph_worker.FORBIDDEN
    with pytest.raises(ClassifierError, match="touch files .ReadFile"):
        run_graph(tmp_path / "graph.pb", np.zeros((8, 8, 3), np.float32), "input", "final_result")


def test_the_saved_model_takes_pixels_from_0_to_1(retrained):
    done, _ = retrained
    folder = done.graph.parent / "saved"
    pixels = np.random.default_rng(2).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    script = (
        "import sys, numpy as np, tensorflow as tf\n"
        f"run = tf.saved_model.load({str(folder)!r}).signatures['serving_default']\n"
        f"image = np.array({pixels.tolist()!r}, np.float32)[None] / 255\n"
        "print(run(image=tf.constant(image))['prediction'].numpy()[0].tolist())\n"
    )
    told = subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=True, capture_output=True, text=True).stdout
    expected = done.classifier.engine.infer(pixels)["probabilities"]
    np.testing.assert_allclose(json.loads(told.splitlines()[-1]), expected, atol=0.01)
    with pytest.raises(Exception, match="is there already"):
        write_saved_model(done.classifier, folder)


def test_another_name_for_the_output(retrained, tmp_path):
    done, _ = retrained
    write_graph(done.classifier, tmp_path / "graph.pb", "my_result")
    assert run_graph(tmp_path / "graph.pb", np.zeros((32, 32, 3), np.float32), "input", "my_result").shape == (3,)
