"""Writes a network as a Core ML package (.mlpackage) with coremltools, by way of torch; and runs such a file on macOS."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from headstart.engines.torch_graph import to_torch

LABEL = "label"  # the output that Vision shows


def write_core_ml(
    network: onnx.ModelProto,
    file: Path,
    outputs: Sequence[str],
    classes: Sequence[str] | None,
    texts: Mapping[str, str],
    *,
    is_half: bool,
) -> None:
    """Write the network for one image at a time: an RGB image in, the named outputs out.

    classes: for Vision's classification requests, which then get `label` and a probability for each class; None for several
    labels an image. texts: for the package's metadata; `author`, `license` and `description` have places of their own.
    is_half: weights and arithmetic in 16 bits. Raises UnknownOperation for what torch_operations has no row of.
    """
    with _quiet():
        import coremltools as ct

    module = _OfImage(to_torch(network, 1, torch.float32))
    height, width = (d.dim_value for d in network.graph.input[0].type.tensor_type.shape.dim[1:3])
    shape = (1, 3, height, width)
    precision = ct.precision.FLOAT16 if is_half else ct.precision.FLOAT32
    target = ct.target.iOS16
    with torch.no_grad(), _quiet():
        program = torch.export.export(module, (torch.zeros(shape),)).run_decompositions({})
        image = ct.ImageType(name="image", shape=shape, color_layout=ct.colorlayout.RGB)
        # Twice: only now have the values names, and the converter asks for that of the probabilities.
        program = ct.convert(
            program,
            inputs=[image],
            convert_to="milinternal",
            compute_precision=precision,
            minimum_deployment_target=target,
        )
        main = program.functions["main"]
        names, main.output_types = [value.name for value in main.outputs], None  # the label comes on top of them
        config = ct.ClassifierConfig(list(classes), LABEL, names[0]) if classes else None
        model = ct.convert(
            program,
            source="milinternal",
            convert_to="mlprogram",
            classifier_config=config,
            compute_precision=ct.precision.FLOAT32,  # as it is by now
            minimum_deployment_target=target,
            skip_model_load=True,
        )
        spec = model.get_spec()
        given = [f"{LABEL}_probs", *names[1:]] if classes else names
        for name, wanted in zip(given, outputs, strict=True):
            ct.utils.rename_feature(spec, name, wanted)
        model = ct.models.MLModel(spec, weights_dir=model.weights_dir, skip_model_load=True)
        _describe(model, texts)
        model.save(str(file))


def _describe(model: Any, texts: Mapping[str, str]) -> None:
    model.author, model.license = texts.get("author", ""), texts.get("license", "")
    model.short_description = texts.get("description", "")
    places = {"author", "license", "description"}
    model.user_defined_metadata.update({name: text for name, text in texts.items() if name not in places})


def open_core_ml(file: Path, classes: Sequence[str]) -> tuple[Callable[[np.ndarray], dict[str, np.ndarray]], str]:
    """Load a package on macOS; gives a function from one image, (S, S, 3) uint8, to its outputs, and its name."""
    import coremltools as ct
    from PIL import Image

    with _quiet():
        model = ct.models.MLModel(str(file), compute_units=ct.ComputeUnit.CPU_ONLY)

    def infer(pixels: np.ndarray) -> dict[str, np.ndarray]:
        answer = model.predict({"image": Image.fromarray(pixels)})
        answer.pop(LABEL, None)
        if isinstance(answer["probabilities"], dict):
            answer["probabilities"] = np.array([answer["probabilities"][name] for name in classes], np.float32)
        return {name: np.asarray(value, np.float32).ravel() for name, value in answer.items()}

    return infer, f"Core ML, coremltools {ct.__version__}"


class _OfImage(torch.nn.Module):  # type: ignore[misc]
    """The network as Core ML gives it images: channels first, in floating point."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> Any:
        return self.network(image.permute(0, 2, 3, 1))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the converter's warnings about releases, and without its bars of progress."""
    log = logging.getLogger("coremltools")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(before)
