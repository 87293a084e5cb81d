"""Converts one TensorFlow file to ONNX, and runs the original for comparison: a process of its own, `python -m`.

Takes a folder with request.json; writes model.onnx, reference.npz (random images and the original's outputs for them) and
about.json there.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from headstart.backbones.tensorflow_files.open_networks import OPENERS, Refused, check_operations, import_tensorflow
from headstart.backbones.tensorflow_files.scales import SCALES
from headstart.wording import first_line

OPSET = 17  # that of efficientnet_lite.py
N_IMAGES = 2


def convert(folder: Path) -> dict[str, Any]:
    """Convert the file that request.json names; gives the content of about.json."""
    request = json.loads((folder / "request.json").read_text())
    if request["kind"] == "tflite":
        report, run = _convert_tflite(request, folder)
    else:
        report, run = _convert_function(request, folder)
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (N_IMAGES, 8, 8, 3))
    cell = -(-report["size"] // 8)
    blocks = coarse.repeat(cell, 1).repeat(cell, 2)[:, : report["size"], : report["size"]]
    pixels = np.clip(blocks + random.normal(0, 20, blocks.shape), 0, 255).astype(np.uint8)
    results = [run(pixels[i : i + 1]) for i in range(N_IMAGES)]
    outputs = {f"output{i}": np.concatenate(parts) for i, parts in enumerate(zip(*results, strict=True))}
    np.savez(folder / "reference.npz", pixels=pixels, **outputs)  # type: ignore[arg-type]  # NumPy names its own argument after them
    return report | {"versions": {"tf2onnx": version("tf2onnx"), "tensorflow": import_tensorflow().__version__}}


def _scale_pixels(pixels: np.ndarray, request: dict[str, Any], scale: str) -> np.ndarray:
    mean, std = SCALES[scale]
    return ((pixels / 255 - np.array(request["mean"] or mean)) / np.array(request["std"] or std)).astype(np.float32)


def _image_size(shape: Iterable[int | None], requested: int | None) -> int:
    """Choose the side of the square images that a network takes; raises Refused where it takes others, or does not say."""
    _, height, width, channels = shape
    if channels not in (None, 3) or (height and width and height != width):
        raise Refused(f"takes images of shape {tuple(shape)}; headstart's are square, with three channels that come last")
    stated = height or width
    if stated and requested and stated != requested:
        raise Refused(f"takes images of {stated} pixels; leave --size {requested} away")
    if not stated and not requested:
        raise Refused("does not say how large its images are; tell it with --size, in pixels (often 224)")
    return int(stated or requested or 0)


# ---- what TensorFlow can run itself


def _convert_function(
    request: dict[str, Any], folder: Path
) -> tuple[dict[str, Any], Callable[[np.ndarray], list[np.ndarray]]]:
    import onnx
    import tf2onnx.convert

    tf = import_tensorflow()
    source = OPENERS[request["kind"]](Path(request["path"]), request["output"])
    size = _image_size(source.shape, request["size"])
    specification = tf.TensorSpec((source.shape[0], size, size, 3), tf.float32, name="image")
    function = tf.function(source.run, input_signature=[specification], autograph=False)
    try:
        model, _ = tf2onnx.convert.from_function(function, [specification], opset=OPSET)
    except (ValueError, NotImplementedError, RuntimeError, KeyError) as error:
        raise Refused(f"cannot be converted to ONNX: {first_line(error)}") from error
    _check_converted(model)
    onnx.save(model, str(folder / "model.onnx"))

    def run(pixels: np.ndarray) -> list[np.ndarray]:
        return [
            tensor.numpy() for tensor in tf.nest.flatten(function(tf.constant(_scale_pixels(pixels, request, source.scale))))
        ]

    return {"size": size, "scale": source.scale, "why": source.why, "is_8_bit": False}, run


def _check_converted(model: Any) -> None:
    """Raise Refused for operations that the converter left as they were, for it does not know them."""
    import onnx

    unsupported = {
        n.op_type for n in model.graph.node if n.domain not in ("", "ai.onnx") or not onnx.defs.has(n.op_type, OPSET)
    }
    if unsupported:
        raise Refused(f"cannot be converted: ONNX has no equivalent of its operations {', '.join(sorted(unsupported))}")


# ---- TensorFlow Lite


def _convert_tflite(
    request: dict[str, Any], folder: Path
) -> tuple[dict[str, Any], Callable[[np.ndarray], list[np.ndarray]]]:
    import onnx
    import tf2onnx.convert

    tf = import_tensorflow()
    content = Path(request["path"]).read_bytes()
    check_operations(name.decode() for name in re.findall(rb"Flex(\w+)", content))
    if request["output"]:
        raise Refused("is a .tflite file, of which every output is kept; choose among them with --output when you use it")
    try:
        interpreter = tf.lite.Interpreter(model_content=content)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise Refused(f"cannot be opened by TensorFlow Lite: {first_line(error)}") from error
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    if len(inputs) != 1 or len(inputs[0]["shape"]) != 4:
        raise Refused(f"has no single image input; its inputs: {', '.join(str(list(i['shape'])) for i in inputs)}")
    size = _image_size([None, *(int(n) if n > 0 else None for n in inputs[0]["shape_signature"][1:])], request["size"])
    number = inputs[0]["dtype"]
    is_8_bit = any(t["dtype"] in (np.int8, np.uint8) for t in interpreter.get_tensor_details())
    arguments = ["--tflite", request["path"], "--output", str(folder / "model.onnx"), "--opset", str(OPSET)]
    sys.argv = ["tf2onnx.convert", *arguments]
    try:
        tf2onnx.convert.main()
    except (ValueError, NotImplementedError, RuntimeError, KeyError) as error:
        raise Refused(f"cannot be converted to ONNX: {first_line(error)}") from error
    _check_converted(onnx.load(str(folder / "model.onnx")))
    interpreter.resize_tensor_input(inputs[0]["index"], [1, size, size, 3])
    interpreter.allocate_tensors()
    scale, why = (
        ("pixels", "for it is of 8 bits") if number != np.float32 else ("[-1, 1]", "as most .tflite files take them")
    )

    def run(pixels: np.ndarray) -> list[np.ndarray]:
        if number == np.float32:
            images = _scale_pixels(pixels, request, scale)
        else:
            images = pixels if number == np.uint8 else (pixels.astype(np.int16) - 128).astype(np.int8)
        interpreter.set_tensor(inputs[0]["index"], images)
        interpreter.invoke()
        return [_dequantise(interpreter.get_tensor(o["index"]), o["quantization"]) for o in outputs]

    return {"size": size, "scale": scale, "why": why, "is_8_bit": is_8_bit}, run


def _dequantise(numbers: np.ndarray, quantization: tuple[float, int]) -> np.ndarray:
    step, zero = quantization
    return (numbers.astype(np.float32) - zero) * step if step else numbers.astype(np.float32)


def main(folder: Path) -> None:
    """Convert, and write the outcome to about.json."""
    try:
        report = convert(folder)
    except Refused as error:
        report = {"error": str(error)}
    (folder / "about.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
