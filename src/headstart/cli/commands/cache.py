"""`headstart cache`: shows the store of codes; `cache prune` and `cache clear` empty it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from headstart.cli import arguments

if TYPE_CHECKING:
    from headstart.codes.store import Store

HELP = "show or empty the store of codes"
DAYS = 90


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options, and the commands below this one."""
    arguments.add_cache(parser)
    arguments.add_json(parser)
    actions = parser.add_subparsers(metavar="ACTION")
    for name, does, run_command in (
        ("show", "show what is kept, as without an action", run),
        ("prune", "forget what no run has used for a while", run_prune),
        ("clear", "forget everything", run_clear),
    ):
        action = actions.add_parser(name, help=does)
        action.set_defaults(run_command=run_command)
        arguments.add_cache(action)
        arguments.add_json(action, argparse.SUPPRESS)
        if name == "prune":
            action.add_argument(
                "--days",
                metavar="N",
                type=arguments.at_least_one,
                default=DAYS,
                help=f"what no run has used for N days (default: {DAYS})",
            )


def run(options: argparse.Namespace) -> int:
    """Show what the store of codes holds."""
    from headstart.cli import console
    from headstart.codes.store import Store

    with Store(arguments.cache_dir_of(options), is_needed=True) as store:
        about = store.summary()
    if options.json:
        return console.print_json(about)
    print(f"{about['path']}: {_size_text(about)}, codes of {about['images']:,} images")
    rows = [
        (r["name"], str(r["preprocess"]["size"]), r["view"], r["precision"], f"{r['images']:,}") for r in about["recipes"]
    ]
    if rows:
        print(console.table(("backbone", "pixels", "view", "precision", "images"), rows))
    print(f"Forget what no run has used for {DAYS} days with: headstart cache prune; everything with: headstart cache clear")
    return 0


def run_prune(options: argparse.Namespace) -> int:
    """Forget the codes of images, and the results, that no run has used for some days."""
    from headstart.codes.results import Results
    from headstart.codes.store import Store

    with Store(arguments.cache_dir_of(options), is_needed=True) as store:
        Results(store.path.parent).prune(options.days)
        return _print_forgotten(store, store.prune(options.days), options)


def run_clear(options: argparse.Namespace) -> int:
    """Forget all codes and results, and the networks that were built from wheels."""
    from headstart.codes.results import Results
    from headstart.codes.store import Store

    with Store(arguments.cache_dir_of(options), is_needed=True) as store:
        n_images = store.clear()
        Results(store.path.parent).prune(-1)
        for network in store.path.parent.glob("backbones/*.onnx"):
            network.unlink(missing_ok=True)
        return _print_forgotten(store, n_images, options)


def _print_forgotten(store: Store, n_images: int, options: argparse.Namespace) -> int:
    from headstart.cli import console

    about = {"forgotten": n_images, "path": str(store.path), "size_bytes": store.size_bytes()}
    if options.json:
        return console.print_json(about)
    print(f"{n_images:,} images forgotten; {about['path']} now has {_size_text(about)}")
    return 0


def _size_text(about: dict[str, Any]) -> str:
    return f"{about['size_bytes'] / 1e6:,.1f} MB"
