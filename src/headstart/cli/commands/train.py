"""`headstart train`: learns a classifier from labelled photos and writes a run folder."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from headstart.cli import arguments

if TYPE_CHECKING:
    from headstart.share.mlflow_tracking import LoggedRun

HELP = "learn a classifier from labelled photos"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options; those that are not typed are not passed on, so that `training.train.train` has their defaults."""
    arguments.add_engine(parser)
    arguments.add_cache(parser)
    arguments.add_quiet(parser)
    arguments.add_json(parser)
    parser.add_argument(
        "photos", help="a folder per class, train/val/test folders of those, or a table (.csv, .tsv, .parquet)"
    )
    parser.add_argument(
        "-o", dest="run", metavar="RUN", default=None, help="the run folder to make (default: NAME-run, a new one)"
    )
    parser.add_argument(
        "--backbone",
        help="a name from `headstart backbones`, an ONNX file, timm:NAME, hf:owner/repo/file.onnx, or auto to average those "
        "that are installed (default: efficientnet-lite0)",
    )
    _add_network(parser)
    _add_choices(parser)
    _add_fine_tuning(parser)
    parser.add_argument(
        "--fixes", metavar="FILE", help="relabels and exclusions, as `headstart check --fix-list FILE` lists them"
    )
    parser.add_argument("--balance", action="store_true", help="let every class count the same, however many photos it has")
    parser.add_argument(
        "--test",
        type=float,
        metavar="SHARE",
        help="of the photos, to test with, where the data has neither test nor val (default: 0.2)",
    )
    parser.add_argument(
        "--learn-from-val",
        action="store_true",
        help="of data with train, val and test: learn at the end from val too, which made the choices",
    )
    parser.add_argument("--seed", type=int, help="which photos those are (default: 0)")
    parser.add_argument(
        "--mlflow",
        nargs="?",
        const="",
        default=None,
        metavar="URI",
        help="log the run to that MLflow server (default: MLFLOW_TRACKING_URI) [mlflow]",
    )


def _add_network(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--size", type=int, metavar="PIXELS", help="of an ONNX file: the side of the images it takes")
    arguments.add_normalisation(parser, "of an ONNX file, in [0, 1] (default: 0.5,0.5,0.5)")
    parser.add_argument(
        "--output", metavar="NAME", help="of an ONNX file: the value that holds the codes (default: found by itself)"
    )


def _add_choices(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--head", help="softmax, sigmoid, hidden, class-mean, nearest or auto (default: auto, by held-out data)"
    )
    parser.add_argument(
        "--views",
        help="to learn from as well if that is better, as in mirrored,rotation=15 (default: none)",
    )
    parser.add_argument(
        "--effort",
        help="quick (whole photos, one head), normal (mirror images and deeper layers too) or thorough (all installed "
        "backbones, averaged); the same answer each time (default: normal)",
    )
    parser.add_argument(
        "--budget",
        type=arguments.seconds,
        metavar="TIME",
        help="at most so long for codes and for choosing, as in 30s, 10m, 2h: takes less effort where it must, which may "
        "differ between machines (default: none)",
    )
    parser.add_argument(
        "--report", choices=("full", "none"), help="none: no report.html, TensorBoard files and map (default: full)"
    )
    parser.add_argument(
        "--learning-curve", action="store_true", help="accuracy against the number of photos, with all the time"
    )


def _add_fine_tuning(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--finetune",
        action="store_true",
        help="let the backbone learn too, and keep that if it is better beyond chance [torch]",
    )
    parser.add_argument(
        "--unfreeze", choices=("head", "last", "half", "all"), help="how much of it (default: by the photos)"
    )
    parser.add_argument("--epochs", type=arguments.at_least_one, metavar="N", help="of fine-tuning, at most (default: 10)")
    parser.add_argument(
        "--batch",
        type=arguments.at_least_one,
        metavar="N",
        help="of fine-tuning: photos a step (default: by the photos)",
    )
    parser.add_argument("--force", action="store_true", help="keep what was fine-tuned even where it is not better")


def run(options: argparse.Namespace) -> int:
    """Learn, and say how good the classifier is."""
    from headstart.cli import console, summaries
    from headstart.runs.record_file import FORMAT
    from headstart.training.train import train
    from headstart.wording import counted

    keywords = arguments.options_for(train, options)
    if options.mlflow is not None:
        _check_mlflow(options.mlflow or None)
    with console.Progress(quiet=options.quiet) as progress:
        result = train(options.photos, options.run, progress=progress, **keywords)
    console.print_notes(result.about["notes"])
    if n_skipped := result.about["images"]["skipped"]:
        console.print_note(f"left out: {counted(n_skipped, 'file')}; the reasons: {result.folder}/skipped.csv")
    if options.json:
        logged = {} if options.mlflow is None else {"mlflow": _log(result.folder, options.mlflow or None).to_json()}
        return console.print_json({"run": str(result.folder), "format": FORMAT, **result.about, **logged})
    print(summaries.run_text(result, is_curve_asked="learning_curve" in keywords))
    if options.mlflow is not None:
        logged_run = _log(result.folder, options.mlflow or None)
        print(f"Logged to MLflow, experiment {logged_run.experiment!r}: {logged_run.url or logged_run.run_id}")
    return 0


def _check_mlflow(uri: str | None) -> None:
    """Refuse before the training what would only fail after it."""
    from headstart.share.mlflow_tracking import check_server

    check_server(uri)


def _log(folder: Path, uri: str | None) -> LoggedRun:
    """Log the run; where that fails, say that the run itself is whole."""
    from headstart.cli import console
    from headstart.errors import OutputError
    from headstart.share.mlflow_tracking import log_to_mlflow

    try:
        return log_to_mlflow(folder, uri, experiment=os.environ.get("MLFLOW_EXPERIMENT_NAME"))
    except OutputError as error:
        again = f"headstart.share.mlflow_tracking.log_to_mlflow({str(folder)!r})"
        console.print_note(f"the run in {folder} is whole; to log it again, in Python: {again}")
        raise error
