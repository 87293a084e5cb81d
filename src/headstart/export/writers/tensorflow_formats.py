"""TensorFlow's formats (LiteRT's .tflite, a SavedModel, a frozen .pb), written and run in a process of their own.

The network is copied into a folder for that process, which never sees the run.
"""

from __future__ import annotations

import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from headstart.classifier.metadata import ClassifierMetadata
from headstart.errors import ExportError
from headstart.export.opened import Exported
from headstart.export.options import Options
from headstart.export.original import Original, Outputs
from headstart.export.writers.onnx_files import keep_outputs
from headstart.files import writing

FILES = {"tflite": "classifier.tflite", "saved_model": "classifier", "pb": "classifier.pb"}
SECONDS, SECONDS_A_PHOTO = 600, 60
MODULE = "headstart.export.writers.tensorflow_worker"


def writer_of(kind: str) -> Callable[[Original, Path, Options], ClassifierMetadata]:
    """The function that writes a kind of file."""
    return partial(_write, kind)


def opener_of(kind: str) -> Callable[[Path, ClassifierMetadata], Exported]:
    """The function that opens it."""
    return partial(_open, kind)


def _write(kind: str, original: Original, folder: Path, options: Options) -> ClassifierMetadata:
    import onnx

    about = original.classifier.about
    model = onnx.load_from_string(original.classifier.content)
    del model.metadata_props[:]
    keep_outputs(model, ["probabilities"] if options.slim else ["probabilities", "unfamiliarity", "codes"])
    labels = "".join(f"{' '.join(name.splitlines())}\n" for name in about["classes"])
    with tempfile.TemporaryDirectory(prefix="headstart-export-") as tmp:
        work = Path(tmp)
        (work / "network.onnx").write_bytes(model.SerializeToString())
        files = {"labels.txt": labels, "classifier.json": json.dumps(about)}
        request = {"kind": kind, "size": original.preprocess.size, "is_half": options.half, "files": files}
        (work / "request.json").write_text(json.dumps(request), "utf-8")
        try:
            process = subprocess.run([*_command(), "write", tmp], env=_environment(), capture_output=True, timeout=SECONDS)
        except subprocess.TimeoutExpired as error:
            raise ExportError(f"TensorFlow did not write the file within {SECONDS // 60} minutes") from error
        if (work / "error.json").is_file():
            why = json.loads((work / "error.json").read_text("utf-8"))
            raise ExportError(
                f"this network cannot be written as {kind}: {why}; onnx, openvino and web can hold it, and for TensorFlow "
                "another backbone"
            )
        if process.returncode or not (work / FILES[kind]).exists():
            lines = process.stderr.decode("utf-8", "replace").strip().splitlines() or ["it gave no reason"]
            raise ExportError(f"TensorFlow ended with: {lines[-1].replace(tmp, '')[:300]}")
        with writing(folder / FILES[kind]):
            shutil.move(work / FILES[kind], folder / FILES[kind])
    return about


def _command() -> list[str]:
    return [sys.executable, "-P", "-m", MODULE]  # -P: a tensorflow.py in the working directory is not TensorFlow


def _environment() -> dict[str, str]:
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "-1", "PYTHONWARNINGS": "ignore"}
    return {**os.environ, **quiet}


def _open(kind: str, folder: Path, about: ClassifierMetadata) -> Exported:
    """Start a process that answers one image at a time."""
    size, k = about["preprocess"]["size"], len(about["classes"])
    names = ["probabilities", *(["unfamiliarity"] if about["has_unfamiliarity"] else [])]
    lengths = {"probabilities": k, "unfamiliarity": 1}
    n_bytes = 4 * sum(lengths[name] for name in names)
    process: Any = subprocess.Popen(
        [*_command(), "run", str(folder / FILES[kind]), kind, str(size)],
        env=_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    answers: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def listen() -> None:
        while len(content := process.stdout.read(n_bytes)) == n_bytes:
            answers.put(content)
        answers.put(b"")

    threading.Thread(target=listen, daemon=True).start()

    def infer(pixels: np.ndarray) -> Outputs:
        try:
            process.stdin.write(np.ascontiguousarray(pixels).tobytes())
            process.stdin.flush()
            content = answers.get(timeout=SECONDS_A_PHOTO)
        except (OSError, queue.Empty) as error:
            raise ExportError(f"TensorFlow does not run what it wrote as {kind}") from error
        if not content:
            raise ExportError(f"TensorFlow does not run what it wrote as {kind}")
        row, outputs, at = np.frombuffer(content, np.float32), {}, 0
        for name in sorted(names):
            outputs[name] = row[at : at + lengths[name]]
            at += lengths[name]
        return outputs

    def close() -> None:
        process.stdin.close()
        process.kill()
        process.wait()
        process.stdout.close()

    return Exported(infer, "TensorFlow, in a process of its own", close=close)
