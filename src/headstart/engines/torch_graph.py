"""Translates an ONNX network in standard form into a torch module, operation for operation.

Takes the ONNX network and a batch size; gives a torch.fx module from `image` uint8 (batch, S, S, 3) to its outputs. It
decides what is computed beforehand, and in which type each weight is kept.

So no network needs a twin in torch, and a user's own ONNX file runs on a GPU as well. onnx2torch does the same, but its last
release is of August 2024, and it knows neither auto_pad nor the newer opsets.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from headstart.engines.torch_operations import BY_OPSET, OPERATIONS, Operation, apply

if TYPE_CHECKING:
    import onnx


class UnknownOperation(Exception):
    """A network has an operation, or a form of one, that is not in OPERATIONS."""


def to_torch(network: onnx.ModelProto, batch: int, dtype: torch.dtype) -> fx.GraphModule:
    """Write a network in standard form as a torch module for batches of one size.

    dtype: what convolutions and products of matrices are computed in; sums over many values stay float32. The module gives
    a tuple of float32 tensors, in the order of the network's outputs. Raises UnknownOperation.
    """
    writer = _Writer(network, batch, dtype)
    for node in network.graph.node:
        writer.add(node)
    results = [writer.graph.call_function(Tensor.float, (writer.nodes[o.name],)) for o in network.graph.output]
    written = writer.graph.output(tuple(results))
    written.meta["shapes"] = [writer.meta[o.name].shape for o in network.graph.output]
    return fx.GraphModule(writer.weights, writer.graph).eval()


def output_shapes(module: fx.GraphModule) -> list[torch.Size]:
    """The shape of each output of a module that to_torch wrote."""
    (shapes,) = (node.meta["shapes"] for node in module.graph.nodes if node.op == "output")
    return list(shapes)


class _Writer:
    """Walks through a network's nodes and writes the torch graph.

    constants: values that do not depend on the image's content: weights, shapes, and all that is computed from those. meta:
    the others, without their content, as torch's meta device computes them; nodes: the same in the graph that is written.
    """

    def __init__(self, network: onnx.ModelProto, batch: int, dtype: torch.dtype) -> None:
        from onnx import numpy_helper

        (image,) = network.graph.input
        _, *sides = [d.dim_value for d in image.type.tensor_type.shape.dim]
        self.dtype = dtype
        self.opset = network.opset_import[0].version
        self.graph, self.weights = fx.Graph(), nn.Module()
        self.constants = {w.name: numpy_helper.to_array(w) for w in network.graph.initializer}
        self.meta = {image.name: torch.empty(batch, *sides, dtype=torch.uint8, device="meta")}
        self.nodes = {image.name: self.graph.placeholder("image")}
        self._buffers: dict[tuple[str, torch.dtype, bool], fx.Node] = {}

    def add(self, node: onnx.NodeProto) -> None:
        """Write one node, or compute it where nothing in it depends on the image."""
        from onnx import helper

        if node.op_type == "Shape" and node.input[0] in self.meta:
            first, last = (next((a.i for a in node.attribute if a.name == name), None) for name in ("start", "end"))
            self.constants[node.output[0]] = np.array(self.meta[node.input[0]].shape[first:last], np.int64)
            return
        if not any(name in self.meta for name in node.input):
            self.constants.update(zip(node.output, _run_reference(node, self.constants, self.opset), strict=True))
            return
        operation = OPERATIONS.get(node.op_type)
        if operation is None or node.domain not in ("", "ai.onnx"):
            raise UnknownOperation(node.op_type)
        options = {a.name: _decode(helper.get_attribute_value(a)) for a in node.attribute}
        if node.op_type in BY_OPSET:
            options["opset"] = self.opset
        if node.op_type == "Split":
            options.setdefault("num_outputs", len(node.output))
        inputs = [self._input(node, i, operation) for i in range(len(node.input))]
        self._write(node, [i for i, _ in inputs], [m for _, m in inputs], options)

    def _write(self, node: onnx.NodeProto, inputs: list[Any], meta: list[Any], options: dict[str, Any]) -> None:
        try:
            result = apply(node.op_type, *meta, **options)
        except torch.OutOfMemoryError:
            raise
        except (TypeError, ValueError, KeyError, IndexError, RuntimeError) as error:
            raise UnknownOperation(f"{node.op_type} ({str(error).splitlines()[0] if str(error) else node.name})") from error
        written = self.graph.call_function(apply, (node.op_type, *inputs), options)
        if not isinstance(result, tuple):
            self.meta[node.output[0]], self.nodes[node.output[0]] = result, written
            return
        for i, (name, part) in enumerate(zip(node.output, result, strict=True)):
            self.meta[name], self.nodes[name] = part, self.graph.call_function(operator.getitem, (written, i))

    def _input(self, node: onnx.NodeProto, i: int, operation: Operation) -> tuple[Any, Any]:
        """An input as the graph names it, and as the meta device has it; Python numbers where the operation takes those."""
        name = node.input[i]
        if not name:
            return None, None
        if i in operation.numbers:
            if name not in self.constants:
                raise UnknownOperation(f"{node.op_type} (whose {name} depends on the image)")
            numbers = self.constants[name].tolist()
            return numbers, numbers
        if name in self.meta:
            return self.nodes[name], self.meta[name]
        floats = [self.meta[n].dtype for n in node.input if n in self.meta and self.meta[n].is_floating_point()]
        dtype = {"matrix": self.dtype, "exact": torch.float32, "like": (*floats, torch.float32)[0]}[operation.weight_type]
        written = self._buffer(name, dtype, node.op_type == "Conv")
        return written, getattr(self.weights, str(written.target)).to("meta")

    def _buffer(self, name: str, dtype: torch.dtype, is_kernel: bool) -> fx.Node:
        key = name, dtype, is_kernel
        if key not in self._buffers:
            tensor = torch.from_numpy(np.array(self.constants[name]))
            if tensor.is_floating_point():
                tensor = tensor.to(dtype)
            if is_kernel and tensor.ndim == 4:
                tensor = tensor.contiguous(memory_format=torch.channels_last)  # as the image is: what GPUs are fast at
            attribute = f"w{len(self._buffers)}"
            self.weights.register_buffer(attribute, tensor)
            self._buffers[key] = self.graph.get_attr(attribute)
        return self._buffers[key]


def _run_reference(node: onnx.NodeProto, constants: dict[str, np.ndarray], opset: int) -> list[np.ndarray]:
    """Compute a node with ONNX's own reference implementation, in NumPy."""
    from onnx.reference import ReferenceEvaluator

    try:
        evaluator = ReferenceEvaluator(node, opsets={"": opset})
        return list(evaluator.run(None, {name: constants[name] for name in node.input if name}))
    except (TypeError, ValueError, KeyError, IndexError, RuntimeError) as error:
        raise UnknownOperation(node.op_type) from error


def _decode(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value
