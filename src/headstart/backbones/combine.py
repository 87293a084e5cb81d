"""Combines networks in standard form into one, whose codes are theirs, one after another.

It decides what of each is left out, and where the codes of an image and of its mirror image are averaged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.backbones.standard_form import add_prefix, needed_for, opset

if TYPE_CHECKING:
    import onnx


def assemble(networks: Sequence[onnx.ModelProto], n_outputs: int, *, is_mirrored: bool = False) -> onnx.ModelProto:
    """Combine networks in standard form into one, from `image` to all their codes in one row, `codes`.

    n_outputs: how many layers of each are read; what only others need is left out. is_mirrored: the codes of the image and
    of its mirror image are averaged. The codes of each layer alone are the values that `part_names` lists.
    """
    import onnx
    from onnx import helper, numpy_helper

    nodes, weights, sparse, tail, widths = [], [], [], [], []
    parts = iter(part_names(sum(min(n_outputs, len(network.graph.output)) for network in networks)))
    for i, network in enumerate(networks):
        outputs = list(network.graph.output)[:n_outputs]
        graph = needed_for([o.name for o in outputs], network.graph, "image")
        inner = f"{i}/"
        add_prefix(graph, inner)
        for node in graph.node:
            node.input[:] = ["both" if name == inner + "image" and is_mirrored else name for name in node.input]
            node.input[:] = ["image" if name == inner + "image" else name for name in node.input]
        nodes += graph.node
        weights += graph.initializer
        sparse += graph.sparse_initializer
        for output in outputs:
            widths.append(output.type.tensor_type.shape.dim[1].dim_value)
            row, part = inner + output.name, next(parts)
            tail += (
                _mean_of_both(row, part, widths[-1], weights)
                if is_mirrored
                else [helper.make_node("Identity", [row], [part])]
            )
    front = []
    if is_mirrored:
        ends = {"turn.start": -1, "turn.end": -(2**31), "turn.axis": 2, "turn.step": -1}
        weights += [numpy_helper.from_array(np.array([number], np.int64), name) for name, number in ends.items()]
        front = [
            helper.make_node("Slice", ["image", *ends], ["mirror"]),
            helper.make_node("Concat", ["image", "mirror"], ["both"], axis=0),
        ]
    tail.append(helper.make_node("Concat", list(part_names(len(widths))), ["codes"], axis=1))
    image = networks[0].graph.input[0]
    batch = image.type.tensor_type.shape.dim[0]
    shape = [batch.dim_param or batch.dim_value, sum(widths)]
    codes = helper.make_tensor_value_info("codes", onnx.TensorProto.FLOAT, shape)
    graph_of_all = helper.make_graph(
        [*front, *nodes, *tail], "headstart", [image], [codes], weights, sparse_initializer=sparse
    )
    return helper.make_model(
        graph_of_all,
        opset_imports=[helper.make_opsetid("", opset(networks[0]))],
        ir_version=max(network.ir_version for network in networks),
        producer_name="headstart",
    )


def _mean_of_both(row: str, part: str, width: int, weights: list[Any]) -> list[onnx.NodeProto]:
    """Average (2n, d), the n images and then their mirror images, to (n, d), in operations that no opset has changed."""
    from onnx import helper, numpy_helper

    weights.append(numpy_helper.from_array(np.array([2, -1, width], np.int64), f"{part}.shape"))
    return [
        helper.make_node("Reshape", [row, f"{part}.shape"], [f"{part}.both"]),
        helper.make_node("Transpose", [f"{part}.both"], [f"{part}.beside"], perm=(1, 2, 0)),
        helper.make_node("GlobalAveragePool", [f"{part}.beside"], [f"{part}.mean"]),
        helper.make_node("Flatten", [f"{part}.mean"], [part], axis=1),
    ]


def part_names(n: int) -> tuple[str, ...]:
    """The names of the codes of single layers within a combined network."""
    return tuple(f"part{i}" for i in range(n))
