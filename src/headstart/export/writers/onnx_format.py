"""ONNX files: the classifier's own bytes or, with options, another network; opened with ONNX Runtime, or with OpenVINO."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from headstart.classifier.metadata import ClassifierMetadata
from headstart.classifier.model_file import seal
from headstart.engines.hardware import Hardware
from headstart.engines.openvino_engine import OpenVINOEngine
from headstart.export.opened import Exported
from headstart.export.options import Options
from headstart.export.original import Original, Outputs
from headstart.export.writers.onnx_files import halve_weights, keep_outputs, set_batch, take_any_size
from headstart.files import write_output

FILE = "classifier.onnx"


def write(original: Original, folder: Path, options: Options) -> ClassifierMetadata:
    """Write the file, sealed as every classifier's is."""
    import onnx

    about = original.classifier.about
    if options == Options():
        write_output(folder / FILE, original.classifier.content)
        return about
    write_output(folder / FILE, seal(model_of(original, options), about))
    onnx.checker.check_model(str(folder / FILE), full_check=True)
    return about


def model_of(original: Original, options: Options) -> object:
    """The network with its options, an onnx.ModelProto."""
    import onnx

    model = onnx.load_from_string(original.classifier.content)
    del model.metadata_props[:]
    if options.slim:
        keep_outputs(model, ["probabilities"])
    if options.any_size:
        set_batch(model, 1)
        take_any_size(model, original.preprocess)
    elif options.batch is not None:
        set_batch(model, None if options.batch == "any" else int(options.batch))
    if options.half:
        halve_weights(model)
    return model


def open_file(folder: Path, about: ClassifierMetadata) -> Exported:
    """Open it with ONNX Runtime, where that is installed, else with OpenVINO in f32."""
    return open_onnx(folder / FILE)


def open_onnx(file: Path) -> Exported:
    """Open an ONNX file so, whatever its name."""
    try:
        import onnxruntime
    except ImportError:
        return _open_with_openvino(file)
    onnxruntime.set_default_logger_severity(3)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (image,) = session.get_inputs()
    names = [output.name for output in session.get_outputs()]
    batch = image.shape[0] if isinstance(image.shape[0], int) else 1

    def infer(pixels: np.ndarray) -> Outputs:
        images = np.repeat(pixels[None], batch, axis=0)
        return {name: rows[0] for name, rows in zip(names, session.run(names, {image.name: images}), strict=True)}

    return Exported(infer, f"ONNX Runtime {onnxruntime.__version__}", image.name == "photo")


def _open_with_openvino(file: Path) -> Exported:
    import onnx

    content = file.read_bytes()
    engine = OpenVINOEngine(content, Hardware(precision="f32"))
    (image,) = onnx.load_from_string(content).graph.input
    return Exported(engine.infer, "OpenVINO (ONNX Runtime is not installed)", image.name == "photo")
