"""A backbone: a pretrained network in standard form, with its preprocessing, layers, hash and licence; from an ONNX file."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from headstart.backbones.layers import find_layers
from headstart.backbones.onnx_files import feature_output, input_layout, preprocess_of, read_onnx, with_shapes
from headstart.backbones.standard_form import OLDEST_TO_MIRROR, PREFIX, n_parameters, opset, standard_form
from headstart.data.images import Preprocess
from headstart.errors import BackboneError

USUAL, WHOLE, MORE, FEW = "usual", "whole", "more", "few"  # pixels of a photo that a backbone takes
# Where networks for 224 pixels do best: with photos of more pixels than that (benchmarks/accuracy.py), and with tiny ones,
# in half the time (docs/LOG.md).
SIZES = {MORE: 288, FEW: 160}
STRIDES = 32  # the product of a network's strides
LEAST_STD = 1e-6  # below it, pixels are no longer finite in float32


@dataclass(frozen=True)
class Backbone:
    """A pretrained feature extractor, ready to run.

    network: the ONNX file in standard form. widths: how many codes each layer has, the last layer first. n_parameters: the
    number of its weights. license: of the weights, as an SPDX name where there is one. output: the value of the original
    network that is the codes. layers: the values that are the codes of deeper layers. source: the file that it was loaded
    from.
    """

    name: str
    network: bytes
    preprocess: Preprocess
    widths: tuple[int, ...]
    n_parameters: int
    license: str
    output: str
    layers: tuple[str, ...] = ()
    source: str = ""

    @property
    def n_codes(self) -> int:
        """The number of codes of the last layer."""
        return self.widths[0]

    @cached_property
    def opset(self) -> int:
        """The version of the ONNX standard that the network uses; only networks of one version can be combined."""
        import onnx

        return opset(onnx.load_from_string(self.network))

    @cached_property
    def can_mirror(self) -> bool:
        """Whether the network takes an image and its mirror image in one batch."""
        import onnx

        model = onnx.load_from_string(self.network)
        if model.graph.input[0].type.tensor_type.shape.dim[0].dim_value or self.opset < OLDEST_TO_MIRROR:
            return False
        # Some networks take any number of images and have a single one written into their inner shapes.
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
        for output in model.graph.output:
            output.type.tensor_type.shape.dim[0].Clear()
        try:
            inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph.output
        except (onnx.shape_inference.InferenceError, ValueError, RuntimeError):
            return False
        return all(output.type.tensor_type.shape.dim[0].dim_value in (0, 2) for output in inferred)

    @cached_property
    def sha256(self) -> str:
        """The sha256 of the network: weights, graph and normalisation."""
        return hashlib.sha256(self.network).hexdigest()


def backbone_of_network(
    name: str, network: bytes, preprocess: Preprocess, license: str, output: str, *, n_weights: int | None = None
) -> Backbone:
    """Make a backbone of a network in standard form, whose widths, layers and number of weights are read from its graph."""
    import onnx

    model = onnx.load_from_string(network)
    widths = tuple(o.type.tensor_type.shape.dim[1].dim_value for o in model.graph.output)
    layers = tuple(
        n.input[0].removeprefix(PREFIX)
        for o in model.graph.output[1:]
        for n in model.graph.node
        if n.output[0] in (f"{o.name}.map",)
    )
    return Backbone(name, network, preprocess, widths, n_weights or n_parameters(model), license, output, layers)


def backbone_of_file(
    path: Path,
    *,
    size: int | None = None,
    mean: tuple[float, float, float] | None = None,
    std: tuple[float, float, float] | None = None,
    output: str | None = None,
    pixels: str = USUAL,
    preprocess: Preprocess | None = None,
) -> Backbone:
    """Make a backbone of an ONNX file.

    size, mean, std, output: see find.BackboneSpec; they overrule preprocess, which comes with the file. Raises BackboneError
    for a file that is no ONNX, or no network of images.
    """
    model = read_onnx(path)
    stated = preprocess or preprocess_of(model)
    channels_last, own_size = input_layout(model, path)
    if own_size and size and size != own_size:
        raise BackboneError(f"{path} takes images of {own_size} pixels; leave --size {size} away")
    if pixels in SIZES and own_size:
        raise BackboneError(f"{path} takes images of {own_size} pixels and no others")
    side = own_size or size or (stated.size if stated else None)
    if side is None or side < 1:
        raise BackboneError(f"{path} does not say how large its images are; tell it with --size, in pixels (often 224)")
    _check_normalisation("--mean", mean or Preprocess.mean)
    _check_normalisation("--std", std or Preprocess.std)
    preprocess = replace(stated or Preprocess(size=side), size=side)
    preprocess = replace(preprocess, mean=mean or preprocess.mean, std=std or preprocess.std)
    if pixels in SIZES:
        side = max(STRIDES, round(side * SIZES[pixels] / 224 / STRIDES) * STRIDES)
    if pixels != USUAL:
        preprocess = replace(preprocess, size=side, crop=1.0)
    model = with_shapes(model, side, channels_last, path)
    output = output or feature_output(model)
    try:
        layers = find_layers(model, output)
        network = standard_form(model, preprocess, codes=output, layers=layers, channels_last=channels_last)
    except BackboneError as error:
        raise BackboneError(f"{path}: {error}") from error
    content = network.SerializeToString(deterministic=True)
    return replace(backbone_of_network(path.stem, content, preprocess, "unknown", output), source=str(path))


def _check_normalisation(option: str, numbers: tuple[float, ...]) -> None:
    if len(numbers) != 3 or not np.isfinite(numbers).all() or (option == "--std" and min(numbers) < LEAST_STD):
        above = " above 0" if option == "--std" else ""
        raise BackboneError(f"{option} is three numbers{above}, for red, green and blue in [0, 1], not {numbers}")
