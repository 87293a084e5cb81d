"""The ONNX graph of a classifier: joins backbones, head and unfamiliarity into one network, and reads its head back.

Takes a Representation, a Head and an Unfamiliarity; gives an onnx.ModelProto from `image` to `probabilities`, `codes` and
`unfamiliarity`. It decides which operations stand for them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from headstart.backbones.combine import assemble, part_names
from headstart.backbones.standard_form import OLDEST_TO_MIRROR, opset
from headstart.codes.representation import Representation
from headstart.errors import BackboneError
from headstart.heads.head import VOTE, Head
from headstart.trust.unfamiliarity import TYPICAL, Unfamiliarity

OLDEST_TO_VOTE = 11  # the opset whose TopK is today's
AXES_AS_INPUT = 18  # the opset from which on reductions take their axes as an input


def check_together(representation: Representation) -> None:
    """Raise BackboneError for networks that cannot stand in one file, or not be given an image and its mirror image."""
    first = representation.backbones[0]
    for other in representation.backbones[1:]:
        if (other.opset, other.preprocess.size) != (first.opset, first.preprocess.size):
            raise BackboneError(
                f"{first.name} and {other.name} differ in opset or size of their images, and cannot be joined"
            )
    for backbone in representation.backbones:
        if representation.is_mirrored and not backbone.can_mirror:
            why = f"is of opset {backbone.opset}" if backbone.opset < OLDEST_TO_MIRROR else "takes one image at a time"
            raise BackboneError(f"{backbone.name} {why}, and so cannot be given a photo together with its mirror image")


def join(representation: Representation, head: Head, unfamiliarity: Unfamiliarity | None = None) -> Any:
    """Put the head behind the representation's networks, and the unfamiliarity beside it; gives an onnx.ModelProto."""
    import onnx

    networks = [onnx.load_from_string(backbone.network) for backbone in representation.backbones]
    model = assemble(networks, representation.n_layers, is_mirrored=representation.is_mirrored)
    add_head(model, head, unfamiliarity)
    return model


def add_head(model: Any, head: Head, unfamiliarity: Unfamiliarity | None = None) -> None:
    """Put the head behind a network from `image` to `codes`, and the unfamiliarity beside it."""
    import onnx
    from onnx import helper

    nodes, weights, logits = _head_nodes(head, opset(model))
    outputs = [("probabilities", head.n_classes)]
    if unfamiliarity is not None:
        more = _unfamiliarity_nodes(unfamiliarity, logits, opset(model), has_unit=bool(head.widths))
        nodes, weights, outputs = nodes + more[0], weights + more[1], [*outputs, ("unfamiliarity", 1)]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(weights)
    (codes,) = model.graph.output
    batch = codes.type.tensor_type.shape.dim[0]
    n = batch.dim_param or batch.dim_value
    results = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [n, width]) for name, width in outputs]
    del model.graph.output[:]
    model.graph.output.extend([results[0], codes, *results[1:]])


def _head_nodes(head: Head, version: int) -> tuple[list[Any], list[Any], str]:
    """A head's nodes, from the parts of the codes to `probabilities`, its weights, and the name of its last scores."""
    from onnx import helper, numpy_helper

    nodes, rows = [], "codes"
    if head.widths:
        units = [f"{name}.unit" for name in part_names(len(head.widths))]
        pairs = zip(part_names(len(head.widths)), units, strict=True)
        nodes = [helper.make_node("LpNormalization", [part], [unit], axis=1, p=2) for part, unit in pairs]
        nodes.append(helper.make_node("Concat", units, ["units"], axis=1))
        rows = "units"
    weights = []
    for i, (weight, bias) in enumerate(head.layers):
        names, logits = [f"head.weight{i}", f"head.bias{i}"], f"head.logits{i}"
        weights += [numpy_helper.from_array(array, name) for array, name in zip((weight, bias), names, strict=True)]
        is_last = i == len(head.layers) - 1 and head.votes is None
        shrunk = 1 / head.temperature if is_last else 1.0
        nodes.append(helper.make_node("Gemm", [rows, *names], [logits], alpha=shrunk, beta=shrunk))
        rows = logits
        if i < len(head.layers) - 1:
            rows = f"head.relu{i}"
            nodes.append(helper.make_node("Relu", [logits], [rows]))
    if head.output == "softmax":
        nodes.append(helper.make_node("Softmax", [rows], ["probabilities"], axis=1))
    elif head.output == "sigmoid":
        nodes.append(helper.make_node("Sigmoid", [rows], ["probabilities"]))
    else:
        more = _vote_nodes(rows, head, version)
        return nodes + more[0], weights + more[1], rows
    return nodes, weights, rows


def _vote_nodes(closeness: str, head: Head, version: int) -> tuple[list[Any], list[Any]]:
    """From closeness to each stored image to the share of the nearest that has each class."""
    from onnx import helper, numpy_helper

    if version < OLDEST_TO_VOTE:
        raise BackboneError(
            f"the k-nearest head needs a network of opset {OLDEST_TO_VOTE} or later; this one has {version}: export it "
            "again, or choose another head"
        )
    assert head.votes is not None
    shares = (head.votes + np.float32(VOTE / head.n_neighbours)) / np.float32(1 + VOTE * head.n_classes / head.n_neighbours)
    weights = [
        numpy_helper.from_array(np.array([head.n_neighbours], np.int64), "head.n_neighbours"),
        numpy_helper.from_array(shares, "head.shares"),
        numpy_helper.from_array(np.float32(1 / head.temperature), "head.sharper"),
    ]
    nodes = [
        helper.make_node("TopK", [closeness, "head.n_neighbours"], ["head.closest", "head.nearest"], axis=1),
        helper.make_node("Gather", ["head.shares", "head.nearest"], ["head.votes"], axis=0),
        helper.make_node("Transpose", ["head.votes"], ["head.ballots"], perm=(0, 2, 1)),
        helper.make_node("GlobalAveragePool", ["head.ballots"], ["head.mean"]),
        helper.make_node("Flatten", ["head.mean"], ["head.share"], axis=1),
        helper.make_node("Log", ["head.share"], ["head.log"]),
        helper.make_node("Mul", ["head.log", "head.sharper"], ["head.scores"]),
        helper.make_node("Softmax", ["head.scores"], ["probabilities"], axis=1),
    ]
    return nodes, weights


def _unfamiliarity_nodes(
    unfamiliarity: Unfamiliarity, logits: str, version: int, *, has_unit: bool
) -> tuple[list[Any], list[Any]]:
    """From the last layer's codes and the scores to `unfamiliarity`, (n, 1), and its weights."""
    from onnx import helper, numpy_helper

    row = f"{part_names(1)[0]}.unit"
    nodes = [] if has_unit else [helper.make_node("LpNormalization", [part_names(1)[0]], [row], axis=1, p=2)]
    (mean, spread), slope = unfamiliarity.cues[0], (1 - TYPICAL) / (unfamiliarity.high - unfamiliarity.median)  # type: ignore[misc]
    # In bf16, as OpenVINO may compute it, differences of large numbers would be lost: all is kept near its mean.
    numbers = {
        "axes": unfamiliarity.distance.axes,
        "weight": unfamiliarity.distance.weight,
        "bias": unfamiliarity.distance.bias + np.float32(1 - mean),
        "slope": np.float32(slope),
        "offset": np.float32(TYPICAL - unfamiliarity.median * slope),
        "per_distance": np.float32(1 / spread),
    }
    nodes += [
        helper.make_node("MatMul", [row, "unfamiliar.axes"], ["unfamiliar.along"]),
        _reduce("ReduceSumSquare", "unfamiliar.along", "unfamiliar.explained", version),
        helper.make_node("Gemm", [row, "unfamiliar.weight", "unfamiliar.bias"], ["unfamiliar.to_means"]),
        _reduce("ReduceMin", "unfamiliar.to_means", "unfamiliar.to_nearest", version),
        helper.make_node("Sub", ["unfamiliar.to_nearest", "unfamiliar.explained"], ["unfamiliar.distance"]),
        helper.make_node("Mul", ["unfamiliar.distance", "unfamiliar.per_distance"], ["unfamiliar.far"]),
    ]
    highest = "unfamiliar.far"
    if unfamiliarity.cues[1] is not None:
        mean, spread = unfamiliarity.cues[1]
        numbers |= {"per_energy": np.float32(-1 / spread), "energy_offset": np.float32(-mean / spread)}
        nodes += [
            _reduce("ReduceLogSumExp", logits, "unfamiliar.log_sum", version),
            helper.make_node("Mul", ["unfamiliar.log_sum", "unfamiliar.per_energy"], ["unfamiliar.energy"]),
            helper.make_node("Add", ["unfamiliar.energy", "unfamiliar.energy_offset"], ["unfamiliar.between"]),
            helper.make_node("Max", [highest, "unfamiliar.between"], ["unfamiliar.higher"]),
        ]
        highest = "unfamiliar.higher"
    nodes += [
        helper.make_node("Mul", [highest, "unfamiliar.slope"], ["unfamiliar.sloped"]),
        helper.make_node("Add", ["unfamiliar.sloped", "unfamiliar.offset"], ["unfamiliar.scaled"]),
        helper.make_node("Relu", ["unfamiliar.scaled"], ["unfamiliarity"]),
    ]
    weights = [numpy_helper.from_array(np.asarray(n), f"unfamiliar.{name}") for name, n in numbers.items()]
    if version >= AXES_AS_INPUT:
        weights.append(numpy_helper.from_array(np.array([1], np.int64), REDUCED))
    return nodes, weights


REDUCED = "unfamiliar.reduced"


def _reduce(operation: str, source: str, result: str, version: int) -> Any:
    """Reduce the second axis to one."""
    from onnx import helper

    if version >= AXES_AS_INPUT:
        return helper.make_node(operation, [source, REDUCED], [result], keepdims=1)
    return helper.make_node(operation, [source], [result], axes=[1], keepdims=1)


def read_head(model: Any, widths: tuple[int, ...]) -> Head:
    """The head of a classifier's network, as `join` wrote it. widths: of the codes."""
    from onnx import helper, numpy_helper

    weights = {w.name: w for w in model.graph.initializer}
    n_layers = sum(name.startswith("head.weight") for name in weights)
    layers = tuple(
        (numpy_helper.to_array(weights[f"head.weight{i}"]), numpy_helper.to_array(weights[f"head.bias{i}"]))
        for i in range(n_layers)
    )
    makers = {output: node for node in model.graph.node for output in node.output}
    has_units, last = "units" in makers, makers[f"head.logits{n_layers - 1}"]
    unit_widths = widths if has_units else ()
    if "head.shares" in weights:
        n_neighbours = int(numpy_helper.to_array(weights["head.n_neighbours"])[0])
        sharper = float(numpy_helper.to_array(weights["head.sharper"]))
        shares = numpy_helper.to_array(weights["head.shares"])
        votes = shares * np.float32(1 + VOTE * shares.shape[1] / n_neighbours) - np.float32(VOTE / n_neighbours)
        return Head(layers, unit_widths, "votes", votes, n_neighbours, 1 / sharper)
    temperature = 1 / next(helper.get_attribute_value(a) for a in last.attribute if a.name == "alpha")
    output = "sigmoid" if makers["probabilities"].op_type == "Sigmoid" else "softmax"
    return Head(layers, unit_widths, output, temperature=temperature)
