"""TensorFlow's files as backbones: SavedModel folders, frozen graphs, .tflite and .keras become ONNX.

Takes a file; gives an ONNX model that says itself how its images are made ready. It decides what kind a file is, how its
pixels are to be scaled, and whether the converted network still gives what the original does: else it is refused.

TensorFlow runs in a process of its own (tensorflow_worker.py), so that its noise and its memory stay there.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.backbones.builtin import load_backbone
from headstart.backbones.standard_form import PREPROCESS_KEY
from headstart.data.images import Preprocess
from headstart.engines.hardware import Hardware
from headstart.engines.openvino_engine import OpenVINOEngine
from headstart.errors import BackboneError, MissingExtra

if TYPE_CHECKING:
    import onnx


IMPORT_KEY = "headstart.import"
TOLERANCE = 1e-3  # of the largest number that comes out
# Of 8-bit files the rounding is left out, which makes them more exact, not the same: MobileNetV1's embedding extractor gives
# 0.9991 on average over 40 flower photos, and 0.9934 at least.
LEAST_CORRELATION = 0.98
SECONDS = 1800  # for the largest networks on a slow machine

# What the pixels are that a network was made for: mean and std in units of [0, 1].
SCALES = {
    "[0, 1]": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "[-1, 1]": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "pixels": ((0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255)),
    "ImageNet's": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "ImageNet's mean": ((123.68 / 255, 116.779 / 255, 103.939 / 255), (1 / 255, 1 / 255, 1 / 255)),
}
# Keras' layers that run code of the file's own, or read other files; and where all others come from.
UNSAFE_LAYERS = ("Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer", "StringLookup", "IntegerLookup")
SAFE_MODULES = ("layers", "models", "initializers", "regularizers", "constraints", "activations", "dtype_policies", "ops")


def import_file(
    path: Path,
    *,
    size: int | None = None,
    mean: tuple[float, float, float] | None = None,
    std: tuple[float, float, float] | None = None,
    output: str | None = None,
) -> onnx.ModelProto:
    """Convert a TensorFlow file to an ONNX model that load_backbone takes as it is.

    size, mean, std: how images are made ready, where the file does not say or says it wrongly. output: a tensor of a frozen
    graph, an output of a SavedModel, a layer of a Keras model; by default all that the file gives. Nothing of the file's own
    is executed but TensorFlow's operations, and of those none that reads or writes files. Raises BackboneError for what is
    no such file, cannot be converted or gives something else than before; MissingExtra where TensorFlow is not installed.
    """
    import onnx

    path, kind = recognised(path)
    if any(importlib.util.find_spec(package) is None for package in ("tensorflow", "tf2onnx")):
        raise MissingExtra("importing TensorFlow's files", "tensorflow")
    if kind == "keras":
        _check_keras(path)
    with tempfile.TemporaryDirectory(prefix="headstart-import-") as tmp:
        folder = Path(tmp)
        request = {"path": str(path.resolve()), "kind": kind, "size": size, "mean": mean, "std": std, "output": output}
        about = _run_worker(request, folder, path)
        model = onnx.load(str(folder / "model.onnx"))
        if kind == "tflite":
            model = without_rounding(model)
        scale_mean, scale_std = SCALES[about["scale"]]
        preprocess = Preprocess(about["size"], mean=mean or scale_mean, std=std or scale_std)
        _say(model, PREPROCESS_KEY, asdict(preprocess))
        difference = _difference(model, preprocess, folder, about, path)
        told = "as told" if mean or std else f"{about['scale']}, {about['why']}"
        _say(
            model, IMPORT_KEY, {"from": path.name, "kind": kind, "scale": told, "difference": difference} | about["versions"]
        )
    return model


def recognised(path: Path) -> tuple[Path, str]:
    """What kind of TensorFlow file it is, by its content; raises BackboneError where it is none."""
    if path.is_dir():
        if (path / "saved_model.pb").is_file():
            return path, "saved_model"
        raise BackboneError(f"{path} is no SavedModel: there is no saved_model.pb in it; give the folder that has one")
    try:
        with path.open("rb") as file:
            header = file.read(8)
    except OSError as error:
        raise BackboneError(f"{path} cannot be read: {error.strerror}") from error
    if path.name == "saved_model.pb":
        return path.parent, "saved_model"
    if header[4:] == b"TFL3":
        return path, "tflite"
    if header.startswith(b"PK"):
        return path, "keras"
    if header.startswith(b"\x89HDF"):
        raise BackboneError(
            f"{path} is one of Keras' old .h5 files, which may run code of their own when they are loaded; "
            "where you trust it, save it again: keras.models.load_model(FILE).save('model.keras')"
        )
    if header.startswith(b"\x1f\x8b"):
        raise BackboneError(
            f"{path} is packed; unpack it with: mkdir model && tar -xzf {path.name} -C model, and give model"
        )
    if path.suffix.lower() == ".pb":
        return path, "frozen"
    raise BackboneError(
        f"{path} is no file of TensorFlow's that headstart knows: a SavedModel folder, a frozen .pb, .tflite or .keras"
    )


def _say(model: onnx.ModelProto, key: str, about: dict[str, Any]) -> None:
    model.metadata_props.add(key=key, value=json.dumps(about))


# ---- what may not be loaded


def _check_keras(path: Path) -> None:
    """Refuse layers with code of their own before Keras sees them: its safe mode has had holes (CVE-2025-1550, -9906)."""
    try:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json"))
    except (zipfile.BadZipFile, KeyError, ValueError, OSError) as error:
        raise BackboneError(f"{path} is no whole .keras file: {error}") from error
    for name, module in _classes(config):
        if name in UNSAFE_LAYERS or not _is_kerass(module):
            raise BackboneError(
                f"{path} has a {name} layer of {module or 'its own'}, and headstart executes no code from a model file; "
                "replace it by Keras' own layers (a Rescaling for a scaling, say), and save it again"
            )


def _is_kerass(module: str | None) -> bool:
    parts = (module or "keras").replace("keras.src.", "keras.").split(".")
    return parts[0] == "keras" and (len(parts) == 1 or parts[1] in SAFE_MODULES)


def _classes(config: Any) -> Iterator[tuple[str, str | None]]:
    """Each class that a Keras configuration names, with its module."""
    if isinstance(config, dict):
        if "class_name" in config and not str(config["class_name"]).startswith("__tuple"):
            yield str(config["class_name"]), config.get("module")
        config = list(config.values())
    if isinstance(config, list):
        for part in config:
            yield from _classes(part)


# ---- the conversion


def _run_worker(request: dict[str, Any], folder: Path, path: Path) -> dict[str, Any]:
    (folder / "request.json").write_text(json.dumps(request))
    environment = {
        **os.environ,
        "KERAS_BACKEND": "tensorflow",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "CUDA_VISIBLE_DEVICES": "-1",
        "PYTHONWARNINGS": "ignore",
        "PYTHONIOENCODING": "utf-8",
    }
    try:
        # -P: a tensorflow.py that lies in the working directory is not TensorFlow.
        done = subprocess.run(
            [sys.executable, "-P", "-m", "headstart.backbones.tensorflow_worker", str(folder)],
            env=environment,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise BackboneError(f"{path} was not converted within {SECONDS // 60} minutes") from error
    result = folder / "about.json"
    about: dict[str, Any] = json.loads(result.read_text()) if result.is_file() else {}
    if "error" in about:
        raise BackboneError(f"{path} {_plain(about['error'], folder)}")
    if not about:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit code {done.returncode}"]
        raise BackboneError(f"{path} cannot be converted: TensorFlow ended with: {_plain(lines[-1], folder)}")
    return about


def _plain(text: str, folder: Path) -> str:
    """What TensorFlow said, not too long, and without the folder that it worked in."""
    return text.replace(f"{folder}{os.sep}", "")[:500]


def without_rounding(model: onnx.ModelProto) -> onnx.ModelProto:
    """Make floats of a network's 8-bit numbers; images are then given as pixels in [0, 255].

    What 8 bits cannot hold is cut off as before, which some networks count on in place of an activation; only the rounding
    in between is left out.
    """
    import onnx
    from onnx import helper, numpy_helper

    graph = model.graph
    constants = {w.name: numpy_helper.to_array(w) for w in graph.initializer}
    whole = (onnx.TensorProto.UINT8, onnx.TensorProto.INT8)
    floats: dict[str, np.ndarray] = {}

    def constant(numbers: Any) -> str:
        name = f"headstart_{len(floats)}"
        floats[name] = np.asarray(numbers, np.float32)
        return name

    (image,) = [i for i in graph.input if i.name not in constants]
    black = -128 if image.type.tensor_type.elem_type == onnx.TensorProto.INT8 else 0
    # Which values are the image's pixels, turned or cut perhaps.
    pixels = {image.name} if image.type.tensor_type.elem_type in whole else set()
    nodes = []
    for node in graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            nodes.append(node)
            pixels.update(node.output if pixels & set(node.input) else ())
            continue
        x, step = node.input[0], constants[node.input[1]]
        zero = constants[node.input[2]] if len(node.input) > 2 else np.zeros((), np.uint8)
        if x in constants:
            floats[node.output[0]] = _as_floats(constants[x], step, zero, node)
        elif node.op_type == "QuantizeLinear":
            ends = np.iinfo(zero.dtype)
            low, high = ((np.float32(end) - zero) * step for end in (ends.min, ends.max))
            nodes.append(helper.make_node("Clip", [x, constant(low), constant(high)], node.output))
        elif x in pixels:
            shifted = helper.make_node("Sub", [x, constant(zero.astype(np.float32) - black)], [f"{x}_shifted"])
            nodes += [shifted, helper.make_node("Mul", [f"{x}_shifted", constant(step)], node.output)]
        else:
            nodes.append(helper.make_node("Identity", [x], node.output))
    used = {name for node in nodes for name in node.input}
    kept = [w for w in graph.initializer if w.name in used]
    del graph.node[:], graph.value_info[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend([*kept, *(numpy_helper.from_array(numbers, name) for name, numbers in floats.items())])
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type in whole:
            value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    return model


def _as_floats(numbers: np.ndarray, step: np.ndarray, zero: np.ndarray, node: onnx.NodeProto) -> np.ndarray:
    """Weights of 8 or 32 bits as float32, (numbers - zero) * step; by channel where there is a step for each."""
    axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
    shape = [-1 if i == axis % numbers.ndim else 1 for i in range(numbers.ndim)] if np.size(step) > 1 else []
    return (numbers.astype(np.float32) - zero.astype(np.float32).reshape(shape)) * step.reshape(shape)


def _difference(model: onnx.ModelProto, preprocess: Preprocess, folder: Path, about: dict[str, Any], path: Path) -> float:
    """How far the converted network is from the original on random images; raises BackboneError where that is too far."""
    import onnx

    converted = folder / "converted.onnx"
    onnx.save(model, str(converted))
    reference = np.load(folder / "reference.npz", allow_pickle=False)
    largest = 0.0
    for i, output in enumerate(o.name for o in model.graph.output):
        expected = reference[f"output{i}"]
        if expected.ndim not in (2, 4):
            continue
        expected = expected.mean((1, 2)) if expected.ndim == 4 else expected
        backbone = load_backbone(
            str(converted), cache_dir=folder, size=preprocess.size, mean=preprocess.mean, std=preprocess.std, output=output
        )
        engine = OpenVINOEngine(backbone.network, Hardware(precision="f32"))
        found = np.array([engine.infer(pixels)["codes"] for pixels in reference["pixels"]])
        difference = float(np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-6))
        correlation = float(np.corrcoef(found.ravel(), expected.ravel())[0, 1])
        is_same = correlation >= LEAST_CORRELATION if about["is_8_bit"] else difference <= TOLERANCE
        if not is_same:
            raise BackboneError(
                f"{path} was converted, but gives something else than before (by {difference:.2g} of its largest number), "
                "so it is not used; please report it, with the file if you can"
            )
        largest = max(largest, difference)
    return largest
