"""Every number of DESIGN.md section 5 but the map's and CIFAR-10's, as ratios taken in one run and medians of several.

Photos are the shared ones, each copied many times under different bytes, and every cache is a new folder: nothing is known
beforehand. Prints what was measured, what is to hold, and `ok` or `MISSED`; exit code 1 where anything was missed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

import numpy as np

import headstart
from choices import batches, run_threads, threads
from headstart.backbones.backbone import Backbone
from headstart.backbones.find import BackboneSpec, find_backbone
from headstart.codes.compute import compute_codes
from headstart.codes.store import Store
from headstart.data.datasets import load_dataset
from headstart.data.images import load_image
from headstart.engines.openvino_engine import OpenVINOEngine
from headstart.heads.labelled_codes import LabelledCodes
from headstart.selection.cross_validation import choose_head
from machine import Line, arguments, clocked, infer_alone, lines_table, machine, report, seconds

COMMAND = str(Path(sys.executable).with_name("headstart"))
N_FLOWERS = 3670  # as many as TensorFlow's flower photos are


def copies(source: Path, folder: Path, n: int) -> list[str]:
    """Copy a set's photos over and over until there are n; four bytes after the end of each make it a photo of its own.

    One in eight lands in any class: every photo that is held out has twins that are not, and without some errors the choice
    of regularisation would go on for ten strengths, where the real photos need four.
    """
    data, random = load_dataset(source), np.random.default_rng(0)
    paths = []
    for i in range(n):
        photo = Path(str(data.images[i % len(data.images)]))
        label = random.integers(len(data.classes)) if random.random() < 1 / 8 else data.labels[i % len(data.images)]
        path = folder / data.classes[label] / f"{i}{photo.suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(photo.read_bytes() + i.to_bytes(4, "little"))
        paths.append(str(path))
    return paths


def pipeline(name: str, paths: Sequence[str], backbone: Backbone, tmp: Path, repeats: int) -> Iterator[Line]:
    """Rates of decoding, of inference and of both with all that lies between, taken in turns."""
    engine = OpenVINOEngine(backbone.network)
    pixels = [p for path in paths[:64] if isinstance(p := load_image(path, backbone.preprocess), np.ndarray)]
    took = []
    for i in range(repeats):
        store = Store(tmp / f"cold-{name}-{i}")
        decoding = clocked(lambda: run_threads(paths, backbone, None, 2 * engine.threads))
        inference = clocked(lambda: infer_alone(engine, len(paths), pixels))
        took.append((decoding, inference, clocked(lambda store=store: compute_codes(paths, backbone, store))))
    clocks = np.array(took)
    walls = np.median(clocks[..., 0], axis=0)
    for what, wall in zip(("decoding alone", "inference alone", "images -> codes"), walls, strict=True):
        yield Line(f"{name}: {what}", len(paths) / wall, "images/s")
    wall_share, cpu_share = np.median((clocks[:, 0] + clocks[:, 1]) / clocks[:, 2], axis=0)
    yield Line(f"{name}: images -> codes, share of the bound", wall_share, "", 0.90, at_least=True)
    yield Line(f"{name}: the same share, in seconds of CPU", cpu_share)


def head(n: int, repeats: int) -> Iterator[Line]:
    """A head on made-up codes: never negative, strongly correlated, some labels wrong, as real ones are, and harder than
    those of CIFAR-10: 66 passes over them, where CIFAR's take 52."""
    random = np.random.default_rng(0)
    mixing = random.standard_normal((1280, 1280), np.float32) / np.arange(1, 1281, dtype=np.float32)[:, None] ** 0.7
    codes = np.maximum(random.standard_normal((n, 1280), np.float32) @ mixing, 0)
    scores = (codes - codes.mean(axis=0)) @ random.standard_normal((1280, 10), np.float32)
    labels = (scores / scores.std(axis=0) + 0.2 * random.standard_normal(scores.shape)).argmax(axis=1)
    digests = [i.to_bytes(32, "little") for i in range(n)]
    rows = codes.astype(np.float16)
    took = median(seconds(lambda: choose_head(LabelledCodes(rows, labels, 10, digests))) for _ in range(repeats))
    yield Line(f"head on {n:,} x 1,280 x 10, made-up codes, regularisation chosen", took, "s", 5)


def commands(photos: Path, n: int, tmp: Path, repeats: int) -> Iterator[Line]:
    """What a user waits for: whole commands, process start to exit, and predictions in a process that is warm."""
    cache = {**os.environ, "HEADSTART_CACHE": str(tmp / "cache")}

    def wait(*words: str | Path) -> float:
        command = [COMMAND, *map(str, words)]
        return seconds(lambda: subprocess.run(command, env=cache, check=True, capture_output=True, cwd=tmp))

    yield Line(f"train, cold cache, {n:,} photos", wait("train", photos, "-o", tmp / "run"), "s")
    again = median(wait("train", photos, "-o", tmp / f"run-{i}") for i in range(repeats))
    yield Line(f"train again, everything cached, {n:,} photos", again, "s", 5)
    about = json.loads((tmp / "run-0" / "run.json").read_text())
    tries = sum(rung["seconds"] for rung in about["ladder"])
    yield Line(f"choosing, as parts of the fit on all {n:,} photos", tries / (about["seconds"]["choose"] - tries), "", 3)
    simple = median(wait("train", photos, "-o", tmp / f"simple-{i}", "--budget", "0") for i in range(repeats))
    yield Line(f"the same with --budget 0, {n:,} photos", simple, "s", 2)
    photo = next(photos.glob("*/*"))
    classifier = headstart.load(tmp / "run")
    classifier.predict(photo)
    warm = median(seconds(lambda: classifier.predict(photo)) for _ in range(50 * repeats))
    yield Line("one prediction, warm process", warm * 1000, "ms", 10)
    fresh = median(wait("predict", tmp / "run", photo) for _ in range(2 * repeats + 1))
    yield Line("one prediction, fresh process", fresh, "s", 1)
    yield Line("headstart --help", median(wait("--help") for _ in range(2 * repeats + 1)), "s", 0.1)


def listing(folder: Path, n: int) -> Iterator[Line]:
    """Listing a folder per class."""
    for label in range(10):
        (folder / f"class {label}").mkdir(parents=True)
        for i in range(n // 10):
            (folder / f"class {label}" / f"IMG_{i:05}.jpg").touch()
    yield Line(f"listing {n:,} files", median(seconds(lambda: load_dataset(folder)) for _ in range(3)), "s", 2)


def measure(shared: Path, tmp: Path, repeats: int, quick: bool) -> Iterator[Line]:
    """Everything, from the engine's own choices to whole commands."""
    n = 400 if quick else N_FLOWERS
    backbone = find_backbone(BackboneSpec(), tmp / "backbone")
    flowers = copies(shared / "data" / "flowers", tmp / "flowers", n)
    alpaca = copies(shared / "data" / "alpaca", tmp / "alpaca", n // 2)
    yield from pipeline("flowers", flowers, backbone, tmp, repeats)
    yield from pipeline("alpaca", alpaca, backbone, tmp, repeats)
    yield from threads(flowers[: n // 2], backbone, repeats)
    yield from batches(backbone, n // 2, repeats)
    yield from head(n if quick else 50_000, 1 if quick else 3)
    yield from commands(tmp / "flowers", n, tmp, repeats)
    yield from listing(tmp / "listing", 10_000 if quick else 100_000)


def main() -> None:
    """Measure, print, record."""
    parser = arguments("The speed of everything, against what is to hold.")
    parser.add_argument("--repeats", type=int, default=5, help="how often, for a median (default: 5)")
    parser.add_argument("--quick", action="store_true", help="a tenth of everything: a check of this script")
    options = parser.parse_args()
    if options.record and options.quick:
        parser.error("a quick run is no record")
    about, lines = machine(), []
    with tempfile.TemporaryDirectory() as tmp:
        for line in measure(options.shared, Path(tmp), 1 if options.quick else options.repeats, options.quick):
            lines.append(line)
            print(*line.cells(), sep="  ", file=sys.stderr, flush=True)
    report("speed", options, about, {"repeats": options.repeats, "lines": lines}, lines_table(lines))
    sys.exit(any(line.verdict == "MISSED" for line in lines))


if __name__ == "__main__":
    main()
