"""Reads other people's ONNX files: checks them, loads weights beside them, and finds the image input and the feature output.

It decides which input holds the image, which output the features, and which files are refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from headstart.data.images import Preprocess
from headstart.errors import BackboneError
from headstart.wording import first_line, listed

if TYPE_CHECKING:
    import onnx


PREPROCESS_KEY = "headstart.preprocess"  # metadata of files that headstart made: how images are made ready
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
        _check_weights_files(path, other_files(model.graph))
        onnx.external_data_helper.load_external_data_for_model(model, str(path.parent))
        onnx.checker.check_model(model)
        return onnx.inliner.inline_local_functions(model, convert_version=True) if model.functions else model
    except (DecodeError, onnx.checker.ValidationError, OSError, ValueError, RuntimeError) as error:
        raise BackboneError(f"{path} is not a valid ONNX file: {first_line(error)}") from error


def other_files(graph: onnx.GraphProto, *, even_unused: bool = False) -> list[str]:
    """List the files that hold a network's weights, by their names in it; none where the network is one file.

    even_unused: also those that are named beside weights which are in the file itself.
    """
    import onnx

    locations = {
        next((entry.value for entry in tensor.external_data if entry.key == "location"), "?")
        for tensor in _tensors(graph)
        if tensor.data_location == onnx.TensorProto.EXTERNAL or (even_unused and tensor.external_data)
    }
    return sorted(locations)


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Yield every stored tensor of a graph, those of its subgraphs and constants included."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            stored = (attribute.sparse_tensor, *attribute.sparse_tensors)
            yield from (attribute.t, *attribute.tensors, *(t for s in stored for t in (s.values, s.indices)))
            for subgraph in (attribute.g, *attribute.graphs):
                yield from _tensors(subgraph)


def _check_weights_files(path: Path, files: Sequence[str]) -> None:
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
    """Read from an ONNX model's metadata how its images are preprocessed; None where headstart did not write that."""
    text = next((entry.value for entry in model.metadata_props if entry.key == PREPROCESS_KEY), None)
    if text is None:
        return None
    try:
        fields = json.loads(text)
        return Preprocess(**{**fields, "mean": tuple(fields["mean"]), "std": tuple(fields["std"])})
    except (ValueError, TypeError, KeyError) as error:
        raise BackboneError(f"its metadata {PREPROCESS_KEY} cannot be read: {error}; import it again") from error


def image_inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    """List the inputs that are no weights: networks of before 2020 list those too."""
    weights = {w.name for w in graph.initializer} | {w.values.name for w in graph.sparse_initializer}
    return [i for i in graph.input if i.name not in weights]


def shape_of(value: onnx.ValueInfoProto) -> list[int | None]:
    """A value's dimensions, None for those that are free."""
    return [d.dim_value or None for d in value.type.tensor_type.shape.dim]


def input_layout(model: onnx.ModelProto, path: Path) -> tuple[bool, int | None]:
    """Read from the image input whether channels come last, and the size if it is fixed; raises BackboneError for others."""
    import onnx

    inputs = image_inputs(model.graph)
    shapes = [shape_of(i) for i in inputs]
    if len(inputs) != 1 or len(shapes[0]) != 4 or 3 not in (shapes[0][1], shapes[0][3]):
        descriptions = ", ".join(f"{i.name} {shape_text(s)}" for i, s in zip(inputs, shapes, strict=True)) or "none"
        raise BackboneError(
            f"{path} has no single image input of shape (n, 3, h, w) or (n, h, w, 3); its inputs: {descriptions}"
        )
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


def shape_text(shape: list[int | None]) -> str:
    """Write a shape for people, `(?, 3, 224, 224)`, with a question mark for a free dimension."""
    return f"({', '.join(str(d or '?') for d in shape)})"


def with_shapes(model: onnx.ModelProto, size: int, channels_last: bool, path: Path) -> onnx.ModelProto:
    """Fix the size of a network's images, and infer the shape of every value within it."""
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
        raise BackboneError(f"{path} cannot work on images of {size} pixels: {first_line(error)}") from error


def feature_output(model: onnx.ModelProto) -> str:
    """Find the output that holds features: one with such a name, else the input of the last layer of a classifier.

    A lone output of 1,000 or 1,001 numbers is an ImageNet classifier's: the row that its last layer reads are the codes.
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
        parents = [producers[name] for name in node.input if name in producers]
        node = parents[0] if parents else None
    return str(node.input[0]) if node is not None and node.op_type in ("Gemm", "MatMul", "Conv") else first
