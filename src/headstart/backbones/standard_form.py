"""Networks: somebody's ONNX file, checked and rewritten into the one standard form that all of headstart's have.

Takes an ONNX file of any kind that reads images; gives a network from `image` uint8 (n, S, S, 3) RGB to `codes` (n, d), with
the normalisation inside and nothing in it but operations of the ONNX standard. It decides which input holds the image and
which output the features.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.data.images import Preprocess
from headstart.errors import BackboneError
from headstart.wording import listed

if TYPE_CHECKING:
    import onnx


PREPROCESS_KEY = "headstart.preprocess"  # metadata of files that headstart made: how images are made ready
STANDARD_DOMAINS = ("", "ai.onnx")
OLDEST_TO_MIRROR = 10  # the opset from which on Slice can turn an axis round
OLDEST_OPSET = 7  # before it, arithmetic did not broadcast as ours around the network does
AS_IT_IS, TO_CHANNELS_FIRST = (0, 1, 2, 3), (0, 3, 1, 2)
PREFIX = "net/"  # before every name of the network itself, so that ours cannot meet one of them
FEATURE_NAMES = ("feature", "embed", "codes", "pool", "last_hidden")
N_IMAGENET_CLASSES = (1000, 1001, 21841, 21843)
# What may stand between a classifier's last layer and its output.
AFTER_LAST_LAYER = ("Softmax", "LogSoftmax", "Identity", "Cast", "Reshape", "Flatten", "Squeeze", "Transpose", "Dropout")


def read_onnx(path: Path) -> onnx.ModelProto:
    """Read and check an ONNX file, with its weights from files beside it and its own functions written out.

    Raises BackboneError with the reason where it is not one.
    """
    import onnx
    import onnx.inliner
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(str(path), format="protobuf", load_external_data=False)
        _check_beside(path, other_files(model.graph))
        onnx.external_data_helper.load_external_data_for_model(model, str(path.parent))
        onnx.checker.check_model(model)
        return onnx.inliner.inline_local_functions(model, convert_version=True) if model.functions else model
    except (DecodeError, onnx.checker.ValidationError, OSError, ValueError, RuntimeError) as error:
        raise BackboneError(f"{path} is not a valid ONNX file: {_first_line(error)}") from error


def other_files(graph: onnx.GraphProto, *, even_unused: bool = False) -> list[str]:
    """The files that a network's weights lie in, by the names that it has for them; none where it is one file.

    even_unused: those as well that are named beside weights which stand in the file itself.
    """
    import onnx

    named = {
        next((entry.value for entry in tensor.external_data if entry.key == "location"), "?")
        for tensor in _tensors(graph)
        if tensor.data_location == onnx.TensorProto.EXTERNAL or (even_unused and tensor.external_data)
    }
    return sorted(named)


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Every stored tensor of a graph, those of its subgraphs and constants included."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            stored = (attribute.sparse_tensor, *attribute.sparse_tensors)
            yield from (attribute.t, *attribute.tensors, *(t for s in stored for t in (s.values, s.indices)))
            for subgraph in (attribute.g, *attribute.graphs):
                yield from _tensors(subgraph)


def _check_beside(path: Path, files: Sequence[str]) -> None:
    """Raise BackboneError where the files that hold a network's weights are not beside it."""
    outside = [name for name in files if name[:1] in "\\/" or ":" in name or ".." in re.split(r"[\\/]", name)]
    if outside:
        raise BackboneError(
            f"{path} keeps weights in {outside[0]}, outside its own folder, where headstart never looks; export it again as "
            "one file"
        )
    missing = [name for name in files if not (path.parent / name).is_file()]
    if missing:
        are, them = ("is", "it") if len(missing) == 1 else ("are", "them")
        raise BackboneError(
            f"{path} keeps its weights in other files, of which {listed(missing, most=3)} {are} not beside it; copy {them} "
            f"into {path.parent}, or export it again as one file"
        )


def preprocess_of(model: onnx.ModelProto) -> Preprocess | None:
    """How images are made ready for an ONNX model, where headstart wrote it in; None where nothing is said."""
    said = next((entry.value for entry in model.metadata_props if entry.key == PREPROCESS_KEY), None)
    if said is None:
        return None
    try:
        about = json.loads(said)
        return Preprocess(**{**about, "mean": tuple(about["mean"]), "std": tuple(about["std"])})
    except (ValueError, TypeError, KeyError) as error:
        raise BackboneError(f"its metadata {PREPROCESS_KEY} cannot be read: {error}; import it again") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def image_inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    """The inputs that are no weights: networks of before 2020 list those too."""
    weights = {w.name for w in graph.initializer} | {w.values.name for w in graph.sparse_initializer}
    return [i for i in graph.input if i.name not in weights]


def shape_of(value: onnx.ValueInfoProto) -> list[int | None]:
    """A value's dimensions, None for those that are free."""
    return [d.dim_value or None for d in value.type.tensor_type.shape.dim]


def input_layout(model: onnx.ModelProto, path: Path) -> tuple[bool, int | None]:
    """Whether channels come last, and the size if it is fixed."""
    import onnx

    inputs = image_inputs(model.graph)
    shapes = [shape_of(i) for i in inputs]
    if len(inputs) != 1 or len(shapes[0]) != 4 or 3 not in (shapes[0][1], shapes[0][3]):
        found = ", ".join(f"{i.name} {_written(s)}" for i, s in zip(inputs, shapes, strict=True)) or "none"
        raise BackboneError(f"{path} has no single image input of shape (n, 3, h, w) or (n, h, w, 3); its inputs: {found}")
    number = inputs[0].type.tensor_type.elem_type
    if number not in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16):
        name = onnx.TensorProto.DataType.Name(number)
        raise BackboneError(f"{path} takes images of type {name}; expected FLOAT or FLOAT16, which headstart normalises")
    if shapes[0][0] not in (None, 1):
        raise BackboneError(f"{path} takes batches of exactly {shapes[0][0]} images; export it with a free batch size, or 1")
    channels_last = shapes[0][1] != 3
    height, width = shapes[0][1:3] if channels_last else shapes[0][2:4]
    if height != width and height and width:
        raise BackboneError(f"{path} takes images of {width} x {height} pixels; headstart's are square")
    return channels_last, height or width


def _written(shape: list[int | None]) -> str:
    return f"({', '.join(str(d or '?') for d in shape)})"


def with_shapes(model: onnx.ModelProto, size: int, channels_last: bool, path: Path) -> onnx.ModelProto:
    """Fix the size of a network's images, and note the shape of every value within it."""
    import onnx

    (image,) = image_inputs(model.graph)
    batch, *_ = image.type.tensor_type.shape.dim
    sides = [size, size, 3] if channels_last else [3, size, size]
    shape = [batch.dim_value or batch.dim_param or "n", *sides]
    image.CopyFrom(onnx.helper.make_tensor_value_info(image.name, image.type.tensor_type.elem_type, shape))
    del model.graph.value_info[:]
    try:
        return onnx.shape_inference.infer_shapes(model, data_prop=True)
    except (onnx.shape_inference.InferenceError, ValueError, RuntimeError) as error:
        raise BackboneError(f"{path} cannot work on images of {size} pixels: {_first_line(error)}") from error


def feature_output(model: onnx.ModelProto) -> str:
    """The output that holds features: one named so, else what feeds the last layer that gives classes.

    A lone output of 1,000 or 1,001 numbers is an ImageNet classifier's: the row that its last layer reads is the code.
    """
    shapes = {o.name: shape_of(o) for o in model.graph.output}
    first = next(iter(shapes), "")
    likely = [name for name in shapes if any(word in name.lower() for word in FEATURE_NAMES)]
    if likely:
        return next((name for name in likely if len(shapes[name]) in (2, 4)), likely[0])
    if not set(shapes.get(first, [])) & set(N_IMAGENET_CLASSES):
        return first
    producers = {out: node for node in model.graph.node for out in node.output}
    node = producers.get(first)
    while node is not None and node.op_type in (*AFTER_LAST_LAYER, "Add"):
        made = [producers[name] for name in node.input if name in producers]
        node = made[0] if made else None
    return str(node.input[0]) if node is not None and node.op_type in ("Gemm", "MatMul", "Conv") else first


def standard_form(
    model: onnx.ModelProto, preprocess: Preprocess, *, codes: str, taps: Sequence[str] = (), channels_last: bool = False
) -> onnx.ModelProto:
    """Rewrite a network of float images into one that takes uint8 (n, S, S, 3) as `image` and gives (n, d) `codes`.

    codes: any value of the graph; a map, (n, d, h, w) or (n, h, w, d), is averaged over its pixels. taps: values of deeper
    layers, the last of them first, which become the outputs `tap1`, `tap2`, ...; of these, tokens (n, t, d) are averaged as
    well. Raises BackboneError where there is no such value, or where it is neither a row nor a map.
    """
    import onnx
    from onnx import helper, numpy_helper

    (image,) = image_inputs(model.graph)
    graph = needed_for([codes, *taps], model.graph, image.name)
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
    for name, value in zip(output_names(1 + len(taps)), (codes, *taps), strict=True):
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
    """What the outputs of a network in standard form are called, the last layer first."""
    return ("codes", *(f"tap{i}" for i in range(1, n)))


def _pooled(value: str, shape: list[int | None], name: str, channels_last: bool) -> tuple[list[onnx.NodeProto], int]:
    """The nodes from a value of the network to the float32 row `name`, and that row's length."""
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
        f"the output {output!r} has the shape {_written(shape)}; codes need a row (n, d) or a map (n, d, h, w): choose "
        "another with --output"
    )


def is_channels_last(shape: list[int | None], images_are: bool) -> bool:
    """Whether a map is (n, h, w, d): images are square and so are their maps; where that leaves both, it is as they are."""
    _, first, second, third = shape
    return images_are if first == second == third else first == second


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and every graph within it, the branches of its If nodes and the bodies of its loops."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _graphs(inner)


def needed_for(outputs: Sequence[str], graph: onnx.GraphProto, image: str) -> onnx.GraphProto:
    """The nodes and weights that outputs are computed from; raises BackboneError where there is no such output."""
    import onnx

    made = {out for node in graph.node for out in node.output}
    for output in outputs:
        if output not in made:
            known = ", ".join(o.name for o in graph.output) or "none"
            raise BackboneError(f"the network has no output {output!r}; its outputs: {known}")
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
    """The version of the ONNX standard that a graph needs; raises BackboneError where it needs anything else."""
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
        for named in (*part.input, *part.output, *part.value_info, *part.initializer, *weights):
            named.name = prefix + named.name


def n_parameters(network: onnx.ModelProto) -> int:
    """How many weights a network in standard form has; numbers that stand alone, as limits do, are none."""
    weights = [w for w in network.graph.initializer if w.name.startswith(PREFIX) and w.dims]
    return sum(int(np.prod(w.dims)) for w in weights)
