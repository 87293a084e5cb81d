"""The only file that imports TensorFlow: converts one file, and runs the original for comparison, in a process of its own.

Takes a folder with request.json; leaves model.onnx, reference.npz (random images and what the original makes of them) and
about.json there. It decides which of a file's functions is the network, and which input of it is the image.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

OPSET = 17  # that of efficientnet_lite.py
N_IMAGES = 2
# Parts of the names of TensorFlow's operations that reach outside the graph: to Python, files, the network.
UNSAFE = ("PyFunc", "File", "Dataset", "Reader", "Rpc", "Summary", "Debug", "Snapshot")
SAFE = ("ShardedFilename", "ShardedFilespec")  # part of every SavedModel, and only computes a name

# How Keras' applications want their pixels, by the beginning of the model's name: keras.applications.*.preprocess_input.
KERAS_SCALES = {
    "mobilenetv3": "pixels",
    "efficientnet": "pixels",
    "convnext": "pixels",
    "densenet": "ImageNet's",
    "vgg": "ImageNet's mean",
    "resnet50v2": "[-1, 1]",
    "resnet101v2": "[-1, 1]",
    "resnet152v2": "[-1, 1]",
    "resnet": "ImageNet's mean",
}
RESCALING = ("Rescaling", "Normalization", "TrueDivide", "Divide", "Subtract", "Multiply")


class Refused(Exception):
    """Why a file is not converted; ends up in about.json, after the file's name."""


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


def convert(folder: Path) -> dict[str, Any]:
    """Do what request.json asks; gives what about.json says."""
    request = json.loads((folder / "request.json").read_text())
    if request["kind"] == "tflite":
        about, run = _convert_tflite(request, folder)
    else:
        about, run = _convert_function(request, folder)
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (N_IMAGES, 8, 8, 3))
    cell = -(-about["size"] // 8)
    blocks = coarse.repeat(cell, 1).repeat(cell, 2)[:, : about["size"], : about["size"]]
    pixels = np.clip(blocks + random.normal(0, 20, blocks.shape), 0, 255).astype(np.uint8)
    results = [run(pixels[i : i + 1]) for i in range(N_IMAGES)]
    outputs = {f"output{i}": np.concatenate(parts) for i, parts in enumerate(zip(*results, strict=True))}
    np.savez(folder / "reference.npz", pixels=pixels, **outputs)  # type: ignore[arg-type]  # NumPy names its own argument after them
    return about | {"versions": {name: version(name) for name in ("tf2onnx",)} | {"tensorflow": _tensorflow().__version__}}


def _tensorflow() -> Any:
    import tensorflow

    return tensorflow


def _scaled(pixels: np.ndarray, request: dict[str, Any], scale: str) -> np.ndarray:
    from headstart.backbones.tensorflow_files import SCALES

    mean, std = SCALES[scale]
    return ((pixels / 255 - np.array(request["mean"] or mean)) / np.array(request["std"] or std)).astype(np.float32)


def _size(shape: Iterable[int | None], asked: int | None) -> int:
    """The side of the square images that a network takes; raises Refused where it takes others, or does not say."""
    _, height, width, channels = shape
    if channels not in (None, 3) or (height and width and height != width):
        raise Refused(f"takes images of shape {tuple(shape)}; headstart's are square, with three channels that come last")
    own = height or width
    if own and asked and own != asked:
        raise Refused(f"takes images of {own} pixels; leave --size {asked} away")
    if not own and not asked:
        raise Refused("does not say how large its images are; tell it with --size, in pixels (often 224)")
    return int(own or asked or 0)


# ---- what TensorFlow can run itself


def _convert_function(
    request: dict[str, Any], folder: Path
) -> tuple[dict[str, Any], Callable[[np.ndarray], list[np.ndarray]]]:
    import onnx
    import tf2onnx.convert

    tf = _tensorflow()
    source = OPENERS[request["kind"]](Path(request["path"]), request["output"])
    size = _size(source.shape, request["size"])
    specification = tf.TensorSpec((source.shape[0], size, size, 3), tf.float32, name="image")
    function = tf.function(source.run, input_signature=[specification], autograph=False)
    try:
        model, _ = tf2onnx.convert.from_function(function, [specification], opset=OPSET)
    except (ValueError, NotImplementedError, RuntimeError, KeyError) as error:
        raise Refused(f"cannot be converted to ONNX: {_first_line(error)}") from error
    _check_converted(model)
    onnx.save(model, str(folder / "model.onnx"))

    def run(pixels: np.ndarray) -> list[np.ndarray]:
        return [tensor.numpy() for tensor in tf.nest.flatten(function(tf.constant(_scaled(pixels, request, source.scale))))]

    return {"size": size, "scale": source.scale, "why": source.why, "is_8_bit": False}, run


def _check_converted(model: Any) -> None:
    """The converter leaves operations that it does not know as they are."""
    import onnx

    unknown = {n.op_type for n in model.graph.node if n.domain not in ("", "ai.onnx") or not onnx.defs.has(n.op_type, OPSET)}
    if unknown:
        raise Refused(f"cannot be converted: ONNX has no equivalent of its operations {', '.join(sorted(unknown))}")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def check_operations(operations: Iterable[str]) -> None:
    """Raise Refused where a graph reaches outside itself."""
    unsafe = {o for o in operations if o not in SAFE and any(part in o for part in UNSAFE)}
    if unsafe:
        raise Refused(
            f"has operations that reach outside the network ({', '.join(sorted(unsafe))}), which headstart never runs; "
            "export the network alone"
        )


def _chosen(outputs: dict[str, Any], wanted: str | None) -> list[Any]:
    """The outputs of a signature: the one asked for, else TF-Hub's `default`, else all."""
    if wanted and wanted not in outputs:
        raise Refused(f"has no output {wanted!r}; its outputs: {', '.join(sorted(outputs))}")
    name = wanted or ("default" if "default" in outputs else None)
    return [outputs[name]] if name else list(outputs.values())


def _saved_model(path: Path, output: str | None) -> Source:
    from tensorflow.core.protobuf import saved_model_pb2

    tf = _tensorflow()
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
        return Source(lambda x: _chosen(call(**{key: _typed(x, spec)}), output), _sides(spec), "[0, 1]", why, model)
    if not callable(model):
        raise Refused(f"has no function of one image; its inputs: {', '.join(inputs) or 'none'}; export it with one")
    spec = _first_input(model)
    return Source(lambda x: _called(model, _typed(x, spec), output), _sides(spec), "[0, 1]", why, model)


def _first_input(model: Any) -> Any:
    """What the function of a SavedModel without signatures, as TensorFlow 2's TF-Hub has them, takes first."""
    for function in model.__call__.concrete_functions:
        arguments, _ = function.structured_input_signature
        if arguments and getattr(arguments[0], "shape", None) is not None:
            return arguments[0]
    raise Refused("has a function, but none that takes an image")


def _called(model: Any, images: Any, output: str | None) -> Any:
    try:
        results = model(images, training=False)
    except (TypeError, ValueError):  # it was exported without that argument
        results = model(images)
    return _chosen(results, output) if isinstance(results, dict) else results


def _typed(images: Any, spec: Any) -> Any:
    tf = _tensorflow()
    if spec.dtype.is_floating:
        return tf.cast(images, spec.dtype)
    return tf.cast(tf.round(images * 255), spec.dtype)


def _sides(spec: Any) -> tuple[int | None, ...]:
    if spec.shape.rank != 4:
        raise Refused(f"takes an input of shape {spec.shape}; expected images, (n, height, width, 3)")
    return tuple(spec.shape)


def _keras(path: Path, output: str | None) -> Source:
    import keras

    tf = _tensorflow()
    try:
        model = keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # noqa: BLE001  of any kind, from any layer
        raise Refused(f"cannot be loaded by Keras {keras.__version__}: {_first_line(error)}") from error
    if output:
        names = [layer.name for layer in model.layers]
        if output not in names:
            raise Refused(f"has no layer {output!r}; its last layers: {', '.join(names[-10:])}")
        model = keras.Model(model.inputs, model.get_layer(output).output)
    if len(model.inputs) != 1 or len(model.inputs[0].shape) != 4:
        raise Refused(f"has no single image input; its inputs: {', '.join(str(i.shape) for i in model.inputs)}")
    scale, why = _keras_scale(model)
    is_bgr = scale == "ImageNet's mean"
    run = lambda x: model(tf.reverse(x, [-1]) if is_bgr else x, training=False)  # noqa: E731
    return Source(run, tuple(model.inputs[0].shape), scale, why)


def _keras_scale(model: Any) -> tuple[str, str]:
    """How a Keras model wants its pixels: whatever it does to them itself, else as its application does."""
    first = [layer for layer in model.layers[:5] if not hasattr(layer, "layers")]
    if any(type(layer).__name__ in RESCALING for layer in first):
        return "pixels", "for it scales them itself"
    names = [model.name, *(layer.name for layer in model.layers if hasattr(layer, "layers"))]
    for name in names:
        for beginning, scale in KERAS_SCALES.items():
            if name.lower().replace("_", "").startswith(beginning):
                return scale, f"as Keras' {name} takes them"
    return "[-1, 1]", "as most of Keras' applications take them"


def _frozen(path: Path, output: str | None) -> Source:
    from google.protobuf.message import DecodeError

    tf = _tensorflow()
    graph = tf.compat.v1.GraphDef()
    try:
        graph.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise Refused(f"is no frozen graph of TensorFlow's: {_first_line(error)}") from error
    if not graph.node:
        raise Refused("is no frozen graph of TensorFlow's: it has no nodes")
    check_operations({node.op for node in graph.node} | {n.op for f in graph.library.function for n in f.node_def})
    nodes = {node.name: node for node in graph.node}
    if any(node.op in ("VariableV2", "VarHandleOp", "Variable") for node in graph.node):
        raise Refused("has variables whose values are elsewhere; freeze it first (its checkpoint's values into constants)")
    image, shape, scale = _image_of(graph)
    used = {name.split(":")[0].lstrip("^") for node in graph.node for name in node.input}
    ends = [
        name
        for name, node in nodes.items()
        if name not in used and node.op not in ("NoOp", "Const", "Placeholder", "Assert")
    ]
    if output and output.split(":")[0] not in nodes:
        raise Refused(f"has no tensor {output!r}; it ends in: {', '.join(ends)}")
    wanted = [output] if output else ends
    tensors = [name if ":" in name else f"{name}:0" for name in wanted]

    def run(x: Any) -> Any:
        return tf.graph_util.import_graph_def(graph, input_map={image: x}, return_elements=tensors, name="")

    why = "which it scales itself" if scale == "pixels" else "as TensorFlow's slim networks take them"
    return Source(run, shape, scale, why)


def _image_of(graph: Any) -> tuple[str, tuple[int | None, ...], str]:
    """The tensor of a frozen graph that is the image, its shape, and its scale."""
    placeholders = [node for node in graph.node if node.op == "Placeholder"]
    images = [node for node in placeholders if node.attr["dtype"].type == 1 and len(_dims(node) or (0,) * 4) == 4]
    if len(images) == 1:
        return f"{images[0].name}:0", _dims(images[0]) or (None, None, None, 3), "[-1, 1]"
    resized = [node.name for node in graph.node if node.op == "ResizeBilinear"]
    if not images and resized:  # retrain.py's Inception v3 decodes and resizes JPEGs within the graph: cut after that
        return f"{resized[-1]}:0", (1, None, None, 3), "pixels"
    found = ", ".join(f"{node.name} {_dims(node)}" for node in placeholders) or "none"
    raise Refused(f"has no single input of float images; its inputs: {found}")


def _dims(node: Any) -> tuple[int | None, ...] | None:
    shape = node.attr["shape"].shape
    if "shape" not in node.attr or shape.unknown_rank:  # as in files of 2015
        return None
    return tuple(d.size if d.size > 0 else None for d in shape.dim)


OPENERS: dict[str, Callable[[Path, str | None], Source]] = {"saved_model": _saved_model, "keras": _keras, "frozen": _frozen}


# ---- TensorFlow Lite


def _convert_tflite(
    request: dict[str, Any], folder: Path
) -> tuple[dict[str, Any], Callable[[np.ndarray], list[np.ndarray]]]:
    import onnx
    import tf2onnx.convert

    tf = _tensorflow()
    content = Path(request["path"]).read_bytes()
    check_operations(name.decode() for name in re.findall(rb"Flex(\w+)", content))
    if request["output"]:
        raise Refused("is a .tflite file, of which every output is kept; choose among them with --output when you use it")
    try:
        interpreter = tf.lite.Interpreter(model_content=content)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise Refused(f"cannot be opened by TensorFlow Lite: {_first_line(error)}") from error
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    if len(inputs) != 1 or len(inputs[0]["shape"]) != 4:
        raise Refused(f"has no single image input; its inputs: {', '.join(str(list(i['shape'])) for i in inputs)}")
    size = _size([None, *(int(n) if n > 0 else None for n in inputs[0]["shape_signature"][1:])], request["size"])
    number = inputs[0]["dtype"]
    is_8_bit = any(t["dtype"] in (np.int8, np.uint8) for t in interpreter.get_tensor_details())
    arguments = ["--tflite", request["path"], "--output", str(folder / "model.onnx"), "--opset", str(OPSET)]
    sys.argv = ["tf2onnx.convert", *arguments]
    try:
        tf2onnx.convert.main()
    except (ValueError, NotImplementedError, RuntimeError, KeyError) as error:
        raise Refused(f"cannot be converted to ONNX: {_first_line(error)}") from error
    _check_converted(onnx.load(str(folder / "model.onnx")))
    interpreter.resize_tensor_input(inputs[0]["index"], [1, size, size, 3])
    interpreter.allocate_tensors()
    scale, why = (
        ("pixels", "for it is of 8 bits") if number != np.float32 else ("[-1, 1]", "as most .tflite files take them")
    )

    def run(pixels: np.ndarray) -> list[np.ndarray]:
        if number == np.float32:
            images = _scaled(pixels, request, scale)
        else:
            images = pixels if number == np.uint8 else (pixels.astype(np.int16) - 128).astype(np.int8)
        interpreter.set_tensor(inputs[0]["index"], images)
        interpreter.invoke()
        return [_dequantised(interpreter.get_tensor(o["index"]), o["quantization"]) for o in outputs]

    return {"size": size, "scale": scale, "why": why, "is_8_bit": is_8_bit}, run


def _dequantised(numbers: np.ndarray, quantization: tuple[float, int]) -> np.ndarray:
    step, zero = quantization
    return (numbers.astype(np.float32) - zero) * step if step else numbers.astype(np.float32)


def main(folder: Path) -> None:
    """Convert, and write what came of it."""
    try:
        about = convert(folder)
    except Refused as error:
        about = {"error": str(error)}
    (folder / "about.json").write_text(json.dumps(about))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
