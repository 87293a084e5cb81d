"""The torch device of a fine-tuning: CPU or CUDA, bfloat16 or float32, the number of threads, and out-of-memory errors."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from headstart.engines.hardware import available_cores
from headstart.errors import HeadstartError


def device_of(name: str | None, local_rank: int) -> Any:
    """The torch.device of a name, by default the GPU if there is one; raises HeadstartError where it is not to be had."""
    kind = (name or ("cuda" if torch.cuda.is_available() else "cpu")).lower()
    if kind.split(":")[0] == "cuda" and not torch.cuda.is_available():
        raise HeadstartError("torch finds no CUDA device here; fine-tune with --device CPU, or install torch with CUDA")
    if kind == "gpu" or kind.split(":")[0] not in ("cpu", "cuda"):
        raise HeadstartError(f"fine-tuning knows the devices cpu and cuda, not {name!r}")
    if kind == "cuda":
        torch.cuda.set_device(local_rank)
        return torch.device("cuda", local_rank)
    return torch.device(kind)


def has_bfloat16(device: Any) -> bool:
    """Whether the hardware multiplies in bfloat16; where it does not, torch would be slower with it."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    able = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def autocast(device: Any, precision: str) -> Any:
    """Compute in bfloat16 where the precision is `bf16`; weights and their updates stay float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def cores(threads: int | None) -> int:
    """The cores that a process may use: its share of the machine's where torchrun has started several on it."""
    return threads or max(1, available_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))


@contextmanager
def limited_threads(n: int) -> Iterator[None]:
    """Limit torch to n threads within a `with` block."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def memory_errors_explained() -> Iterator[None]:
    """Raise HeadstartError, with what to lower, in place of any of torch's out-of-memory errors."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        is_plain = isinstance(error, (torch.OutOfMemoryError, MemoryError))
        if not is_plain and not any(words in str(error) for words in ("DefaultCPUAllocator", "out of memory")):
            raise
        raise HeadstartError(
            "there is not enough memory for this fine-tuning; lower --batch, unfreeze less (--unfreeze last), or choose a "
            "backbone of smaller images"
        ) from error
