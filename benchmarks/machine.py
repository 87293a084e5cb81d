"""What the benchmarks share: where the data is, what this machine is and can do, how a line reads, where results go."""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from headstart.engines.hardware import available_cores
from headstart.engines.openvino_engine import OpenVINOEngine

HERE = Path(__file__).resolve().parent
SHARED = HERE.parents[1] / "shared"
RESULTS = HERE / "results"
FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_int8")
PACKAGES = ("headstart", "openvino", "numpy", "opencv-python-headless", "simplejpeg", "pillow")


def arguments(about: str) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--shared", type=Path, default=SHARED, help="folder with data/ and weights/ (default: ../shared)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--record", action="store_true", help="write benchmarks/results/NAME.json and NAME.md as well")
    return parser


@dataclass(frozen=True)
class Line:
    """One number and what it has to hold: at most `hold`, or at least."""

    what: str
    measured: float
    unit: str = ""
    hold: float | None = None
    at_least: bool = False

    @property
    def verdict(self) -> str:
        """`ok` or `MISSED`; empty where there is nothing to hold."""
        if self.hold is None:
            return ""
        holds = self.measured >= self.hold if self.at_least else self.measured <= self.hold
        return "ok" if holds else "MISSED"

    def to_json(self) -> dict[str, Any]:
        """The line with its verdict."""
        return {**asdict(self), "verdict": self.verdict}

    def cells(self) -> tuple[str, ...]:
        """The line as a row of a table."""
        hold = "" if self.hold is None else f"{'>=' if self.at_least else '<='} {number(self.hold)} {self.unit}".strip()
        return self.what, f"{number(self.measured)} {self.unit}".strip(), hold, self.verdict


def number(value: float) -> str:
    """Three significant digits, whole from 100 on."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns line up."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    lines = [header, ["-" * width for width in widths], *rows]
    return "\n".join("| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |" for row in lines)


def lines_table(lines: Sequence[Line]) -> str:
    """Lines as a table."""
    return table(("what", "measured", "hold", ""), [line.cells() for line in lines])


def machine() -> dict[str, Any]:
    """The hardware, the versions, the date, and how busy the machine was before we began."""
    cpuinfo = Path("/proc/cpuinfo")  # on Linux only; elsewhere no features are told
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    fields = dict(map(str.strip, line.split(":", 1)) for line in lines if ":" in line)
    return {
        "cpu": fields.get("model name", platform.processor()),
        "cores": available_cores(),
        "features": [name for name in FEATURES if name in fields.get("flags", "").split()],
        "ram_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.system(),
        "load_average": round(os.getloadavg()[0], 2),
        "date": datetime.now(UTC).date().isoformat(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
    }


def machine_line(about: dict[str, Any]) -> str:
    """The machine in one line."""
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    return (
        f"{about['cpu']}, {about['cores']} cores, {' '.join(about['features'])}, {about['ram_gib']} GiB; "
        f"{about['date']}, load before {about['load_average']}; {versions}"
    )


def report(name: str, options: argparse.Namespace, about: dict[str, Any], result: dict[str, Any], text: str) -> None:
    """Print a result as asked, and record it where that is asked too."""
    text = f"{text}\n\n{machine_line(about)}"
    whole = json.dumps({"benchmark": name, "machine": about, **result}, indent=2, default=Line.to_json)
    print(whole if options.json else text)
    if options.record:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}.json").write_text(whole + "\n")
        (RESULTS / f"{name}.md").write_text(f"# {name}\n\nWritten by `benchmarks/{name}.py --record`.\n\n{text}\n")


def seconds(work: Callable[[], Any]) -> float:
    """How long a piece of work takes."""
    return clocked(work)[0]


def clocked(work: Callable[[], Any]) -> tuple[float, float]:
    """How long a piece of work takes, and how many seconds of all cores together."""
    start, cpu_start = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - start, time.process_time() - cpu_start


def infer_alone(engine: OpenVINOEngine, n: int, photos: Sequence[np.ndarray] = ()) -> None:
    """Run the network n times on all cores: pixels that are there already go in, and codes come out."""
    pixels = photos or [np.random.default_rng(i).integers(0, 256, (224, 224, 3), np.uint8) for i in range(16)]
    for _ in engine.stream(range(n), lambda i, _: pixels[i % len(pixels)]):
        pass
