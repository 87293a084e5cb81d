"""8-bit files: the network quantised by NNCF; head, temperature, unfamiliarity and conformal scores fitted on its codes.

A head that was learnt on the codes of 32 bits is wrong by a lot on those of 8 (docs/LOG.md). So the photos of the training
are shown to the quantised network, and the head is learnt again as `train` learns it, with the strength that was chosen.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from headstart.classifier.metadata import ClassifierMetadata
from headstart.classifier.model_file import METADATA_KEY, seal
from headstart.classifier.network import add_head
from headstart.data.decoding import Failure
from headstart.data.images import load_image
from headstart.data.splits import TEST
from headstart.data.tables import content_of
from headstart.engines.hardware import Hardware
from headstart.engines.openvino_engine import OpenVINOEngine, save_ir
from headstart.errors import ExportError
from headstart.export.options import Options
from headstart.export.original import Original
from headstart.export.writers import onnx_format, openvino_format
from headstart.export.writers.onnx_files import keep_outputs
from headstart.files import write_output
from headstart.heads.labelled_codes import LabelledCodes
from headstart.heads.logistic import Member
from headstart.record import RunRecord
from headstart.runs.open import SavedRun
from headstart.selection.cross_validation import choose_head
from headstart.trust.fit import build_trust

N_CALIBRATED = 300  # photos by which the ranges of 8 bits are chosen
LEAST_PHOTOS = 20
HEAVY = ("Conv", "Gemm", "MatMul")
KEPT_SHARE = (
    1 / 6
)  # of them, the first ones, stay in 32 bits: with all in 8, codes are off by 0.7 of their spread, so by 0.07
OLDEST_OPSET = 13  # whose QuantizeLinear has a scale for each channel


def write(original: Original, folder: Path, options: Options) -> ClassifierMetadata:
    """Quantise, learn again, and write the ONNX file."""
    content, about = _quantised_classifier(original)
    write_output(folder / onnx_format.FILE, content)
    return about


def write_openvino(original: Original, folder: Path, options: Options) -> ClassifierMetadata:
    """The same as OpenVINO's IR."""
    content, about = _quantised_classifier(original)
    save_ir(content, folder / openvino_format.FILE, {METADATA_KEY: json.dumps(about)}, is_half=False)
    return about


def _quantised_classifier(original: Original) -> tuple[bytes, ClassifierMetadata]:
    saved = original.saved
    if saved is None:
        raise ExportError("8 bits are calibrated on the photos of the training: give the run folder, not the file alone")
    if saved.record.get("choice", {}).get("head") not in ("softmax", "sigmoid", "hidden", "class-mean"):
        raise ExportError(f"the head {saved.record.get('choice', {}).get('head')} cannot be learnt again on codes of 8 bits")
    rows, pixels = _training_pixels(original, saved)
    network = _quantise(_body(original), pixels)
    codes = _codes(network, pixels)
    return _learn_again(original, saved, network, rows, codes)


def _training_pixels(original: Original, saved: SavedRun) -> tuple[np.ndarray, np.ndarray]:
    """The photos that were learnt from and are still there: their rows, and pixels (n, size, size, 3) uint8."""
    rows, every = [], []
    for row in np.flatnonzero(saved.findings.splits != TEST).tolist():
        image = saved.images[row]
        content = Failure("missing", "") if image is None else content_of(image)
        pixels = content if isinstance(content, Failure) else load_image(content, original.preprocess)
        if not isinstance(pixels, Failure):
            rows.append(row)
            every.append(pixels)
    if len(rows) < LEAST_PHOTOS:
        raise ExportError(f"8 bits are calibrated on the photos of the training, and only {len(rows)} of them are there")
    return np.array(rows, np.int64), np.stack(every)


def _body(original: Original) -> Any:
    """The network up to its codes, with 13 or a later opset."""
    import onnx
    from onnx import version_converter

    model = onnx.load_from_string(original.classifier.content)
    del model.metadata_props[:]
    keep_outputs(model, ["codes"])
    if next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx")) < OLDEST_OPSET:
        model = version_converter.convert_version(model, OLDEST_OPSET)
    return model


def _quantise(model: Any, pixels: np.ndarray) -> Any:
    """Quantise by NNCF, calibrated on some photos, evenly drawn."""
    for i, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}{i}"
    heavy = [node.name for node in model.graph.node if node.op_type in HEAVY]
    with _quiet():
        import nncf

        chosen = np.unique(np.linspace(0, len(pixels) - 1, N_CALIBRATED).astype(int))
        data = nncf.Dataset([pixels[i][None] for i in chosen], lambda image: {"image": image})
        kept = nncf.IgnoredScope(names=heavy[: math.ceil(KEPT_SHARE * len(heavy))])
        mixed = nncf.QuantizationPreset.MIXED
        return nncf.quantize(model, data, subset_size=len(chosen), preset=mixed, ignored_scope=kept)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """NNCF prints progress bars and warnings of its own."""
    logging.getLogger("nncf").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def _codes(network: Any, pixels: np.ndarray) -> np.ndarray:
    engine = OpenVINOEngine(network.SerializeToString(), Hardware(precision="f32"))
    results = engine.stream(range(len(pixels)), lambda _, i: pixels[i])
    return np.stack([result.outputs["codes"] for result in results if result.outputs is not None]).astype(np.float16)


def _learn_again(
    original: Original, saved: SavedRun, network: Any, rows: np.ndarray, codes: np.ndarray
) -> tuple[bytes, ClassifierMetadata]:
    """Learn head, temperature, unfamiliarity and conformal scores on the codes, and join them to the network."""
    record, findings = saved.record, saved.findings
    groups = [number.to_bytes(8, "big") for number in findings.groups[rows].tolist()]
    data = LabelledCodes(
        codes,
        findings.labels[rows],
        len(record["classes"]),
        groups,
        tuple(original.classifier.about["backbone"]["parts"]),
        _members(record),
    )
    arguments = record.get("arguments", {})
    choice = choose_head(data, kind=record["choice"]["head"], balance=bool(arguments.get("balance", False)))
    trust = build_trust(data, record["classes"], choice)
    add_head(network, trust.choice.head, trust.unfamiliarity)
    about: Any = {
        **original.classifier.about,
        "conformal": trust.conformal,
        "has_unfamiliarity": trust.unfamiliarity is not None,
        "calibration": None,
        "weights": "int8",
    }
    about = json.loads(json.dumps(about))
    return seal(network, about), about


def _members(record: RunRecord) -> tuple[Member, ...]:
    """Which codes each member of a mean of heads reads."""
    return tuple(
        Member(member["start"], member["start"] + member["codes"])
        for member in record["choice"].get("members", ())
        if "start" in member
    )
