"""What label_image.py did: labels one photo with a graph, and says the likeliest labels with their scores.

Takes headstart's own model.onnx, whose preprocessing is known, or an old frozen graph, whose preprocessing the flags say.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from headstart.classifier.classifier import Classifier
from headstart.classifier.imagenet import imagenet_classifier
from headstart.compat.graph_file import INPUT, MEAN, STD, run_graph
from headstart.data.decoding import Failure, decode
from headstart.data.images import display_name, load_image
from headstart.data.tables import content_of
from headstart.engines.hardware import Hardware
from headstart.errors import ClassifierError, DataError

SIDE = 224  # pixels, as the script had it
N_SHOWN = 5
IMAGENET = "imagenet"


@dataclass(frozen=True)
class LabelOptions:
    """The flags of label_image.py; None: was not typed."""

    image: str
    graph: str = "/tmp/output_graph.pb"
    labels: str | None = None
    input_height: int | None = None
    input_width: int | None = None
    input_mean: float | None = None
    input_std: float | None = None
    input_layer: str | None = None
    output_layer: str | None = None


@dataclass(frozen=True)
class Labelled:
    """The labels of a photo, the likeliest first, with their scores. notes: flags that say otherwise than the graph."""

    scores: tuple[tuple[str, float], ...]
    seconds: float
    notes: tuple[str, ...] = ()


def label_image(options: LabelOptions, *, cache_dir: Path, hardware: Hardware = Hardware()) -> Labelled:
    """Label a photo; raises HeadstartError for anything that the caller can mend."""
    if options.graph == IMAGENET and not Path(IMAGENET).exists():
        return _by_classifier(imagenet_classifier(cache_dir=cache_dir, hardware=hardware), options)
    graph = _graph_of(Path(options.graph))
    if graph.is_dir() or graph.suffix == ".onnx":
        return _by_classifier(Classifier.load(graph, hardware), options)
    return _by_graph(graph, options)


def _graph_of(path: Path) -> Path:
    """The graph's file, or the ONNX file that `headstart retrain` wrote instead where there was no TensorFlow."""
    instead = path.with_suffix(".onnx")
    if path.exists():
        has_tensorflow = importlib.util.find_spec("tensorflow") is not None
        return instead if path.suffix == ".pb" and not has_tensorflow and instead.exists() else path
    if instead.exists():
        return instead
    raise ClassifierError(f"there is no graph {path}, and no {instead.name} beside; `headstart retrain` writes one")


def _by_classifier(classifier: Classifier, options: LabelOptions) -> Labelled:
    pixels = load_image(options.image, classifier.preprocess)
    if isinstance(pixels, Failure):
        raise DataError(f"{options.image}: {pixels.reason}")
    engine = classifier.engine  # compiled before the clock starts, as the script read its graph before
    start = time.perf_counter()
    scores = engine.infer(pixels)["probabilities"]
    seconds = time.perf_counter() - start
    labels = _labels(options.labels, len(classifier.classes)) or list(classifier.classes)
    return Labelled(_top(scores, labels), seconds, tuple(_contradictions(classifier, options, labels)))


def _contradictions(classifier: Classifier, options: LabelOptions, labels: Sequence[str]) -> list[str]:
    """What flags and files say otherwise than the classifier knows."""
    size, notes = classifier.preprocess.size, []
    for name in ("input_height", "input_width"):
        value = getattr(options, name)
        if value is not None and value != size:
            notes.append(f"--{name} {value} is not heeded: the classifier takes images of {size} pixels")
    if options.input_mean is not None or options.input_std is not None:
        notes.append("--input_mean and --input_std are not heeded: the classifier normalises by itself")
    if options.input_layer or options.output_layer:
        notes.append("--input_layer and --output_layer are not heeded: the classifier has its own")
    if list(labels) != list(classifier.classes):
        notes.append(f"{options.labels} has other labels than the classifier; those of the file are shown")
    return notes


def _by_graph(graph: Path, options: LabelOptions) -> Labelled:
    content = content_of(options.image)
    pixels = content if isinstance(content, Failure) else decode(content)
    if isinstance(pixels, Failure):
        raise DataError(f"{display_name(options.image)}: {pixels.reason}")
    height, width = options.input_height or SIDE, options.input_width or SIDE
    mean = MEAN if options.input_mean is None else options.input_mean
    std = STD if options.input_std is None else options.input_std
    if std == 0:
        raise DataError("--input_std must not be 0")
    image = (resize_as_tensorflow_1(pixels, height, width) - np.float32(mean)) / np.float32(std)
    start = time.perf_counter()
    scores = run_graph(graph, image, options.input_layer or INPUT, options.output_layer or "final_result")
    seconds = time.perf_counter() - start
    labels = _labels(options.labels or "/tmp/output_labels.txt", len(scores))
    return Labelled(_top(scores, labels or [str(i) for i in range(len(scores))]), seconds)


def resize_as_tensorflow_1(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize (h, w, 3) uint8 to (height, width, 3) float32 as tf.image.resize_bilinear did: pixels' corners on corners, no
    mean over what is made smaller."""
    image = pixels.astype(np.float32)
    for axis, wanted in enumerate((height, width)):
        n = image.shape[axis]
        at = np.arange(wanted, dtype=np.float32) * np.float32(n / wanted)
        first = np.minimum(at.astype(np.int64), n - 1)
        second = np.minimum(first + 1, n - 1)
        share = (at - first).reshape([-1 if i == axis else 1 for i in range(3)])
        image = image.take(first, axis) * (1 - share) + image.take(second, axis) * share
    return image


def _labels(file: str | None, n: int) -> list[str] | None:
    """Read a labels file, one a line; None where none is named. Raises DataError where it has another number of them."""
    if file is None:
        return None
    try:
        labels = [line.rstrip("\r") for line in Path(file).read_text("utf-8").split("\n")]
    except OSError as error:
        raise DataError(f"the labels {file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"the labels {file} are no text") from error
    if labels and not labels[-1]:
        labels.pop()
    if len(labels) != n:
        raise DataError(f"{file} has {len(labels):,} labels, and the graph gives {n:,} scores: they are not of one training")
    return labels


def _top(scores: np.ndarray, labels: Sequence[str]) -> tuple[tuple[str, float], ...]:
    best = np.argsort(-scores, kind="stable")[:N_SHOWN]
    return tuple((labels[i], float(scores[i])) for i in best)
