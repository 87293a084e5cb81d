"""`headstart map`: draws a run's photos as a map, a page or a picture, and places new photos on it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.cli import arguments

if TYPE_CHECKING:
    from headstart.report.maps.page import NewPhotos
    from headstart.runs.findings import Findings
    from headstart.runs.open import SavedRun

HELP = "draw a run's photos as a map"
PAGE, PICTURE = ".html", ".png"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    arguments.add_engine(parser)
    arguments.add_cache(parser)
    arguments.add_quiet(parser)
    arguments.add_json(parser)
    arguments.add_output(parser)
    arguments.add_photos_place(parser)
    arguments.add_run(parser)
    parser.add_argument(
        "--add",
        metavar="PATH",
        nargs="+",
        default=None,
        help="new photos to place on it: files, folders, patterns",
    )
    parser.add_argument("--again", action="store_true", help="place all photos anew, even those that training placed")
    parser.add_argument("--seed", type=int, help="with --again: another chance (default: 0)")


def run(options: argparse.Namespace) -> int:
    """Draw a run's photos as a map, a page or a picture."""
    from headstart.cli import console, summaries
    from headstart.codes.store import Store
    from headstart.progress import underway
    from headstart.report.maps.placement import place_all
    from headstart.report.review import pictures_of
    from headstart.runs.open import open_run

    output = _output(options)
    saved, hardware = open_run(options.run, photos=options.photos), arguments.hardware_of(options)
    with console.Progress(quiet=options.quiet) as progress:
        with underway(progress, "map"):
            findings = place_all(saved.findings, progress=progress, **arguments.options_for(place_all, options))
        with Store(arguments.cache_dir_of(options)) as store:
            pictures = pictures_of(findings, saved.images, store, threads=hardware.threads, progress=progress)
        new = _new_photos(options, saved, findings, progress)
        with underway(progress, "write"):
            _write(output, saved, findings, pictures, new)
    console.print_notes(summaries.missing_photos_notes(saved))
    lines = [f"{len(findings.names) + len(new.names):,} photos are on the map {output}; open it"]
    rows = new.to_json(saved.record["classes"])
    text = "\n".join([*lines, *summaries.unfamiliar_lines(rows)])
    return console.print_done(output, text, is_json=options.json, more={"added": rows} if options.add else None)


def _output(options: argparse.Namespace) -> Path:
    """The file to write, checked before any work."""
    import os

    from headstart.errors import DataError, OutputError
    from headstart.files import check_output

    if "seed" in options and "again" not in options:
        raise DataError("--seed is another chance for a map that is placed anew; add --again")
    output: Path = options.output or Path(f"{Path(os.path.abspath(options.run)).name}-map{PAGE}")
    if output.suffix.lower() not in (PAGE, PICTURE):
        raise OutputError(f"what is {output} to be? name it {PAGE} or {PICTURE}")
    check_output(output, overwrite=options.overwrite)
    return output


def _new_photos(options: argparse.Namespace, saved: SavedRun, findings: Findings, progress: Any) -> NewPhotos:
    """The photos of --add on the map; a note for each that cannot be used."""
    from headstart.cli import console
    from headstart.data import inputs
    from headstart.report.maps.page import NO_NEW_PHOTOS
    from headstart.report.maps.placement import place_new_photos

    if not options.add:
        return NO_NEW_PHOTOS
    empty: list[str] = []
    images, n_images = inputs.list_inputs(options.add, empty), inputs.count_inputs(options.add)
    classifier = saved.classifier(arguments.hardware_of(options))
    try:
        new, skipped = place_new_photos(classifier, findings, images, n_images=n_images, progress=progress)
    finally:
        console.print_notes(f"{folder} holds no files" for folder in empty)
    console.print_notes(f"{path} is left out: {reason}" for path, reason in skipped)
    return new


def _write(output: Path, saved: SavedRun, findings: Findings, pictures: Any, new: NewPhotos) -> None:
    from headstart.files import write_output
    from headstart.report.maps.image import map_picture
    from headstart.report.maps.page import MapContents, map_page

    contents = MapContents(saved.record, findings, pictures, saved.issues, new)
    write_output(output, map_picture(contents) if output.suffix.lower() == PICTURE else map_page(contents))
