"""The command line: parse, one library call, print. Results go to stdout, progress and warnings to stderr."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.errors import DataError, HeadstartError, OutputError

if TYPE_CHECKING:
    from headstart.classifier import Classifier, Prediction
    from headstart.engine import Hardware

STOPPED = 130  # what a shell gives a program that Ctrl-C ended
KEPT = {
    **dict.fromkeys(("train", "demo"), "Codes that were computed are kept; the same command goes on from there."),
    "predict": "With -o FILE, the rows up to here are in FILE.partial.",
}
ENGINE_OPTIONS = ("device", "threads", "precision")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; gives 0, 1 for an expected failure, 2 for wrong usage, 130 after Ctrl-C."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError):  # a name that the terminal cannot show is no reason to fail
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    logging.basicConfig(format="headstart: %(message)s", level=logging.WARNING)
    warnings.filterwarnings("ignore", module=r"PIL\.")  # what matters of a photo's oddities is told as its status
    options = _parser().parse_args(arguments)
    try:
        status: int = options.run_command(options)
        sys.stdout.flush()
        return status
    except HeadstartError as error:
        print(f"headstart: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # `headstart predict ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print(f"\nheadstart: stopped. {KEPT.get(options.command, '')}", file=sys.stderr)
        return STOPPED


# ---- the commands


def _train(options: argparse.Namespace) -> int:
    from headstart import terminal
    from headstart.training import train

    chosen = {
        k: v for k, v in vars(options).items() if k not in ("run_command", "quiet", "json", "command", "photos", "run")
    }
    with terminal.Progress(quiet=options.quiet) as progress:
        run = train(options.photos, options.run, progress=progress, **chosen)
    about = run.about
    for note in about["notes"]:
        print(f"headstart: {note}", file=sys.stderr)
    if about["images"]["skipped"]:
        print(
            f"headstart: {about['images']['skipped']:,} files were left out; the reasons: {run.folder}/skipped.csv",
            file=sys.stderr,
        )
    if options.json:
        print(json.dumps({"run": str(run.folder), **about}, indent=2))
        return 0
    images, seconds = about["images"], about["seconds"]
    n_learnt = images["train"] + images["validation"]
    print(
        f"{images['used']:,} photos of {len(about['classes'])} classes: {n_learnt:,} to learn from, "
        f"{images['test']:,} to test with"
    )
    print(terminal.evaluation_text(run.evaluation))
    if run.evaluation.split == "test" and about["cross_validation"]["n_images"]:
        cv = about["cross_validation"]
        low, high = cv["interval"]
        print(
            f"\ncross-validated on {cv['n_images']:,} of the others: {terminal.percent(cv['accuracy'])} "
            f"({terminal.percent(low)} to {terminal.percent(high)})"
        )
    print(f"seconds: {', '.join(f'{stage} {s:.1f}' for stage, s in seconds.items())}; together {sum(seconds.values()):.1f}")
    print(
        f"\nThe classifier is in {run.folder}; label new photos with:"
        f"\n  headstart predict {_quoted(run.folder)} PHOTO_OR_FOLDER"
    )
    return 0


def _predict(options: argparse.Namespace) -> int:
    from headstart import rows, sources, terminal

    form = options.form or (rows.format_of(options.output) if options.output else None)
    if options.output and not form:
        raise OutputError(f"what format is {options.output} to have? name it .{', .'.join(rows.FORMATS)}, or add --FORMAT")
    if form == "parquet" and not options.output and sys.stdout.isatty():
        raise OutputError("Parquet is no text for a terminal; name a file with -o")
    classifier = _classifier(options)
    width = min(24, max(map(len, classifier.classes)))
    total = sources.count(options.paths) if sys.stderr.isatty() and not options.quiet else 0
    n, n_bad = 0, 0
    is_shown = form is None and not options.output
    with (
        rows.destination(options.output, overwrite=options.overwrite) as file,
        terminal.Progress(quiet=options.quiet or (is_shown and sys.stdout.isatty())) as progress,
    ):
        if form:
            opened = rows.FORMATS[form](file)
        else:
            opened = rows.people_rows(file, width)
        with opened as write:
            prediction: Prediction
            for n, prediction in enumerate(classifier.stream(sources.open_up(options.paths), top=options.top), start=1):
                write(prediction)
                n_bad += prediction.status != "ok"
                progress("predict", n, total)
        if n == 0:
            raise DataError(f"there are no files in {', '.join(options.paths)}")
    if options.output:
        print(f"{n:,} rows are in {options.output}", file=sys.stderr)
    if n_bad:
        print(f"headstart: {n_bad:,} of {n:,} images could not be used; their rows say why", file=sys.stderr)
    return 1 if n_bad else 0


def _backbones(options: argparse.Namespace) -> int:
    from headstart.backbones import BACKBONES, is_installed, load_backbone
    from headstart.engine import Engine
    from headstart.terminal import table

    rows: list[dict[str, Any]] = []
    for row in BACKBONES.values():
        about: dict[str, Any] = {
            "name": row.name,
            "size": row.size,
            "n_parameters": row.n_parameters,
            "n_codes": row.n_codes,
            "license": row.license,
            "installed": is_installed(row),
            "images_per_second": None,
        }
        if options.measure and about["installed"]:
            backbone = load_backbone(row.name, cache_dir=_cache_dir(options))
            about["images_per_second"] = round(Engine(backbone.network, _hardware(options)).images_per_second())
        rows.append(about)
    if options.json:
        print(json.dumps(rows, indent=2))
        return 0
    shown = [
        (
            str(r["name"]),
            str(r["license"]),
            "yes" if r["installed"] else "no",
            f"{r['size']}",
            f"{r['n_parameters'] / 1e6:.1f} M",
            f"{r['n_codes']:,}",
            f"{r['images_per_second']:,}" if r["images_per_second"] else "-",
        )
        for r in rows
    ]
    print(table(("backbone", "licence", "installed", "pixels", "parameters", "codes", "images/s"), shown, left=2))
    print("\nUse one with: headstart train PHOTOS --backbone NAME; or an ONNX file of your own: --backbone FILE.onnx")
    if not options.measure:
        print("Measure them on this machine with: headstart backbones --measure")
    if not all(r["installed"] for r in rows):
        print("Install the others with: pip install 'headstart[backbones]'")
        print("  (in a clone of headstart: .venv/bin/pip install -e '.[backbones]')")
    return 0


def _cache(options: argparse.Namespace) -> int:
    from headstart.codes import Store
    from headstart.terminal import table

    with Store(_cache_dir(options)) as store:
        if options.action == "show":
            about = store.summary()
        else:
            forgotten = store.clear() if options.action == "clear" else store.prune(options.days)
            if options.action == "clear":
                for network in store.path.parent.glob("backbones/*.onnx"):
                    network.unlink(missing_ok=True)
            about = {"forgotten": forgotten, "path": str(store.path), "size_bytes": store.size_bytes()}
    if options.json:
        print(json.dumps(about, indent=2))
        return 0
    size = f"{about['size_bytes'] / 1e6:,.1f} MB"
    if options.action != "show":
        print(f"{about['forgotten']:,} images forgotten; {about['path']} now has {size}")
        return 0
    print(f"{about['path']}: {size}, codes of {about['images']:,} images")
    rows = [
        (r["name"], str(r["preprocess"]["size"]), r["view"], r["precision"], f"{r['images']:,}") for r in about["recipes"]
    ]
    if rows:
        print(table(("backbone", "pixels", "view", "precision", "images"), rows))
    print("Forget what no run has used for 90 days with: headstart cache prune; everything with: headstart cache clear")
    return 0


def _demo(options: argparse.Namespace) -> int:
    from headstart.demo import write_digits

    folder = options.folder
    if folder.exists() and not (folder / "digits").is_dir():
        raise OutputError(f"{folder} is there already and is no demo's folder; name another with -o")
    digits = folder / "digits"
    n = write_digits(digits)
    print(f"{n:,} handwritten digits are in {digits}, a folder for each: look at them. Now:\n")
    run = next(p for i in range(1, 10_000) if not (p := folder / ("run" if i == 1 else f"run-{i}")).exists())
    command = ["train", str(digits), "-o", str(run), *(["--cache", str(options.cache)] if "cache" in options else [])]
    print(f"$ headstart {' '.join(map(_quoted, command))}")
    status = main(command + (["--quiet"] if options.quiet else []))
    if status == 0:
        some = next(iter(sorted((digits / "7").iterdir())))
        print(f"\nTry it:\n  headstart predict {_quoted(run)} {_quoted(some)}")
        print("Then your own, a folder of photos for each class:\n  headstart train PHOTOS")
        print("Or no training at all:\n  headstart predict imagenet PHOTO")
    return status


# ---- what they share


def _classifier(options: argparse.Namespace) -> Classifier:
    from headstart.classifier import Classifier

    hardware = _hardware(options)
    if options.run == "imagenet" and not os.path.exists(os.path.join(options.run, "model.onnx")):
        from headstart.imagenet import imagenet_classifier

        return imagenet_classifier(cache_dir=_cache_dir(options), hardware=hardware)
    return Classifier.load(options.run, hardware)


def _hardware(options: argparse.Namespace) -> Hardware:
    from headstart.engine import Hardware

    return Hardware(**{name: value for name, value in vars(options).items() if name in ENGINE_OPTIONS})


def _cache_dir(options: argparse.Namespace) -> Path:
    from headstart.codes import default_cache_dir

    return Path(options.cache) if "cache" in options else default_cache_dir()


def _quoted(path: str | os.PathLike[str]) -> str:
    import shlex

    return shlex.quote(os.fspath(path))


# ---- the parser


def _parser() -> argparse.ArgumentParser:
    """Options that are not given are not passed on, so that every default is declared once, in the library."""
    parser = argparse.ArgumentParser(prog="headstart", description="A folder of photos in, a classifier out, in seconds.")
    parser.add_argument("--version", action=_Version)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
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
        commands.add_parser(
            "train",
            parents=[engine, cache, told, answer],
            argument_default=argparse.SUPPRESS,
            help="learn a classifier from labelled photos",
            description="Learn a classifier from labelled photos.",
        )
    )
    _add_predict(
        commands.add_parser(
            "predict",
            parents=[engine, cache, told],
            argument_default=argparse.SUPPRESS,
            help="label photos with a classifier",
            description="Label photos with a classifier.",
        )
    )
    backbones = commands.add_parser(
        "backbones", parents=[engine, cache, answer], help="list the backbones", description="List the backbones."
    )
    backbones.add_argument("--measure", action="store_true", help="measure their speed on this machine")
    backbones.set_defaults(run_command=_backbones)
    kept = commands.add_parser(
        "cache",
        parents=[cache, answer],
        help="show or empty the store of codes",
        description="Show or empty the store of codes.",
    )
    kept.add_argument("action", nargs="?", choices=("show", "prune", "clear"), default="show")
    kept.add_argument(
        "--days", metavar="N", type=_at_least_one, default=90, help="prune what no run has used for N days (default: 90)"
    )
    kept.set_defaults(run_command=_cache)
    demo = commands.add_parser(
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
    demo.set_defaults(run_command=_demo)
    return parser


def _add_train(train: argparse.ArgumentParser) -> None:
    train.add_argument(
        "photos", help="a folder per class, train/val/test folders of those, or a table (.csv, .tsv, .parquet)"
    )
    train.add_argument(
        "-o", dest="run", metavar="RUN", default=None, help="the run folder to make (default: NAME-run, a new one)"
    )
    train.add_argument("--backbone", help="a name from `headstart backbones`, or an ONNX file (default: efficientnet-lite0)")
    train.add_argument("--size", type=int, metavar="PIXELS", help="of an ONNX file: the side of the images it takes")
    train.add_argument("--mean", type=_three, metavar="R,G,B", help="of an ONNX file, in [0, 1] (default: 0.5,0.5,0.5)")
    train.add_argument("--std", type=_three, metavar="R,G,B", help="of an ONNX file, in [0, 1] (default: 0.5,0.5,0.5)")
    train.add_argument(
        "--output", metavar="NAME", help="of an ONNX file: the value that holds the codes (default: found by itself)"
    )
    train.add_argument("--balance", action="store_true", help="let every class count the same, however many photos it has")
    train.add_argument(
        "--test",
        type=float,
        metavar="SHARE",
        help="of the photos, to test with, where the data gives no test split (default: 0.2)",
    )
    train.add_argument("--seed", type=int, help="which photos those are (default: 0)")
    train.set_defaults(run_command=_train)


def _add_predict(predict: argparse.ArgumentParser) -> None:
    predict.add_argument("run", metavar="RUN", help="a run folder, its model.onnx, or `imagenet`")
    predict.add_argument(
        "paths", nargs="+", metavar="PATH", help="files, folders, patterns, or - for stdin (paths or one picture)"
    )
    predict.add_argument(
        "--top", type=_at_least_one, default=3, metavar="N", help="list the N likeliest classes (default: 3)"
    )
    forms = predict.add_mutually_exclusive_group()
    for form in ("csv", "jsonl", "json", "parquet"):
        forms.add_argument(f"--{form}", dest="form", action="store_const", const=form, default=None, help=f"rows as {form}")
    predict.add_argument(
        "-o", dest="output", metavar="FILE", type=Path, default=None, help="write them to a file (its name tells the format)"
    )
    predict.add_argument("--overwrite", action="store_true", default=False, help="replace FILE")
    predict.set_defaults(run_command=_predict)


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


def _three(text: str) -> tuple[float, float, float]:
    try:
        numbers = [float(part) for part in text.split(",")]
        first, second, third = numbers * 3 if len(numbers) == 1 else numbers
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected one number or three, as in 0.485,0.456,0.406, not {text!r}") from None
    return first, second, third


if __name__ == "__main__":
    sys.exit(main())
