"""The file format of model.onnx: ONNX with JSON metadata and a sha256 seal, all of which is checked before it is used."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from headstart.backbones.onnx_files import other_files
from headstart.backbones.standard_form import STANDARD_DOMAINS
from headstart.classifier.metadata import ClassifierMetadata, PreprocessMetadata, check_classifier
from headstart.data.images import Preprocess
from headstart.errors import ClassifierError
from headstart.safety.json_checks import read_json
from headstart.wording import listed

FORMAT = 3
FILE_NAME = "model.onnx"
MAX_FILE_BYTES = 2**31 - 1  # protobuf's own limit
METADATA_KEY = "headstart"
HASH_KEY = "headstart.sha256"


def seal(model: Any, about: ClassifierMetadata) -> bytes:
    """Serialise, with a last metadata entry that holds the sha256 of every byte before it.

    Protobuf reads a message whose fields follow one another, so the file stays plain ONNX for everybody else.
    """
    from onnx import helper

    helper.set_model_props(model, {METADATA_KEY: json.dumps(about)})
    body: bytes = model.SerializeToString(deterministic=True)
    return body + _seal_entry(hashlib.sha256(body).hexdigest())


def _seal_entry(digest: str) -> bytes:
    from onnx import ModelProto

    entry = ModelProto()
    entry.metadata_props.add(key=HASH_KEY, value=digest)
    seal: bytes = entry.SerializeToString()
    return seal


def read_content(file: Path) -> bytes:
    """Read a file's bytes; raises ClassifierError where it is no file, or too large."""
    try:
        size = file.stat().st_size
        if not file.is_file():
            raise ClassifierError(f"{file} is not a file; expected a run folder or its {FILE_NAME}")
        if size > MAX_FILE_BYTES:
            raise ClassifierError(f"{file} has {size:,} bytes; a classifier never has more than {MAX_FILE_BYTES:,}")
        return file.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL character
        raise ClassifierError(f"{file} cannot be read: {getattr(error, 'strerror', error)}") from error


def check_content(content: bytes, file: Path) -> ClassifierMetadata:
    """Check all of a file, and give its metadata; raises ClassifierError for anything but a classifier as we wrote it."""
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
    if others := other_files(model.graph, even_unused=True):  # before the seal: what saves it so moves that as well
        raise ClassifierError(
            f"{file} keeps weights in other files ({listed(others, most=3)}), which headstart never loads; a classifier is "
            "one file: use it as headstart wrote it, not as another program saved it again"
        )
    seal = _seal_entry("0" * 64)
    body = content[: -len(seal)]
    if content[-len(seal) :] != _seal_entry(hashlib.sha256(body).hexdigest()):
        raise ClassifierError(f"{file} has been changed since headstart wrote it, or is not whole: its hash does not fit")
    if any(o.domain not in STANDARD_DOMAINS for o in model.opset_import) or model.functions:
        raise ClassifierError(f"{file} uses operations from outside the ONNX standard, which headstart never loads")
    about = _checked_metadata(properties[METADATA_KEY], file)
    size = about["preprocess"]["size"]
    pixels, numbers = onnx.TensorProto.UINT8, onnx.TensorProto.FLOAT
    expected = {
        "image": (pixels, [size, size, 3]),
        "probabilities": (numbers, [len(about["classes"])]),
        "codes": (numbers, [about["backbone"]["n_codes"]]),
        **({"unfamiliarity": (numbers, [1])} if about["has_unfamiliarity"] else {}),
    }
    shapes = {
        v.name: (v.type.tensor_type.elem_type, [d.dim_value for d in v.type.tensor_type.shape.dim][1:])
        for v in (*model.graph.input, *model.graph.output)
    }
    if shapes != expected:
        raise ClassifierError(f"{file} has inputs and outputs {shapes}; its metadata says {expected}")
    return about


def _checked_metadata(metadata: str, file: Path) -> ClassifierMetadata:
    """A file's metadata, once all that is read of it later is there and of the right type."""
    try:
        about = read_json(metadata)
        if isinstance(about, dict) and about.get("format") != FORMAT:
            raise ClassifierError(
                f"{file} has format {about.get('format')}; this release reads format {FORMAT}: upgrade headstart, or train "
                "again"
            )
        check_classifier(about)
        preprocess_from(about["preprocess"])
    except (ValueError, TypeError) as error:
        raise ClassifierError(
            f"{file} does not describe itself as a headstart classifier does: {error}; train again"
        ) from error
    return cast(ClassifierMetadata, about)


def preprocess_from(fields: PreprocessMetadata) -> Preprocess:
    """The preprocessing that a file says its pixels need."""
    usual = Preprocess(fields["size"])
    crop, resample = fields.get("crop", usual.crop), fields.get("resample", usual.resample)
    return Preprocess(fields["size"], crop, resample, _channels(fields["mean"]), _channels(fields["std"]))


def _channels(values: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = values
    return red, green, blue
