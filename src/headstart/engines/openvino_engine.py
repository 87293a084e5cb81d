"""Runs a network on CPUs with OpenVINO: compiled once, and fed with images from many threads.

Takes image sources of any kind and a function that loads one; gives the network's outputs in the order of the input.
It decides how many threads work and how far they may run ahead.

Each worker loads a few images, infers them one by one, and takes the next. So decoding and inference overlap without a
queue between them, no batch waits for a straggler, and one image gives the same answer alone or among a million. Batches
proved slower: images/s of Lite0 in bf16 on two cores: 1 at a time 820, 8 at a time 740, 32 at a time 620 (docs/LOG.md).
"""

from __future__ import annotations

import contextlib
import importlib
import math
import queue
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from pathlib import Path
from typing import Any

import numpy as np

from headstart.engines.forks import AT_FORK, BUSY_FORK, COMPILING, INHERITED, mark_at_fork
from headstart.engines.hardware import Hardware, available_cores
from headstart.engines.openvino_split import split_model
from headstart.engines.ordered import WINDOW, Outputs, Result, T, in_order, is_pixels, numbered_chunks, stack_outputs
from headstart.errors import BackboneError


class OpenVINOEngine:
    """A compiled network: `image` uint8 (n, size, size, 3) RGB in, named float32 outputs out.

    is_inherited: whether this process was forked from the one that compiled it. The threads behind it are not there then:
    it could only hang, so it raises BackboneError, and who holds it compiles another.
    """

    is_inherited = False

    def __init__(self, network: bytes | Path, hardware: Hardware = Hardware()) -> None:
        """Compile a network in standard form, ONNX or the IR in a file; raises BackboneError where the device is
        not there or cannot run it.

        With the precision `auto`, on a CPU that has bf16, only the later part of the network is computed in it: see
        openvino_split.
        """
        self.threads = hardware.threads or available_cores()
        self.device = hardware.device.upper()
        self._idle: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._n_requests = 0
        with COMPILING:
            # OpenVINO's message_manager() has a mutex that such a child may inherit locked: one in 100 to 400 children of a
            # process that predicts without pause hung; between predictions none did (250 of Lite0, 400 of a tiny network).
            if AT_FORK["was_busy"]:
                raise BackboneError(BUSY_FORK)
            self._parts, self.outputs = _compile(network, self.device, self.threads, hardware)
            shape = list(self._parts[0].input(0).partial_shape)
            try:
                self.infer(np.zeros([d.get_length() if d.is_static else 64 for d in shape][1:], np.uint8))
            except RuntimeError as error:
                raise BackboneError(f"this network cannot be run on {self.device}: {_last_line(error)}") from error
            mark_at_fork(self)

    def infer(self, pixels: np.ndarray) -> Outputs:
        """Run one image, (size, size, 3) uint8; gives each output's row. Any number of threads may call it at once."""
        if self.is_inherited:
            raise BackboneError(INHERITED)
        try:
            requests = self._idle.get_nowait()
        except queue.Empty:
            requests = self._new_requests()
        try:
            values: list[Any] = [pixels[None]]
            for request in requests:
                results = request.infer(values, share_inputs=True)
                values = [results[i] for i in range(len(results))]
            return {name: np.array(value[0], np.float32) for name, value in zip(self.outputs, values, strict=True)}
        finally:
            self._idle.put(requests)

    def _infer_all(self, pixels: np.ndarray) -> Outputs:
        """Run one image, or each of several."""
        return self.infer(pixels) if pixels.ndim == 3 else stack_outputs([self.infer(each) for each in pixels])

    @property
    def is_busy(self) -> bool:
        """Whether a thread is inferring."""
        return self._idle.qsize() < self._n_requests

    def _new_requests(self) -> list[Any]:
        """A request for each part of the network."""
        with COMPILING:  # so that no process forks meanwhile
            requests = [part.create_infer_request() for part in self._parts]
            self._n_requests += 1
        return requests

    def stream(
        self, items: Iterable[T], load: Callable[[int, T], np.ndarray | Any], *, chunk: int = 1
    ) -> Iterator[Result[T]]:
        """Load and infer items on all cores; yields a Result each, in order, with memory bounded by a small window.

        load: called with an item's index and the item, in a worker; returns uint8 pixels, (size, size, 3), or those of
        several images, (v, size, size, 3), whose outputs are stacked, (v, d); or anything else (a Failure, codes from the
        store), which is passed through as it is. chunk: how many items a worker takes at a time; it loads them all, and then
        infers one after the other.
        """

        def work(index: int, chunk_of_items: Sequence[tuple[int, T]]) -> Result[Any]:
            loaded = [load(i, item) for i, item in chunk_of_items]
            results = [
                Result(i, item, self._infer_all(pixels)) if is_pixels(pixels) else Result(i, item, None, pixels)
                for (i, item), pixels in zip(chunk_of_items, loaded, strict=True)
            ]
            return Result(index, None, None, results)

        # Twice the cores, so that a worker that waits for a disk leaves no core idle. Where all files are in memory it makes
        # no difference (benchmarks/speed.py).
        workers = 2 * self.threads
        if isinstance(items, Sized):  # a single photo needs no 2 x 64 threads
            workers = max(1, min(workers, math.ceil(len(items) / chunk)))
        ahead = max(2, WINDOW // chunk)
        with contextlib.closing(in_order(numbered_chunks(items, chunk), work, workers=workers, ahead=ahead)) as done:
            for results in done:
                yield from results.instead

    def images_per_second(self) -> float:
        """Measure the network alone, on all cores, for about a second."""
        size = self._parts[0].input(0).shape[1]
        pixels = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
        for n in (50, 400):  # the first to warm up
            start = time.perf_counter()
            for _ in self.stream(range(n), lambda *_: pixels):
                pass
            seconds = time.perf_counter() - start
        return n / seconds


def _compile(network: bytes | Path, device: str, threads: int, hardware: Hardware) -> tuple[list[Any], list[str]]:
    """Compile a network for a device; gives its parts, one after the other, with the names of its outputs as the file has
    them."""
    openvino = _openvino()
    properties = openvino.properties
    options: dict[Any, Any] = {properties.hint.performance_mode: properties.hint.PerformanceMode.THROUGHPUT}
    exact = {properties.hint.inference_precision: openvino.Type.f32}
    if device == "CPU":
        options[properties.inference_num_threads] = threads
    core = openvino.Core()
    kinds = {device_name.split(".")[0] for device_name in core.available_devices}
    if device.split(":")[0].split(".")[0] not in {*kinds, "AUTO", "MULTI", "HETERO", "CPU"}:
        raise BackboneError(
            f"there is no device {hardware.device!r} here; OpenVINO finds: {', '.join(core.available_devices)}"
        )
    try:
        model = core.read_model(network)
        names = [output.any_name for output in model.outputs]  # once compiled, values that are the same share names
        if all(d.is_static for d in _image(model)):  # else it takes images of any size
            model.reshape({model.input(0).any_name: [1, *(d.get_length() for d in _image(model))]})
        if hardware.precision == "f32":
            return [core.compile_model(model, device, options | exact)], names
        first, rest = (
            split_model(model) if device == "CPU" and not is_exact(hardware) and not model.is_dynamic() else (None, model)
        )
        parts = [core.compile_model(first, device, options | exact)] if first is not None else []
        return [*parts, core.compile_model(rest, device, options)], names
    except RuntimeError as error:
        raise BackboneError(f"OpenVINO cannot run this network on {device}: {_last_line(error)}") from error


def _openvino() -> Any:
    """Import OpenVINO without its telemetry: by itself, the import reports to Google Analytics without asking."""
    modules: dict[str, Any] = sys.modules
    is_ours = modules.setdefault("openvino_telemetry", None) is None  # its import fails, which OpenVINO allows for
    try:
        return importlib.import_module("openvino")
    finally:
        if is_ours:
            modules.pop("openvino_telemetry", None)


def is_exact(hardware: Hardware) -> bool:
    """Whether networks are computed in f32: because it was asked for, or because this CPU has no bf16."""
    if hardware.precision == "f32":
        return True
    openvino = _openvino()
    is_cpu = hardware.device.upper() == "CPU"
    return is_cpu and "BF16" not in openvino.Core().get_property("CPU", openvino.properties.device.capabilities)


def save_ir(network: bytes, file: Path, about: Mapping[str, str], *, is_half: bool) -> None:
    """Write an ONNX network as OpenVINO's IR, two files; about: strings for its metadata; is_half: weights in 16 bits."""
    openvino = _openvino()
    model = openvino.Core().read_model(network)
    for name, text in about.items():
        model.set_rt_info(text, [name])
    openvino.save_model(model, file, compress_to_fp16=is_half)


def openvino_version() -> str:
    """The release of OpenVINO, without its build."""
    return str(_openvino().__version__).split("-")[0]


def _image(model: Any) -> list[Any]:
    """The dimensions of one image: height, width and channels."""
    return list(model.input(0).partial_shape)[1:]


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
