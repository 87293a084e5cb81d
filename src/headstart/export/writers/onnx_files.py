"""ONNX files for other programs: weights in 16 bits, another batch, images of any size, probabilities alone.

Takes the network of a model.onnx, from `image` uint8 (n, S, S, 3); gives another with the same answers. It decides which
operations resize an image as data/images does, within the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from headstart.backbones.standard_form import needed_for, opset
from headstart.data.images import Preprocess
from headstart.errors import ExportError

SMALLEST_HALVED = 256  # numbers; below, nothing is saved, and biases keep all their digits
FINEST = 6.1e-5  # below which 16 bits lose digits
CUBIC = -0.75  # OpenCV's a
OLDEST_TO_RESIZE = 13  # the opset whose Unsqueeze and Clip are today's


def halve_weights(model: Any) -> None:
    """Store large weights in 16 bits, each with a Cast that makes 32 of it: half the file, computed as before."""
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for weight in model.graph.initializer:
        if weight.data_type != TensorProto.FLOAT or np.prod(weight.dims, dtype=np.int64) < SMALLEST_HALVED:
            continue
        values = numpy_helper.to_array(weight)
        if np.abs(values).max(initial=0) > np.finfo(np.float16).max:
            continue
        name = weight.name
        weight.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
        casts.append(helper.make_node("Cast", [weight.name], [name], to=TensorProto.FLOAT))
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*casts, *nodes])


def set_batch(model: Any, n: int | None) -> None:
    """Let the file take n images at a time; None: any number. Raises ExportError for a network that takes one alone."""
    values = [*model.graph.input, *model.graph.output]
    is_fixed = any(value.type.tensor_type.shape.dim[0].dim_value for value in values)
    if is_fixed and n != 1:
        raise ExportError("this backbone takes one image at a time: leave --batch out")
    for value in values:
        batch = value.type.tensor_type.shape.dim[0]
        batch.Clear()
        if n is None:
            batch.dim_param = "n"
        else:
            batch.dim_value = n
    del model.graph.value_info[:]


def keep_outputs(model: Any, names: Sequence[str]) -> None:
    """Leave out all other outputs, and what they alone need."""
    outputs = [output for output in model.graph.output if output.name in names]
    graph = needed_for([output.name for output in outputs], model.graph, "image")
    inputs = list(model.graph.input)
    model.graph.CopyFrom(graph)
    model.graph.name = "headstart"
    del model.graph.input[:], model.graph.output[:]
    model.graph.input.extend(inputs)
    model.graph.output.extend(outputs)


def take_any_size(model: Any, preprocess: Preprocess) -> None:
    """Let the file take one image of any size, uint8 (1, height, width, 3), and cut and resize it as data/images does.

    A resize is two products with a matrix each, of weights that are computed from the image's size. OpenCV rounds in the
    end, and so does this; it may differ by one grey level where a value lies between two.
    """
    from onnx import TensorProto, helper

    if opset(model) < OLDEST_TO_RESIZE:
        raise ExportError(
            f"a network of opset {opset(model)} cannot resize images within the file; opset {OLDEST_TO_RESIZE} and later can"
        )
    maker = _Maker()
    square, side = _square(maker, preprocess)
    weights = _weights(maker, side, preprocess)
    resized = _resized(maker, square, side, weights, preprocess.size)
    maker.add("Cast", [resized], "image", to=TensorProto.UINT8)
    nodes = [*maker.nodes, *model.graph.node]
    del model.graph.node[:], model.graph.input[:], model.graph.value_info[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(maker.weights)
    model.graph.input.append(helper.make_tensor_value_info("photo", TensorProto.UINT8, [1, "height", "width", 3]))


class _Maker:
    """Nodes and constants of a graph, as they are written down; each value is named by its number."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def add(self, operation: str, inputs: Sequence[str], name: str | None = None, **attributes: Any) -> str:
        """Add a node; gives its value's name."""
        from onnx import helper

        name = name or f"resize.{len(self.nodes)}"
        self.nodes.append(helper.make_node(operation, list(inputs), [name], **attributes))
        return name

    def constant(self, value: Any, kind: type = np.float32) -> str:
        """Add a constant; gives its name."""
        from onnx import numpy_helper

        name = f"resize.constant{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(value, kind), name))
        return name

    def whole(self, value: Any) -> str:
        """Add a constant of whole numbers."""
        return self.constant(value, np.int64)  # type: ignore[arg-type]


def _square(maker: _Maker, preprocess: Preprocess) -> tuple[str, str]:
    """Cut the central square: its pixels, (side, side, 3) float, and its side, (1,) int64."""
    from onnx import TensorProto

    shape = maker.add("Shape", ["photo"])
    height = maker.add("Slice", [shape, maker.whole([1]), maker.whole([2])])
    width = maker.add("Slice", [shape, maker.whole([2]), maker.whole([3])])
    shorter = maker.add("Cast", [maker.add("Min", [height, width])], to=TensorProto.DOUBLE)
    # As Python rounds: half to even, of a product in 64 bits.
    rounded = maker.add("Round", [maker.add("Mul", [shorter, maker.constant([preprocess.crop], np.float64)])])
    side = maker.add("Max", [maker.add("Cast", [rounded], to=TensorProto.INT64), maker.whole([1])])
    starts = [maker.add("Div", [maker.add("Sub", [length, side]), maker.whole([2])]) for length in (height, width)]
    start = maker.add("Concat", starts, axis=0)
    end = maker.add("Add", [start, side])
    cut = maker.add("Slice", ["photo", start, end, maker.whole([1, 2])])
    pixels = maker.add("Cast", [maker.add("Squeeze", [cut, maker.whole([0])])], to=TensorProto.FLOAT)
    return pixels, side


def _weights(maker: _Maker, side: str, preprocess: Preprocess) -> str:
    """How much each of the square's pixels counts for each of the result's, (size, side)."""
    from onnx import TensorProto

    size = preprocess.size
    length = maker.add("Cast", [side], to=TensorProto.FLOAT)
    scale = maker.add("Div", [length, maker.constant(size)])
    last = maker.add("Sub", [length, maker.constant(1)])
    places = maker.add("Cast", [maker.add("Range", [*_scalars(maker, side)])], to=TensorProto.FLOAT)
    ours = maker.constant(np.arange(size)[:, None])
    makers = {"area": _area, "bilinear": _linear, "bicubic": _cubic}
    if preprocess.resample != "area":
        return makers[preprocess.resample](maker, ours, places, scale, last)
    is_smaller = maker.add("Greater", [length, maker.constant(size)])
    both = [make(maker, ours, places, scale, last) for make in (_area, _cubic)]
    return maker.add("Where", [is_smaller, *both])


def _scalars(maker: _Maker, side: str) -> list[str]:
    return [maker.whole(0), maker.add("Squeeze", [side, maker.whole([0])]), maker.whole(1)]


def _area(maker: _Maker, ours: str, places: str, scale: str, last: str) -> str:
    """The part of each pixel that lies below one of the result's, as OpenCV's INTER_AREA has it."""
    start = maker.add("Mul", [ours, scale])
    end = maker.add("Min", [maker.add("Add", [start, scale]), maker.add("Add", [last, maker.constant(1)])])
    until = maker.add("Min", [maker.add("Add", [places, maker.constant(1)]), end])
    overlap = maker.add("Relu", [maker.add("Sub", [until, maker.add("Max", [places, start])])])
    total = maker.add("ReduceSum", [overlap, maker.whole([1])], keepdims=1)
    return maker.add("Div", [overlap, total])


def _linear(maker: _Maker, ours: str, places: str, scale: str, last: str) -> str:
    """The two nearest pixels, by their distance."""
    first, x = _nearest(maker, ours, scale)
    weights = [maker.add("Sub", [maker.constant(1), x]), x]
    return _taps(maker, first, weights, places, last)


def _cubic(maker: _Maker, ours: str, places: str, scale: str, last: str) -> str:
    """The four nearest pixels, by a cubic of their distance (Keys 1981, a = -0.75)."""
    first, x = _nearest(maker, ours, scale)
    one = maker.constant(1)
    beyond, opposite = maker.add("Add", [x, one]), maker.add("Sub", [one, x])
    far = _polynomial(maker, beyond, (CUBIC, -5 * CUBIC, 8 * CUBIC, -4 * CUBIC))
    near = [_polynomial(maker, t, (CUBIC + 2, -(CUBIC + 3), 0, 1)) for t in (x, opposite)]
    rest = maker.add("Sub", [maker.add("Sub", [maker.add("Sub", [one, far]), near[0]]), near[1]])
    return _taps(maker, maker.add("Sub", [first, one]), [far, *near, rest], places, last)


def _nearest(maker: _Maker, ours: str, scale: str) -> tuple[str, str]:
    """The pixel left of each one's centre, and how far right of that it is."""
    half = maker.constant(0.5)
    at = maker.add("Sub", [maker.add("Mul", [maker.add("Add", [ours, half]), scale]), half])
    first = maker.add("Floor", [at])
    return first, maker.add("Sub", [at, first])


def _polynomial(maker: _Maker, x: str, factors: Sequence[float]) -> str:
    """Horner's scheme; the factor of the highest power first."""
    value = maker.constant(factors[0])
    for factor in factors[1:]:
        value = maker.add("Add", [maker.add("Mul", [value, x]), maker.constant(factor)])
    return value


def _taps(maker: _Maker, first: str, weights: Sequence[str], places: str, last: str) -> str:
    """The matrix of a few pixels' weights; those beyond an edge count for it."""
    total = None
    for i, weight in enumerate(weights):
        at = maker.add("Add", [first, maker.constant(i)])
        inside = maker.add("Min", [maker.add("Max", [at, maker.constant(0)]), last])
        is_there = maker.add("Equal", [inside, places])
        part = maker.add("Where", [is_there, weight, maker.constant(0)])
        total = part if total is None else maker.add("Add", [total, part])
    assert total is not None
    return total


def _resized(maker: _Maker, square: str, side: str, weights: str, size: int) -> str:
    """The square's rows and then its columns weighted, rounded and in [0, 255], (1, size, size, 3)."""
    wide = maker.add("Reshape", [square, maker.add("Concat", [side, maker.whole([-1])], axis=0)])
    rows = maker.add("Reshape", [maker.add("MatMul", [weights, wide]), maker.whole([size, -1, 3])])
    turned = maker.add("Transpose", [rows], perm=(1, 0, 2))
    wide = maker.add("Reshape", [turned, maker.add("Concat", [side, maker.whole([-1])], axis=0)])
    columns = maker.add("Reshape", [maker.add("MatMul", [weights, wide]), maker.whole([size, size, 3])])
    upright = maker.add("Transpose", [columns], perm=(1, 0, 2))
    # Of four pixels each, OpenCV rounds a half up; else to even.
    is_half = maker.add("Equal", [side, maker.whole([2 * size])])
    up = maker.add("Floor", [maker.add("Add", [upright, maker.constant(0.5)])])
    rounded = maker.add("Where", [is_half, up, maker.add("Round", [upright])])
    whole = maker.add("Clip", [rounded, maker.constant(0), maker.constant(255)])
    return maker.add("Unsqueeze", [whole, maker.whole([0])])
