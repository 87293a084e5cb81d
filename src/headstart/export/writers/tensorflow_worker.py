"""Writes a network in one of TensorFlow's formats, or runs such a file: a process of its own, `python -m`, with TensorFlow.

`write FOLDER`: reads request.json and network.onnx there; writes the file there, or error.json. `run FILE KIND SIZE`: reads
images from stdin, raw bytes, one after the other, and writes each one's outputs to stdout, float32, in the order of names.
"""

from __future__ import annotations

import json
import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from headstart.export.writers.tensorflow_graph import Graph, UnknownOperation


def write(folder: Path) -> None:
    """Write what request.json asks for."""
    import onnx
    import tensorflow as tf

    request = json.loads((folder / "request.json").read_text("utf-8"))
    try:
        graph = Graph(tf, onnx.load(str(folder / "network.onnx")))
        WRITERS[request["kind"]](tf, graph, folder, request)
    except UnknownOperation as error:
        (folder / "error.json").write_text(json.dumps(f"it has no {error} of ours"), "utf-8")


def _write_frozen(tf: Any, graph: Graph, folder: Path, request: dict[str, Any]) -> None:
    """A frozen GraphDef: `image` in, and a node for each output by its name."""
    size, built = request["size"], tf.Graph()
    with built.as_default():
        image = tf.compat.v1.placeholder(tf.uint8, [None, size, size, 3], name="image")
        for name, value in graph.run(image).items():
            tf.identity(value, name=name)
    (folder / "classifier.pb").write_bytes(built.as_graph_def().SerializeToString())


def _function(tf: Any, graph: Graph, size: int, batch: int | None) -> Any:
    signature = [tf.TensorSpec([batch, size, size, 3], tf.uint8, name="image")]
    return tf.function(lambda image: graph.run(image), input_signature=signature)


def _write_saved_model(tf: Any, graph: Graph, folder: Path, request: dict[str, Any]) -> None:
    module = tf.Module()
    module.classify = _function(tf, graph, request["size"], None)
    signatures = {"serving_default": module.classify.get_concrete_function()}
    tf.saved_model.save(module, str(folder / "classifier"), signatures=signatures)


def _write_tflite(tf: Any, graph: Graph, folder: Path, request: dict[str, Any]) -> None:
    """LiteRT's file, with labels.txt and classifier.json behind it as a zip archive, as its metadata has them."""
    module = tf.Module()
    module.classify = _function(tf, graph, request["size"], 1)
    concrete = module.classify.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], module)
    if request["is_half"]:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]
    file = folder / "classifier.tflite"
    file.write_bytes(converter.convert())
    with zipfile.ZipFile(file, "a") as archive:
        for name, text in request["files"].items():
            archive.writestr(zipfile.ZipInfo(name), text)


def run(file: Path, kind: str, size: int) -> None:
    """Answer images until stdin ends; what TensorFlow prints goes to stderr."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    import tensorflow as tf

    classify = OPENERS[kind](tf, file)
    length = size * size * 3
    while len(content := sys.stdin.buffer.read(length)) == length:
        outputs = classify(np.frombuffer(content, np.uint8).reshape(1, size, size, 3))
        for name in sorted(outputs):
            answers.write(np.asarray(outputs[name], np.float32).tobytes())
        answers.flush()


def _open_frozen(tf: Any, file: Path) -> Callable[[np.ndarray], dict[str, Any]]:
    definition = tf.compat.v1.GraphDef()
    definition.ParseFromString(file.read_bytes())
    graph = tf.Graph()
    with graph.as_default():
        tf.import_graph_def(definition, name="")
    names = [name for name in ("probabilities", "unfamiliarity") if name in {node.name for node in definition.node}]
    session = tf.compat.v1.Session(graph=graph)
    return lambda image: dict(zip(names, session.run([f"{n}:0" for n in names], {"image:0": image}), strict=True))


def _open_saved_model(tf: Any, folder: Path) -> Callable[[np.ndarray], dict[str, Any]]:
    loaded = tf.saved_model.load(str(folder))
    signature = loaded.signatures["serving_default"]

    def classify(image: np.ndarray) -> dict[str, Any]:
        found = signature(image=tf.constant(image))
        return {name: found[name].numpy() for name in ("probabilities", "unfamiliarity") if name in found}

    classify.keeps = loaded  # type: ignore[attr-defined]  # its functions end with it
    return classify


def _open_tflite(tf: Any, file: Path) -> Callable[[np.ndarray], dict[str, Any]]:
    interpreter = tf.lite.Interpreter(model_content=file.read_bytes(), num_threads=1)
    runner = interpreter.get_signature_runner()

    def classify(image: np.ndarray) -> dict[str, Any]:
        found = runner(image=image)
        return {name: found[name] for name in ("probabilities", "unfamiliarity") if name in found}

    return classify


WRITERS = {"pb": _write_frozen, "saved_model": _write_saved_model, "tflite": _write_tflite}
OPENERS = {"pb": _open_frozen, "saved_model": _open_saved_model, "tflite": _open_tflite}


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write(Path(sys.argv[2]))
    else:
        run(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
