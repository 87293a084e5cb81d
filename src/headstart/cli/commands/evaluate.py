"""`headstart evaluate`: evaluates a run on other labelled photos, and compares it with another run (McNemar's test)."""

from __future__ import annotations

import argparse

from headstart.cli import arguments

HELP = "evaluate a run on other labelled photos, and compare it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    arguments.add_engine(parser)
    arguments.add_cache(parser)
    arguments.add_quiet(parser)
    arguments.add_json(parser)
    arguments.add_run(parser)
    parser.add_argument("photos", help="as for train")
    parser.add_argument("--against", metavar="RUN", help="another run, to compare on the same photos")
    parser.add_argument("-o", dest="output", metavar="DIR", help="the folder to make (default: NAME-evaluation)")


def run(options: argparse.Namespace) -> int:
    """Evaluate a run on photos that it has not learnt from."""
    from headstart.cli import console, summaries
    from headstart.report.sentences.numbers import is_balanced
    from headstart.runs.record_file import FORMAT
    from headstart.training.evaluate_run import evaluate_run

    keywords = arguments.options_for(evaluate_run, options)
    with console.Progress(quiet=options.quiet) as progress:
        result = evaluate_run(options.run, options.photos, progress=progress, **keywords)
    console.print_notes(result.about["notes"])
    if options.json:
        return console.print_json({"folder": str(result.folder), "format": FORMAT, **result.about})
    print(summaries.evaluation_text(result.evaluation, is_balanced=is_balanced(result.about)))
    if result.comparison is not None:
        print(f"\n{result.comparison.sentence}")
    print(f"\nThe report is {result.folder}/report.html; open it in a browser")
    return 0
