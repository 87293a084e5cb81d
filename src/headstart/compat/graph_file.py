"""Frozen TensorFlow graphs as old programs read them: `input` normalised and in floating point, `final_result` out; or ONNX.

TensorFlow runs in a process of its own (graph_worker). What it wrote is compared with the classifier before it counts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from headstart.classifier.classifier import Classifier
from headstart.errors import ClassifierError, ExportError, MissingExtra
from headstart.files import write_output
from headstart.safety.json_checks import read_json

INPUT, MEAN, STD = "input", 128.0, 128.0  # as tensorflow-for-poets-2's label_image has them by default
SECONDS = 600
TOLERANCE = 1e-3  # of a probability
MODULE = "headstart.compat.graph_worker"


def write_graph(classifier: Classifier, file: Path, final_tensor_name: str) -> None:
    """Write a classifier as a frozen graph (.pb), or as it is. Raises ExportError where the graph answers otherwise."""
    if file.suffix != ".pb":
        classifier.save(file)
        return
    size = classifier.preprocess.size
    pixels = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    request = {"do": "write", "input": INPUT, "output": final_tensor_name, "mean": MEAN, "std": STD, "size": size}
    with tempfile.TemporaryDirectory(prefix="headstart-graph-") as tmp:
        _work(request, Path(tmp), {"network.onnx": _network(classifier)})
        content = (Path(tmp) / "graph.pb").read_bytes()
    write_output(file, content)
    there = run_graph(file, (pixels.astype(np.float32) - MEAN) / STD, INPUT, final_tensor_name)
    here = classifier.engine.infer(pixels)["probabilities"]
    if there.shape != here.shape or np.abs(there - here).max() > 0.02:  # in bf16 they may be so far apart
        file.unlink()
        raise ExportError(f"the graph that TensorFlow wrote answers otherwise than the classifier; {file} was not kept")


def write_saved_model(classifier: Classifier, folder: Path) -> None:
    """Write a SavedModel into a new folder; raises ExportError where it is there, or cannot be written."""
    if folder.exists() and any(folder.iterdir()):
        raise ExportError(f"{folder} is there already; name another with --saved_model_dir")
    request = {"do": "saved_model", "size": classifier.preprocess.size, "folder": str(folder.resolve())}
    with tempfile.TemporaryDirectory(prefix="headstart-graph-") as tmp:
        _work(request, Path(tmp), {"network.onnx": _network(classifier)})


def run_graph(file: Path, image: np.ndarray, input_layer: str, output_layer: str) -> np.ndarray:
    """Run a frozen graph on one image, (height, width, 3) float32, already normalised; gives the output, (k,) float32.

    Raises ClassifierError for what is no frozen graph, and for a layer that it does not have, with those that it has.
    """
    request = {"do": "run", "graph": str(file.resolve()), "input": input_layer, "output": output_layer}
    with tempfile.TemporaryDirectory(prefix="headstart-graph-") as tmp:
        np.save(Path(tmp) / "image.npy", image[None].astype(np.float32))
        _work(request, Path(tmp), {})
        output: np.ndarray = np.load(Path(tmp) / "output.npy", allow_pickle=False)
    return output.astype(np.float32).ravel()


def _network(classifier: Classifier) -> bytes:
    """The classifier's network without its metadata, with probabilities alone."""
    import onnx

    from headstart.export.writers.onnx_files import keep_outputs

    model = onnx.load_from_string(classifier.content)
    del model.metadata_props[:]
    keep_outputs(model, ["probabilities"])
    return model.SerializeToString()  # type: ignore[no-any-return]


def _work(request: dict[str, Any], folder: Path, files: dict[str, bytes]) -> None:
    """Let the worker do one thing in a folder; raises what it reports."""
    import importlib.util

    if importlib.util.find_spec("tensorflow") is None:
        raise MissingExtra("a frozen TensorFlow graph", "tensorflow")
    for name, content in files.items():
        (folder / name).write_bytes(content)
    (folder / "request.json").write_text(json.dumps(request), "utf-8")
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "-1", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-P", "-m", MODULE, str(folder)]
    try:
        done = subprocess.run(command, env={**os.environ, **quiet}, capture_output=True, timeout=SECONDS)
    except subprocess.TimeoutExpired as error:
        raise ClassifierError(f"TensorFlow came to no end within {SECONDS // 60} minutes") from error
    if (folder / "error.json").is_file():
        raise ClassifierError(str(read_json((folder / "error.json").read_bytes())))
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["it gave no reason"]
        raise ClassifierError(f"TensorFlow ended with: {lines[-1].replace(str(folder), '')[:300]}")
