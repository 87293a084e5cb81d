"""Options that several commands share, the types of their values, and the hardware, cache folder and classifier they name.

A command's options that are not typed are not passed on, so that every default is declared once, in the library.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headstart.classifier.classifier import Classifier
    from headstart.engines.hardware import Hardware


# ---- options


def add_engine(parser: argparse.ArgumentParser) -> None:
    """Add --device, --threads and --precision, which `hardware_of` reads."""
    parser.add_argument("--device", default=argparse.SUPPRESS, help="OpenVINO device: CPU (default), GPU, NPU, AUTO")
    parser.add_argument(
        "--threads", type=int, default=argparse.SUPPRESS, help="cores to use (default: those that this process may use)"
    )
    parser.add_argument(
        "--precision",
        default=argparse.SUPPRESS,
        help="auto (default: what is fastest here, bf16 where the CPU has it) or f32 (exact)",
    )


def add_cache(parser: argparse.ArgumentParser) -> None:
    """Add --cache, which `cache_dir_of` reads."""
    parser.add_argument(
        "--cache",
        metavar="DIR",
        default=argparse.SUPPRESS,
        help="where codes are kept (default: HEADSTART_CACHE, or the user's cache folder)",
    )


def add_quiet(parser: argparse.ArgumentParser) -> None:
    """Add --quiet."""
    parser.add_argument("--quiet", action="store_true", default=False, help="no progress")


def add_json(parser: argparse.ArgumentParser, default: Any = False) -> None:
    """Add --json; default: argparse.SUPPRESS below a command that has the option itself."""
    parser.add_argument("--json", action="store_true", default=default, help="the answer as JSON")


def add_output(parser: argparse.ArgumentParser) -> None:
    """Add -o and --overwrite."""
    parser.add_argument("-o", dest="output", metavar="FILE", type=Path, default=None, help="the file to write")
    add_overwrite(parser, "a FILE that is there")


def add_overwrite(parser: argparse.ArgumentParser, what: str = "FILE") -> None:
    """Add --overwrite; what: it replaces, for the help."""
    parser.add_argument("--overwrite", action="store_true", default=False, help=f"replace {what}")


def add_run(parser: argparse.ArgumentParser, kinds: str = "a run folder") -> None:
    """Add the positional argument RUN; kinds: of what it may be, for the help."""
    parser.add_argument("run", metavar="RUN", help=kinds)


def add_normalisation(parser: argparse.ArgumentParser, description: str) -> None:
    """Add --mean and --std; description: whose they are, and their default, for the help."""
    for name in ("mean", "std"):
        parser.add_argument(f"--{name}", type=three_numbers, metavar="R,G,B", help=description)


def add_photos_place(parser: argparse.ArgumentParser) -> None:
    """Add --photos, for a run whose photos were moved."""
    parser.add_argument(
        "--photos", metavar="PHOTOS", default=None, help="where the run's photos lie now, if they were moved"
    )


# ---- types of values


def at_least_one(text: str) -> int:
    """Read a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, not {text!r}")
    return int(text)


def seconds(text: str) -> float:
    """Read a time, as in 30s, 10m or 2h."""
    unit = {"s": 1, "m": 60, "h": 3600}.get(text[-1:], 0)
    try:
        number = float(text[:-1]) * unit if unit else float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a time, as in 30s, 10m or 2h, not {text!r}")
    return number


def three_numbers(text: str) -> tuple[float, float, float]:
    """Read a number for each of red, green and blue, or one for all of them."""
    try:
        numbers = [float(part) for part in text.split(",")]
        red, green, blue = numbers * 3 if len(numbers) == 1 else numbers
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected one number or three, as in 0.485,0.456,0.406, not {text!r}") from None
    return red, green, blue


# ---- what the library takes


def options_for(function: Callable[..., Any], options: argparse.Namespace) -> dict[str, Any]:
    """Give the options that were typed and that a function of the library has a keyword-only parameter for."""
    from inspect import signature

    parameters = signature(function).parameters.values()
    return {p.name: getattr(options, p.name) for p in parameters if p.kind is p.KEYWORD_ONLY and p.name in options}


def hardware_of(options: argparse.Namespace) -> Hardware:
    """Make a Hardware of --device, --threads and --precision."""
    from headstart.engines.hardware import Hardware

    names = ("device", "threads", "precision")
    return Hardware(**{name: getattr(options, name) for name in names if name in options})


def cache_dir_of(options: argparse.Namespace) -> Path:
    """Give the folder that --cache names, else the user's own."""
    from headstart.cache_folder import default_cache_dir

    return Path(options.cache) if "cache" in options else default_cache_dir()


def classifier_of(options: argparse.Namespace) -> Classifier:
    """Load the classifier that RUN names: a run folder's, a model.onnx, one from the hub, or that of ImageNet's classes."""
    from headstart.classifier.classifier import load

    if options.run == "imagenet" and not Path(options.run, "model.onnx").exists():
        from headstart.classifier.imagenet import imagenet_classifier

        return imagenet_classifier(cache_dir=cache_dir_of(options), hardware=hardware_of(options))
    return load(options.run, **options_for(load, options))
