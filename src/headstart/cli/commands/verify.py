"""`headstart verify`: whether a classifier is whole, where it comes from, and whether it still says what it said."""

from __future__ import annotations

import argparse

from headstart.cli import arguments

HELP = "check a classifier's hash, origin and predictions"
WORDS = {True: "ok", False: "WRONG", None: ""}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    arguments.add_engine(parser)
    arguments.add_quiet(parser)
    arguments.add_json(parser)
    arguments.add_photos_place(parser)
    parser.add_argument("path", metavar="RUN_OR_FILE", help="a run folder, a model.onnx, or the folder of an export")


def run(options: argparse.Namespace) -> int:
    """Verify it; 1 where something is wrong."""
    from headstart.cli import console
    from headstart.export.verify import verify

    with console.Progress(quiet=options.quiet) as progress:
        verified = verify(options.path, progress=progress, **arguments.options_for(verify, options))
    if options.json:
        console.print_json(verified.to_json())
    else:
        for finding in verified.findings:
            print(f"{finding.what:12} {WORDS[finding.is_right]:6} {finding.text}")
    return 0 if verified.is_right else 1
