"""Makes float networks of 8-bit ones, the quantised networks of .tflite files, by leaving their rounding out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx


def without_rounding(model: onnx.ModelProto) -> onnx.ModelProto:
    """Turn a network's 8-bit numbers into floats; its images are then pixels in [0, 255].

    Numbers beyond the range of 8 bits are clipped as before, which some networks use as their activation; only the rounding
    is left out.
    """
    import onnx
    from onnx import helper, numpy_helper

    graph = model.graph
    constants = {w.name: numpy_helper.to_array(w) for w in graph.initializer}
    integer_types = (onnx.TensorProto.UINT8, onnx.TensorProto.INT8)
    floats: dict[str, np.ndarray] = {}

    def constant(numbers: Any) -> str:
        name = f"headstart_{len(floats)}"
        floats[name] = np.asarray(numbers, np.float32)
        return name

    (image,) = [i for i in graph.input if i.name not in constants]
    black = -128 if image.type.tensor_type.elem_type == onnx.TensorProto.INT8 else 0
    # Which values are the image's pixels, turned or cut perhaps.
    pixels = {image.name} if image.type.tensor_type.elem_type in integer_types else set()
    nodes = []
    for node in graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            nodes.append(node)
            pixels.update(node.output if pixels & set(node.input) else ())
            continue
        x, step = node.input[0], constants[node.input[1]]
        zero = constants[node.input[2]] if len(node.input) > 2 else np.zeros((), np.uint8)
        if x in constants:
            floats[node.output[0]] = _dequantise(constants[x], step, zero, node)
        elif node.op_type == "QuantizeLinear":
            ends = np.iinfo(zero.dtype)
            low, high = ((np.float32(end) - zero) * step for end in (ends.min, ends.max))
            nodes.append(helper.make_node("Clip", [x, constant(low), constant(high)], node.output))
        elif x in pixels:
            shifted = helper.make_node("Sub", [x, constant(zero.astype(np.float32) - black)], [f"{x}_shifted"])
            nodes += [shifted, helper.make_node("Mul", [f"{x}_shifted", constant(step)], node.output)]
        else:
            nodes.append(helper.make_node("Identity", [x], node.output))
    used = {name for node in nodes for name in node.input}
    remaining = [w for w in graph.initializer if w.name in used]
    del graph.node[:], graph.value_info[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend([*remaining, *(numpy_helper.from_array(numbers, name) for name, numbers in floats.items())])
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type in integer_types:
            value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    return model


def _dequantise(numbers: np.ndarray, step: np.ndarray, zero: np.ndarray, node: onnx.NodeProto) -> np.ndarray:
    """Convert weights of 8 or 32 bits to float32, (numbers - zero) * step, by channel where each has its step."""
    axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
    shape = [-1 if i == axis % numbers.ndim else 1 for i in range(numbers.ndim)] if np.size(step) > 1 else []
    return (numbers.astype(np.float32) - zero.astype(np.float32).reshape(shape)) * step.reshape(shape)
