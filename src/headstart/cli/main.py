"""The command line: its commands in order, exit codes, and what becomes of errors and of Ctrl-C."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from headstart.cli.commands import (
    backbones,
    cache,
    check,
    demo,
    evaluate,
    explain,
    export,
    label_image,
    plot,
    predict,
    push,
    report,
    retrain,
    train,
    verify,
    views,
)
from headstart.cli.commands import map as map_command
from headstart.cli.parser import Parser
from headstart.errors import HeadstartError
from headstart.files import writing
from headstart.safety.terminal_text import STDOUT, HarmlessFormatter, harmless_line, harmless_streams

COMMANDS = (
    *(train, predict, explain),
    *(check, evaluate, report, map_command, plot),
    *(export, verify, push),
    *(backbones, views, cache),
    demo,
    *(retrain, label_image),
)
OK, FAILED, STOPPED = 0, 1, 130  # exit codes; 2, wrong usage, is the parser's; 130 is what shells give after Ctrl-C
GOES_ON = "stopped. Codes that were computed are kept; the same command goes on from there."
WHEN_STOPPED = {"train": GOES_ON, "demo": GOES_ON}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; gives 0, 1 for an expected failure, 2 for wrong usage, 130 after Ctrl-C."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError):  # a name that the terminal cannot show is no reason to fail
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    handler = logging.StreamHandler()
    handler.setFormatter(HarmlessFormatter("headstart: %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    warnings.filterwarnings("ignore", module=r"PIL\.")  # what matters of a photo's oddities is told as its status
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["help"]:  # `headstart help train` is `headstart train --help`
        words = [*words[1:], "--help"]
    with harmless_streams():
        status = _run(build_parser().parse_args(words))
    try:
        sys.stdout.flush()
    except OSError:  # said above; what is not written yet would fail again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return status


def _run(options: argparse.Namespace) -> int:
    try:
        if is_helper_process():
            return share_fine_tuning(options)
        status: int = options.run_command(options)
        with writing(STDOUT):
            sys.stdout.flush()
        return status
    except HeadstartError as error:
        _print_error(str(error), error)
        return FAILED
    except MemoryError as error:
        _print_error("out of memory; try --budget 0 (fewer codes), --views none, --threads 1, or fewer photos", error)
        return FAILED
    except BrokenPipeError:  # `headstart predict ... | head`
        return FAILED
    except KeyboardInterrupt as error:
        print(file=sys.stderr)
        _print_error(WHEN_STOPPED.get(options.command, "stopped"), error)
        return STOPPED


def _print_error(message: str, error: BaseException) -> None:
    """Print what went wrong, and what the notes of the error say is kept."""
    print(f"headstart: {harmless_line('; '.join([message, *getattr(error, '__notes__', ())]))}", file=sys.stderr)


def is_helper_process() -> bool:
    """Whether torchrun started this process beside the first, which does everything but share the fine-tuning."""
    return os.environ.get("RANK", "0") != "0" and "WORLD_SIZE" in os.environ


def share_fine_tuning(options: argparse.Namespace) -> int:
    """Share the first process's fine-tuning, or end at once where there is none."""
    if getattr(options, "finetune", False):
        from headstart.engines.hardware import Hardware
        from headstart.finetune.loop import finetune_worker

        finetune_worker(device=Hardware(getattr(options, "device", "")).torch_device)
    return OK


# ---- the parser


def build_parser() -> Parser:
    """Build the parser of all commands.

    An option that is not typed is not passed on, unless the command itself reads it: so the library has the defaults.
    """
    parser = Parser(
        prog="headstart",
        description="A folder of photos in, a classifier out, in seconds.",
        epilog="`headstart help COMMAND` lists a command's options.",
    )
    parser.add_argument("--version", action=_Version)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        description = f"{command.HELP[0].upper()}{command.HELP[1:]}."
        name = command.__name__.rpartition(".")[2]
        own = commands.add_parser(name, help=command.HELP, description=description, argument_default=argparse.SUPPRESS)
        own.set_defaults(run_command=command.run)
        command.add_arguments(own)
    return parser


class _Version(argparse.Action):
    """Looks the version up when it is asked for: it costs more than the rest of --help."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, dest=argparse.SUPPRESS, nargs=0, help="show the version and exit")

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib.metadata import version

        print(f"headstart {version('headstart')}")
        parser.exit()


if __name__ == "__main__":
    sys.exit(main())
