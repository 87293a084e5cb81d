"""Writes a network as an exported program of torch, a .pt2 file, and runs such a file.

Takes a network in standard form, or a classifier's; gives a file that torch.export.load reads without headstart.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import torch

from headstart.engines.torch_graph import to_torch
from headstart.files import write_output


def write_program(network: onnx.ModelProto, file: Path, texts: Mapping[str, str]) -> None:
    """Write the network for one image at a time, in float32; texts: files by their name that come along.

    Raises UnknownOperation for what torch_operations has no row of.
    """
    module = to_torch(network, 1, torch.float32)
    sides = [d.dim_value for d in network.graph.input[0].type.tensor_type.shape.dim][1:]
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(module, (torch.zeros(1, *sides, dtype=torch.uint8),))
        content = io.BytesIO()  # torch's own writer of files ends the process later where a disk is full
        torch.export.save(program, content, extra_files=dict(texts))
    write_output(file, content.getvalue())


def open_program(file: Path, names: tuple[str, ...]) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """Load a program as anybody would; gives a function from one image, (S, S, 3) uint8, to its outputs by name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = torch.export.load(file).module()

    def infer(pixels: np.ndarray) -> dict[str, np.ndarray]:
        with torch.no_grad():
            results = module(torch.from_numpy(np.ascontiguousarray(pixels))[None])
        return {name: result[0].numpy() for name, result in zip(names, results, strict=True)}

    return infer


def torch_version() -> str:
    """The release of torch."""
    return str(torch.__version__).split("+")[0]
