"""Explanations of predictions: heat maps of where the evidence for a class lies (class activation maps, or occlusion).

Takes a finished classifier's network and the square that it sees; gives the contribution of each place to the class's
score. A head that is linear on codes that are means of maps is linear on the maps, so this is exact (class activation maps;
Zhou et al. 2016): the mean of the heat, and what the head adds in any case, are the score. It holds for deeper layers,
mirrored photos and, the ReLUs being what they are for this photo, for a hidden layer. For any other classifier the square is
covered piece by piece, and the loss of probability is the heat (occlusion; Zeiler & Fergus 2014).
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from headstart.backbones.combine import part_names
from headstart.classifier.classifier import Classifier
from headstart.classifier.network import read_head
from headstart.data.decoding import Failure, ImageSource
from headstart.data.images import display_name, load_image
from headstart.engines.forks import CompilesOnce
from headstart.engines.hardware import Hardware
from headstart.engines.openvino_engine import OpenVINOEngine
from headstart.errors import ClassifierError, DataError
from headstart.heads.head import Head
from headstart.numerics.losses import SMALLEST_LENGTH

POOLS = ("GlobalAveragePool", "ReduceMean", "AveragePool")
RESHAPES = ("Flatten", "Reshape", "Squeeze", "Identity", "Cast", "Dropout", "Transpose")
N_COVERED = 8  # places a side, of a classifier whose codes are no means
MOST_AWAY = 1e-2  # the most that codes may differ from the means of their supposed maps, as a part of their length
GREY = 128


@dataclass(frozen=True)
class Heat:
    """Where the evidence for one class lies.

    values: (h, w) float32 over the square that the classifier sees, in units of the score (logit), more where it speaks for
    the class; its mean is the score beside what the head adds in any case, `constant`. is_exact: else it is what covering
    each place takes from the probability.
    """

    label: int
    values: np.ndarray
    constant: float
    is_exact: bool

    @property
    def shown(self) -> np.ndarray:
        """(h, w) float32 in [0, 1] for pictures: 0 where nothing speaks for the class, 1 where most does."""
        positive = np.maximum(self.values, 0)
        return (positive / max(float(positive.max(initial=0)), 1e-9)).astype(np.float32)


class Explainer(CompilesOnce[OpenVINOEngine]):
    """Explains a classifier's predictions; its network is compiled once more, to give the maps."""

    def __init__(self, classifier: Classifier) -> None:
        self.classifier = classifier
        self._parts = tuple(classifier.about["backbone"]["parts"])
        self._is_mirrored = bool(classifier.about["backbone"]["mirrored"])

    def square_of(self, image: ImageSource) -> np.ndarray:
        """The square that the classifier sees of an image, (size, size, 3) uint8; DataError where it cannot be used."""
        square = load_image(image, self.classifier.preprocess)
        if isinstance(square, Failure):
            raise DataError(f"{display_name(image)} cannot be used: {square.reason}")
        return square

    def explain(self, image: ImageSource, label: int | None = None) -> Heat:
        """Find where in the square that the classifier sees the evidence for a class lies, by default for the likeliest.

        image: a path, encoded bytes, a Pillow image or an array, as Classifier.predict takes it; an array of the
        classifier's own size, (size, size, 3) uint8, is the square itself. Raises DataError for what cannot be used.
        """
        size = self.classifier.preprocess.size
        is_square = isinstance(image, np.ndarray) and image.shape == (size, size, 3) and image.dtype == np.uint8
        square: Any = image if is_square else self.square_of(image)
        outputs = self.engine.infer(square)
        label = int(outputs["probabilities"].argmax()) if label is None else label
        with _errors_as_of_other_networks():
            maps = self._maps(outputs)
            if maps is not None and self._head.votes is None:
                return self._heat_from_maps(maps, outputs, label)
        return self._heat_by_occlusion(square, label)

    def _heat_from_maps(self, maps: list[np.ndarray], outputs: dict[str, np.ndarray], label: int) -> Heat:
        weight, constant = linear_for(self._head, outputs["codes"], label)
        starts = (0, *itertools.accumulate(self._parts))
        grid = tuple(max(sides) for sides in zip(*(m.shape[-2:] for m in maps), strict=True))
        total = np.zeros(grid, np.float32)
        for part, (start, end) in zip(maps, itertools.pairwise(starts), strict=True):
            total += _stretched(np.tensordot(weight[start:end], part, 1), grid)
        return Heat(label, total, constant, True)

    def outputs(self, square: np.ndarray) -> dict[str, np.ndarray]:
        """Run the classifier's network on a square: a row of each output."""
        return self.engine.infer(square)

    def _maps(self, outputs: dict[str, np.ndarray]) -> list[np.ndarray] | None:
        """Each part's map (d, h, w), the mirrored one turned back; None where the codes are not the means of maps."""
        starts = (0, *itertools.accumulate(self._parts))
        maps = []
        for i, (start, end) in enumerate(itertools.pairwise(starts)):
            name = _output(i, 0)
            if name not in outputs:
                return None
            photos = [_as_map(outputs[name], end - start)]
            if self._is_mirrored:
                photos.append(_as_map(outputs[_output(i, 1)], end - start, is_mirrored=True))
            if any(part is None for part in photos):
                return None
            whole = np.mean(photos, axis=0)  # type: ignore[arg-type]
            codes = outputs["codes"][start:end]
            if np.linalg.norm(whole.mean(axis=(1, 2)) - codes) > MOST_AWAY * max(
                float(np.linalg.norm(codes)), SMALLEST_LENGTH
            ):
                return None
            maps.append(whole)
        return maps

    def _heat_by_occlusion(self, square: np.ndarray, label: int) -> Heat:
        whole = float(self.engine.infer(square)["probabilities"][label])
        values = np.zeros((N_COVERED, N_COVERED), np.float32)
        edges = np.linspace(0, len(square), N_COVERED + 1).astype(int)
        for i, j in itertools.product(range(N_COVERED), repeat=2):
            covered = square.copy()
            covered[edges[i] : edges[i + 1], edges[j] : edges[j + 1]] = GREY
            values[i, j] = whole - float(self.engine.infer(covered)["probabilities"][label])
        return Heat(label, values, whole, False)

    @cached_property
    def _model(self) -> Any:
        import onnx

        return onnx.load_from_string(self.classifier.content)

    @cached_property
    def _head(self) -> Head:
        with _errors_as_of_other_networks():
            return read_head(self._model, self._parts)

    def _compile(self) -> OpenVINOEngine:
        """In 32 bits, for a heat is a difference of many numbers."""
        with _errors_as_of_other_networks():
            network = _with_maps(self._model, len(self._parts), 1 + self._is_mirrored)
        return OpenVINOEngine(network, Hardware(threads=self.classifier.hardware.threads, precision="f32"))


@contextlib.contextmanager
def _errors_as_of_other_networks() -> Iterator[None]:
    """Raise ClassifierError where a network's nodes are not those that network.join makes."""
    try:
        yield
    except (LookupError, ValueError, TypeError, ArithmeticError, StopIteration) as error:
        raise ClassifierError(
            f"this classifier's network is not put together as headstart does it ({error!r}); train again"
        ) from error


def linear_for(head: Head, codes: np.ndarray, label: int) -> tuple[np.ndarray, float]:
    """The head as it is for one photo, linear: weights (d,) on its codes (d,) and a constant, whose sum is the class's
    score.

    Softmax leaves open what is added to all scores; here their mean is 0, so that evidence for every class is none for this.
    """
    lengths = np.ones(len(codes), np.float32)
    for start, end in itertools.pairwise((0, *itertools.accumulate(head.widths))):
        lengths[start:end] = max(float(np.linalg.norm(codes[start:end])), SMALLEST_LENGTH)
    *inner, (last, bias) = head.layers
    is_one_of = head.output == "softmax" and last.shape[1] > 1
    weight = last[:, label] - (last.mean(axis=1) if is_one_of else 0)
    constant = float(bias[label] - (bias.mean() if is_one_of else 0))
    activations = [codes / lengths]
    for layer, layer_bias in inner:
        activations.append(np.maximum(activations[-1] @ layer + layer_bias, 0))
    for (layer, layer_bias), after in zip(reversed(inner), reversed(activations[1:]), strict=True):
        weight = weight * (after > 0)
        constant += float(layer_bias @ weight)
        weight = layer @ weight
    return (weight / lengths / head.temperature).astype(np.float32), constant / head.temperature


def _stretched(values: np.ndarray, grid: tuple[int, ...]) -> np.ndarray:
    """A map on a finer grid, its mean kept."""
    import cv2

    if values.shape == grid:
        return values
    fine = cv2.resize(values, grid[::-1], interpolation=cv2.INTER_LINEAR)
    return fine + (values.mean() - fine.mean())


def _as_map(values: np.ndarray, n: int, *, is_mirrored: bool = False) -> np.ndarray | None:
    """(n, h, w) of a network's value, (n, h, w), (h, w, n), (n, tokens) or (tokens, n); None where it is none of these."""
    if values.ndim == 3 and values.shape[0] != n and values.shape[2] == n:
        values = values.transpose(2, 0, 1)
    if values.ndim == 2:
        values = values if values.shape[0] == n else values.T
        side = int(np.sqrt(values.shape[1]))
        values = values.reshape(-1, side, side) if side * side == values.shape[1] else values[:, None]
    if values.ndim != 3 or values.shape[0] != n:
        return None
    return values[:, :, ::-1] if is_mirrored else values


def _output(part: int, photo: int) -> str:
    return f"map{part}.{photo}"


def _with_maps(model: Any, n_parts: int, n_photos: int) -> bytes:
    """The network with the map of each part among its outputs, of the image and of its mirror image."""
    import onnx
    from onnx import helper, numpy_helper

    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    producers = {name: node for node in whole.graph.node for name in node.output}
    for photo in range(n_photos):
        whole.graph.initializer.append(numpy_helper.from_array(np.array([photo], np.int64), f"photo{photo}"))
    for part, row in enumerate(part_names(n_parts)):
        source = _map_behind(_row_behind(row, producers), producers)
        for photo in range(n_photos) if source else ():
            name = _output(part, photo)
            whole.graph.node.append(helper.make_node("Gather", [source, f"photo{photo}"], [name], axis=0))
            whole.graph.output.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    content: bytes = whole.SerializeToString()
    return content


def _row_behind(part: str, producers: dict[str, Any]) -> str:
    """The row of codes that a part is, or that it is the mean over both images of (backbones.combine)."""
    node = producers[part]
    for _ in producers:  # a stranger's nodes may go round in circles
        if node.op_type == "Identity" or f"{part}.shape" in node.input:
            return str(node.input[0])
        node = producers[node.input[0]]
    raise ValueError(f"nothing makes {part}")


def _map_behind(name: str, producers: dict[str, Any]) -> str | None:
    """The map whose mean is a row; None where something else makes the row."""
    for _ in producers:
        node = producers.get(name)
        if node is not None and node.op_type in POOLS:
            return str(node.input[0])
        if node is None or node.op_type not in RESHAPES:
            return None
        name = node.input[0]
    return None
