"""The command line: what may be typed, and what becomes of what goes wrong. commands.py does the rest."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from headstart.cli.commands import map as looking
from headstart.cli.commands import train as commands
from headstart.errors import HeadstartError
from headstart.files import writing
from headstart.safety.terminal_text import STDOUT, HarmlessFormatter, harmless_streams, sentence

STOPPED = 130  # what a shell gives a program that Ctrl-C ended
PLOT_KINDS = ("curves", "confusion", "calibration", "map", "mistakes", "predictions", "photos")  # plots.PLOTS, unimported
KEPT = dict.fromkeys(("train", "demo"), "stopped. Codes that were computed are kept; the same command goes on from there.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; gives 0, 1 for an expected failure, 2 for wrong usage, 130 after Ctrl-C."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError):  # a name that the terminal cannot show is no reason to fail
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    handler = logging.StreamHandler()
    handler.setFormatter(HarmlessFormatter("headstart: %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    warnings.filterwarnings("ignore", module=r"PIL\.")  # what matters of a photo's oddities is told as its status
    with harmless_streams():
        status = _run(_parser().parse_args(arguments))
    try:
        sys.stdout.flush()
    except OSError:  # said above; what is not written yet would fail again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return status


def _run(options: argparse.Namespace) -> int:
    try:
        if commands.is_helper():
            return commands.help_out(options)
        status: int = options.run_command(options)
        with writing(STDOUT):
            sys.stdout.flush()
        return status
    except HeadstartError as error:
        _tell(str(error), error)
        return 1
    except MemoryError as error:
        _tell("out of memory; try --budget 0 (fewer codes), --views none, --threads 1, or fewer photos", error)
        return 1
    except BrokenPipeError:  # `headstart predict ... | head`
        return 1
    except KeyboardInterrupt as error:
        print(file=sys.stderr)
        _tell(KEPT.get(options.command, "stopped"), error)
        return STOPPED


def _tell(what: str, error: BaseException) -> None:
    """Print what went wrong, and what the notes of the error say is kept."""
    print(f"headstart: {sentence('; '.join([what, *getattr(error, '__notes__', ())]))}", file=sys.stderr)


# ---- the parser


def _parser() -> argparse.ArgumentParser:
    """Options that are not given are not passed on, so that every default is declared once, in the library."""
    parser = argparse.ArgumentParser(prog="headstart", description="A folder of photos in, a classifier out, in seconds.")
    parser.add_argument("--version", action=_Version)
    subcommands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    engine = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    engine.add_argument("--device", help="OpenVINO device: CPU (default), GPU, NPU, AUTO")
    engine.add_argument("--threads", type=int, help="cores to use (default: those that this process may use)")
    engine.add_argument("--precision", help="auto (default: what is fastest here, bf16 where the CPU has it) or f32 (exact)")
    cache = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    cache.add_argument(
        "--cache", metavar="DIR", help="where codes are kept (default: HEADSTART_CACHE, or the user's cache folder)"
    )
    told = argparse.ArgumentParser(add_help=False)
    told.add_argument("--quiet", action="store_true", help="no progress")
    answer = argparse.ArgumentParser(add_help=False)
    answer.add_argument("--json", action="store_true", help="the answer as JSON")

    _add_train(
        subcommands.add_parser(
            "train",
            parents=[engine, cache, told, answer],
            argument_default=argparse.SUPPRESS,
            help="learn a classifier from labelled photos",
            description="Learn a classifier from labelled photos.",
        )
    )
    _add_predict(
        subcommands.add_parser(
            "predict",
            parents=[engine, cache, told],
            argument_default=argparse.SUPPRESS,
            help="label photos with a classifier",
            description="Label photos with a classifier.",
        )
    )
    _add_looking(subcommands, engine, cache, told, answer)
    backbones = subcommands.add_parser(
        "backbones",
        parents=[engine, cache, answer],
        help="list the backbones, or import one",
        description="List the backbones, or make one of a TensorFlow file.",
    )
    backbones.add_argument(
        "action", nargs="?", choices=("list", "import"), default="list", help="import: make one of a file"
    )
    backbones.add_argument(
        "file", nargs="?", type=Path, help="to import: a SavedModel folder, a frozen .pb, a .tflite or a .keras file"
    )
    backbones.add_argument(
        "-o", dest="output_file", metavar="OUT", type=Path, help="the ONNX file to write (default: FILE's name with .onnx)"
    )
    backbones.add_argument("--overwrite", action="store_true", help="replace OUT")
    backbones.add_argument("--size", type=int, metavar="PIXELS", help="the side of its images, where the file does not say")
    backbones.add_argument("--mean", type=_three, metavar="R,G,B", help="in [0, 1] (default: what files of its kind have)")
    backbones.add_argument("--std", type=_three, metavar="R,G,B", help="in [0, 1] (default: what files of its kind have)")
    backbones.add_argument("--output", metavar="NAME", help="the value that holds the features (default: all outputs)")
    backbones.add_argument("--measure", action="store_true", help="measure their speed on this machine")
    backbones.set_defaults(run_command=commands.backbones)
    seen = subcommands.add_parser(
        "views",
        parents=[cache],
        help="a picture of what views make of a photo",
        description="Draw a photo's views, which more can be learnt from: a row each.",
    )
    seen.add_argument("photo", metavar="PHOTO", help="any photo")
    seen.add_argument(
        "-o", dest="picture", metavar="FILE", type=Path, required=True, help="the picture to write, .png or .jpg"
    )
    seen.add_argument("--views", help="which ones, as in mirrored,rotation=15 (default: all of them)")
    seen.add_argument("--backbone", default="efficientnet-lite0", help="whose square is drawn (default: efficientnet-lite0)")
    seen.add_argument("--seed", type=int, default=0, help="another chance for what is random (default: 0)")
    seen.add_argument("--overwrite", action="store_true", help="replace FILE")
    seen.set_defaults(run_command=commands.views)
    kept = subcommands.add_parser(
        "cache",
        parents=[cache, answer],
        help="show or empty the store of codes",
        description="Show or empty the store of codes.",
    )
    kept.add_argument("action", nargs="?", choices=("show", "prune", "clear"), default="show")
    kept.add_argument(
        "--days", metavar="N", type=_at_least_one, default=90, help="prune what no run has used for N days (default: 90)"
    )
    kept.set_defaults(run_command=commands.cache)
    demo = subcommands.add_parser(
        "demo",
        parents=[cache, told],
        help="learn handwritten digits, which come with it",
        description="Write out 1,797 handwritten digits and learn them; needs no network.",
    )
    demo.add_argument(
        "-o",
        dest="folder",
        metavar="DIR",
        type=Path,
        default=Path("headstart-demo"),
        help="where to (default: headstart-demo)",
    )
    demo.set_defaults(run_command=partial(commands.demo, main=main))
    return parser


def _add_train(train: argparse.ArgumentParser) -> None:
    train.add_argument(
        "photos", help="a folder per class, train/val/test folders of those, or a table (.csv, .tsv, .parquet)"
    )
    train.add_argument(
        "-o", dest="run", metavar="RUN", default=None, help="the run folder to make (default: NAME-run, a new one)"
    )
    train.add_argument(
        "--backbone",
        help="a name from `headstart backbones`, an ONNX file, timm:NAME, hf:owner/repo/file.onnx, or auto to compare those "
        "that are installed (default: efficientnet-lite0)",
    )
    train.add_argument(
        "--head", help="softmax, sigmoid, hidden, class-mean, nearest or auto (default: auto, by held-out data)"
    )
    train.add_argument(
        "--views",
        help="to learn from as well, as in mirrored,rotation=15; none, or auto (default: mirrored, if it is better)",
    )
    train.add_argument(
        "--budget",
        type=_seconds,
        metavar="TIME",
        help="for choosing beyond the first rung, as in 30s, 10m, 2h; 0 keeps it simple (default: 60s)",
    )
    train.add_argument("--size", type=int, metavar="PIXELS", help="of an ONNX file: the side of the images it takes")
    train.add_argument("--mean", type=_three, metavar="R,G,B", help="of an ONNX file, in [0, 1] (default: 0.5,0.5,0.5)")
    train.add_argument("--std", type=_three, metavar="R,G,B", help="of an ONNX file, in [0, 1] (default: 0.5,0.5,0.5)")
    train.add_argument(
        "--output", metavar="NAME", help="of an ONNX file: the value that holds the codes (default: found by itself)"
    )
    train.add_argument(
        "--finetune",
        action="store_true",
        help="let the backbone learn too, and keep that if it is better beyond chance [torch]",
    )
    train.add_argument("--unfreeze", choices=("head", "last", "half", "all"), help="how much of it (default: by the photos)")
    train.add_argument("--epochs", type=_at_least_one, metavar="N", help="of fine-tuning, at most (default: 10)")
    train.add_argument(
        "--batch", type=_at_least_one, metavar="N", help="of fine-tuning: photos a step (default: by the photos)"
    )
    train.add_argument("--force", action="store_true", help="keep what was fine-tuned even where it is not better")
    train.add_argument(
        "--learning-curve", action="store_true", help="accuracy against the number of photos, with all the time"
    )
    train.add_argument(
        "--fixes", metavar="FILE", help="relabels and exclusions, as `headstart check --fix-list FILE` lists them"
    )
    train.add_argument("--balance", action="store_true", help="let every class count the same, however many photos it has")
    train.add_argument(
        "--test",
        type=float,
        metavar="SHARE",
        help="of the photos, to test with, where the data gives no test split (default: 0.2)",
    )
    train.add_argument("--seed", type=int, help="which photos those are (default: 0)")
    train.set_defaults(run_command=commands.train)


def _add_predict(predict: argparse.ArgumentParser) -> None:
    predict.add_argument("run", metavar="RUN", help="a run folder, its model.onnx, or `imagenet`")
    predict.add_argument(
        "paths", nargs="+", metavar="PATH", help="files, folders, patterns, or - for stdin (paths or one picture)"
    )
    predict.add_argument(
        "--top", type=_at_least_one, default=3, metavar="N", help="list the N likeliest classes (default: 3)"
    )
    predict.add_argument(
        "--coverage",
        type=float,
        metavar="SHARE",
        help="give each photo a set of classes that holds the right one so often, as in 0.95",
    )
    predict.add_argument(
        "--sets",
        choices=("smallest", "adaptive"),
        help="how those are made: smallest on average (default), or adaptive, larger for hard photos",
    )
    forms = predict.add_mutually_exclusive_group()
    for form in ("csv", "jsonl", "json", "parquet"):
        forms.add_argument(f"--{form}", dest="form", action="store_const", const=form, default=None, help=f"rows as {form}")
    predict.add_argument(
        "-o", dest="output", metavar="FILE", type=Path, default=None, help="write them to a file (its name tells the format)"
    )
    predict.add_argument("--overwrite", action="store_true", default=False, help="replace FILE")
    predict.set_defaults(run_command=commands.predict)


def _add_looking(subcommands: Any, *shared: argparse.ArgumentParser) -> None:
    """The commands that look at photos and runs."""
    engine, cache, told, answer = shared
    file = argparse.ArgumentParser(add_help=False)
    file.add_argument("-o", dest="output", metavar="FILE", type=Path, default=None, help="the file to write")
    file.add_argument("--overwrite", action="store_true", help="replace a FILE that is there")
    lying = argparse.ArgumentParser(add_help=False)
    lying.add_argument("--photos", metavar="PHOTOS", help="where the run's photos lie now, if they were moved")

    def add(name: str, does: str, run_command: Any, *parents: argparse.ArgumentParser) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = subcommands.add_parser(
            name, parents=list(parents), help=does, description=f"{does[0].upper()}{does[1:]}."
        )
        parser.set_defaults(run_command=run_command)
        return parser

    check = add("check", "look for wrong labels, duplicates, outliers and more in photos", looking.check, *shared)
    check.add_argument("photos", help="as for train")
    check.add_argument(
        "--backbone", default=argparse.SUPPRESS, help="whose codes are compared (default: efficientnet-lite0)"
    )
    check.add_argument(
        "--seed", type=int, default=argparse.SUPPRESS, help="another chance for its cross-validation (default: 0)"
    )
    check.add_argument("--csv", metavar="FILE", type=Path, help="all issues as a table")
    check.add_argument("--fix-list", metavar="FILE", type=Path, help="what could be done, to edit, for train --fixes")
    check.add_argument("--overwrite", action="store_true", help="replace a FILE that is there")
    drawn = add("map", "draw a run's photos as a map", looking.draw_map, *shared, file, lying)
    drawn.add_argument("run", metavar="RUN", help="a run folder")
    drawn.add_argument("--add", metavar="PATH", nargs="+", help="new photos to place on it: files, folders, patterns")
    drawn.add_argument("--again", action="store_true", help="place all photos anew, even those that training placed")
    drawn.add_argument("--seed", type=int, default=None, help="with --again: another chance (default: 0)")
    written = add("report", "write a run's report again", looking.report, *shared, lying)
    written.add_argument("run", metavar="RUN", help="a run folder")
    plotted = add("plot", "draw one of a run's plots", looking.plot, answer, file, lying)
    plotted.add_argument("run", metavar="RUN", help="a run folder")
    plotted.add_argument("--kind", required=True, choices=PLOT_KINDS, help="which one")
    why = add("explain", "show why a photo gets its label", looking.explain, *shared, file)
    why.add_argument("run", metavar="RUN", help="a run folder, its model.onnx, or `imagenet`")
    why.add_argument("photo", metavar="PHOTO", help="any photo")
    why.add_argument("--label", metavar="CLASS", help="explain another class than the likeliest")
    again = add("evaluate", "evaluate a run on other labelled photos, and compare it", looking.evaluate, *shared)
    again.add_argument("run", metavar="RUN", help="a run folder")
    again.add_argument("photos", help="as for train")
    again.add_argument(
        "--against", metavar="RUN", default=argparse.SUPPRESS, help="another run, to compare on the same photos"
    )
    again.add_argument(
        "-o", dest="output", metavar="DIR", default=argparse.SUPPRESS, help="the folder to make (default: NAME-evaluation)"
    )


class _Version(argparse.Action):
    """Looks the version up when it is asked for: it costs more than the rest of --help."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, dest=argparse.SUPPRESS, nargs=0, help="show the version and exit")

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib.metadata import version

        print(f"headstart {version('headstart')}")
        parser.exit()


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, not {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    unit = {"s": 1, "m": 60, "h": 3600}.get(text[-1:], 0)
    try:
        seconds = float(text[:-1]) * unit if unit else float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a time, as in 30s, 10m or 2h, not {text!r}")
    return seconds


def _three(text: str) -> tuple[float, float, float]:
    try:
        numbers = [float(part) for part in text.split(",")]
        first, second, third = numbers * 3 if len(numbers) == 1 else numbers
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected one number or three, as in 0.485,0.456,0.406, not {text!r}") from None
    return first, second, third


if __name__ == "__main__":
    sys.exit(main())
