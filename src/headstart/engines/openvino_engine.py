"""The only file that knows OpenVINO: a network in its standard form is compiled once and fed from many threads.

Takes image sources of any kind and a function that loads one; gives the network's outputs in the order of the input.
It decides how many threads work and how far they may run ahead.

Each worker loads a few images, infers them one by one, and takes the next. So decoding and inference overlap without a
queue between them, no batch waits for a straggler, and one image gives the same answer alone or among a million. Batches
proved slower: images/s of Lite0 in bf16 on two cores: 1 at a time 820, 8 at a time 740, 32 at a time 620 (docs/LOG.md).
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib
import itertools
import math
import os
import queue
import sys
import threading
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from headstart.errors import BackboneError, HeadstartError

T = TypeVar("T")
Outputs = dict[str, np.ndarray]
PRECISIONS = ("auto", "f32")
SPAWN = "start processes with multiprocessing's method spawn"
INHERITED = f"this network was compiled before the process was forked, and cannot run here: compile it again, or {SPAWN}"
BUSY_FORK = f"this process was forked while a thread predicted, and a network could hang in it: {SPAWN}"
WINDOW = 32  # images a worker that may be taken ahead of the reader
# Held while a network is compiled, and while the process forks: a child never starts in the middle of a compilation.
# Another reason for one at a time: OpenVINO's binding sets something up at a process's first inference; two threads that
# do it at once wait for each other for ever (pybind11's gil_safe_call_once_and_store, seen with OpenVINO 2026.4).
COMPILING = threading.RLock()


@dataclass(frozen=True, slots=True)
class Result(Generic[T]):
    """One item on its way out: the network's outputs for it, or what `load` gave instead of pixels."""

    index: int
    item: T
    outputs: Outputs | None
    instead: Any = None


def available_cores() -> int:
    """How many cores this process may use: affinity and cgroup limits count, not what the machine has."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min([cores, *(max(1, math.ceil(quota)) for quota in _cgroup_quotas())])


def _cgroup_quotas() -> Iterator[float]:
    """The limits, in cores, of this process's control group and of every group around it, in either version of them."""
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

    device: an OpenVINO device (CPU, GPU, NPU, AUTO). threads: cores to use, by default those that this process may use.
    precision: `auto` lets the device choose (bf16 where the CPU has it), `f32` is exact.
    """

    device: str = "CPU"
    threads: int | None = None
    precision: str = "auto"

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise HeadstartError(f"unknown precision {self.precision!r}; it is one of: {', '.join(PRECISIONS)}")
        if self.threads is not None and self.threads < 1:
            raise HeadstartError(f"threads must be at least 1, not {self.threads}")


class Engine:
    """A compiled network: `image` uint8 (n, size, size, 3) RGB in, named float32 outputs out.

    is_inherited: whether this process was forked from the one that compiled it. The threads behind it are not there then:
    it could only hang, so it raises BackboneError, and who holds it compiles another.
    """

    is_inherited = False

    def __init__(self, network: bytes, hardware: Hardware = Hardware()) -> None:
        """Compile a network in standard form; raises BackboneError where the device is not there or cannot run it."""
        self.threads = hardware.threads or available_cores()
        self.device = hardware.device.upper()
        self._idle: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._n_requests = 0
        with COMPILING:
            # OpenVINO's message_manager() has a mutex that such a child may inherit locked: one in 100 to 400 children of a
            # process that predicts without pause hung; between predictions none did (250 of Lite0, 400 of a tiny network).
            if _at_fork["was_busy"]:
                raise BackboneError(BUSY_FORK)
            self._compiled, self.outputs = _compiled(network, self.device, self.threads, hardware)
            try:
                self.infer(np.zeros(tuple(self._compiled.input(0).shape)[1:], np.uint8))
            except RuntimeError as error:
                raise BackboneError(f"this network cannot be run on {self.device}: {_last_line(error)}") from error
            mark_at_fork(self)

    def infer(self, pixels: np.ndarray) -> Outputs:
        """Run one image, (size, size, 3) uint8; gives each output's row. Any number of threads may call it at once."""
        if self.is_inherited:
            raise BackboneError(INHERITED)
        try:
            request = self._idle.get_nowait()
        except queue.Empty:
            request = self._new_request()
        try:
            results = request.infer([pixels[None]], share_inputs=True)
            return {name: np.array(results[i][0], np.float32) for i, name in enumerate(self.outputs)}
        finally:
            self._idle.put(request)

    @property
    def is_busy(self) -> bool:
        """Whether a thread is inferring."""
        return self._idle.qsize() < self._n_requests

    def _new_request(self) -> Any:
        with COMPILING:  # so that no process forks meanwhile
            request = self._compiled.create_infer_request()
            self._n_requests += 1
        return request

    def stream(
        self, items: Iterable[T], load: Callable[[int, T], np.ndarray | Any], *, chunk: int = 1
    ) -> Iterator[Result[T]]:
        """Load and infer items on all cores; yields a Result each, in order, with memory bounded by a small window.

        load: called with an item's index and the item, in a worker; gives (size, size, 3) uint8 pixels, or anything else
        (why it cannot be used, codes that are known already), which is passed through as it is. chunk: how many items a
        worker takes at a time; it loads them all, and then infers one after the other.
        """

        def work(index: int, taken: Sequence[tuple[int, T]]) -> Result[Any]:
            loaded = [load(i, item) for i, item in taken]
            results = [
                Result(i, item, self.infer(pixels))
                if isinstance(pixels, np.ndarray) and pixels.dtype == np.uint8
                else Result(i, item, None, pixels)
                for (i, item), pixels in zip(taken, loaded, strict=True)
            ]
            return Result(index, None, None, results)

        # Twice the cores, so that a worker that waits for a disk leaves no core idle. Where all files are in memory it makes
        # no difference (benchmarks/speed.py).
        workers = 2 * self.threads
        if isinstance(items, Sized):  # a single photo needs no 2 x 64 threads
            workers = max(1, min(workers, math.ceil(len(items) / chunk)))
        ahead = max(2, WINDOW // chunk)
        with contextlib.closing(in_order(_chunks(items, chunk), work, workers=workers, ahead=ahead)) as done:
            for results in done:
                yield from results.instead

    def images_per_second(self) -> float:
        """Measure the network alone, on all cores, for about a second."""
        size = self._compiled.input(0).shape[1]
        pixels = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
        for n in (50, 400):  # the first to warm up
            start = time.perf_counter()
            for _ in self.stream(range(n), lambda *_: pixels):
                pass
            seconds = time.perf_counter() - start
        return n / seconds


def _compiled(network: bytes, device: str, threads: int, hardware: Hardware) -> tuple[Any, list[str]]:
    """A network compiled for a device, and the names of its outputs as the file has them."""
    openvino = _openvino()
    properties = openvino.properties
    options: dict[Any, Any] = {properties.hint.performance_mode: properties.hint.PerformanceMode.THROUGHPUT}
    if hardware.precision == "f32":
        options[properties.hint.inference_precision] = openvino.Type.f32
    if device == "CPU":
        options[properties.inference_num_threads] = threads
    core = openvino.Core()
    kinds = {found.split(".")[0] for found in core.available_devices}
    if device.split(":")[0].split(".")[0] not in {*kinds, "AUTO", "MULTI", "HETERO", "CPU"}:
        raise BackboneError(
            f"there is no device {hardware.device!r} here; OpenVINO finds: {', '.join(core.available_devices)}"
        )
    try:
        model = core.read_model(network)
        names = [output.any_name for output in model.outputs]  # once compiled, values that are the same share names
        model.reshape({model.input(0).any_name: [1, *_square(model)]})
        return core.compile_model(model, device, options), names
    except RuntimeError as error:
        raise BackboneError(f"OpenVINO cannot run this network on {device}: {_last_line(error)}") from error


E = TypeVar("E", bound=Any)


class CompilesOnce(ABC, Generic[E]):
    """What holds a network that is compiled when it is first needed, and again in a process that was forked after that.

    A copy and a pickle have all but the compiled network, which each compiles for itself.
    """

    _engine: E | None = None

    @abstractmethod
    def _compile(self) -> E:
        """Compile the network."""

    @property
    def engine(self) -> E:
        """The compiled network, one for all threads."""
        if self._engine is None or self._engine.is_inherited:
            with COMPILING:
                if self._engine is None or self._engine.is_inherited:
                    self._engine = self._compile()
        return self._engine

    def __getstate__(self) -> dict[str, Any]:
        """All but the compiled network."""
        return {**self.__dict__, "_engine": None}


_alive: weakref.WeakSet[Any] = weakref.WeakSet()  # the engines of this process
_at_fork = {"was_busy": False}  # whether this process was forked from one in which a network ran at that moment


def mark_at_fork(engine: Any) -> None:
    """In a process that is forked from this one, let an engine know that it is inherited, and never free it there."""
    _watch_forks()
    _alive.add(engine)


@functools.cache
def _watch_forks() -> None:
    if hasattr(os, "register_at_fork"):  # Windows cannot fork
        os.register_at_fork(before=COMPILING.acquire, after_in_parent=COMPILING.release, after_in_child=_in_child)


def _in_child() -> None:
    COMPILING.release()
    for engine in list(_alive):
        _at_fork["was_busy"] |= engine.is_busy
        engine.is_inherited = True
        # To free it, even when the process ends, would wait for ever for threads that are not here (OpenVINO 2026.4).
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(engine))
    _alive.clear()


def _chunks(items: Iterable[T], n: int) -> Iterator[list[tuple[int, T]]]:
    numbered = enumerate(items)
    while chunk := list(itertools.islice(numbered, n)):
        yield chunk


def in_order(
    items: Iterable[T], work: Callable[[int, T], Result[Any]], *, workers: int, ahead: int = WINDOW
) -> Generator[Result[Any], None, None]:
    """Map `work` over items in threads, yielding in order; at most `ahead` items a worker are taken before the reader.

    A slow item holds back what is yielded, not what is worked on, until the window is full. An exception in `work` or in
    `items` ends the stream and is raised here; closing the generator stops the workers.
    """
    source = enumerate(items)
    taking, room = threading.Lock(), threading.Semaphore(ahead * workers)
    done: queue.SimpleQueue[Result[Any] | BaseException | None] = queue.SimpleQueue()
    stopped = threading.Event()

    def run() -> None:
        try:
            while not stopped.is_set():
                room.acquire()
                with taking:
                    index, item = next(source, (-1, None)) if not stopped.is_set() else (-1, None)
                if index < 0:
                    room.release()
                    break
                done.put(work(index, item))  # type: ignore[arg-type]
        except BaseException as error:  # noqa: BLE001  raised again by the reader
            done.put(error)
        done.put(None)

    started = []
    try:
        for i in range(workers):
            thread = threading.Thread(target=run, name=f"headstart-{i}", daemon=True)
            thread.start()
            started.append(thread)
        yield from _reordered(done, room, workers)
    finally:
        stopped.set()
        room.release(workers)
        # Once we hold `taking`, no worker takes another item. A worker that holds it for a second waits for an item, maybe
        # for ever (nobody types at the terminal that the items come from); nobody waits for it, and it ends with that item.
        if taking.acquire(timeout=1):
            taking.release()
            for thread in started:
                thread.join()


def _reordered(done: queue.SimpleQueue[Any], room: threading.Semaphore, workers: int) -> Iterator[Any]:
    waiting: dict[int, Any] = {}
    wanted, process = 0, os.getpid()
    while workers:
        if os.getpid() != process:
            raise HeadstartError(f"a stream of predictions ends with the process that began it; here it was forked: {SPAWN}")
        result = done.get()
        if isinstance(result, BaseException):
            raise result
        if result is None:
            workers -= 1
            continue
        waiting[result.index] = result
        while wanted in waiting:
            yield waiting.pop(wanted)
            room.release()
            wanted += 1


def _openvino() -> Any:
    """Import OpenVINO without its telemetry: left alone, the import itself tells Google Analytics, and asks nobody."""
    modules: dict[str, Any] = sys.modules
    is_ours = modules.setdefault("openvino_telemetry", None) is None  # its import fails, which OpenVINO allows for
    try:
        return importlib.import_module("openvino")
    finally:
        if is_ours:
            modules.pop("openvino_telemetry", None)


def _square(model: Any) -> list[int]:
    return [int(d.get_length()) for d in list(model.input(0).partial_shape)[1:]]


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
