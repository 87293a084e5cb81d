"""Where networks run: device, number of cores and precision; and the cores that this process may use (cgroup limits).

It decides how many cores this process may use, and holds NumPy to them.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headstart.errors import HeadstartError

PRECISIONS = ("auto", "f32")
TORCH_ON_CPU = "torch-cpu"  # the same path without a GPU: slower than OpenVINO, it is there for tests


def available_cores() -> int:
    """How many cores this process may use: affinity and cgroup limits count, not what the machine has."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min([cores, *(max(1, math.ceil(quota)) for quota in _cgroup_quotas())])


def _cgroup_quotas() -> Iterator[float]:
    """Yield the limits, in cores, of this process's control group and of every group around it, in cgroup v1 and v2."""
    for line in _text("/proc/self/cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        is_first_version = controllers != ""
        if is_first_version and "cpu" not in controllers.split(","):
            continue
        root = Path("/sys/fs/cgroup/cpu" if is_first_version else "/sys/fs/cgroup")
        files = ["cpu.cfs_quota_us", "cpu.cfs_period_us"] if is_first_version else ["cpu.max"]
        # Inside a container the group may be named as it is outside, where we cannot see it; the root is then our own.
        inner = root / group.strip("/")
        for folder in (inner, *inner.parents):
            if folder.is_relative_to(root):
                numbers = " ".join(_text(folder / file) for file in files).split()
                with contextlib.suppress(ValueError):  # no such file, or "max": no limit
                    quota, period = map(float, numbers)
                    if quota > 0:
                        yield quota / period


def _text(path: str | Path) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


@dataclass(frozen=True)
class Hardware:
    """Where and how networks run; one object from the command line down to the engine.

    device: an OpenVINO device (CPU, GPU, NPU, AUTO), or one of torch's (cuda, cuda:1). threads: cores to use, by default
    those that this process may use. precision: `auto` lets the device choose (bf16 where the CPU has it), `f32` is exact.
    """

    device: str = "CPU"
    threads: int | None = None
    precision: str = "auto"

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise HeadstartError(f"unknown precision {self.precision!r}; it is one of: {', '.join(PRECISIONS)}")
        if self.threads is not None and self.threads < 1:
            raise HeadstartError(f"threads must be at least 1, not {self.threads}")

    @property
    def torch_device(self) -> str | None:
        """Torch's name of the device, `cuda`, `cuda:1` or `cpu` (for torch-cpu); None for a device of OpenVINO's."""
        name = self.device.lower()
        return "cpu" if name == TORCH_ON_CPU else name if name.split(":")[0] == "cuda" else None


FEW_NUMBERS = 4_000_000  # codes x images, below which one core learns the head


def blas_threads(threads: int | None, n_numbers: int) -> AbstractContextManager[Any]:
    """Limit NumPy's linear algebra to the cores that this process may use: by itself it does not know of cgroup limits.

    Small problems get one core. Its threads wait for each other actively, so where another program has a core they lose far
    more than they can gain: 1,457 x 1,280 codes took 1.1 s on two quiet cores and 20 to 40 s on two busy ones; on one core,
    1.9 s busy.
    """
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1 if n_numbers < FEW_NUMBERS else threads, user_api="blas")  # type: ignore[no-any-return]
