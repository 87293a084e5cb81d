"""The operations of the ONNX standard in torch: convolutions, poolings, norms, and arithmetic, a row of OPERATIONS each.

Takes an operation's inputs and attributes as ONNX has them, of any opset; gives what ONNX Runtime would, which is tested row
by row. It decides what torch is trusted with: an operation that has no row here runs on the CPU's engine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


class Operation(NamedTuple):
    """How torch computes an operation: run(*inputs, **attributes).

    numbers: which inputs are passed as Python numbers. weight_type: what weights are cast to: `like` the other inputs,
    `matrix` the type that products are computed in, or `exact`, float32.
    """

    run: Callable[..., Any]
    numbers: tuple[int, ...] = ()
    weight_type: str = "like"


def apply(operation: str, *inputs: Any, **options: Any) -> Any:
    """Run one operation of ONNX, by its name."""
    return OPERATIONS[operation].run(*inputs, **options)


class _Window(NamedTuple):
    """How a window moves over an image: the attributes that ONNX's convolutions and poolings share."""

    kernel_shape: Sequence[int]
    auto_pad: str = "NOTSET"
    dilations: Sequence[int] = (1, 1)
    pads: Sequence[int] = (0, 0, 0, 0)
    strides: Sequence[int] = (1, 1)


def _conv(x: Tensor, kernel: Tensor, bias: Tensor | None = None, *, group: int = 1, **window_options: Any) -> Tensor:
    if kernel.ndim != 4:
        raise NotImplementedError("only in two dimensions")
    window = _Window(**{**window_options, "kernel_shape": kernel.shape[2:]})
    x, padding = _pad_for_window(x, window)
    return functional.conv2d(
        x.to(kernel.dtype), kernel, bias, tuple(window.strides), padding, tuple(window.dilations), group
    )


def _pad_for_window(x: Tensor, window: _Window, value: float = 0.0) -> tuple[Tensor, tuple[int, int]]:
    """Pad an image where its sides differ; equal sides are left to the operation, as the second result."""
    kernel, auto_pad, dilations, pads, strides = window
    if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        ends = []
        for side, k, stride, dilation in zip(x.shape[2:], kernel, strides, dilations, strict=True):
            total = max(0, (-(-side // stride) - 1) * stride + dilation * (k - 1) + 1 - side)
            small, large = total // 2, total - total // 2
            ends.append((small, large) if auto_pad == "SAME_UPPER" else (large, small))
        (top, bottom), (left, right) = ends
    else:
        top, left, bottom, right = (0, 0, 0, 0) if auto_pad == "VALID" else pads
    if (top, left) == (bottom, right) and value == 0:
        return x, (top, left)
    return functional.pad(x, (left, right, top, bottom), value=value), (0, 0)


def _max_pool(x: Tensor, *, ceil_mode: int = 0, storage_order: int = 0, **window_options: Any) -> Tensor:
    window = _Window(**window_options)
    x, _ = _pad_for_window(x, window, value=float("-inf"))
    sizes = tuple(window.kernel_shape), tuple(window.strides), 0, tuple(window.dilations)
    return functional.max_pool2d(x, *sizes, bool(ceil_mode))


def _average_pool(x: Tensor, *, ceil_mode: int = 0, count_include_pad: int = 0, **window_options: Any) -> Tensor:
    window = _Window(**window_options)
    if ceil_mode:
        raise NotImplementedError("ceil_mode")
    if tuple(window.dilations) != (1, 1):
        raise NotImplementedError("dilations")

    def pool(image: Tensor) -> Tensor:
        image, padding = _pad_for_window(image, window)
        return functional.avg_pool2d(image, tuple(window.kernel_shape), tuple(window.strides), padding)

    return pool(x) if count_include_pad else pool(x) / pool(torch.ones_like(x[:1, :1]))


def _gemm(
    a: Tensor, b: Tensor, c: Tensor | None = None, *, alpha: float = 1.0, beta: float = 1.0, transA: int = 0, transB: int = 0
) -> Tensor:
    product = alpha * _matmul(a.mT if transA else a, b.mT if transB else b)
    return product if c is None else product + beta * c


def _matmul(a: Tensor, b: Tensor) -> Tensor:
    narrow = min(a.dtype, b.dtype, key=lambda dtype: dtype.itemsize)
    return torch.matmul(a.to(narrow), b.to(narrow))


def _clip(x: Tensor, low: Any = None, high: Any = None, *, min: float | None = None, max: float | None = None) -> Tensor:  # noqa: A002
    return torch.clamp(x, min if low is None else low, max if high is None else high)


def _batch_norm(
    x: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, variance: Tensor, *, epsilon: float = 1e-5, **_: Any
) -> Tensor:
    factor = scale / torch.sqrt(variance + epsilon)
    shape = (1, -1, *(1,) * (x.ndim - 2))
    return (x * factor.reshape(shape) + (shift - mean * factor).reshape(shape)).to(x.dtype)


def _layer_norm(
    x: Tensor, scale: Tensor, shift: Tensor | None = None, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1
) -> Tensor:
    y = functional.layer_norm(x.float(), x.shape[axis:], scale.reshape(x.shape[axis:]), None, epsilon)
    return (y if shift is None else y + shift).to(x.dtype)


def _instance_norm(x: Tensor, scale: Tensor, shift: Tensor, *, epsilon: float = 1e-5) -> Tensor:
    return functional.instance_norm(x.float(), weight=scale, bias=shift, eps=epsilon).to(x.dtype)


def _softmax(x: Tensor, *, axis: int | None = None, opset: int) -> Tensor:
    if opset >= 13:
        return torch.softmax(x, -1 if axis is None else axis)
    first = 1 if axis is None else axis % x.ndim
    return torch.softmax(x.flatten(first), -1).reshape(x.shape)


def _reduce_with(reduce: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def run(
        x: Tensor,
        given_axes: Sequence[int] = (),
        *,
        axes: Sequence[int] = (),
        keepdims: int = 1,
        noop_with_empty_axes: int = 0,
    ) -> Tensor:
        over = tuple(given_axes or axes)
        if not over and noop_with_empty_axes:
            return x
        return reduce(x, over or tuple(range(x.ndim)), bool(keepdims))

    return run


def _mean(x: Tensor, axes: Sequence[int], keepdim: bool = True) -> Tensor:
    """Average in float32: codes are means, and 16 bits would cost them half their digits."""
    return x.mean(tuple(axes), keepdim, dtype=torch.float32)


def _reshape(x: Tensor, shape: Sequence[int], *, allowzero: int = 0) -> Tensor:
    return x.reshape([side if side or allowzero else x.shape[i] for i, side in enumerate(shape)])


def _flatten(x: Tensor, *, axis: int = 1) -> Tensor:
    axis %= x.ndim
    return x.flatten(axis) if axis == 1 and x.ndim > 1 else x.reshape(int(np.prod(x.shape[:axis])), -1)


def _squeeze(x: Tensor, given_axes: Sequence[int] = (), *, axes: Sequence[int] = ()) -> Tensor:
    return torch.squeeze(x, tuple(given_axes or axes)) if given_axes or axes else torch.squeeze(x)


def _unsqueeze(x: Tensor, given_axes: Sequence[int] = (), *, axes: Sequence[int] = ()) -> Tensor:
    n = x.ndim + len(given_axes or axes)
    for axis in sorted(axis % n for axis in given_axes or axes):
        x = x.unsqueeze(axis)
    return x


def _slice(
    x: Tensor,
    first: Sequence[int] = (),
    last: Sequence[int] = (),
    along: Sequence[int] | None = None,
    steps: Sequence[int] | None = None,
    *,
    starts: Sequence[int] = (),
    ends: Sequence[int] = (),
    axes: Sequence[int] | None = None,
) -> Tensor:
    first, last = first or starts, last or ends
    along = along or axes or range(len(first))
    for i, axis in enumerate(along):
        step = steps[i] if steps else 1
        if step > 0:
            index = [slice(None)] * x.ndim
            index[axis] = slice(first[i], last[i], step)
            x = x[tuple(index)]
        else:
            indices = range(x.shape[axis])[slice(first[i], last[i] if last[i] >= -x.shape[axis] else None, step)]
            x = x.index_select(axis, torch.tensor(list(indices), device=x.device))
    return x


def _pad(
    x: Tensor,
    given_pads: Sequence[int] = (),
    constant: float | None = None,
    along: Sequence[int] | None = None,
    *,
    pads: Sequence[int] = (),
    mode: str = "constant",
    value: float = 0.0,
) -> Tensor:
    ends = list(given_pads or pads)
    sides = [(0, 0)] * x.ndim
    axes = along or range(x.ndim)
    for i, axis in enumerate(axes):
        sides[axis] = ends[i], ends[i + len(ends) // 2]
    flat = [n for before, after in reversed(sides) for n in (before, after)]
    while flat and flat[-2:] == [0, 0]:  # reflection wants no more than the dimensions that it pads
        flat = flat[:-2]
    if mode == "constant":
        return functional.pad(x, flat, value=value if constant is None else constant)
    return functional.pad(x, flat, mode={"reflect": "reflect", "edge": "replicate"}[mode])


def _gather(x: Tensor, indices: Any, *, axis: int = 0) -> Tensor:
    where = torch.as_tensor(indices, device=x.device)
    axis %= x.ndim
    rows = x.index_select(axis, where.reshape(-1) % x.shape[axis])
    return rows.reshape(*x.shape[:axis], *where.shape, *x.shape[axis + 1 :])


def _split(
    x: Tensor, given_sizes: Sequence[int] = (), *, axis: int = 0, split: Sequence[int] = (), num_outputs: int = 1
) -> tuple[Tensor, ...]:
    sizes = list(given_sizes or split)
    return tuple(torch.split(x, sizes or -(-x.shape[axis] // num_outputs), axis))


def _cast(x: Tensor, *, to: int, saturate: int = 1, round_mode: str = "up") -> Tensor:
    """Cast, but not from float to float: which float type a network is computed in is our choice, not the file's."""
    floats = (1, 10, 11, 16)  # TensorProto: FLOAT, FLOAT16, DOUBLE, BFLOAT16
    if to in floats:
        return x if x.is_floating_point() else x.float()
    return x.to({2: torch.uint8, 3: torch.int8, 6: torch.int32, 7: torch.int64, 9: torch.bool}[to])


def _expand(x: Tensor, shape: Sequence[int]) -> Tensor:
    return x.expand(torch.broadcast_shapes(x.shape, tuple(shape)))


def _combine_all(combine: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    def run(first: Tensor, *others: Tensor) -> Tensor:
        for other in others:
            first = combine(first, other)
        return first

    return run


BY_OPSET = ("Softmax",)  # operations that mean something else before an opset
OPERATIONS = {
    "Abs": Operation(torch.abs),
    "Add": Operation(torch.add),
    "AveragePool": Operation(_average_pool),
    "BatchNormalization": Operation(_batch_norm, weight_type="exact"),
    "Cast": Operation(_cast),
    "Clip": Operation(_clip, numbers=(1, 2)),
    "Concat": Operation(lambda *x, axis: torch.cat(x, axis)),
    "Conv": Operation(_conv, weight_type="matrix"),
    "Div": Operation(torch.div),
    "Dropout": Operation(lambda x, *_, **__: x),
    "Einsum": Operation(lambda *x, equation: torch.einsum(equation, *x)),
    "Elu": Operation(lambda x, alpha=1.0: functional.elu(x, alpha)),
    "Equal": Operation(torch.eq),
    "Erf": Operation(torch.erf),
    "Exp": Operation(torch.exp),
    "Expand": Operation(_expand, numbers=(1,)),
    "Flatten": Operation(_flatten),
    "Gather": Operation(_gather, numbers=(1,)),
    "Gelu": Operation(lambda x, approximate="none": functional.gelu(x, approximate=approximate)),
    "Gemm": Operation(_gemm, weight_type="matrix"),
    "Greater": Operation(torch.gt),
    "GlobalAveragePool": Operation(lambda x: _mean(x, range(2, x.ndim))),
    "GlobalMaxPool": Operation(lambda x: x.amax(tuple(range(2, x.ndim)), True)),
    "HardSigmoid": Operation(lambda x, alpha=0.2, beta=0.5: torch.clamp(alpha * x + beta, 0, 1)),
    "HardSwish": Operation(functional.hardswish),
    "Identity": Operation(lambda x: x),
    "InstanceNormalization": Operation(_instance_norm, weight_type="exact"),
    "LRN": Operation(
        lambda x, *, size, alpha=1e-4, beta=0.75, bias=1.0: functional.local_response_norm(x, size, alpha, beta, bias)
    ),
    "LayerNormalization": Operation(_layer_norm, weight_type="exact"),
    "LeakyRelu": Operation(lambda x, alpha=0.01: functional.leaky_relu(x, alpha)),
    "Less": Operation(torch.lt),
    "Log": Operation(torch.log),
    "LpNormalization": Operation(lambda x, axis=-1, p=2: functional.normalize(x, p, axis)),
    "MatMul": Operation(_matmul, weight_type="matrix"),
    "Max": Operation(_combine_all(torch.maximum)),
    "MaxPool": Operation(_max_pool),
    "Min": Operation(_combine_all(torch.minimum)),
    "Mish": Operation(functional.mish),
    "Mul": Operation(torch.mul),
    "Neg": Operation(torch.neg),
    "PRelu": Operation(lambda x, slope: torch.where(x < 0, x * slope, x)),
    "Pad": Operation(_pad, numbers=(1, 2, 3)),
    "Pow": Operation(torch.pow),
    "Reciprocal": Operation(torch.reciprocal),
    "ReduceL2": Operation(
        _reduce_with(lambda x, axes, keep: torch.linalg.vector_norm(x.float(), dim=axes, keepdim=keep)), (1,)
    ),
    "ReduceLogSumExp": Operation(_reduce_with(lambda x, axes, keep: torch.logsumexp(x, axes, keep)), (1,)),
    "ReduceMax": Operation(_reduce_with(lambda x, axes, keep: x.amax(axes, keep)), (1,)),
    "ReduceMean": Operation(_reduce_with(_mean), (1,)),
    "ReduceMin": Operation(_reduce_with(lambda x, axes, keep: x.amin(axes, keep)), (1,)),
    "ReduceSum": Operation(_reduce_with(lambda x, axes, keep: x.sum(axes, keep, dtype=torch.float32)), (1,)),
    "ReduceSumSquare": Operation(_reduce_with(lambda x, axes, keep: (x * x).sum(axes, keep)), (1,)),
    "Relu": Operation(torch.relu),
    "Reshape": Operation(_reshape, numbers=(1,)),
    "Round": Operation(torch.round),
    "Selu": Operation(functional.selu),
    "Sigmoid": Operation(torch.sigmoid),
    "Slice": Operation(_slice, numbers=(1, 2, 3, 4)),
    "Softmax": Operation(_softmax),
    "Softplus": Operation(functional.softplus),
    "Split": Operation(_split, numbers=(1,)),
    "Sqrt": Operation(torch.sqrt),
    "Squeeze": Operation(_squeeze, numbers=(1,)),
    "Sub": Operation(torch.sub),
    "Sum": Operation(_combine_all(torch.add)),
    "Tanh": Operation(torch.tanh),
    "TopK": Operation(lambda x, k, axis=-1, largest=1, sorted=1: torch.topk(x, k[0], axis, bool(largest)), (1,)),
    "Transpose": Operation(lambda x, perm=None: x.permute(tuple(perm) if perm else tuple(reversed(range(x.ndim))))),
    "Unsqueeze": Operation(_unsqueeze, numbers=(1,)),
    "Where": Operation(torch.where),
}
