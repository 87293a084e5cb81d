"""`headstart check`: looks for wrong labels, duplicates, outliers and more in photos, and lists fixes to go through."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.cli import arguments

if TYPE_CHECKING:
    from headstart.checks.check_photos import Checked

HELP = "look for wrong labels, duplicates, outliers and more in photos"
MOST_ROWS = 20  # issues on a terminal


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    arguments.add_engine(parser)
    arguments.add_cache(parser)
    arguments.add_quiet(parser)
    arguments.add_json(parser)
    parser.add_argument("photos", help="as for train")
    parser.add_argument("--backbone", help="whose codes are compared (default: efficientnet-lite0)")
    parser.add_argument("--seed", type=int, help="another chance for its cross-validation (default: 0)")
    parser.add_argument("--csv", metavar="FILE", type=Path, default=None, help="all issues as a table")
    parser.add_argument(
        "--fix-list", metavar="FILE", type=Path, default=None, help="what could be done, to edit, for train --fixes"
    )
    arguments.add_overwrite(parser, "a FILE that is there")


def run(options: argparse.Namespace) -> int:
    """Look for issues in photos."""
    from headstart.checks.check_photos import check_photos
    from headstart.checks.fixes import write_fixes
    from headstart.cli import console
    from headstart.files import check_output
    from headstart.runs.issue_table import write_issue_table

    for file in filter(None, (options.fix_list, options.csv)):
        check_output(file, overwrite=options.overwrite)
    keywords = arguments.options_for(check_photos, options)
    with console.Progress(quiet=options.quiet) as progress:
        result = check_photos(options.photos, progress=progress, **keywords)
    console.print_notes(result.notes)
    answer = result.to_json()
    if options.csv:
        write_issue_table(options.csv, answer["issues"])
    if options.fix_list:
        write_fixes(options.fix_list, result.issues, overwrite=options.overwrite)
    if options.json:
        return console.print_json(answer)
    print("\n".join(_issues_text(result, answer["kinds"])))
    if options.fix_list:
        print("\n".join(_fixes_text(result, options)))
    elif result.issues:
        print("\nNothing was changed. To relabel or leave out some of them: --fix-list fixes.csv")
    return 0


def _issues_text(result: Checked, n_of_kind: dict[str, Any]) -> Iterator[str]:
    """How many issues of each kind there are, and the worst of them."""
    from headstart.checks.issue import MAX_SCORE
    from headstart.checks.kinds import KINDS
    from headstart.cli.console import table
    from headstart.wording import counted

    n_issues, n_classes = len(result.issues), len(result.classes)
    yield f"{result.n_images:,} photos of {n_classes:,} classes: {counted(n_issues, 'issue')}"
    if not n_issues:
        return
    rows = [(kind, f"{n_of_kind[kind]:,}", KINDS[kind].meaning) for kind in KINDS if n_of_kind[kind]]
    yield table(("kind", "issues", ""), rows, text=(0, 2))
    yield f"\nthe worst first (0: certain harm, {MAX_SCORE}: none worth telling):"
    worst = [
        (f"{issue.score:.2f}", issue.kind, _paths_text(issue.paths), f"{issue.sentence}: {issue.suggestion}")
        for issue in result.issues[:MOST_ROWS]
    ]
    yield table(("score", "kind", "photo", ""), worst, left=0, text=(1, 2, 3))
    if n_issues > MOST_ROWS:
        yield f"  ... {n_issues - MOST_ROWS:,} more: --csv FILE or --json gives all"


def _paths_text(paths: tuple[str, ...]) -> str:
    if not paths:
        return "-"
    return f"{paths[0]}{f' and {len(paths) - 1} more' if len(paths) > 1 else ''}"


def _fixes_text(result: Checked, options: argparse.Namespace) -> Iterator[str]:
    """What the list of fixes proposes, and what to do with it."""
    from collections import Counter

    from headstart.checks.fixes import ACTIONS, REVIEW, propose
    from headstart.cli.console import program, quoted

    n_of = Counter(fix.action for fix in propose(result.issues))
    actions = ", ".join(f"{n_of[action]:,} {action}" for action in ACTIONS if n_of[action]) or "nothing"
    yield f"\n{options.fix_list} lists what could be done, a row a photo: {actions}."
    if n_of[REVIEW]:
        yield "review: the label is in doubt. Look at the photo, and write relabel where it is wrong. Left so, it stays."
    yield "Go through the list, change what is wrong, then:"
    yield f"  {program()} train {quoted(options.photos)} --fixes {quoted(options.fix_list)}"
