"""`headstart demo`: learns scikit-learn's handwritten digits, which come with headstart."""

from __future__ import annotations

import argparse
from pathlib import Path

from headstart.cli import arguments
from headstart.cli.commands import train

HELP = "learn handwritten digits, which come with it"
FOLDER = Path("headstart-demo")
MOST_RUNS = 10_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.description = "Write out 1,797 handwritten digits and learn them; needs no network."
    arguments.add_cache(parser)
    arguments.add_quiet(parser)
    parser.add_argument("-o", dest="folder", metavar="DIR", type=Path, default=FOLDER, help=f"where to (default: {FOLDER})")


def run(options: argparse.Namespace) -> int:
    """Write the digits, learn them as `headstart train` does, and say what to try next."""
    from headstart.cli.console import program, quoted
    from headstart.data.digits import write_digits
    from headstart.errors import OutputError

    folder: Path = options.folder
    digits = folder / "digits"
    if folder.exists() and not digits.is_dir():
        raise OutputError(f"{folder} is there already and is no demo's folder; name another with -o")
    n = write_digits(digits)
    print(f"{n:,} handwritten digits are in {digits}, a folder for each: look at them. Now:\n")
    names = ("run" if i == 1 else f"run-{i}" for i in range(1, MOST_RUNS))
    run_folder = next(folder / name for name in names if not (folder / name).exists())
    cache = {"cache": options.cache} if "cache" in options else {}
    words = ["train", str(digits), "-o", str(run_folder), *(word for name in cache for word in (f"--{name}", cache[name]))]
    print(f"$ headstart {' '.join(map(quoted, words))}")
    its_options = {"photos": str(digits), "run": str(run_folder), "quiet": options.quiet, "json": False, "mlflow": None}
    status = train.run(argparse.Namespace(**its_options, **cache))
    a_seven = next(iter(sorted((digits / "7").iterdir())))
    print(f"\nTry it:\n  {program()} predict {quoted(run_folder)} {quoted(a_seven)}")
    print(f"Then your own, a folder of photos for each class:\n  {program()} train PHOTOS")
    print(f"Or no training at all:\n  {program()} predict imagenet PHOTO")
    return status
