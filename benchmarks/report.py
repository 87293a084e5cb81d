"""What does it cost to know whether to trust a classifier? Seconds that each stage for it adds to a training, codes kept.

On 3,670 images of CIFAR-10, which are no copies of each other, with the ladder; `--whole` on all 60,000 as well, without.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import headstart
from machine import Line, arguments, lines_table, machine, report

STAGES = ("glance", "trust", "fitting", "issues", "review", "write")
N_FEW = 3_670
HOLD = {N_FEW: 3.0, 60_000: 30.0}
REPEATS = 3


def written(shared: Path, n: int, folder: Path) -> Path:
    """The first n images of CIFAR-10 as tables; all of them are its two files."""
    import pyarrow.parquet

    source = shared / "data" / "cifar10"
    if n > 50_000:
        return source
    pyarrow.parquet.write_table(pyarrow.parquet.read_table(source / "train.parquet").slice(0, n), folder / "few.parquet")
    return folder / "few.parquet"


def lines(photos: Path, n: int, folder: Path, repeats: int) -> Iterator[Line]:
    """A line for each stage, the map's beside them, and what has to be held."""
    options = {"cache": folder / "cache", "effort": "normal" if n == N_FEW else "quick"}
    runs = [headstart.train(photos, folder / f"run{n}-{i}", **options) for i in range(repeats + 1)][1:]
    took = {stage: median(run.about["seconds"][stage] for run in runs) for stage in (*STAGES, "map")}
    for stage, seconds in took.items():
        yield Line(f"{n:,} images: {stage}", seconds, "s")
    whole = median(sum(run.about["seconds"].values()) for run in runs)
    yield Line(f"{n:,} images: the whole training", whole, "s")
    page = (runs[-1].folder / "report.html").stat().st_size / 1e6
    yield Line(f"{n:,} images: report.html", page, "MB", 5.0)
    yield Line(f"{n:,} images: all of it but the map", sum(took[stage] for stage in STAGES), "s", HOLD[n])


def main() -> None:
    """Measure, and print."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--whole", action="store_true", help="60,000 images as well: five minutes more")
    options = parser.parse_args()
    about, found = machine(), []
    with tempfile.TemporaryDirectory() as name:
        for n in (N_FEW, 60_000) if options.whole else (N_FEW,):
            repeats = REPEATS if n == N_FEW else 1
            found += lines(written(options.shared, n, Path(name)), n, Path(name), repeats)
    report("report", options, about, {"lines": found}, lines_table(found))


if __name__ == "__main__":
    main()
