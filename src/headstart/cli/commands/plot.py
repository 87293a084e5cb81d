"""`headstart plot`: draws one of a run's plots with matplotlib, as PNG, SVG or PDF."""

from __future__ import annotations

import argparse
from pathlib import Path

from headstart.cli import arguments

HELP = "draw one of a run's plots"
KINDS = (
    "curves",
    "confusion",
    "calibration",
    "map",
    "mistakes",
    "predictions",
    "photos",
)  # report.plots.table.PLOTS, unimported


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    arguments.add_json(parser)
    arguments.add_output(parser)
    arguments.add_photos_place(parser)
    arguments.add_run(parser)
    parser.add_argument("--kind", required=True, choices=KINDS, help="which one")


def run(options: argparse.Namespace) -> int:
    """Draw one of a run's plots."""
    from headstart.cli import console, summaries
    from headstart.files import check_output
    from headstart.report.plots import style, table
    from headstart.runs.open import open_run
    from headstart.runs.photo_pixels import pixels_of_photo

    output = options.output or Path(f"{options.kind}.png")
    check_output(output, overwrite=options.overwrite)
    saved = open_run(options.run, photos=options.photos)
    plot = table.PLOTS[options.kind]
    rows = plot.rows(saved.record, saved.findings)
    pictures = {row: pixels for row in rows if (pixels := pixels_of_photo(saved, row)) is not None}
    style.save(plot.draw(saved.record, saved.findings, pictures), output)
    if len(pictures) < len(rows):
        console.print_notes(summaries.missing_photos_notes(saved))
    return console.print_done(output, f"{output} is drawn", is_json=options.json)
