"""Opens SavedModel folders, Keras models and frozen graphs with TensorFlow, each as a function from images to outputs.

It decides which of a file's functions is the network, and which input of it is the image, and it refuses graphs with
operations that reach outside the network. It runs in the worker's process alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from headstart.backbones.tensorflow_files.scales import keras_scale
from headstart.wording import first_line

# Parts of the names of TensorFlow's operations that reach outside the graph: to Python, files, the network.
UNSAFE = ("PyFunc", "File", "Dataset", "Reader", "Rpc", "Summary", "Debug", "Snapshot")
SAFE = ("ShardedFilename", "ShardedFilespec")  # part of every SavedModel, and only computes a name


class Refused(Exception):
    """A file cannot be converted, with the reason; it ends up in about.json, after the file's name."""


class Source(NamedTuple):
    """A network that TensorFlow has opened.

    run: float32 (n, size, size, 3) to its outputs. shape: of its image, None where free. scale: a key of SCALES, and why.
    owner: what the variables belong to; they are gone when it is.
    """

    run: Callable[[Any], Any]
    shape: tuple[int | None, ...]
    scale: str
    why: str
    owner: Any = None


def import_tensorflow() -> Any:
    """Import TensorFlow, which takes seconds, where it is needed."""
    import tensorflow

    return tensorflow


def check_operations(operations: Iterable[str]) -> None:
    """Raise Refused where a graph has operations that reach outside it, to files or the network."""
    unsafe = {o for o in operations if o not in SAFE and any(part in o for part in UNSAFE)}
    if unsafe:
        raise Refused(
            f"has operations that reach outside the network ({', '.join(sorted(unsafe))}), which headstart never runs; "
            "export the network alone"
        )


def _choose_outputs(outputs: dict[str, Any], name: str | None) -> list[Any]:
    """Choose the outputs of a signature: the one named, else TF-Hub's `default`, else all."""
    if name and name not in outputs:
        raise Refused(f"has no output {name!r}; its outputs: {', '.join(sorted(outputs))}")
    name = name or ("default" if "default" in outputs else None)
    return [outputs[name]] if name else list(outputs.values())


def _open_saved_model(path: Path, output: str | None) -> Source:
    from tensorflow.core.protobuf import saved_model_pb2

    tf = import_tensorflow()
    saved = saved_model_pb2.SavedModel()
    saved.ParseFromString((path / "saved_model.pb").read_bytes())
    for graph in (meta.graph_def for meta in saved.meta_graphs):
        functions = graph.library.function
        check_operations({node.op for part in (graph.node, *(f.node_def for f in functions)) for node in part})
    tags = [set(meta.meta_info_def.tags) for meta in saved.meta_graphs]
    model = tf.saved_model.load(str(path), tags=next((t for t in ({"serve"}, set()) if t in tags), tags[0]))
    why = "as TF-Hub's image models take them"
    names = ("serving_default", "image_feature_vector", "default", *model.signatures)
    signature = next((model.signatures[name] for name in names if name in model.signatures), None)
    inputs = signature.structured_input_signature[1] if signature else {}
    if signature and len(inputs) == 1:
        call, ((key, spec),) = signature, inputs.items()
        return Source(
            lambda x: _choose_outputs(call(**{key: _cast_images(x, spec)}), output), _shape_of(spec), "[0, 1]", why, model
        )
    if not callable(model):
        raise Refused(f"has no function of one image; its inputs: {', '.join(inputs) or 'none'}; export it with one")
    spec = _first_input(model)
    return Source(lambda x: _call(model, _cast_images(x, spec), output), _shape_of(spec), "[0, 1]", why, model)


def _first_input(model: Any) -> Any:
    """Find the first argument of the function of a SavedModel without signatures, as TF-Hub has them for TensorFlow 2."""
    for function in model.__call__.concrete_functions:
        arguments, _ = function.structured_input_signature
        if arguments and getattr(arguments[0], "shape", None) is not None:
            return arguments[0]
    raise Refused("has a function, but none that takes an image")


def _call(model: Any, images: Any, output: str | None) -> Any:
    try:
        results = model(images, training=False)
    except (TypeError, ValueError):  # it was exported without that argument
        results = model(images)
    return _choose_outputs(results, output) if isinstance(results, dict) else results


def _cast_images(images: Any, spec: Any) -> Any:
    tf = import_tensorflow()
    if spec.dtype.is_floating:
        return tf.cast(images, spec.dtype)
    return tf.cast(tf.round(images * 255), spec.dtype)


def _shape_of(spec: Any) -> tuple[int | None, ...]:
    if spec.shape.rank != 4:
        raise Refused(f"takes an input of shape {spec.shape}; expected images, (n, height, width, 3)")
    return tuple(spec.shape)


def _open_keras(path: Path, output: str | None) -> Source:
    import keras

    tf = import_tensorflow()
    try:
        model = keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # noqa: BLE001  of any kind, from any layer
        raise Refused(f"cannot be loaded by Keras {keras.__version__}: {first_line(error)}") from error
    if output:
        names = [layer.name for layer in model.layers]
        if output not in names:
            raise Refused(f"has no layer {output!r}; its last layers: {', '.join(names[-10:])}")
        model = keras.Model(model.inputs, model.get_layer(output).output)
    if len(model.inputs) != 1 or len(model.inputs[0].shape) != 4:
        raise Refused(f"has no single image input; its inputs: {', '.join(str(i.shape) for i in model.inputs)}")
    scale, why = keras_scale(model)
    is_bgr = scale == "ImageNet's mean"
    run = lambda x: model(tf.reverse(x, [-1]) if is_bgr else x, training=False)  # noqa: E731
    return Source(run, tuple(model.inputs[0].shape), scale, why)


def _open_frozen(path: Path, output: str | None) -> Source:
    from google.protobuf.message import DecodeError

    tf = import_tensorflow()
    graph = tf.compat.v1.GraphDef()
    try:
        graph.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise Refused(f"is no frozen graph of TensorFlow's: {first_line(error)}") from error
    if not graph.node:
        raise Refused("is no frozen graph of TensorFlow's: it has no nodes")
    check_operations({node.op for node in graph.node} | {n.op for f in graph.library.function for n in f.node_def})
    nodes = {node.name: node for node in graph.node}
    if any(node.op in ("VariableV2", "VarHandleOp", "Variable") for node in graph.node):
        raise Refused("has variables whose values are elsewhere; freeze it first (its checkpoint's values into constants)")
    image, shape, scale = _find_image(graph)
    used = {name.split(":")[0].lstrip("^") for node in graph.node for name in node.input}
    ends = [
        name
        for name, node in nodes.items()
        if name not in used and node.op not in ("NoOp", "Const", "Placeholder", "Assert")
    ]
    if output and output.split(":")[0] not in nodes:
        raise Refused(f"has no tensor {output!r}; it ends in: {', '.join(ends)}")
    names = [output] if output else ends
    tensors = [name if ":" in name else f"{name}:0" for name in names]

    def run(x: Any) -> Any:
        return tf.graph_util.import_graph_def(graph, input_map={image: x}, return_elements=tensors, name="")

    why = "which it scales itself" if scale == "pixels" else "as TensorFlow's slim networks take them"
    return Source(run, shape, scale, why)


def _find_image(graph: Any) -> tuple[str, tuple[int | None, ...], str]:
    """Find the tensor of a frozen graph that is the image; gives its name, shape and scale."""
    placeholders = [node for node in graph.node if node.op == "Placeholder"]
    images = [
        node for node in placeholders if node.attr["dtype"].type == 1 and len(_placeholder_shape(node) or (0,) * 4) == 4
    ]
    if len(images) == 1:
        return f"{images[0].name}:0", _placeholder_shape(images[0]) or (None, None, None, 3), "[-1, 1]"
    resized = [node.name for node in graph.node if node.op == "ResizeBilinear"]
    if not images and resized:  # retrain.py's Inception v3 decodes and resizes JPEGs within the graph: cut after that
        return f"{resized[-1]}:0", (1, None, None, 3), "pixels"
    descriptions = ", ".join(f"{node.name} {_placeholder_shape(node)}" for node in placeholders) or "none"
    raise Refused(f"has no single input of float images; its inputs: {descriptions}")


def _placeholder_shape(node: Any) -> tuple[int | None, ...] | None:
    shape = node.attr["shape"].shape
    if "shape" not in node.attr or shape.unknown_rank:  # as in files of 2015
        return None
    return tuple(d.size if d.size > 0 else None for d in shape.dim)


OPENERS: dict[str, Callable[[Path, str | None], Source]] = {
    "saved_model": _open_saved_model,
    "keras": _open_keras,
    "frozen": _open_frozen,
}
