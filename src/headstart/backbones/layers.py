"""Finds the deeper layers of a network whose values codes are read from.

Takes an ONNX network with shapes noted and the name of its codes; gives names of values, the last block first. It decides
what ends a block, and how many of them are worth reading.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from headstart.backbones.onnx_files import image_inputs, shape_of
from headstart.backbones.standard_form import is_channels_last, needed_for
from headstart.errors import BackboneError

if TYPE_CHECKING:
    import onnx


AFTER_CONVOLUTION = (
    "BatchNormalization",
    "Clip",
    "Relu",
    "HardSwish",
    "LeakyRelu",
    "PRelu",
    "Elu",
    "Sigmoid",
    "HardSigmoid",
)
RESHAPES = ("Flatten", "Reshape", "Squeeze", "Identity", "Cast", "Dropout")  # what changes no number of a row
# Deeper layers that codes are read from: 4 or fewer do for hundreds of images, 7 for tens of thousands (docs/LOG.md).
N_LAYERS = 7
LEAST_CHANNELS, MOST_CHANNELS = 8, 4096


def find_layers(model: onnx.ModelProto, codes: str) -> tuple[str, ...]:
    """Find the values that codes of deeper layers are read from: the ends of a network's last blocks, the last block first.

    Those are what follows the depthwise convolutions (MobileNet, EfficientNet, ConvNeXt), else the sums that close residual
    blocks (ResNet, transformers), else the joints of branches (Inception, DenseNet), else the convolutions. With
    Head2Toe (Evci et al. 2022) many layers serve; here the last N_LAYERS.
    """
    (image,) = image_inputs(model.graph)
    try:
        graph = needed_for([codes], model.graph, image.name)
    except BackboneError:  # standard_form tells of it
        return ()
    shapes = {v.name: shape_of(v) for v in (*model.graph.value_info, *model.graph.output)}
    weights = {w.name: list(w.dims) for w in graph.initializer}
    consumers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            consumers.setdefault(name, []).append(node)

    pooled = _pooled_map(codes, graph, shapes)

    def is_depthwise(node: onnx.NodeProto) -> bool:
        kernel = weights.get(node.input[1], [0, 0]) if node.op_type == "Conv" and len(node.input) > 1 else [0, 0]
        return kernel[0] > 1 and kernel[1] == 1

    def is_sum(node: onnx.NodeProto) -> bool:
        return node.op_type == "Add" and all(shapes.get(name) == shapes.get(node.output[0]) for name in node.input)

    for ends_block in (is_depthwise, is_sum, lambda n: n.op_type == "Concat", lambda n: n.op_type == "Conv"):
        ends = [_after_activation(node.output[0], consumers) for node in graph.node if ends_block(node)]
        ends = [name for name in ends if name not in (codes, pooled) and _is_readable(shapes.get(name, []))]
        if len(ends) > 1:
            return tuple(reversed(ends[-N_LAYERS:]))
    return ()


def _pooled_map(codes: str, graph: onnx.GraphProto, shapes: dict[str, list[int | None]]) -> str:
    """Find the map, or the tokens, whose mean the codes are, and which would only repeat them; else the codes themselves."""
    producers = {out: node for node in graph.node for out in node.output}
    name = codes
    while (node := producers.get(name)) is not None:
        if node.op_type in ("GlobalAveragePool", "ReduceMean"):
            return str(node.input[0])
        if node.op_type == "AveragePool" and shapes.get(name, [])[2:] == [1, 1]:
            return str(node.input[0])
        if node.op_type not in RESHAPES:
            break
        name = node.input[0]
    return codes


def _is_readable(shape: list[int | None]) -> bool:
    """Whether a value is a map, or tokens, with a number of channels that a head can use."""
    if len(shape) == 4:
        channels = shape[3 if is_channels_last(shape, images_are=False) else 1]
    else:
        channels = shape[2] if len(shape) == 3 else None
    return channels is not None and LEAST_CHANNELS <= channels <= MOST_CHANNELS


def _after_activation(name: str, consumers: dict[str, list[onnx.NodeProto]]) -> str:
    """Follow a value through the normalisation and activation behind it."""
    while True:
        follow = [n for n in consumers.get(name, []) if n.op_type in AFTER_CONVOLUTION]
        products = [n for n in consumers.get(name, []) if n.op_type == "Mul"]  # x · sigmoid(x)
        if len(follow) == 1 and follow[0].op_type in ("Sigmoid", "HardSigmoid") and len(products) == 1:
            if set(products[0].input) == {name, follow[0].output[0]}:
                name = products[0].output[0]
                continue
            return name
        if len(follow) != 1 or len(consumers[name]) != 1:
            return name
        name = follow[0].output[0]
