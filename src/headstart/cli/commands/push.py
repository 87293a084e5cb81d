"""`headstart push`: shares a classifier on the Hugging Face hub, with a model card made from the run."""

from __future__ import annotations

import argparse

from headstart.cli import arguments

HELP = "share a classifier on the Hugging Face hub"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    arguments.add_quiet(parser)
    arguments.add_json(parser)
    arguments.add_run(parser, "a run folder, or its model.onnx")
    parser.add_argument("repository", metavar="hf:OWNER/NAME", help="where to; hf:OWNER/NAME@BRANCH for a branch of it")
    parser.add_argument(
        "--private", action="store_true", default=argparse.SUPPRESS, help="a repository that is made is yours alone"
    )
    parser.add_argument("--message", metavar="TEXT", default=argparse.SUPPRESS, help="of the commit")
    parser.add_argument("--dry-run", action="store_true", default=False, help="print the model card, and push nothing")


def run(options: argparse.Namespace) -> int:
    """Push it, and say how others load it; or print what would be pushed."""
    from headstart.cli import console
    from headstart.share.push import preview, push_run

    if options.dry_run:
        files = preview(options.run, options.repository)
        if options.json:
            return console.print_json({path: len(content) for path, content in files.items()})
        print(files["README.md"].decode(), end="")
        for path, content in files.items():
            console.print_note(f"{path}: {len(content) / 1e6:.2f} MB would be pushed")
        return 0
    with console.Progress(quiet=options.quiet) as progress:
        pushed = push_run(options.run, options.repository, progress=progress, **arguments.options_for(push_run, options))
    if options.json:
        return console.print_json(pushed.to_json())
    print(f"Pushed to {pushed.url}, commit {pushed.commit[:12]}")
    print(f"Anyone labels photos with it: headstart predict {pushed.name} photo.jpg")
    return 0
