"""Code to take along: a short program that uses an exported file, with its exact preprocessing.

The texts are in export/examples. It decides which languages there are for which formats.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from string import Template

from headstart.data.images import RESAMPLING
from headstart.errors import ExportError
from headstart.export.original import Original
from headstart.files import write_output

FLAGS = {1: "INTER_LINEAR", 2: "INTER_CUBIC", 3: "INTER_AREA"}  # OpenCV's names of the values in RESAMPLING
ONNX_RUNTIME = """\
session = onnxruntime.InferenceSession(HERE / "{file}")
NAMES = [output.name for output in session.get_outputs()]


def classify(images):
    return dict(zip(NAMES, session.run(NAMES, {{"image": images}})))"""
OPENVINO = """\
model = openvino.Core().compile_model(HERE / "{file}", "CPU", {{"INFERENCE_PRECISION_HINT": "f32"}})


def classify(images):
    results = model(images)
    return {{output.any_name: results[output] for output in model.outputs}}"""
TORCH = """\
module = torch.export.load(HERE / "{file}").module()
NAMES = ("probabilities", "codes", "unfamiliarity")


def classify(images):
    with torch.no_grad():
        return {{name: value.numpy() for name, value in zip(NAMES, module(torch.from_numpy(images)))}}"""
LITERT = """\
runner = Interpreter(str(HERE / "{file}")).get_signature_runner()


def classify(images):
    return runner(image=images)"""
PYTHON = {  # by format: what to install, what to import, and how a file is opened
    **dict.fromkeys(("onnx", "int8"), ("onnxruntime", "import onnxruntime", ONNX_RUNTIME)),
    **dict.fromkeys(("openvino", "int8-openvino"), ("openvino", "import openvino", OPENVINO)),
    "torch": ("torch", "import torch", TORCH),
    "tflite": ("ai-edge-litert", "from ai_edge_litert.interpreter import Interpreter", LITERT),
}
LANGUAGES = {  # the file of each, and the formats that there is one for
    "python": ("example.py", tuple(PYTHON)),
    "js": ("example.js", ("web",)),
    "c++": ("example.cpp", ("onnx", "int8")),
    "kotlin": ("Classifier.kt", ("onnx",)),
    "swift": ("Classifier.swift", ("onnx",)),
}
ANY_SIZE = ("kotlin", "swift")  # phones have no OpenCV: the file resizes
TEXTS = {"python": "python.txt", "js": "javascript.txt", "c++": "cpp.txt", "kotlin": "kotlin.txt", "swift": "swift.txt"}


def check_example(language: str | None, name: str, *, any_size: bool = False) -> None:
    """Raise ExportError for a language that there is no example in for a format."""
    if language is None:
        return
    if language not in LANGUAGES:
        raise ExportError(f"there is no example in {language!r}; there are {', '.join(LANGUAGES)}")
    formats = LANGUAGES[language][1]
    if name in formats and language in ANY_SIZE and not any_size:
        raise ExportError(f"the example in {language} is for a file that resizes photos itself: add --any-size")
    if name not in formats or any_size != (language in ANY_SIZE):
        what = f"{name} --any-size" if any_size else name
        raise ExportError(f"there is no example in {language} for the format {what}; there is one for {', '.join(formats)}")


def write_example(language: str, folder: Path, original: Original, name: str, file: str) -> None:
    """Write the example beside an exported file."""
    prefix = "cv::" if language == "c++" else "cv2."
    smaller, larger = (f"{prefix}{FLAGS[flag]}" for flag in RESAMPLING[original.preprocess.resample])
    values = {
        "file": file,
        "size": str(original.preprocess.size),
        "crop": repr(original.preprocess.crop),
        "smaller": smaller,
        "larger": larger,
    }
    if language == "python":
        package, imports, load = PYTHON[name]
        install = f"pip install {package} numpy opencv-python-headless pillow"
        values |= {"install": install, "imports": imports, "load": load.format(file=file)}
    text = files("headstart.export").joinpath("examples", TEXTS[language]).read_text("utf-8")
    write_output(folder / LANGUAGES[language][0], Template(text).safe_substitute(values))
