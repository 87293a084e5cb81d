"""`headstart export`: writes a run's classifier in another program's format, and compares the two."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from headstart.cli import arguments

if TYPE_CHECKING:
    from headstart.export.export_run import Export

HELP = "export a classifier to another program's format"
COLUMNS = ("format", "same label", "largest dp", "99 % dp", "accuracy", "MB", "ms", "seconds")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    arguments.add_quiet(parser)
    arguments.add_json(parser)
    parser.add_argument("run", metavar="RUN", nargs="?", help="a run folder, or its model.onnx")
    parser.add_argument("--format", default=argparse.SUPPRESS, help="one of those that --list shows, or all (default: onnx)")
    parser.add_argument("--list", action="store_true", default=False, help="list the formats")
    parser.add_argument("-o", dest="output", metavar="DIR", help="the folder to make (default: NAME-FORMAT)")
    parser.add_argument(
        "--photos", metavar="PHOTOS", help="labelled photos to compare on (default: the run's held-out ones)"
    )
    parser.add_argument(
        "--accept-loss", action="store_true", help="keep an export that answers otherwise, or that cannot be compared"
    )
    parser.add_argument("--half", action="store_true", help="weights in 16 bits: half the size, computed in 32")
    parser.add_argument("--batch", metavar="N", help="images at a time: a number, or any")
    parser.add_argument("--any-size", action="store_true", help="take images of any size, resized within the file")
    parser.add_argument(
        "--example", metavar="LANGUAGE", help="write a short program that uses the file: python, js, c++, kotlin or swift"
    )
    parser.add_argument("--runtime", metavar="DIR", help="for the web: the folder of onnxruntime-web, else npm fetches it")
    parser.add_argument("--slim", action="store_true", help="give probabilities alone")


def run(options: argparse.Namespace) -> int:
    """Export to one format, or to all that are installed."""
    from headstart.cli import console
    from headstart.errors import ExportError
    from headstart.export.export_run import ALL, export_run

    if options.list:
        return _list(is_json=options.json)
    if options.run is None:
        raise ExportError("name the run to export: headstart export RUN --format onnx; --list shows the formats")
    if getattr(options, "format", None) == ALL:
        return _export_all(options)
    with console.Progress(quiet=options.quiet) as progress:
        export = export_run(options.run, progress=progress, **arguments.options_for(export_run, options))
    if options.json:
        return console.print_json(export.to_json())
    print(_table([export]))
    for line in _lines(export):
        print(line)
    return 0


def _export_all(options: argparse.Namespace) -> int:
    from headstart.cli import console
    from headstart.export.export_run import export_all

    with console.Progress(quiet=options.quiet) as progress:
        exports, failures = export_all(options.run, progress=progress, **arguments.options_for(export_all, options))
    if options.json:
        failed = [{"format": name, "why": why} for name, why in failures]
        return console.print_json({"exports": [export.to_json() for export in exports], "failed": failed})
    print(_table(exports))
    for name, why in failures:
        console.print_note(f"{name}: {why}")
    if exports:
        print(f"They are in {exports[0].folder.parent}, each with a card.md that says how to use it")
    return 0 if exports else 1


def _list(*, is_json: bool) -> int:
    from headstart.cli import console
    from headstart.export.formats import formats_json

    rows = formats_json()
    if is_json:
        return console.print_json(rows)
    cells = [
        (
            row["format"],
            row["file"],
            "yes" if row["is_installed"] else f"pip install 'headstart[{row['extra']}]'",
            row["about"],
        )
        for row in rows
    ]
    print(console.table(("format", "file", "installed", ""), cells, left=4))
    return 0


def _table(exports: Sequence[Export]) -> str:
    from headstart.cli import console
    from headstart.wording import percent

    rows = []
    for export in exports:
        size, took = f"{export.n_bytes / 1e6:.1f}", f"{export.seconds:.1f}"
        if export.parity is None or export.milliseconds is None:
            rows.append((export.format, "not checked", "", "", "", size, "", took))
            continue
        parity, (before, after) = export.parity, export.milliseconds
        accuracy = "" if parity.accuracies is None else " to ".join(percent(each.share) for each in parity.accuracies)
        apart = f"{parity.probability.largest:.4f}", f"{parity.probability.high:.4f}"
        rows.append((export.format, percent(parity.same), *apart, accuracy, size, f"{before:.1f} to {after:.1f}", took))
    return console.table(COLUMNS, rows)


def _lines(export: Export) -> list[str]:
    """What the table does not say."""
    from headstart.cli import console

    lines = []
    if export.parity is None:
        lines.append(f"not checked: {export.why}")
    else:
        lines.append(f"Compared on {export.parity.photos}, run by {export.runner}: {export.parity.sentence()}.")
        lines += [f"  {Path(path).name}: {ours} became {theirs}" for path, ours, theirs in export.parity.differing[:5]]
    return [*lines, f"The file is {console.quoted(export.file)}; card.md beside it says how to use it"]
