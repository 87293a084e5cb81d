"""Writes an ONNX network of ours with TensorFlow's operations: images stay channels last, as TensorFlow computes them.

Takes an onnx.ModelProto; gives a function of TensorFlow tensors. It knows the operations that OPERATIONS lists, those of the
built-in backbones and of every head, and says which one it lacks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

MAP = 4  # dimensions of a value whose channels come first in ONNX and last here
AXES_OF_MAP = {0: 0, 1: 3, 2: 1, 3: 2, -3: 3, -2: 1, -1: 2}


class UnknownOperation(Exception):
    """An operation of a network that is not written here; the message is its name."""


class Graph:
    """A network on its way. values: by name, tensors or arrays; first: names of maps whose channels ONNX has first."""

    def __init__(self, tf: Any, model: Any) -> None:
        """tf: the module; model: what to write. Raises UnknownOperation before any work."""
        from onnx import numpy_helper

        self.tf, self.nodes = tf, list(model.graph.node)
        self.outputs = [output.name for output in model.graph.output]
        self.constants = {w.name: numpy_helper.to_array(w) for w in model.graph.initializer}
        lacking = {node.op_type for node in self.nodes} - OPERATIONS.keys()
        if lacking:
            raise UnknownOperation(", ".join(sorted(lacking)))

    def run(self, image: Any) -> dict[str, Any]:
        """From `image`, uint8 (n, S, S, 3), to each output."""
        self.values: dict[str, Any] = {**self.constants, "image": image}
        self.first: set[str] = set()
        for node in self.nodes:
            attributes = {a.name: _attribute(a) for a in node.attribute}
            results = OPERATIONS[node.op_type](self, node, attributes)
            for name, value in zip(node.output, results if isinstance(results, tuple) else (results,), strict=False):
                self.values[name] = value
            if node.op_type in KEEPS_LAYOUT and self.first.intersection(node.input):
                self.first.update(node.output)
        return {name: self.values[name] for name in self.outputs}

    def inputs(self, node: Any) -> list[Any]:
        """The values that a node takes; constants beside a map are turned as the map is."""
        is_map = any(name in self.first for name in node.input)
        return [self._turned(name, is_map) for name in node.input if name]

    def _turned(self, name: str, is_map: bool) -> Any:
        value = self.values[name]
        if is_map and name in self.constants and value.ndim in (MAP - 1, MAP):
            return np.moveaxis(value, -3, -1)
        return value

    def constant(self, name: str) -> np.ndarray:
        """A value that is known already."""
        value: np.ndarray = self.constants[name]
        return value


def _attribute(attribute: Any) -> Any:
    from onnx import helper

    value = helper.get_attribute_value(attribute)
    return value.decode() if isinstance(value, bytes) else value


def _cast(graph: Graph, node: Any, attributes: dict[str, Any]) -> Any:
    from onnx import helper

    (value,) = graph.inputs(node)
    return graph.tf.cast(value, np.dtype(helper.tensor_dtype_to_np_dtype(attributes["to"])))


def _transpose(graph: Graph, node: Any, attributes: dict[str, Any]) -> Any:
    """A turn between channels first and last is only noted, for here they are last."""
    value, order = graph.values[node.input[0]], list(attributes["perm"])
    if order == [0, 3, 1, 2] and node.input[0] not in graph.first:
        graph.first.update(node.output)
        return value
    if node.input[0] in graph.first:
        if order == [0, 1, 2, 3]:
            graph.first.update(node.output)
            return value
        if order == [0, 2, 3, 1]:
            return value
        raise UnknownOperation(f"Transpose {order}")
    return graph.tf.transpose(value, order)


def _convolution(graph: Graph, node: Any, attributes: dict[str, Any]) -> Any:
    tf, image = graph.tf, graph.values[node.input[0]]
    kernel = np.transpose(graph.constant(node.input[1]), (2, 3, 1, 0))  # height, width, in, out
    strides = list(attributes.get("strides", [1, 1]))
    dilations = list(attributes.get("dilations", [1, 1]))
    image, padding = _padded(graph, image, attributes)
    group = attributes.get("group", 1)
    if group == 1:
        result = tf.nn.conv2d(image, kernel, strides, padding, dilations=dilations)
    elif kernel.shape[2] == 1 and kernel.shape[3] % group == 0:
        shape = (*kernel.shape[:2], group, kernel.shape[3] // group)
        result = tf.nn.depthwise_conv2d(
            image, kernel.reshape(shape), [1, *strides, 1], padding, dilations=dilations if max(dilations) > 1 else None
        )
    else:
        parts = zip(tf.split(image, group, axis=3), np.split(kernel, group, axis=3), strict=True)
        result = tf.concat([tf.nn.conv2d(x, k, strides, padding, dilations=dilations) for x, k in parts], axis=3)
    return result + graph.constant(node.input[2]) if len(node.input) > 2 else result


def _padded(graph: Graph, image: Any, attributes: dict[str, Any], value: float = 0.0) -> tuple[Any, str]:
    """The image with the borders that a window needs, and TensorFlow's name for what is left to it."""
    if attributes.get("auto_pad", "NOTSET") == "SAME_UPPER":
        return image, "SAME"
    pads = list(attributes.get("pads", [0, 0, 0, 0]))
    if attributes.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise UnknownOperation(f"auto_pad {attributes['auto_pad']}")
    if any(pads):
        image = graph.tf.pad(image, [[0, 0], [pads[0], pads[2]], [pads[1], pads[3]], [0, 0]], constant_values=value)
    return image, "VALID"


def _pool(kind: str) -> Callable[[Graph, Any, dict[str, Any]], Any]:
    def pool(graph: Graph, node: Any, attributes: dict[str, Any]) -> Any:
        if attributes.get("ceil_mode") or (kind == "AVG" and any(attributes.get("pads", []))):
            raise UnknownOperation(f"{node.op_type} with ceil_mode or borders")
        border = -np.inf if kind == "MAX" else 0.0
        image, padding = _padded(graph, graph.values[node.input[0]], attributes, border)
        return graph.tf.nn.pool(image, attributes["kernel_shape"], kind, attributes.get("strides", [1, 1]), padding)

    return pool


def _mean_of_map(graph: Graph, node: Any, attributes: dict[str, Any]) -> Any:
    value = graph.values[node.input[0]]
    if node.input[0] in graph.first:
        graph.first.update(node.output)
        return graph.tf.reduce_mean(value, axis=[1, 2], keepdims=True)
    return graph.tf.reduce_mean(value, axis=list(range(2, len(value.shape))), keepdims=True)


def _flatten(graph: Graph, node: Any, attributes: dict[str, Any]) -> Any:
    value = graph.values[node.input[0]]
    if node.input[0] in graph.first and (value.shape[1], value.shape[2]) != (1, 1):
        value = graph.tf.transpose(value, (0, 3, 1, 2))
    return graph.tf.reshape(value, [-1, int(np.prod(value.shape[1:]))])


def _reshape(graph: Graph, node: Any, attributes: dict[str, Any]) -> Any:
    value = graph.values[node.input[0]]
    if node.input[0] in graph.first:
        value = graph.tf.transpose(value, (0, 3, 1, 2))
    return graph.tf.reshape(value, graph.constant(node.input[1]))


def _slice(graph: Graph, node: Any, attributes: dict[str, Any]) -> Any:
    """One axis, all of it, forwards or backwards: the mirror image."""
    starts, ends, axes, steps = (graph.constant(name).tolist() for name in node.input[1:5])
    if len(axes) != 1 or steps != [-1] or starts != [-1] or ends[0] > -(2**30):
        raise UnknownOperation("Slice")
    return graph.tf.reverse(graph.values[node.input[0]], axes)


def _concat(graph: Graph, node: Any, attributes: dict[str, Any]) -> Any:
    axis = attributes["axis"]
    if node.input[0] in graph.first:
        axis = AXES_OF_MAP[axis]
    values = graph.inputs(node)
    return values[0] if len(values) == 1 else graph.tf.concat(values, axis)


def _clip(graph: Graph, node: Any, attributes: dict[str, Any]) -> Any:
    value = graph.values[node.input[0]]
    low = float(graph.constant(node.input[1])) if len(node.input) > 1 and node.input[1] else attributes.get("min")
    high = float(graph.constant(node.input[2])) if len(node.input) > 2 and node.input[2] else attributes.get("max")
    if (low, high) == (0, 6):
        return graph.tf.nn.relu6(value)
    value = value if low is None else graph.tf.maximum(value, low)
    return value if high is None else graph.tf.minimum(value, high)


def _unit_row(graph: Graph, node: Any, attributes: dict[str, Any]) -> Any:
    (value,) = graph.inputs(node)
    squares = graph.tf.reduce_sum(value * value, axis=1, keepdims=True)
    return value / graph.tf.sqrt(graph.tf.maximum(squares, 1e-24))


def _gemm(graph: Graph, node: Any, attributes: dict[str, Any]) -> Any:
    x, weight, *bias = graph.inputs(node)
    weight = weight.T if attributes.get("transB") else weight
    product = graph.tf.matmul(x, weight) * np.float32(attributes.get("alpha", 1.0))
    return product + np.float32(attributes.get("beta", 1.0)) * bias[0] if bias else product


def _reduce(function: Callable[[Any], Callable[..., Any]]) -> Callable[[Graph, Any, dict[str, Any]], Any]:
    def reduce(graph: Graph, node: Any, attributes: dict[str, Any]) -> Any:
        axes = graph.constant(node.input[1]).tolist() if len(node.input) > 1 else list(attributes["axes"])
        if node.input[0] in graph.first:
            axes = [AXES_OF_MAP[axis] for axis in axes]
        keepdims = bool(attributes.get("keepdims", 1))
        if keepdims and node.input[0] in graph.first:
            graph.first.update(node.output)
        return function(graph.tf)(graph.values[node.input[0]], axis=axes, keepdims=keepdims)

    return reduce


def _log_sum_exp(tf: Any) -> Callable[..., Any]:
    """Spelt out: TensorFlow's own tests for infinities, which LiteRT does not know."""

    def reduce(value: Any, axis: Any, keepdims: bool) -> Any:
        highest = tf.reduce_max(value, axis=axis, keepdims=True)
        total = tf.math.log(tf.reduce_sum(tf.exp(value - highest), axis=axis, keepdims=True)) + highest
        return total if keepdims else tf.squeeze(total, axis=axis)

    return reduce


def _top(graph: Graph, node: Any, attributes: dict[str, Any]) -> Any:
    values, places = graph.tf.math.top_k(graph.values[node.input[0]], int(graph.constant(node.input[1])[0]))
    return values, places


def _elementwise(function: Callable[[Any], Callable[..., Any]]) -> Callable[[Graph, Any, dict[str, Any]], Any]:
    return lambda graph, node, attributes: function(graph.tf)(*graph.inputs(node))


OPERATIONS: dict[str, Callable[[Graph, Any, dict[str, Any]], Any]] = {
    "Add": _elementwise(lambda tf: tf.add),
    "AveragePool": _pool("AVG"),
    "Cast": _cast,
    "Clip": _clip,
    "Concat": _concat,
    "Conv": _convolution,
    "Div": _elementwise(lambda tf: tf.divide),
    "Flatten": _flatten,
    "Gather": lambda graph, node, attributes: graph.tf.gather(*graph.inputs(node), axis=attributes.get("axis", 0)),
    "Gemm": _gemm,
    "GlobalAveragePool": _mean_of_map,
    "Identity": lambda graph, node, attributes: graph.values[node.input[0]],
    "Log": _elementwise(lambda tf: tf.math.log),
    "LpNormalization": _unit_row,
    "MatMul": _elementwise(lambda tf: tf.matmul),
    "Max": _elementwise(lambda tf: tf.maximum),
    "MaxPool": _pool("MAX"),
    "Min": _elementwise(lambda tf: tf.minimum),
    "Mul": _elementwise(lambda tf: tf.multiply),
    "ReduceLogSumExp": _reduce(_log_sum_exp),
    "ReduceMean": _reduce(lambda tf: tf.reduce_mean),
    "ReduceMin": _reduce(lambda tf: tf.reduce_min),
    "ReduceSumSquare": _reduce(lambda tf: lambda x, axis, keepdims: tf.reduce_sum(x * x, axis=axis, keepdims=keepdims)),
    "Relu": _elementwise(lambda tf: tf.nn.relu),
    "Reshape": _reshape,
    "Sigmoid": _elementwise(lambda tf: tf.sigmoid),
    "Slice": _slice,
    "Softmax": lambda graph, node, attributes: graph.tf.nn.softmax(
        graph.values[node.input[0]], axis=attributes.get("axis", -1)
    ),
    "Sub": _elementwise(lambda tf: tf.subtract),
    "TopK": _top,
    "Transpose": _transpose,
}
KEEPS_LAYOUT = (
    *("Add", "AveragePool", "Cast", "Clip", "Concat", "Conv", "Div"),
    *("Identity", "MaxPool", "Mul", "Relu", "Sigmoid", "Sub"),
)
