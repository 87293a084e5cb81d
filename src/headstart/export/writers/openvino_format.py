"""OpenVINO's IR: classifier.xml and classifier.bin; opened with OpenVINO in f32."""

from __future__ import annotations

import json
from pathlib import Path

from headstart.classifier.metadata import ClassifierMetadata
from headstart.classifier.model_file import METADATA_KEY
from headstart.engines.hardware import Hardware
from headstart.engines.openvino_engine import OpenVINOEngine, openvino_version, save_ir
from headstart.export.opened import Exported
from headstart.export.options import Options
from headstart.export.original import Original
from headstart.export.writers.onnx_format import model_of

FILE = "classifier.xml"


def write(original: Original, folder: Path, options: Options) -> ClassifierMetadata:
    """Write the two files; half: weights in 16 bits."""
    about = original.classifier.about
    network = model_of(original, Options(slim=options.slim)).SerializeToString()  # type: ignore[attr-defined]
    save_ir(network, folder / FILE, {METADATA_KEY: json.dumps(about)}, is_half=options.half)
    return about


def open_file(folder: Path, about: ClassifierMetadata) -> Exported:
    """Open it as OpenVINO does, in f32: what it chooses by itself is bf16 on some machines."""
    engine = OpenVINOEngine(folder / FILE, Hardware(precision="f32"))
    return Exported(engine.infer, f"OpenVINO {openvino_version()}, f32")
