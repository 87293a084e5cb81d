"""`headstart report`: writes a run's report.html again."""

from __future__ import annotations

import argparse

from headstart.cli import arguments

HELP = "write a run's report again"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    arguments.add_engine(parser)
    arguments.add_cache(parser)
    arguments.add_quiet(parser)
    arguments.add_json(parser)
    arguments.add_photos_place(parser)
    arguments.add_run(parser)


def run(options: argparse.Namespace) -> int:
    """Write a run's report again, from its files and those of its photos that are still there."""
    from headstart.cli import console, summaries
    from headstart.codes.store import Store
    from headstart.progress import underway
    from headstart.report.review import pictures_of, review, with_probes, write_report
    from headstart.runs.folder import REPORT
    from headstart.runs.open import open_run
    from headstart.runs.run_classifier import classifier_of_run

    saved, hardware = open_run(options.run, photos=options.photos), arguments.hardware_of(options)
    with console.Progress(quiet=options.quiet) as progress:
        classifier = classifier_of_run(saved, hardware)
        with Store(arguments.cache_dir_of(options)) as store:
            pictures = pictures_of(saved.findings, saved.images, store, threads=hardware.threads, progress=progress)
        with underway(progress, "review"):
            reviewed = review(classifier, saved.findings, saved.images, pictures, progress=progress)
        about = with_probes(saved.record, reviewed)
        if saved.n_gone:
            gone = f"{saved.n_gone:,} of {len(saved.images):,} photos were not where they had been"
            about = {**about, "notes": [*about.get("notes", ()), f"when this page was written, {gone}"]}
        with underway(progress, "write"):
            write_report(saved.folder, about, saved.findings, saved.issues, reviewed)
    console.print_notes(summaries.missing_photos_notes(saved))
    path = saved.folder / REPORT
    return console.print_done(path, f"The report is {path}; open it in a browser", is_json=options.json)
