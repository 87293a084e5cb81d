"""Two choices that engine.py makes for every machine, measured: images a request, and threads a core. Part of speed.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from statistics import median
from typing import Any

import numpy as np

from headstart.backbones.backbone import Backbone
from headstart.data.images import load_image
from headstart.engines.hardware import available_cores
from headstart.engines.openvino_engine import OpenVINOEngine
from headstart.engines.ordered import Result, in_order
from machine import Line, seconds

BATCHES = (1, 8, 32)
THREADS = (1.0, 1.5, 2.0)


def in_turns(work: dict[Any, Callable[[], Any]], repeats: int) -> dict[Any, float]:
    """Median seconds of several pieces of work, taken in turns, so that a slow spell hits all of them alike."""
    took: dict[Any, list[float]] = {key: [] for key in work}
    for _ in range(repeats):
        for key, piece in work.items():
            took[key].append(seconds(piece))
    return {key: median(values) for key, values in took.items()}


def run_threads(paths: Sequence[str], backbone: Backbone, engine: OpenVINOEngine | None, n_threads: int) -> None:
    """Decode photos, and infer where there is an engine, in so many threads."""

    def work(i: int, path: str) -> Result[str]:
        pixels = load_image(path, backbone.preprocess)
        return Result(i, path, engine.infer(pixels) if engine and isinstance(pixels, np.ndarray) else None)

    for _ in in_order(paths, work, workers=n_threads):
        pass


def threads(paths: Sequence[str], backbone: Backbone, repeats: int) -> Iterator[Line]:
    """How many threads decode and infer; engine.py has two a core. And what every process pays before its first image."""
    engine = OpenVINOEngine(backbone.network)
    compiling = median(seconds(lambda: OpenVINOEngine(backbone.network)) for _ in range(repeats))
    yield Line("engine: compiling the network, once a process", compiling, "s")
    counts = {a_core: round(a_core * engine.threads) for a_core in THREADS}
    took = in_turns({c: lambda n=n: run_threads(paths, backbone, engine, n) for c, n in counts.items()}, repeats)
    for a_core, n in counts.items():
        yield Line(
            f"engine: {n} threads, {a_core:g} a core, flowers decoded and inferred", len(paths) / took[a_core], "images/s"
        )


def batches(backbone: Backbone, n: int, repeats: int) -> Iterator[Line]:
    """How many images a request takes, in OpenVINO's own queue of requests; engine.py has one."""
    OpenVINOEngine(backbone.network)  # imports OpenVINO first, without its telemetry
    import openvino
    from openvino import properties

    options = {
        properties.hint.performance_mode: properties.hint.PerformanceMode.THROUGHPUT,
        properties.inference_num_threads: available_cores(),
    }
    core, square = openvino.Core(), (backbone.preprocess.size, backbone.preprocess.size, 3)

    def asking(b: int) -> Callable[[], None]:
        model = core.read_model(backbone.network)
        model.reshape([b, *square])
        requests = openvino.AsyncInferQueue(core.compile_model(model, "CPU", options))
        images = np.random.default_rng(0).integers(0, 256, (b, *square), np.uint8)

        def ask() -> None:
            for _ in range(n // b):
                requests.start_async([images], share_inputs=True)
            requests.wait_all()

        return ask

    took = in_turns({b: asking(b) for b in BATCHES}, repeats)
    for b in BATCHES:
        yield Line(f"engine: Lite0 alone, images a request: {b}", n // b * b / took[b], "images/s")
