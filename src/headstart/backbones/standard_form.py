"""Rewrites an ONNX network into the one standard form: uint8 images in, codes out, the normalisation inside.

Takes an ONNX model that reads float images; gives a network from `image` uint8 (n, S, S, 3) RGB to `codes` (n, d), and to
the codes of deeper layers. It decides which parts of a network are kept, and refuses operations from outside the ONNX
standard.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.backbones.onnx_files import image_inputs, shape_of, shape_text
from headstart.data.images import Preprocess
from headstart.errors import BackboneError
from headstart.wording import listed

if TYPE_CHECKING:
    import onnx


STANDARD_DOMAINS = ("", "ai.onnx")
OLDEST_TO_MIRROR = 10  # the opset from which on Slice can turn an axis round
OLDEST_OPSET = 7  # before it, arithmetic did not broadcast as ours around the network does
AS_IT_IS, TO_CHANNELS_FIRST = (0, 1, 2, 3), (0, 3, 1, 2)
PREFIX = "net/"  # before every name of the network itself, so that ours cannot meet one of them


def standard_form(
    model: onnx.ModelProto, preprocess: Preprocess, *, codes: str, layers: Sequence[str] = (), channels_last: bool = False
) -> onnx.ModelProto:
    """Rewrite a network of float images into one that takes uint8 (n, S, S, 3) as `image` and gives (n, d) `codes`.

    codes: any value of the graph; a map, (n, d, h, w) or (n, h, w, d), is averaged over its pixels. layers: values of deeper
    layers, the last of them first, which become the outputs `tap1`, `tap2`, ...; of these, tokens (n, t, d) are averaged as
    well. Raises BackboneError where there is no such value, or where it is neither a row nor a map.
    """
    import onnx
    from onnx import helper, numpy_helper

    (image,) = image_inputs(model.graph)
    graph = needed_for([codes, *layers], model.graph, image.name)
    batch = image.type.tensor_type.shape.dim[0].dim_value or "n"
    shapes = {v.name: shape_of(v) for v in (*model.graph.value_info, *model.graph.output)}
    if len(shapes.get(codes, [])) not in (2, 4):
        raise _no_codes(codes, shapes.get(codes, []))
    opset_imports = _standard_opset(model, graph)
    add_prefix(graph)

    scale = np.float32(1) / (np.float32(255) * np.asarray(preprocess.std, np.float32))
    offset = -np.asarray(preprocess.mean, np.float32) / np.asarray(preprocess.std, np.float32)
    turn = AS_IT_IS if channels_last else TO_CHANNELS_FIRST
    front = [
        helper.make_node("Cast", ["image"], ["pixels"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Mul", ["pixels", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "offset"], ["normalised"]),
        helper.make_node("Cast", ["normalised"], ["typed"], to=image.type.tensor_type.elem_type),
        helper.make_node("Transpose", ["typed"], [PREFIX + image.name], perm=turn),
    ]
    tails, outputs = [], []
    for name, value in zip(output_names(1 + len(layers)), (codes, *layers), strict=True):
        nodes, n_codes = _pooled(value, shapes[value], name, channels_last)
        tails += nodes
        outputs.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [batch, n_codes]))
    constants = [numpy_helper.from_array(scale, "scale"), numpy_helper.from_array(offset, "offset")]
    size = preprocess.size
    whole = helper.make_graph(
        [*front, *graph.node, *tails],
        "headstart",
        [helper.make_tensor_value_info("image", onnx.TensorProto.UINT8, [batch, size, size, 3])],
        outputs,
        [*constants, *graph.initializer],
        sparse_initializer=graph.sparse_initializer,
    )
    return helper.make_model(whole, opset_imports=opset_imports, ir_version=model.ir_version, producer_name="headstart")


def opset(network: onnx.ModelProto) -> int:
    """The version of the ONNX standard that a network is written in."""
    return max(int(o.version) for o in network.opset_import if o.domain in STANDARD_DOMAINS)


def output_names(n: int) -> tuple[str, ...]:
    """The names of the outputs of a network in standard form, the last layer first."""
    return ("codes", *(f"tap{i}" for i in range(1, n)))


def _pooled(value: str, shape: list[int | None], name: str, channels_last: bool) -> tuple[list[onnx.NodeProto], int]:
    """Make the nodes from a value of the network to the float32 row `name`; gives them and that row's length."""
    import onnx
    from onnx import helper

    n_codes = shape[1]
    perm: tuple[int, ...] | None = None
    if len(shape) == 4:
        is_last = is_channels_last(shape, channels_last)
        n_codes, perm = shape[3 if is_last else 1], TO_CHANNELS_FIRST if is_last else AS_IT_IS
    elif len(shape) == 3:
        n_codes, perm = shape[2], (0, 2, 1)
    if n_codes is None:
        raise _no_codes(value, shape)
    pool = [
        helper.make_node("Transpose", [PREFIX + value], [f"{name}.map"], perm=perm),
        helper.make_node("GlobalAveragePool", [f"{name}.map"], [f"{name}.pooled"]),
    ]
    tail = [
        *(pool if perm else []),
        helper.make_node("Flatten", [f"{name}.pooled" if perm else PREFIX + value], [f"{name}.row"], axis=1),
        helper.make_node("Cast", [f"{name}.row"], [name], to=onnx.TensorProto.FLOAT),
    ]
    return tail, n_codes


def _no_codes(output: str, shape: list[int | None]) -> BackboneError:
    return BackboneError(
        f"the output {output!r} has the shape {shape_text(shape)}; codes need a row (n, d) or a map (n, d, h, w): choose "
        "another with --output"
    )


def is_channels_last(shape: list[int | None], images_are: bool) -> bool:
    """Whether a map is (n, h, w, d): maps are square, as images are; where both fit, it has the layout of the images."""
    _, first, second, third = shape
    return images_are if first == second == third else first == second


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """Yield a graph and every graph within it, the branches of its If nodes and the bodies of its loops."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _graphs(inner)


def needed_for(outputs: Sequence[str], graph: onnx.GraphProto, image: str) -> onnx.GraphProto:
    """Extract the nodes and weights that outputs are computed from; raises BackboneError where there is no such output."""
    import onnx

    computed_values = {out for node in graph.node for out in node.output}
    for output in outputs:
        if output not in computed_values:
            outputs_text = ", ".join(o.name for o in graph.output) or "none"
            raise BackboneError(f"the network has no output {output!r}; its outputs: {outputs_text}")
    names, nodes = set(outputs), []
    for node in reversed(graph.node):
        if names & set(node.output):
            nodes.append(node)
            inner = [n for a in node.attribute for g in (a.g, *a.graphs) for part in _graphs(g) for n in part.node]
            names.update(name for n in (node, *inner) for name in n.input)
    if image not in names:
        raise BackboneError(f"the output {outputs[0]!r} does not depend on the image {image!r}")
    return onnx.GraphProto(
        node=nodes[::-1],
        initializer=[w for w in graph.initializer if w.name in names],
        sparse_initializer=[w for w in graph.sparse_initializer if w.values.name in names],
    )


def _standard_opset(model: onnx.ModelProto, graph: onnx.GraphProto) -> list[Any]:
    """Read the version of the ONNX standard that a graph needs; raises BackboneError where it needs anything else."""
    operations = {(node.domain, node.op_type) for part in _graphs(graph) for node in part.node}
    foreign = sorted(f"{domain}.{name}" for domain, name in operations if domain not in STANDARD_DOMAINS)
    if foreign:
        raise BackboneError(
            f"it uses operations from outside the ONNX standard, which headstart never runs: {listed(foreign)}; "
            "export it again without optimising it for one runtime"
        )
    opsets = [o for o in model.opset_import if o.domain in STANDARD_DOMAINS]
    if any(o.version < OLDEST_OPSET for o in opsets):
        raise BackboneError(f"it needs opset {opsets[0].version}; export it again with opset {OLDEST_OPSET} or later")
    return opsets


def add_prefix(graph: onnx.GraphProto, prefix: str = PREFIX) -> None:
    """Put PREFIX before every name, within inner graphs too (onnx.compose leaves out the weights that those use)."""
    for part in _graphs(graph):
        for node in part.node:
            node.name = node.name and prefix + node.name
            node.input[:] = [name and prefix + name for name in node.input]
            node.output[:] = [name and prefix + name for name in node.output]
        weights = [tensor for w in part.sparse_initializer for tensor in (w.values, w.indices)]
        for value in (*part.input, *part.output, *part.value_info, *part.initializer, *weights):
            value.name = prefix + value.name


def n_parameters(network: onnx.ModelProto) -> int:
    """Count the weights of a network in standard form, without single numbers such as limits."""
    weights = [w for w in network.graph.initializer if w.name.startswith(PREFIX) and w.dims]
    return sum(int(np.prod(w.dims)) for w in weights)
