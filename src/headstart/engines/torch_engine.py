"""Runs a network on NVIDIA GPUs with torch, in batches: the order of the items, and the CPU's codes within tolerance.

Takes what OpenVINOEngine takes, a network in standard form and a function that loads one image; gives the same results. It
decides how many images a batch has, what is computed in 16 bits, and when the CPU's engine has to do instead.

Cores decode, as they do for the CPU; uint8 images cross over to the GPU from pinned memory, and the normalisation, which is
part of the network, is done there. Two batches are in flight while the next is filled. The GPU's own JPEG decoder is left
alone: its pixels are not those that codes are known by (benchmarks/gpu.py --jpeg tells by how much).
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar

import numpy as np

from headstart.engines.forks import mark_at_fork
from headstart.engines.hardware import Hardware, available_cores
from headstart.engines.ordered import SPAWN, Outputs, Result, in_order, is_pixels, stack_outputs
from headstart.errors import BackboneError

if TYPE_CHECKING:
    import torch


T = TypeVar("T")
BATCH = {"cuda": 256, "cpu": 8}
IN_FLIGHT = 2
CHUNK = 8  # of many images, a thread decodes so many at a time, for order's sake costs a lock each time
# torch.compile takes about a minute and saves well under 0.1 ms an image; below so many images it cannot pay.
COMPILE_FROM = 1_000_000
INHERITED = f"torch does not work in a process that was forked from one that used it: {SPAWN}, or leave --device away"

log = logging.getLogger(__name__)


class TorchEngine:
    """A network on a GPU: `image` uint8 (n, size, size, 3) RGB in, named float32 outputs out, as OpenVINOEngine has.

    is_inherited: as Engine's; but neither CUDA nor OpenMP starts again in a forked process, so no other can be made there.
    """

    is_inherited = is_busy = False
    _first_in: ClassVar[int | None] = None  # the process that made the first one

    def __init__(self, network: bytes, hardware: Hardware, *, batch: int | None = None) -> None:
        """Load a network in standard form onto a device.

        batch: images at a time. Raises BackboneError where there is no such device, UnknownOperation where torch cannot run
        the network.
        """
        import onnx
        import torch

        if TorchEngine._first_in not in (None, os.getpid()):
            raise BackboneError(INHERITED)
        self.threads = hardware.threads or available_cores()
        self.device = hardware.device.upper()
        self._device = _torch_device(hardware.torch_device or hardware.device)
        TorchEngine._first_in = os.getpid()
        self._network = onnx.load_from_string(network)
        (image,) = self._network.graph.input
        first, *sides = image.type.tensor_type.shape.dim
        self._sides = tuple(side.dim_value for side in sides)
        self._dtype = torch.float32
        if self._device.type == "cuda" and hardware.precision == "auto":
            if torch.cuda.is_bf16_supported(including_emulation=False):
                self._dtype = torch.bfloat16
        else:
            torch.set_num_threads(self.threads)
        self.outputs = [output.name for output in self._network.graph.output]
        self.batch = batch or BATCH[self._device.type]
        if first.dim_value == 1 or not self._can_batch():
            self.batch = 1
        self._modules: dict[int, Callable[..., Any]] = {}
        self._one_at_a_time = threading.Lock()
        self.infer(np.zeros(self._sides, np.uint8))  # whatever is wrong shows now
        mark_at_fork(self)

    def infer(self, pixels: np.ndarray) -> Outputs:
        """Run one image, (size, size, 3) uint8; gives each output's row. Any number of threads may call it."""
        if self.is_inherited:  # before the lock, which a thread may have held at the fork
            raise BackboneError(INHERITED)
        with self._one_at_a_time:
            return self._run([pixels], 1).rows()[0]

    def stream(
        self, items: Iterable[T], load: Callable[[int, T], np.ndarray | Any], *, chunk: int = 1
    ) -> Iterator[Result[T]]:
        """Load items on all cores and infer them in batches; yields a Result each, in order.

        As OpenVINOEngine.stream, but for one thing: answers come when their batch is full, so it is for many images,
        and not for a terminal that images trickle in from.
        """
        if isinstance(items, Sized) and len(items) >= COMPILE_FROM:
            self.compile()

        def work(index: int, group: Sequence[tuple[int, T]]) -> Result[Any]:
            return Result(index, None, None, [Result(i, item, None, load(i, item)) for i, item in group])

        chunk = max(chunk, CHUNK) if self.batch > 1 else chunk
        ahead = max(2, 2 * self.batch // (self.threads * chunk))
        groups = in_order(_groups(items, chunk), work, workers=self.threads + 1, ahead=ahead)
        with contextlib.closing(groups) as loaded:
            yield from self._in_batches(result for group in loaded for result in group.instead)

    def images_per_second(self) -> float:
        """Measure the network alone, on images that are on the device already, for about a second."""
        import torch

        random = np.random.default_rng(0)
        pixels = list(random.integers(0, 256, (self.batch, *self._sides), dtype=np.uint8))
        self._run(pixels, self.batch).rows()  # to warm up, and to find out how many fit
        images = torch.from_numpy(np.stack(pixels[: self.batch])).to(self._device)
        n, start = 0, time.perf_counter()
        with self._settings():
            while time.perf_counter() - start < 1:
                self._module(self.batch)(images)[0].sum().item()  # which waits for the device
                n += self.batch
        return n / (time.perf_counter() - start)

    def compile(self) -> bool:
        """Let torch compile the network for its batches; False where it cannot, which costs speed and nothing else."""
        import torch

        plain = self._module(self.batch)
        self._modules[self.batch] = torch.compile(plain)
        try:
            self._run([np.zeros(self._sides, np.uint8)], self.batch).rows()
        except Exception as error:  # noqa: BLE001  compilers and their tools fail in any way
            log.warning("torch cannot compile this network (%s); it runs uncompiled", type(error).__name__)
            self._modules[self.batch] = plain
        return self._modules[self.batch] is not plain

    def _can_batch(self) -> bool:
        """Whether a network gives two rows for two images; some are fixed to the one image of their export."""
        from headstart.engines.torch_graph import UnknownOperation, output_shapes, to_torch

        with contextlib.suppress(UnknownOperation):
            return all(shape[0] == 2 for shape in output_shapes(to_torch(self._network, 2, self._dtype)))
        return False

    def _module(self, batch: int) -> Callable[..., Any]:
        from headstart.engines.torch_graph import to_torch

        if batch not in self._modules:
            self._modules[batch] = to_torch(self._network, batch, self._dtype).to(self._device)
        return self._modules[batch]

    def _in_batches(self, loaded: Iterable[Result[T]]) -> Iterator[Result[T]]:
        """Run the pixels in a stream of loaded items in batches; the stream stays in order, and other items pass through."""
        waiting: deque[Result[T]] = deque()
        flights: deque[_Flight] = deque()
        rows: deque[Outputs] = deque()
        pixels: list[np.ndarray] = []
        for result in loaded:
            waiting.append(result)
            if is_pixels(result.instead):
                pixels += _each(result.instead)
            while len(pixels) >= (n := self.batch):  # which may shrink as it runs
                flights.append(self._run(pixels[:n], n))
                pixels = pixels[n:]
            while len(flights) > IN_FLIGHT:
                rows += flights.popleft().rows()
            yield from _match_outputs(waiting, rows)
        if pixels:
            flights.append(self._run(pixels, self.batch))
        for flight in flights:
            rows += flight.rows()
        yield from _match_outputs(waiting, rows)

    def _run(self, pixels: Sequence[np.ndarray], batch: int) -> _Flight:
        """Send images off in batches of one size, halved for good where there is not enough memory for so many."""
        import torch

        if self.is_inherited:
            raise BackboneError(INHERITED)
        try:
            parts = [self._launch(pixels[i : i + batch], batch) for i in range(0, len(pixels), batch)]
            return _Flight([part for part, _ in parts], [ready for _, ready in parts], self.outputs)
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
                raise
            if batch == 1 and len(self._modules) <= 1:
                raise BackboneError(
                    f"{self.device} has not enough memory for a single image of this backbone; end what else uses it, "
                    "choose a smaller backbone or --size, or leave --device away to use the CPU"
                ) from error
        self._modules.clear()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        self.batch = max(1, batch // 2)
        log.warning("%s has not enough memory for %d images at a time; going on with %d", self.device, batch, self.batch)
        return self._run(pixels, self.batch)

    def _launch(self, pixels: Sequence[np.ndarray], batch: int) -> tuple[tuple[torch.Tensor, ...], Any]:
        """Send one batch off, filled up with black; gives its outputs, which are there when the event is."""
        import torch

        on_gpu = self._device.type == "cuda"
        images = torch.empty((batch, *self._sides), dtype=torch.uint8, pin_memory=on_gpu)
        content = images.numpy()
        content[len(pixels) :] = 0
        for i, image in enumerate(pixels):
            content[i] = image
        with self._settings():
            results = self._module(batch)(images.to(self._device, non_blocking=True))
            if not on_gpu:
                return tuple(result[: len(pixels)] for result in results), None
            host = tuple(torch.empty(r.shape, dtype=r.dtype, pin_memory=True) for r in results)
            for device_tensor, host_tensor in zip(results, host, strict=True):
                host_tensor.copy_(device_tensor, non_blocking=True)
            event = torch.cuda.Event()
            event.record()
        return tuple(result[: len(pixels)] for result in host), event

    @contextlib.contextmanager
    def _settings(self) -> Iterator[None]:
        """Exact float32 where that is computed (cuDNN would take 19 bits of it), and the fastest way for these shapes."""
        import torch

        with contextlib.ExitStack() as stack:
            stack.enter_context(torch.inference_mode())
            if self._device.type == "cuda":
                stack.enter_context(torch.cuda.device(self._device))
                stack.enter_context(torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False))
            yield


class _Flight(NamedTuple):
    """Batches that the GPU works on: the outputs of each, and the events that are set when they are ready."""

    outputs: list[tuple[torch.Tensor, ...]]
    ready: list[Any]
    names: list[str]

    def rows(self) -> list[Outputs]:
        """Wait for the device; gives each image's outputs."""
        for event in self.ready:
            if event is not None:
                event.synchronize()
        arrays = [[tensor.numpy() for tensor in part] for part in self.outputs]
        return [
            {name: np.array(row, np.float32) for name, row in zip(self.names, rows, strict=True)}
            for part in arrays
            for rows in zip(*part, strict=True)
        ]


def _torch_device(name: str) -> torch.device:
    """Give torch's device of that name; raises BackboneError where it is not there."""
    import torch

    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise BackboneError(f"there is no device {name!r}; write cuda, or cuda:1 for the second GPU") from error
    if device.type == "cpu":
        return device
    n = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if (device.index or 0) >= n:
        reason = f"sees {n} GPUs" if torch.version.cuda else "is built without CUDA"
        raise BackboneError(
            f"there is no device {name!r} here: torch {torch.__version__} {reason}; leave --device away to use the "
            "CPU, or install a torch that fits your driver (https://pytorch.org/get-started/locally)"
        )
    return device


def _groups(items: Iterable[T], n: int) -> Iterator[list[tuple[int, T]]]:
    numbered = enumerate(items)
    while group := list(itertools.islice(numbered, n)):
        yield group


def _each(pixels: np.ndarray) -> Sequence[np.ndarray]:
    """The images of what `load` returned: one, or several."""
    return [pixels] if pixels.ndim == 3 else list(pixels)


def _match_outputs(waiting: deque[Result[T]], rows: deque[Outputs]) -> Iterator[Result[T]]:
    """Yield from the front of the queue what is finished: pixels with their rows of outputs, and items that need none.

    rows: those of the images that wait longest; what is yielded is taken from both.
    """
    while waiting:
        pixels = waiting[0].instead
        n = len(_each(pixels)) if is_pixels(pixels) else 0
        if n > len(rows):
            return
        result = waiting.popleft()
        if n:
            own = [rows.popleft() for _ in range(n)]
            yield Result(result.index, result.item, own[0] if pixels.ndim == 3 else stack_outputs(own))
        else:
            yield result
