"""Converts a TensorFlow file to ONNX: a SavedModel folder, a frozen graph, .tflite or .keras.

Takes a file; gives an ONNX model whose metadata say how images are preprocessed. It decides what kind a file is, and
whether the converted network gives the same outputs as the original: else it is refused.

TensorFlow runs in a process of its own (worker.py), so that its noise and its memory stay there.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.backbones.backbone import backbone_of_file
from headstart.backbones.onnx_files import PREPROCESS_KEY
from headstart.backbones.tensorflow_files.keras_safety import check_keras
from headstart.backbones.tensorflow_files.rounding import without_rounding
from headstart.backbones.tensorflow_files.scales import SCALES
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


def import_file(
    path: Path,
    *,
    size: int | None = None,
    mean: tuple[float, float, float] | None = None,
    std: tuple[float, float, float] | None = None,
    output: str | None = None,
) -> onnx.ModelProto:
    """Convert a TensorFlow file to an ONNX model that find_backbone takes as it is.

    size, mean, std: how images are made ready, where the file does not say or says it wrongly. output: a tensor of a frozen
    graph, an output of a SavedModel, a layer of a Keras model; by default all that the file gives. Nothing of the file's own
    is executed but TensorFlow's operations, and of those none that reads or writes files. Raises BackboneError for what is
    no such file, cannot be converted or gives something else than before; MissingExtra where TensorFlow is not installed.
    """
    import onnx

    path, kind = recognise_kind(path)
    if any(importlib.util.find_spec(package) is None for package in ("tensorflow", "tf2onnx")):
        raise MissingExtra("importing TensorFlow's files", "tensorflow")
    if kind == "keras":
        check_keras(path)
    with tempfile.TemporaryDirectory(prefix="headstart-import-") as tmp:
        folder = Path(tmp)
        request = {"path": str(path.resolve()), "kind": kind, "size": size, "mean": mean, "std": std, "output": output}
        report = _run_worker(request, folder, path)
        model = onnx.load(str(folder / "model.onnx"))
        if kind == "tflite":
            model = without_rounding(model)
        scale_mean, scale_std = SCALES[report["scale"]]
        preprocess = Preprocess(report["size"], mean=mean or scale_mean, std=std or scale_std)
        _add_metadata(model, PREPROCESS_KEY, asdict(preprocess))
        difference = _measure_difference(model, preprocess, folder, report, path)
        scale = "as told" if mean or std else f"{report['scale']}, {report['why']}"
        _add_metadata(
            model,
            IMPORT_KEY,
            {"from": path.name, "kind": kind, "scale": scale, "difference": difference} | report["versions"],
        )
    return model


def recognise_kind(path: Path) -> tuple[Path, str]:
    """Tell by its content what kind of TensorFlow file it is; raises BackboneError where it is none."""
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


def _add_metadata(model: onnx.ModelProto, key: str, about: dict[str, Any]) -> None:
    model.metadata_props.add(key=key, value=json.dumps(about))


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
        process = subprocess.run(
            [sys.executable, "-P", "-m", "headstart.backbones.tensorflow_files.worker", str(folder)],
            env=environment,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise BackboneError(f"{path} was not converted within {SECONDS // 60} minutes") from error
    report_file = folder / "about.json"
    report: dict[str, Any] = json.loads(report_file.read_text()) if report_file.is_file() else {}
    if "error" in report:
        raise BackboneError(f"{path} {_shorten(report['error'], folder)}")
    if not report:
        lines = [line for line in process.stderr.splitlines() if line.strip()] or [f"exit code {process.returncode}"]
        raise BackboneError(f"{path} cannot be converted: TensorFlow ended with: {_shorten(lines[-1], folder)}")
    return report


def _shorten(text: str, folder: Path) -> str:
    """Shorten a message of TensorFlow's, and leave out the folder that it worked in."""
    return text.replace(f"{folder}{os.sep}", "")[:500]


def _measure_difference(
    model: onnx.ModelProto, preprocess: Preprocess, folder: Path, report: dict[str, Any], path: Path
) -> float:
    """Compare the converted network with the original on random images; raises BackboneError where they differ too much."""
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
        backbone = backbone_of_file(converted, size=preprocess.size, mean=preprocess.mean, std=preprocess.std, output=output)
        engine = OpenVINOEngine(backbone.network, Hardware(precision="f32"))
        actual = np.array([engine.infer(pixels)["codes"] for pixels in reference["pixels"]])
        difference = float(np.abs(actual - expected).max() / max(np.abs(expected).max(), 1e-6))
        correlation = float(np.corrcoef(actual.ravel(), expected.ravel())[0, 1])
        is_same = correlation >= LEAST_CORRELATION if report["is_8_bit"] else difference <= TOLERANCE
        if not is_same:
            raise BackboneError(
                f"{path} was converted, but gives something else than before (by {difference:.2g} of its largest number), "
                "so it is not used; please report it, with the file if you can"
            )
        largest = max(largest, difference)
    return largest
