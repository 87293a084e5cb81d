"""Writes and runs frozen TensorFlow graphs: a process of its own, `python -m`, with TensorFlow.

Reads request.json in the folder that it is given, and writes what is asked for there, or error.json with the reason. Nothing
of a graph is executed but its operations, and of those none that reads or writes files.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from headstart.export.writers.tensorflow_graph import Graph, UnknownOperation

FORBIDDEN = (
    "ReadFile",
    "WriteFile",
    "PyFunc",
    "PyFuncStateless",
    "EagerPyFunc",
    "SaveV2",
    "RestoreV2",
    "Save",
    "MatchingFiles",
)
MOST_LISTED = 20


class Refused(Exception):
    """What the user should know."""


def write(tf: Any, folder: Path, request: dict[str, Any]) -> None:
    """A frozen GraphDef of network.onnx: a normalised image in, probabilities out."""
    import onnx

    network = Graph(tf, onnx.load(str(folder / "network.onnx")))
    size, built = request["size"], tf.Graph()
    with built.as_default():
        image = tf.compat.v1.placeholder(tf.float32, [None, size, size, 3], name=request["input"])
        pixels = tf.clip_by_value(image * request["std"] + request["mean"], 0.0, 255.0)
        tf.identity(network.run(pixels)["probabilities"], name=request["output"])
    (folder / "graph.pb").write_bytes(built.as_graph_def().SerializeToString())


def saved_model(tf: Any, folder: Path, request: dict[str, Any]) -> None:
    """A SavedModel of network.onnx, which takes pixels from 0 to 1, as TF-Hub's modules do."""
    import onnx

    network, size = Graph(tf, onnx.load(str(folder / "network.onnx"))), request["size"]
    module = tf.Module()
    signature = [tf.TensorSpec([None, size, size, 3], tf.float32, name="image")]
    module.classify = tf.function(
        lambda image: {"prediction": network.run(tf.clip_by_value(image * 255.0, 0.0, 255.0))["probabilities"]},
        input_signature=signature,
    )
    tf.saved_model.save(module, request["folder"], signatures={"serving_default": module.classify.get_concrete_function()})


def run(tf: Any, folder: Path, request: dict[str, Any]) -> None:
    """Feed image.npy to a graph's layer, and write another layer's output."""
    definition = tf.compat.v1.GraphDef()
    try:
        definition.ParseFromString(Path(request["graph"]).read_bytes())
    except Exception as error:
        raise Refused(f"{request['graph']} is no frozen TensorFlow graph") from error
    names = [node.name for node in definition.node]
    if dangerous := sorted({node.op for node in definition.node} & set(FORBIDDEN)):
        raise Refused(f"{request['graph']} has operations that touch files ({', '.join(dangerous)}); it is not run")
    for flag, layer in (("--input_layer", request["input"]), ("--output_layer", request["output"])):
        if layer not in names:
            raise Refused(f"{request['graph']} has no layer {layer!r} ({flag}); it has {_some(definition)}")
    graph = tf.Graph()
    with graph.as_default():
        tf.import_graph_def(definition, name="")
    image = np.load(folder / "image.npy", allow_pickle=False)
    place = graph.get_tensor_by_name(f"{request['input']}:0")
    if place.dtype == tf.uint8:
        image = image.astype(np.uint8)
    with tf.compat.v1.Session(graph=graph) as session:
        output = session.run(f"{request['output']}:0", {place: image})
    np.save(folder / "output.npy", np.asarray(output, np.float32))


def _some(definition: Any) -> str:
    """Names of layers that may be meant: what takes an image, and what comes last."""
    inputs = [node.name for node in definition.node if node.op == "Placeholder"]
    used = {name.split(":")[0].lstrip("^") for node in definition.node for name in node.input}
    outputs = [node.name for node in definition.node if node.name not in used and node.op not in ("Const", "Placeholder")]
    listed = [*inputs, *outputs][:MOST_LISTED]
    more = len(inputs) + len(outputs) - len(listed)
    return ", ".join(listed) + (f" and {more} more" if more > 0 else "")


def main(folder: Path) -> None:
    """Do what request.json asks for."""
    import tensorflow as tf

    request = json.loads((folder / "request.json").read_text("utf-8"))
    try:
        {"write": write, "saved_model": saved_model, "run": run}[request["do"]](tf, folder, request)
    except (Refused, UnknownOperation) as error:
        (folder / "error.json").write_text(json.dumps(str(error)), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
