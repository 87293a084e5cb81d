"""Every number of DESIGN.md section 5 but the map's and CIFAR-10's, as ratios taken in one run and medians of several.

Photos are quarters of the shared ones (photos.py), and every cache is a new folder: nothing is known beforehand. Prints what
was measured, what is to hold, and `ok` or `MISSED`; exit code 1 where anything was missed.
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
from headstart.backbones.find import BackboneSpec, find_backbone, wider_backbone
from headstart.codes.compute import compute_codes
from headstart.codes.representation import Representation, represent
from headstart.codes.store import Store
from headstart.data.datasets import load_dataset
from headstart.data.images import load_image
from headstart.engines.hardware import blas_threads
from headstart.engines.openvino_engine import OpenVINOEngine
from headstart.heads.kinds import make_fitter
from headstart.heads.labelled_codes import LabelledCodes
from headstart.selection.cross_validation import choose_head
from machine import Line, arguments, clocked, infer_alone, lines_table, machine, report, seconds
from photos import quarters

COMMAND = str(Path(sys.executable).with_name("headstart"))
N_PHOTOS = 3670  # as many as TensorFlow's flower photos are


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
    data = LabelledCodes(rows, labels, 10, digests)
    took = median(seconds(lambda: choose_head(data)) for _ in range(repeats))
    yield Line(f"head on {n:,} x 1,280 x 10, made-up codes, regularisation chosen", took, "s", 5)
    strength = choose_head(data).strength
    once = median(seconds(lambda: final_fit(data, strength)) for _ in range(repeats))
    yield Line(f"choosing, against the one final fit, {n:,} photos", took / once, "", 2)


def final_fit(data: LabelledCodes, strength: float) -> None:
    """What it takes to fit once what was chosen: from codes to a head."""
    with blas_threads(None, data.codes.size):
        fitter = make_fitter("softmax", data.codes, data.labels, data.n_classes, data.widths, data.members)
        fitter.head(fitter.fit(strength))


def choosing(paths: Sequence[str], backbone: Backbone, tmp: Path, repeats: int) -> Iterator[Line]:
    """Choosing on real codes of several layers, against the one fit of what was chosen."""
    representation = Representation((backbone,), len(backbone.widths))
    with Store(tmp / "choosing") as store:
        codes = represent(paths, representation, store)
    labels = np.array([int(Path(path).parent.name.split()[-1]) for path in paths])
    for n in sorted({400, len(paths)}):
        some = np.linspace(0, len(paths) - 1, n).astype(int)
        groups = [codes.digests[i] for i in some]
        data = LabelledCodes.represented(codes.values[some], labels[some], 5, groups, representation)
        ratios = [_choosing_over_fitting(data) for _ in range(repeats)]
        yield Line(f"choosing on three depths, against the one final fit, {n:,} photos", median(ratios), "", 2)


def _choosing_over_fitting(data: LabelledCodes) -> float:
    strength = choose_head(data).strength
    return seconds(lambda: choose_head(data)) / seconds(lambda: final_fit(data, strength))


AFTER = ("gather", "trust", "evaluate", "curve", "fitting", "issues", "map", "build", "review", "write")


def commands(photos: Path, n: int, tmp: Path, repeats: int, bound: float) -> Iterator[Line]:
    """What a user waits for: whole commands, process start to exit, and predictions in a process that is warm.

    bound: seconds that decoding and inferring all the photos take alone, one after the other.
    """
    cache = {**os.environ, "HEADSTART_CACHE": str(tmp / "cache")}

    def wait(*words: str | Path) -> float:
        command = [COMMAND, *map(str, words)]
        return seconds(lambda: subprocess.run(command, env=cache, check=True, capture_output=True, cwd=tmp))

    def after(run: str) -> float:
        about = json.loads((tmp / run / "run.json").read_text())
        return sum(about["seconds"].get(stage, 0.0) for stage in AFTER)

    cold = wait("train", photos, "-o", tmp / "run")
    yield Line(f"train, cold cache, {n:,} photos", cold, "s")
    yield Line("the same, share of the bound of its passes", bound / cold, "", 0.80, at_least=True)
    yield Line("everything after the head is learnt, the first time", after("run"), "s")
    again = median(wait("train", photos, "-o", tmp / f"run-{i}") for i in range(repeats))
    yield Line(f"train again, everything kept, {n:,} photos", again, "s", 3)
    yield Line("everything after the head is learnt, again", after("run-0"), "s", 1.5)
    quick = ("--effort", "quick", "--report", "none")
    wait("train", photos, "-o", tmp / "quick", *quick)
    simple = median(wait("train", photos, "-o", tmp / f"quick-{i}", *quick) for i in range(repeats))
    yield Line(f"the same with {' '.join(quick)}, {n:,} photos", simple, "s", 1.2)
    yield relabelled(photos, tmp)
    photo = next(photos.glob("*/*"))
    classifier = headstart.load(tmp / "run")
    classifier.predict(photo)
    warm = median(seconds(lambda: classifier.predict(photo)) for _ in range(50 * repeats))
    yield Line("one prediction, warm process", warm * 1000, "ms", 10)
    fresh = median(wait("predict", tmp / "run", photo) for _ in range(2 * repeats + 1))
    yield Line("one prediction, fresh process", fresh, "s", 1)
    yield Line("headstart --help", median(wait("--help") for _ in range(2 * repeats + 1)), "s", 0.1)


def relabelled(photos: Path, tmp: Path) -> Line:
    """Ten photos that move to another class's folder, in a process that has learnt from them already."""
    options = {"cache": tmp / "cache", "effort": "normal"}
    headstart.train(photos, tmp / "process", **options)
    first, second = sorted(folder for folder in photos.iterdir())[:2]
    for path in sorted(first.iterdir())[:10]:
        path.rename(second / path.name)
    took = seconds(lambda: headstart.train(photos, tmp / "relabelled", **options))
    return Line("ten photos relabelled, in a running process, to the new result", took, "s", 0.5)


def listing(folder: Path, n: int) -> Iterator[Line]:
    """Listing a folder per class."""
    for label in range(10):
        (folder / f"class {label}").mkdir(parents=True)
        for i in range(n // 10):
            (folder / f"class {label}" / f"IMG_{i:05}.jpg").touch()
    yield Line(f"listing {n:,} files", median(seconds(lambda: load_dataset(folder)) for _ in range(3)), "s", 2)


def measure(shared: Path, tmp: Path, repeats: int, quick: bool) -> Iterator[Line]:
    """Everything, from the engine's own choices to whole commands."""
    n = 400 if quick else N_PHOTOS
    spec = BackboneSpec()
    usual = find_backbone(spec, tmp / "backbone")
    backbone = wider_backbone(usual, spec, tmp / "backbone") or usual
    paths = quarters(shared, tmp / "photos", n)
    flowers = [path for path in paths if Path(path).name.startswith("flowers")]
    alpaca = [path for path in quarters(shared, tmp / "all photos", 4_400) if Path(path).name.startswith("alpaca")]
    bound = 0.0
    for name, some in (("photos of 0.08 to 0.8 megapixels", paths), ("flowers", flowers), ("alpaca", alpaca)):
        for line in pipeline(name, some, backbone, tmp, repeats):
            if some is paths and line.unit == "images/s" and "->" not in line.what:
                bound += n / line.measured
            yield line
    yield from threads(flowers[: n // 2], backbone, repeats)
    yield from batches(backbone, n // 2, repeats)
    yield from head(n if quick else 50_000, 1 if quick else 3)
    yield from choosing(paths, backbone, tmp, repeats)
    yield from commands(tmp / "photos", n, tmp, repeats, bound)
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
