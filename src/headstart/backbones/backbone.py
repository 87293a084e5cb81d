"""A backbone: a pretrained network in standard form, with its preprocessing, layers, hash and licence, as one value."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

from headstart.backbones.standard_form import OLDEST_TO_MIRROR, opset
from headstart.data.images import Preprocess

USUAL, WHOLE, MORE = "usual", "whole", "more"  # pixels that a backbone looks at
MORE_SIZE, MORE_STEP = 288, 32  # where networks for 224 pixels do best (benchmarks/accuracy.py); their strides' product


@dataclass(frozen=True)
class Backbone:
    """A pretrained feature extractor, ready to run.

    network: the ONNX file in standard form. widths: the length of the codes at each depth, the last layer first.
    n_parameters: how many weights it has. license: of the weights, as an SPDX name where there is one. output: which value
    of the network, as it was, the codes are. taps: which values the codes of the other depths are. source: the file that it
    was loaded from.
    """

    name: str
    network: bytes
    preprocess: Preprocess
    widths: tuple[int, ...]
    n_parameters: int
    license: str
    output: str
    taps: tuple[str, ...] = ()
    source: str = ""

    @property
    def n_codes(self) -> int:
        """The length of the last layer's codes."""
        return self.widths[0]

    @cached_property
    def opset(self) -> int:
        """The version of the ONNX standard that the network is written in; only those of one version can be joined."""
        import onnx

        return opset(onnx.load_from_string(self.network))

    @cached_property
    def can_mirror(self) -> bool:
        """Whether a classifier can put an image and its mirror image through the network at once."""
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
        """Of the network: weights, graph and normalisation."""
        return hashlib.sha256(self.network).hexdigest()
