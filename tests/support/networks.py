"""Networks that compile in milliseconds."""

from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from headstart.data.images import Preprocess


def tiny_network(n_codes=16):
    """Four layers from images of 32 pixels to codes; the second is a block, the last a norm of its own."""
    import torch

    from headstart.backbones.torch_modules import TorchNetwork

    nn = torch.nn
    torch.manual_seed(0)
    block = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        block,
        nn.Conv2d(8, 12, 3, stride=2),
        nn.ReLU(),
        nn.Conv2d(12, n_codes, 1),
        nn.BatchNorm2d(n_codes),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):  # as after training: statistics that batches of ours would change
            part.running_mean.uniform_(-0.1, 0.1)
            part.running_var.uniform_(0.5, 1.5)
    return TorchNetwork("tiny", module.eval(), Preprocess(32), n_codes, "MIT", "random")


def write_tiny_backbone(path: Path, *, batch: int | str = "n") -> Path:
    """An ONNX file (n, 3, 32, 32) -> `features` (n, 48): the mean colour of each field of a 4 x 4 grid."""
    graph = helper.make_graph(
        [
            helper.make_node("AveragePool", ["pixels"], ["grid"], kernel_shape=[8, 8], strides=[8, 8]),
            helper.make_node("Flatten", ["grid"], ["features"], axis=1),
        ],
        "tiny",
        [helper.make_tensor_value_info("pixels", onnx.TensorProto.FLOAT, [batch, 3, 32, 32])],
        [helper.make_tensor_value_info("features", onnx.TensorProto.FLOAT, [batch, 48])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


DEPTHWISE_WIDTHS = (16, 12, 8)  # of the deep backbone's taps, the last first


def write_deep_backbone(path: Path, *, batch: int | str = "n", opset: int = 17, seed: int = 0) -> Path:
    """An ONNX file (n, 3, 32, 32) -> `features` (n, 24): a MobileNet of three blocks, with weights drawn at random."""
    rng = np.random.default_rng(seed)
    weights, nodes, value = {}, [], "pixels"

    def convolve(name: str, n_in: int, n_out: int, size: int, stride: int, group: int = 1) -> None:
        nonlocal value
        weight = rng.normal(0, np.sqrt(2 / (n_in // group * size**2)), (n_out, n_in // group, size, size))
        weights[f"{name}.weight"], weights[f"{name}.bias"] = weight, rng.normal(0, 0.1, n_out)
        options = {"kernel_shape": [size] * 2, "strides": [stride] * 2, "pads": [size // 2] * 4, "group": group}
        nodes.append(helper.make_node("Conv", [value, f"{name}.weight", f"{name}.bias"], [f"{name}.sums"], **options))
        nodes.append(helper.make_node("Relu", [f"{name}.sums"], [name]))
        value = name

    convolve("stem", 3, 8, 3, 2)
    for i, (n, n_next) in enumerate(((8, 12), (12, 16), (16, 24)), start=1):
        convolve(f"depthwise{i}", n, n, 3, 2 if i == 2 else 1, group=n)
        convolve(f"pointwise{i}", n, n_next, 1, 1)
    nodes.append(helper.make_node("GlobalAveragePool", [value], ["mean"]))
    nodes.append(helper.make_node("Flatten", ["mean"], ["features"], axis=1))
    graph = helper.make_graph(
        nodes,
        "deep",
        [helper.make_tensor_value_info("pixels", onnx.TensorProto.FLOAT, [batch, 3, 32, 32])],
        [helper.make_tensor_value_info("features", onnx.TensorProto.FLOAT, [batch, 24])],
        [onnx.numpy_helper.from_array(w.astype(np.float32), name) for name, w in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), str(path))
    return path
