"""The 2016 tutorial's experiment, repeated: CIFAR-10 by transfer learning, on a CPU, from a cold cache.

"Tensorflow retrain on CIFAR-10" took 3-4 hours for the codes of 60,000 images (Inception v3) and less than a minute for the
head, and had 87.7 % of the test images right. Here `headstart.train` does all of it, from the Parquet files to
the run folder, with the default effort.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import headstart
from headstart.backbones.find import BackboneSpec, find_backbone
from headstart.codes.compute import compute_codes
from headstart.codes.store import Store
from headstart.data.datasets import load_dataset
from headstart.data.splits import TEST
from headstart.engines.hardware import available_cores
from headstart.engines.openvino_engine import OpenVINOEngine
from headstart.heads.labelled_codes import LabelledCodes
from headstart.selection.cross_validation import choose_head
from machine import Line, arguments, infer_alone, lines_table, machine, report, seconds, table

N_IMAGES = 60_000
WHOLE_SECONDS, GIB, ACCURACY = 480, 4, 0.885  # all of it in eight minutes, under 4 GiB, 88.5 % right
SECONDS, AT_RATE = 150, 500  # DESIGN.md section 5: codes of 60,000 images in 150 s where Lite0 infers 500 a second
TUTORIAL = {"codes": "3-4 hours", "head": "< 1 minute", "test accuracy": "87.7 %"}


def limited(source: Path, folder: Path, n: int) -> Path:
    """Copy the first n rows of train and n / 5 of test, for quick checks."""
    import pyarrow.parquet as parquet

    folder.mkdir()
    for name, rows in (("train", n), ("test", n // 5)):
        first = parquet.read_table(source / f"{name}.parquet").slice(0, rows)
        parquet.write_table(first, folder / f"{name}.parquet", row_group_size=1000)
    return folder


def resident_gib() -> float:
    """The most memory that this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 2**30


def experiment(source: Path, folder: Path) -> dict[str, Any]:
    """Train with a cold cache; seconds and resident memory by stage, and what came of it."""
    peaks: dict[str, float] = {}

    def watch(stage: str, done: int, total: int) -> None:
        if stage == "head":
            peaks["learnt"] = resident_gib()
        elif stage == "codes" and (done == total or done % 1000 == 0) and "learnt" not in peaks:
            peaks["codes"] = resident_gib()

    start = time.perf_counter()
    run = headstart.train(source, folder / "run", cache=folder / "cache", progress=watch)
    whole = time.perf_counter() - start
    about, peak = run.about, resident_gib()
    head_seconds, last_layer = last_layer_alone(source, folder / "cache")
    store = sum(path.stat().st_size for path in (folder / "cache").glob("*.sqlite*"))
    return {
        "images": {name: about["images"][name] for name in ("used", "test", "skipped", "computed")},
        "seconds": about["seconds"],
        "images_per_second": about["images"]["computed"] / about["seconds"]["codes"],
        "resident_gib": {"codes": peaks["codes"], "all": peak},
        "store_mib": store / 2**20,
        "whole_seconds": whole,
        "head_seconds": head_seconds,
        "last_layer": last_layer,
        "choice": {name: value for name, value in about["choice"].items() if name != "trials"},
        "ladder": about["ladder"],
        "accuracy": run.evaluation.accuracy,
        "interval": run.evaluation.interval,
    }


def last_layer_alone(source: Path, cache: Path) -> tuple[float, float]:
    """Seconds to choose and fit a head on the last layer's codes of all training images, and its test accuracy."""
    data = load_dataset(source)
    with Store(cache) as store:
        codes = compute_codes(data.images, find_backbone(BackboneSpec(), cache), store)
    labels, test = data.labels[codes.index], data.splits[codes.index] == TEST
    digests = [codes.digests[i] for i in np.flatnonzero(~test)]
    learn = codes.values[~test]
    start = time.perf_counter()
    choice = choose_head(LabelledCodes(learn, labels[~test], len(data.classes), digests), threads=available_cores())
    head_seconds = time.perf_counter() - start
    return head_seconds, float((choice.head.logits(codes.values[test]).argmax(axis=1) == labels[test]).mean())


def held(result: dict[str, Any]) -> list[Line]:
    """The lines of DESIGN.md section 5 that this experiment decides."""
    n, share = result["images"]["computed"], result["images"]["computed"] / N_IMAGES
    rate = result["infer_rate"]
    return [
        Line("Lite0 alone, inference only", rate, "images/s"),
        Line("CIFAR-10: codes", result["images_per_second"], "images/s"),
        Line(
            f"CIFAR-10: codes of {n:,} images (150 s for 60,000 where Lite0 infers 500/s)",
            result["seconds"]["codes"],
            "s",
            SECONDS * share * AT_RATE / rate,
        ),
        Line("CIFAR-10: resident memory, codes", result["resident_gib"]["codes"], "GiB", 2),
        Line("CIFAR-10: resident memory, the whole training", result["resident_gib"]["all"], "GiB", GIB),
        Line("CIFAR-10: head on the last layer's codes, regularisation chosen", result["head_seconds"], "s", 5),
        Line("CIFAR-10: everything, from Parquet to run folder", result["whole_seconds"], "s", WHOLE_SECONDS),
        Line(
            "CIFAR-10: images of the test split labelled wrongly", 100 * (1 - result["accuracy"]), "%", 100 * (1 - ACCURACY)
        ),
    ]


def beside_the_tutorial(result: dict[str, Any]) -> str:
    """Our figures beside the tutorial's."""
    low, high = result["interval"]
    ours = {
        "codes": f"{result['seconds']['codes']:.0f} s",
        "head": f"{result['head_seconds']:.1f} s",
        "test accuracy": f"{result['last_layer']:.1%}",
    }
    climbed = {
        "codes": "",
        "head": f"{result['whole_seconds']:.0f} s for everything",
        "test accuracy": f"{result['accuracy']:.1%} ({low:.1%}-{high:.1%})",
    }
    rows = [(what, TUTORIAL[what], ours[what], climbed[what]) for what in TUTORIAL]
    header = ("CIFAR-10", "tutorial of 2016, Inception v3", "headstart, efficientnet-lite0, last layer", "with the ladder")
    rungs = [
        (
            rung["name"],
            "-" if rung["accuracy"] is None else f"{rung['accuracy']:.1%}",
            f"{rung['seconds']:.0f}",
            "yes" if rung["is_taken"] else "no",
            f"{rung['look']} {rung['why']}",
        )
        for rung in result["ladder"]
    ]
    return f"{table(header, rows)}\n\n{table(('rung', 'held-out accuracy', 's', 'taken', ''), rungs)}"


def main() -> None:
    """Measure, print, record."""
    parser = arguments("CIFAR-10 with a cold cache, beside the tutorial of 2016.")
    parser.add_argument("--limit", type=int, help="only so many training images, and a fifth of it to test (quick check)")
    options = parser.parse_args()
    if options.record and options.limit:
        parser.error("a part of the images is no record")
    about = machine()
    source = options.shared / "data" / "cifar10"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.limit:
            source = limited(source, folder / "photos", options.limit)
        result = experiment(source, folder)
        engine = OpenVINOEngine(find_backbone(BackboneSpec(), folder / "cache").network)
    n = min(N_IMAGES // 20, result["images"]["computed"])
    result["infer_rate"] = n / sorted(seconds(lambda: infer_alone(engine, n)) for _ in range(3))[1]
    lines = held(result)
    text = f"{beside_the_tutorial(result)}\n\n{lines_table(lines)}"
    report("cifar10", options, about, {**result, "tutorial": TUTORIAL, "lines": lines}, text)
    sys.exit(any(line.verdict == "MISSED" for line in lines))


if __name__ == "__main__":
    main()
