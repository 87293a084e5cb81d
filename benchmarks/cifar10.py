"""The 2016 tutorial's experiment, repeated: CIFAR-10 by transfer learning, on a CPU, from a cold cache.

"Tensorflow retrain on CIFAR-10" took 3-4 hours for the codes of 60,000 images (Inception v3) and less than a minute for the
head, and had 87.7 % of the test images right. Here `headstart.train` does all of it, from the Parquet files to the run
folder: frozen backbone, last layer only, regularisation chosen on held-out images.
"""

from __future__ import annotations

import resource
import sys
import tempfile
from pathlib import Path
from typing import Any

import headstart
from headstart.backbones import load_backbone
from headstart.engine import Engine
from machine import Line, arguments, infer_alone, lines_table, machine, report, seconds, table

N_IMAGES = 60_000
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
        if done == total or done % 1000 == 0:
            peaks[stage] = resident_gib()

    run = headstart.train(source, folder / "run", cache=folder / "cache", progress=watch)
    about = run.about
    store = sum(path.stat().st_size for path in (folder / "cache").glob("*.sqlite*"))
    return {
        "images": {name: about["images"][name] for name in ("used", "test", "skipped", "computed")},
        "seconds": about["seconds"],
        "images_per_second": about["images"]["computed"] / about["seconds"]["codes"],
        "resident_gib": {"codes": peaks["codes"], "all": resident_gib()},
        "store_mib": store / 2**20,
        "l2": about["choice"]["l2"],
        "trials": len(about["choice"]["trials"]),
        "accuracy": run.evaluation.accuracy,
        "interval": run.evaluation.interval,
    }


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
        Line("CIFAR-10: resident memory, the whole training", result["resident_gib"]["all"], "GiB"),
        Line(f"CIFAR-10: head, {result['trials']} strengths tried", result["seconds"]["head"], "s", 5),
        Line("CIFAR-10: everything, from Parquet to run folder", sum(result["seconds"].values()), "s"),
    ]


def beside_the_tutorial(result: dict[str, Any]) -> str:
    """Our figures beside the tutorial's."""
    low, high = result["interval"]
    ours = {
        "codes": f"{result['seconds']['codes']:.0f} s",
        "head": f"{result['seconds']['head']:.1f} s",
        "test accuracy": f"{result['accuracy']:.1%} ({low:.1%}-{high:.1%})",
    }
    rows = [(what, TUTORIAL[what], ours[what]) for what in TUTORIAL]
    return table(("CIFAR-10", "tutorial of 2016, Inception v3", "headstart, efficientnet-lite0, last layer"), rows)


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
        engine = Engine(load_backbone(cache_dir=folder / "cache").network)
    n = min(N_IMAGES // 20, result["images"]["computed"])
    result["infer_rate"] = n / sorted(seconds(lambda: infer_alone(engine, n)) for _ in range(3))[1]
    lines = held(result)
    text = f"{beside_the_tutorial(result)}\n\n{lines_table(lines)}"
    report("cifar10", options, about, {**result, "tutorial": TUTORIAL, "lines": lines}, text)
    sys.exit(any(line.verdict == "MISSED" for line in lines))


if __name__ == "__main__":
    main()
