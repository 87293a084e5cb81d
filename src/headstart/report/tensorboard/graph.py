"""Converts an ONNX network to TensorFlow's GraphDef, which TensorBoard draws in its graph tab.

It decides how nodes are named, so that they fold into boxes, and what each shows: its shape and its weights' shapes, not
the weights.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from headstart.report.tensorboard.events import bytes_field, float_field, int_field, text_field

GREATEST_INPUT = 256  # values that an ONNX weight may have and still tell the shape inference something


def graph_of(model: bytes) -> bytes:
    """Build an event, without its time, of an ONNX network's graph; model: the bytes of its file."""
    import onnx

    network = onnx.load_from_string(model)
    weights = {weight.name: tuple(weight.dims) for weight in network.graph.initializer}
    shapes = _shapes(network)
    names = _Names()
    nodes = [
        _node(names.of(value.name), "Placeholder", [], _attribute("_output_shapes", _shape_list(shapes.get(value.name))))
        for value in network.graph.input
        if value.name not in weights
    ]
    for node in network.graph.node:
        outputs = [name for name in node.output if name]
        names.join(outputs)
        attributes = b"".join(_attribute(a.name, value) for a in node.attribute if (value := _attribute_value(a)))
        attributes += _attribute("_output_shapes", b"".join(_shape_list(shapes.get(name)) for name in outputs))
        shapes_of_weights = [f"{name.rpartition('.')[2]} {weights[name]}" for name in node.input if name in weights]
        if shapes_of_weights:
            attributes += _attribute("weights", text_field(2, ", ".join(shapes_of_weights)))
        inputs = [names.of(name) for name in node.input if name and name not in weights]
        nodes.append(_node(names.of(outputs[0]), node.op_type, inputs, attributes))
    return bytes_field(4, b"".join(bytes_field(1, node) for node in nodes) + bytes_field(4, int_field(1, 22)))


class _Names:
    """Unique names of ONNX's values in TensorFlow's form, a path of scopes."""

    def __init__(self) -> None:
        self._name_of_value: dict[str, str] = {}
        self._names: set[str] = set()

    def of(self, value: str) -> str:
        """Give the name of the node that computes a value."""
        if value not in self._name_of_value:
            parts = [re.sub(r"\W", "_", part, flags=re.ASCII) for part in re.split(r"[/.]+", value) if part.strip("_")]
            if parts and parts[0].isdigit():
                parts[0] = f"network_{parts[0]}"
            whole = name = "/".join(parts) or "node"
            n = 1
            while name in self._names:
                n += 1
                name = f"{whole}_{n}"
            self._names.add(name)
            self._name_of_value[value] = name
        return self._name_of_value[value]

    def join(self, values: Sequence[str]) -> None:
        """Register the several values that one node computes."""
        for i, value in enumerate(values[1:], start=1):
            self._name_of_value[value] = f"{self.of(values[0])}:{i}"


def _shapes(network: Any) -> dict[str, list[int]]:
    """Infer each value's shape, -1 where it depends on the number of images; its large weights are removed from it."""
    import onnx

    for weight in network.graph.initializer:
        if np.prod(weight.dims) > GREATEST_INPUT:
            weight.ClearField("raw_data")
            weight.ClearField("float_data")
    graph = onnx.shape_inference.infer_shapes(network).graph
    return {
        value.name: [dim.dim_value if dim.HasField("dim_value") else -1 for dim in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.value_info, *graph.output)
        if value.type.tensor_type.HasField("shape")
    }


def _shape_list(shape: list[int] | None) -> bytes:
    """Encode one shape as an AttrValue's list of shapes."""
    dims = int_field(3, 1) if shape is None else b"".join(bytes_field(2, int_field(1, n)) for n in shape)
    return bytes_field(1, bytes_field(7, dims))


def _node(name: str, operation: str, inputs: Iterable[str], attributes: bytes) -> bytes:
    return text_field(1, name) + text_field(2, operation) + b"".join(text_field(3, name) for name in inputs) + attributes


def _attribute(name: str, value: bytes) -> bytes:
    return bytes_field(5, text_field(1, name) + bytes_field(2, value))


def _attribute_value(attribute: Any) -> bytes:
    """Encode ONNX's numbers and strings as AttrValue; tensors and graphs are left out."""
    import onnx

    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, (int, float)):
        return int_field(3, value) if isinstance(value, int) else float_field(4, value)
    if isinstance(value, bytes):
        return bytes_field(2, value)
    if attribute.type in (onnx.AttributeProto.INTS, onnx.AttributeProto.FLOATS):
        return text_field(2, ", ".join(f"{x:g}" for x in value))
    return b""
