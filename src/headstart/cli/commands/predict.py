"""`headstart predict`: labels photos with a classifier, a row each, as lines for people, CSV, JSON or Parquet."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from headstart.cli import arguments

if TYPE_CHECKING:
    from headstart.classifier.prediction import Prediction

HELP = "label photos with a classifier"
FORMATS = ("csv", "jsonl", "json", "parquet")  # classifier.writers.FORMATS, unimported
WIDEST = 24  # characters of a class's name in lines for people


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    arguments.add_engine(parser)
    arguments.add_cache(parser)
    arguments.add_quiet(parser)
    arguments.add_run(parser, "a run folder, its model.onnx, hf:owner/name, or `imagenet`")
    parser.add_argument(
        "paths", nargs="+", metavar="PATH", help="files, folders, patterns, or - for stdin (paths or one picture)"
    )
    parser.add_argument("--top", type=arguments.at_least_one, metavar="N", help="list the N likeliest classes (default: 3)")
    parser.add_argument(
        "--coverage",
        type=float,
        metavar="SHARE",
        help="give each photo a set of classes that holds the right one so often, as in 0.95",
    )
    parser.add_argument(
        "--sets",
        choices=("smallest", "adaptive"),
        help="how those are made: smallest on average (default), or adaptive, larger for hard photos",
    )
    forms = parser.add_mutually_exclusive_group()
    for form in FORMATS:
        forms.add_argument(f"--{form}", dest="form", action="store_const", const=form, default=None, help=f"rows as {form}")
    parser.add_argument(
        "-o", dest="output", metavar="FILE", type=Path, default=None, help="write them to a file (its name tells the format)"
    )
    arguments.add_overwrite(parser)


def run(options: argparse.Namespace) -> int:
    """Label photos, and write a row for each as it comes."""
    from headstart.classifier.classifier import Classifier
    from headstart.cli import console
    from headstart.data import inputs
    from headstart.errors import DataError
    from headstart.wording import counted

    form = _format(options)
    classifier = arguments.classifier_of(options)
    keywords = arguments.options_for(Classifier.stream, options)
    if "sets" in keywords and "coverage" not in keywords:
        raise DataError("--sets says how the sets of --coverage are made; add --coverage 0.95")
    is_quiet = options.quiet or (form is None and sys.stdout.isatty())
    total = 0 if is_quiet else inputs.count_inputs(options.paths)
    empty: list[str] = []
    images = inputs.list_inputs(options.paths, empty)
    if (first := next(images, None)) is None:
        raise DataError(f"there are no files in {', '.join(options.paths)}")
    with (
        console.rows_output(options.output, overwrite=options.overwrite) as file,
        console.Progress(quiet=is_quiet) as progress,
        _rows(form, file, classifier.classes) as write,
    ):
        progress("predict", 0, total)
        stream = classifier.stream(itertools.chain([first], images), **keywords)
        n, n_failed = _write_all(stream, write, lambda n: progress("predict", n, total))
    if options.output:
        print(f"{options.output}: {counted(n, 'row')}", file=sys.stderr)
    console.print_notes(f"{folder} holds no files" for folder in empty)
    if n_failed:
        console.print_note(f"{n_failed:,} of {n:,} images could not be used; their rows say why")
    return 1 if n_failed else 0


def _format(options: argparse.Namespace) -> str | None:
    """The format of the rows, by the options or the file's name; None for lines for people."""
    from headstart.classifier.writers import format_of
    from headstart.errors import OutputError

    form: str | None = options.form or (format_of(options.output) if options.output else None)
    if options.output and not form:
        raise OutputError(f"what format is {options.output} to have? name it .{', .'.join(FORMATS)}, or add --FORMAT")
    if form == "parquet" and not options.output and sys.stdout.isatty():
        raise OutputError("Parquet is no text for a terminal; name a file with -o")
    return form


@contextlib.contextmanager
def _rows(form: str | None, file: IO[bytes], classes: Sequence[str]) -> Iterator[Callable[[Prediction], Any]]:
    """Give what writes a prediction as a row."""
    from headstart.classifier.writers import FORMATS
    from headstart.cli.summaries import people_row

    if form:
        with FORMATS[form](file) as write:
            yield write
    else:
        file.flush()
        width = min(WIDEST, max(map(len, classes)))
        yield lambda p: file.write(f"{people_row(p, width)}\n".encode("utf-8", "surrogateescape"))


def _write_all(stream: Any, write: Callable[[Prediction], Any], progress: Callable[[int], None]) -> tuple[int, int]:
    """Write every prediction; gives how many there are, and of how many images that could not be used."""
    n, n_failed = 0, 0
    with contextlib.closing(stream):  # its threads end before this process does
        for n, prediction in enumerate(stream, start=1):
            write(prediction)
            n_failed += prediction.status != "ok"
            progress(n)
    return n, n_failed
