"""The classifier: backbone, preprocessing, head and classes in one ONNX file that says everything about itself.

Takes image sources; gives Predictions. It decides what is a headstart classifier and what is not: a file is loaded only if
it is whole, unchanged, self-contained and ours, and nothing in it is ever executed but the network.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from headstart.assembly import assemble, part_names
from headstart.backbones import Backbone
from headstart.engine import Engine, Hardware
from headstart.errors import BackboneError, ClassifierError
from headstart.files import write_output
from headstart.head import VOTE, Head
from headstart.images import Failure, ImageSource, Preprocess, display_name, load_image
from headstart.labels import named
from headstart.looks import Look
from headstart.networks import OLDEST_TO_MIRROR, STANDARD_DOMAINS, opset
from headstart.torch_engine import TorchEngine, open_engine

FORMAT = 2
FILE_NAME = "model.onnx"
MAX_FILE_BYTES = 2**31 - 1  # protobuf's own limit
METADATA_KEY = "headstart"
HASH_KEY = "headstart.sha256"
DEFAULT_TOP = 3
OLDEST_TO_VOTE = 11  # the opset whose TopK is today's


@dataclass(frozen=True)
class Prediction:
    """What the classifier says of one image, or why it can say nothing.

    status: `ok`, else one of images.FAILURES, with the reason. prediction: of a classifier that tells several labels an
    image, all that apply, with | between them, perhaps none; probability is the highest in any case. top: the likeliest
    classes with their probabilities, highest first.
    """

    path: str
    status: str
    reason: str | None = None
    prediction: str | None = None
    probability: float | None = None
    top: tuple[tuple[str, float], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The row that every output format shares."""
        return {**asdict(self), "top": [list(pair) for pair in self.top]}


class Classifier:
    """A finished classifier. Make one with `headstart.train`, or load one with `headstart.load`."""

    def __init__(self, content: bytes, about: dict[str, Any], hardware: Hardware = Hardware()) -> None:
        """Take the bytes and the metadata of a checked model.onnx; people call load() or build() instead."""
        self.content = content
        self.about = about
        self.classes: tuple[str, ...] = tuple(about["classes"])
        self.preprocess = _preprocess(about["preprocess"])
        self.hardware = hardware
        self.thresholds: np.ndarray | None = None
        if about.get("labels") == "many":
            self.thresholds = np.array(about.get("thresholds") or [0.5] * len(self.classes), np.float32)

    @classmethod
    def build(
        cls,
        backbone: Backbone | Look,
        head: Head,
        classes: Sequence[str],
        about: dict[str, Any] | None = None,
        hardware: Hardware = Hardware(),
    ) -> Classifier:
        """Join backbones and a head into one network.

        backbone: one, of whose last layer's codes the head is, or a Look. about: what else the file should say of itself, as
        JSON; `thresholds` are those of several labels an image.
        """
        look = backbone if isinstance(backbone, Look) else Look((backbone,))
        _check_together(look)
        described = {
            "format": FORMAT,
            "classes": list(classes),
            "labels": "many" if head.output == "sigmoid" else "one",
            "preprocess": asdict(look.backbones[0].preprocess),
            "backbone": {
                "name": look.name,
                "sha256": [b.sha256 for b in look.backbones],
                "n_codes": sum(look.parts),
                "parts": list(look.parts),
                "mirrored": look.is_mirrored,
                "n_parameters": sum(b.n_parameters for b in look.backbones),
                "license": ", ".join(dict.fromkeys(b.license for b in look.backbones)),
            },
            **(about or {}),
        }
        described = json.loads(json.dumps(described))  # as it will be when it is loaded
        return cls(_sealed(_joined(look, head), described), described, hardware)

    @classmethod
    def load(cls, path: str | os.PathLike[str], hardware: Hardware = Hardware()) -> Classifier:
        """Load a run folder or its model.onnx; raises ClassifierError for anything that is not a whole one of ours."""
        file = Path(path)
        if os.path.isdir(file):
            file = file / FILE_NAME
            if not os.path.exists(file) and os.access(path, os.X_OK):
                raise ClassifierError(f"{path} holds no {FILE_NAME}; a run folder is what `headstart train` makes")
        content = _read(file)
        return cls(content, _checked(content, file), hardware)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the one file that is the classifier, whole or not at all; raises OutputError where it cannot be."""
        write_output(Path(path), self.content)

    def predict(self, images: ImageSource | Iterable[ImageSource], *, top: int = DEFAULT_TOP) -> list[Prediction]:
        """Classify images: paths, encoded bytes, Pillow images or (h, w, 3) uint8 RGB arrays, one or many.

        Gives a Prediction for each, in order; an image that cannot be used is a Prediction whose status says why. top: how
        many of the likeliest classes each lists.
        """
        return list(self.stream([images] if _is_one(images) else images, top=top))  # type: ignore[arg-type, list-item]

    def stream(self, images: Iterable[ImageSource], *, top: int = DEFAULT_TOP) -> Iterator[Prediction]:
        """Classify images one after the other as they come, in order, in constant memory."""
        for result in self.engine.stream(images, lambda _, image: load_image(image, self.preprocess)):
            name = display_name(result.item)
            if result.outputs is None:
                failure: Failure = result.instead
                yield Prediction(name, *failure)
            else:
                yield self._prediction(name, result.outputs["probabilities"], top)

    @cached_property
    def engine(self) -> Engine | TorchEngine:
        """The compiled network; made at the first image."""
        return open_engine(self.content, self.hardware)

    def _prediction(self, name: str, probabilities: np.ndarray, top: int) -> Prediction:
        likeliest = np.argsort(-probabilities, kind="stable")[: max(1, top)]
        pairs = tuple((self.classes[i], float(probabilities[i])) for i in likeliest)
        prediction = pairs[0][0]
        if self.thresholds is not None:
            prediction = named(probabilities >= self.thresholds, self.classes)
        return Prediction(name, "ok", None, prediction, pairs[0][1], pairs[: max(0, top)])

    def __repr__(self) -> str:
        return f"<Classifier of {len(self.classes)} classes on {self.about['backbone']['name']}>"


def load(
    path: str | os.PathLike[str], *, device: str = "CPU", threads: int | None = None, precision: str = "auto"
) -> Classifier:
    """Load the classifier of a run folder, or a model.onnx; raises ClassifierError for anything else."""
    return Classifier.load(path, Hardware(device, threads, precision))


def _is_one(images: Any) -> bool:
    if isinstance(images, np.ndarray):
        return images.ndim <= 3 and images.dtype.kind not in "OUS"
    return isinstance(images, (str, os.PathLike, bytes, bytearray, memoryview)) or hasattr(images, "getexif")


def _check_together(look: Look) -> None:
    """Raise BackboneError for networks that cannot stand in one file, or not be given an image and its mirror image."""
    first = look.backbones[0]
    for other in look.backbones[1:]:
        if (other.opset, other.preprocess.size) != (first.opset, first.preprocess.size):
            raise BackboneError(
                f"{first.name} and {other.name} differ in opset or size of their images, and cannot be joined"
            )
    for backbone in look.backbones:
        if look.is_mirrored and not backbone.can_mirror:
            why = f"is of opset {backbone.opset}" if backbone.opset < OLDEST_TO_MIRROR else "takes one image at a time"
            raise BackboneError(f"{backbone.name} {why}, and so cannot be given a photo together with its mirror image")


def _joined(look: Look, head: Head) -> Any:
    """The look's networks with the head behind their codes, as an onnx.ModelProto."""
    import onnx
    from onnx import helper

    networks = [onnx.load_from_string(backbone.network) for backbone in look.backbones]
    model = assemble(networks, look.depth, is_mirrored=look.is_mirrored)
    nodes, weights = _head_nodes(head, opset(model))
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(weights)
    (codes,) = model.graph.output
    batch = codes.type.tensor_type.shape.dim[0]
    shape = [batch.dim_param or batch.dim_value, head.n_classes]
    del model.graph.output[:]
    model.graph.output.extend([helper.make_tensor_value_info("probabilities", onnx.TensorProto.FLOAT, shape), codes])
    return model


def _head_nodes(head: Head, version: int) -> tuple[list[Any], list[Any]]:
    """A head's nodes, from the parts of the codes to `probabilities`, and its weights."""
    from onnx import helper, numpy_helper

    nodes, rows = [], "codes"
    if head.parts:
        units = [f"{name}.unit" for name in part_names(len(head.parts))]
        pairs = zip(part_names(len(head.parts)), units, strict=True)
        nodes = [helper.make_node("LpNormalization", [part], [unit], axis=1, p=2) for part, unit in pairs]
        nodes.append(helper.make_node("Concat", units, ["units"], axis=1))
        rows = "units"
    weights = []
    for i, (weight, bias) in enumerate(head.layers):
        names, logits = [f"head.weight{i}", f"head.bias{i}"], f"head.logits{i}"
        weights += [numpy_helper.from_array(array, name) for array, name in zip((weight, bias), names, strict=True)]
        nodes.append(helper.make_node("Gemm", [rows, *names], [logits]))
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
        return nodes + more[0], weights + more[1]
    return nodes, weights


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
    ]
    nodes = [
        helper.make_node("TopK", [closeness, "head.n_neighbours"], ["head.closest", "head.nearest"], axis=1),
        helper.make_node("Gather", ["head.shares", "head.nearest"], ["head.votes"], axis=0),
        helper.make_node("Transpose", ["head.votes"], ["head.ballots"], perm=(0, 2, 1)),
        helper.make_node("GlobalAveragePool", ["head.ballots"], ["head.mean"]),
        helper.make_node("Flatten", ["head.mean"], ["probabilities"], axis=1),
    ]
    return nodes, weights


def _sealed(model: Any, about: dict[str, Any]) -> bytes:
    """Serialise, with a last metadata entry that holds the sha256 of every byte before it.

    Protobuf reads a message whose fields follow one another, so the file stays plain ONNX for everybody else.
    """
    from onnx import helper

    helper.set_model_props(model, {METADATA_KEY: json.dumps(about)})
    body: bytes = model.SerializeToString(deterministic=True)
    return body + _seal(hashlib.sha256(body).hexdigest())


def _seal(digest: str) -> bytes:
    from onnx import ModelProto

    entry = ModelProto()
    entry.metadata_props.add(key=HASH_KEY, value=digest)
    seal: bytes = entry.SerializeToString()
    return seal


def _read(file: Path) -> bytes:
    try:
        size = file.stat().st_size
        if not file.is_file():
            raise ClassifierError(f"{file} is not a file; expected a run folder or its {FILE_NAME}")
        if size > MAX_FILE_BYTES:
            raise ClassifierError(f"{file} has {size:,} bytes; a classifier never has more than {MAX_FILE_BYTES:,}")
        return file.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL character
        raise ClassifierError(f"{file} cannot be read: {getattr(error, 'strerror', error)}") from error


def _checked(content: bytes, file: Path) -> dict[str, Any]:
    """Give a file's metadata once everything about it has been found in order."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load_from_string(content)
    except DecodeError as error:
        raise ClassifierError(f"{file} is not an ONNX file, or is not whole") from error
    properties = {p.key: p.value for p in model.metadata_props}
    if METADATA_KEY not in properties or HASH_KEY not in properties:
        raise ClassifierError(
            f"{file} is not a headstart classifier; one is made by `headstart train` (to use another "
            "network as a backbone: headstart train --backbone FILE)"
        )
    seal = _seal("0" * 64)
    body = content[: -len(seal)]
    if content[-len(seal) :] != _seal(hashlib.sha256(body).hexdigest()):
        raise ClassifierError(f"{file} has been changed since headstart wrote it, or is not whole: its hash does not fit")
    if any(t.data_location == onnx.TensorProto.EXTERNAL or t.external_data for t in _tensors(model.graph)):
        raise ClassifierError(f"{file} keeps weights in other files, which headstart never loads")
    if any(o.domain not in STANDARD_DOMAINS for o in model.opset_import) or model.functions:
        raise ClassifierError(f"{file} uses operations from outside the ONNX standard, which headstart never loads")
    try:
        about = json.loads(properties[METADATA_KEY])
        if about["format"] != FORMAT:
            raise ClassifierError(
                f"{file} has format {about['format']}; this release reads format {FORMAT}: upgrade headstart, or train again"
            )
        size = _preprocess(about["preprocess"]).size
        if not all(isinstance(name, str) for name in about["classes"]) or not isinstance(about["classes"], list):
            raise TypeError("classes are no list of names")
        shapes = {
            v.name: [d.dim_value for d in v.type.tensor_type.shape.dim][1:]
            for v in (*model.graph.input, *model.graph.output)
        }
        expected = {
            "image": [size, size, 3],
            "probabilities": [len(about["classes"])],
            "codes": [about["backbone"]["n_codes"]],
        }
    except (ValueError, KeyError, TypeError) as error:
        raise ClassifierError(f"{file} does not describe itself as a headstart classifier does: {error!r}") from error
    if shapes != expected:
        raise ClassifierError(f"{file} has inputs and outputs {shapes}; its metadata says {expected}")
    return about  # type: ignore[no-any-return]


def _tensors(graph: Any) -> Iterator[Any]:
    """Every stored tensor of a graph, those of its subgraphs and constants included."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            sparse = (attribute.sparse_tensor, *attribute.sparse_tensors)
            yield from (attribute.t, *attribute.tensors, *(t for s in sparse for t in (s.values, s.indices)))
            for subgraph in (attribute.g, *attribute.graphs):
                yield from _tensors(subgraph)


def _preprocess(fields: dict[str, Any]) -> Preprocess:
    return Preprocess(**{**fields, "mean": tuple(fields["mean"]), "std": tuple(fields["std"])})
