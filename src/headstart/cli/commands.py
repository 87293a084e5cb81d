"""What each command does: one library call, and what is printed of it.

Results go to stdout, progress and warnings to stderr.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.errors import BackboneError, DataError, OutputError
from headstart.files import check_output, write_output

if TYPE_CHECKING:
    from headstart.classifier.classifier import Classifier
    from headstart.classifier.prediction import Prediction
    from headstart.engines.hardware import Hardware


ENGINE_OPTIONS = ("device", "threads", "precision")
Main = Callable[[list[str]], int]


def is_helper() -> bool:
    """Whether torchrun started this process beside the first, which does everything but share the fine-tuning."""
    return os.environ.get("RANK", "0") != "0" and "WORLD_SIZE" in os.environ


def help_out(options: argparse.Namespace) -> int:
    """Share the first process's fine-tuning, or end at once where there is none."""
    if getattr(options, "finetune", False):
        from headstart.engines.hardware import Hardware
        from headstart.finetune.loop import finetune_worker

        finetune_worker(device=Hardware(getattr(options, "device", "")).torch_device)
    return 0


def train(options: argparse.Namespace) -> int:
    """Learn, and tell how good it is."""
    from headstart import wording
    from headstart.cli import console, summaries
    from headstart.report.advice import kind_title
    from headstart.report.sentences.numbers import is_balanced
    from headstart.training.train import train
    from headstart.wording import counted

    chosen = {
        k: v for k, v in vars(options).items() if k not in ("run_command", "quiet", "json", "command", "photos", "run")
    }
    with console.Progress(quiet=options.quiet) as progress:
        run = train(options.photos, options.run, progress=progress, **chosen)
    about = run.about
    for note in about["notes"]:
        console.tell(note)
    if about["images"]["skipped"]:
        print(
            f"headstart: left out: {counted(about['images']['skipped'], 'file')}; the reasons: {run.folder}/skipped.csv",
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
    print(summaries.evaluation_text(run.evaluation, is_balanced=is_balanced(about)))
    if len(about["ladder"]) > 1:
        print(f"\n{summaries.ladder_text(about['ladder'], n_learnt)}")
    if (tuning := about["fine_tuning"]) is not None:
        taken = "and is taken" if tuning["is_taken"] else "and is not taken: the frozen classifier stays (--force overrides)"
        print(f"\nfine-tuning ({tuning['unfrozen']}, {tuning['epochs']} epochs, {tuning['seconds']:.0f} s) {taken}")
        print(f"  on the validation photos: {tuning['comparison']['sentence']}")
    if (curve := about["learning_curve"]) is not None and ("learning_curve" in options or curve["forecast"]):
        print(f"\n{curve['sentence']}")
        if "learning_curve" in options:
            print(summaries.curve_text(curve))
    is_tuned = about["choice"]["head"] == "fine-tuned"  # then what was held out has chosen the epoch
    if run.evaluation.split == "test" and not is_tuned and about["cross_validation"]["n_images"]:
        cv = about["cross_validation"]
        low, high = cv["interval"] or (0.0, 1.0)
        held_out = f"{'all' if cv['n_images'] == n_learnt else format(cv['n_images'], ',')} of the {n_learnt:,} photos"
        print(
            f"\nwhat was chosen, cross-validated on {held_out} to learn from: "
            f"{wording.percent(cv['accuracy'])} ({wording.percent(low)} to {wording.percent(high)})"
            + (f"; balanced accuracy {wording.percent(cv['balanced_accuracy'])}" if is_balanced(about) else "")
        )
    print(f"seconds: {', '.join(f'{stage} {s:.1f}' for stage, s in seconds.items())}; together {sum(seconds.values()):.1f}")
    if found := about["issues"]:
        kinds = sorted(found.items(), key=lambda kind: -kind[1])
        told = ", ".join(f"{kind_title(kind).lower()} ({n:,})" for kind, n in kinds)
        print(f"found in the photos: {told}; the report shows them")
    print(
        f"\nHow far to trust it, and why: open {run.folder}/report.html"
        f"\nThe classifier is in {run.folder}; label new photos with:"
        f"\n  {program()} predict {quoted(run.folder)} PHOTO_OR_FOLDER"
    )
    return 0


def predict(options: argparse.Namespace) -> int:
    """Label photos, a row each."""
    from headstart.classifier import writers
    from headstart.cli import console
    from headstart.data import inputs
    from headstart.wording import counted

    form = options.form or (writers.format_of(options.output) if options.output else None)
    if options.output and not form:
        raise OutputError(
            f"what format is {options.output} to have? name it .{', .'.join(writers.FORMATS)}, or add --FORMAT"
        )
    if form == "parquet" and not options.output and sys.stdout.isatty():
        raise OutputError("Parquet is no text for a terminal; name a file with -o")
    classifier = classifier_of(options)
    sets = {name: value for name, value in vars(options).items() if name in ("coverage", "sets")}
    if "sets" in sets and "coverage" not in sets:
        raise DataError("--sets says how the sets of --coverage are made; add --coverage 0.95")
    width = min(24, max(map(len, classifier.classes)))
    is_shown = form is None and not options.output
    is_quiet = options.quiet or (is_shown and sys.stdout.isatty())
    total = 0 if is_quiet else inputs.count_inputs(options.paths)
    empty: list[str] = []
    photos = inputs.list_inputs(options.paths, empty)
    if (first := next(photos, None)) is None:
        raise DataError(f"there are no files in {', '.join(options.paths)}")
    n, n_bad = 0, 0
    with (
        writers.destination(options.output, overwrite=options.overwrite) as file,
        console.Progress(quiet=is_quiet) as progress,
    ):
        if form:
            opened = writers.FORMATS[form](file)
        else:
            opened = writers.people_rows(file, width)
        with opened as write:
            prediction: Prediction
            progress("predict", 0, total)
            stream: Any = classifier.stream(itertools.chain([first], photos), top=options.top, **sets)
            with contextlib.closing(stream):  # its threads end before this process does
                for n, prediction in enumerate(stream, start=1):
                    write(prediction)
                    n_bad += prediction.status != "ok"
                    progress("predict", n, total)
    if options.output:
        print(f"{options.output}: {counted(n, 'row')}", file=sys.stderr)
    for folder in empty:
        console.tell(f"{folder} holds no files")
    if n_bad:
        print(f"headstart: {n_bad:,} of {n:,} images could not be used; their rows say why", file=sys.stderr)
    return 1 if n_bad else 0


def backbones(options: argparse.Namespace) -> int:
    """List the backbones, or make one of a TensorFlow file."""
    if options.action == "import":
        return _import(options)
    from headstart.backbones.builtin import BACKBONES, is_installed
    from headstart.backbones.find import BackboneSpec, find_backbone
    from headstart.backbones.tutorial_names import ALIASES
    from headstart.cli.console import table
    from headstart.engines.engine import open_engine

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
            backbone = find_backbone(BackboneSpec(row.name), cache_dir_of(options))
            about["images_per_second"] = round(open_engine(backbone.network, hardware_of(options)).images_per_second())
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
    print("\nUse one with: headstart train PHOTOS --backbone NAME; compare all that are installed: --backbone auto.")
    print("Others: --backbone FILE.onnx, timm:NAME (any of timm's), hf:owner/repo/file.onnx; the tutorials' names:")
    print(f"  {', '.join(alias.name for alias in ALIASES.values() if alias.stands_for)}")
    print("A TensorFlow file first becomes ONNX: headstart backbones import FILE")
    if not options.measure:
        print("Measure them on this machine with: headstart backbones --measure")
    if not all(r["installed"] for r in rows):
        print("Install the others with: pip install 'headstart[backbones]'")
        print("  (in a clone of headstart: .venv/bin/pip install -e '.[backbones]')")
    return 0


def _import(options: argparse.Namespace) -> int:
    from headstart.backbones.tensorflow_files.import_file import IMPORT_KEY, import_file

    source: Path | None = options.file
    if source is None:
        raise BackboneError("name the file to import: headstart backbones import FILE")
    target: Path = options.output_file or Path(f"{source.stem}.onnx")
    check_output(target, overwrite=options.overwrite)
    model = import_file(source, size=options.size, mean=options.mean, std=options.std, output=options.output)
    write_output(target, model.SerializeToString(deterministic=True))
    about = json.loads(next((p.value for p in model.metadata_props if p.key == IMPORT_KEY), "{}"))
    if options.json:
        print(json.dumps({"file": str(target), **about}, indent=2))
        return 0
    print(f"{target}: from {source}, {about.get('kind', 'a TensorFlow file')}, images in {about.get('scale')}")
    if (difference := about.get("difference")) is not None:
        print(f"its outputs differ from the original's by {difference:.1g} of the largest, on random images")
    print(f"Use it with:\n  headstart train PHOTOS --backbone {quoted(target)}")
    return 0


def views(options: argparse.Namespace) -> int:
    """Draw what views make of a photo."""
    from headstart.backbones.find import BackboneSpec, find_backbone
    from headstart.data.views import parse_views, views_grid

    check_output(options.picture, overwrite=options.overwrite)
    preprocess = find_backbone(BackboneSpec(options.backbone), cache_dir_of(options)).preprocess
    grid = views_grid(options.photo, preprocess, parse_views(options.views) if options.views else (), seed=options.seed)
    content = io.BytesIO()
    try:
        kind = options.picture.suffix.lstrip(".").lower() or "png"
        grid.save(content, format={"jpg": "jpeg"}.get(kind, kind))
    except KeyError:
        raise OutputError(f"{options.picture}: what kind of picture is that? name it .png or .jpg") from None
    write_output(options.picture, content.getvalue())
    print(f"{options.picture}: a row for each view. Learn from some with:\n  headstart train PHOTOS --views mirrored,...")
    return 0


def cache(options: argparse.Namespace) -> int:
    """Show or empty the store of codes."""
    from headstart.cli.console import table
    from headstart.codes.store import Store

    with Store(cache_dir_of(options), is_needed=True) as store:
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


def demo(options: argparse.Namespace, *, main: Main) -> int:
    """Learn handwritten digits; main: runs another command."""
    from headstart.data.digits import write_digits

    folder = options.folder
    if folder.exists() and not (folder / "digits").is_dir():
        raise OutputError(f"{folder} is there already and is no demo's folder; name another with -o")
    digits = folder / "digits"
    n = write_digits(digits)
    print(f"{n:,} handwritten digits are in {digits}, a folder for each: look at them. Now:\n")
    run = next(p for i in range(1, 10_000) if not (p := folder / ("run" if i == 1 else f"run-{i}")).exists())
    command = ["train", str(digits), "-o", str(run), *(["--cache", str(options.cache)] if "cache" in options else [])]
    print(f"$ headstart {' '.join(map(quoted, command))}")
    status = main(command + (["--quiet"] if options.quiet else []))
    if status == 0:
        some = next(iter(sorted((digits / "7").iterdir())))
        print(f"\nTry it:\n  {program()} predict {quoted(run)} {quoted(some)}")
        print(f"Then your own, a folder of photos for each class:\n  {program()} train PHOTOS")
        print(f"Or no training at all:\n  {program()} predict imagenet PHOTO")
    return status


# ---- what they share


def classifier_of(options: argparse.Namespace) -> Classifier:
    from headstart.classifier.classifier import Classifier

    hardware = hardware_of(options)
    if options.run == "imagenet" and not os.path.exists(os.path.join(options.run, "model.onnx")):
        from headstart.classifier.imagenet import imagenet_classifier

        return imagenet_classifier(cache_dir=cache_dir_of(options), hardware=hardware)
    return Classifier.load(options.run, hardware)


def hardware_of(options: argparse.Namespace) -> Hardware:
    from headstart.engines.hardware import Hardware

    return Hardware(**{name: value for name, value in vars(options).items() if name in ENGINE_OPTIONS})


def cache_dir_of(options: argparse.Namespace) -> Path:
    from headstart.cache_folder import default_cache_dir

    return Path(options.cache) if "cache" in options else default_cache_dir()


def program() -> str:
    """What to type to run this again: `headstart`, or its path where a shell does not find it by its name."""
    import shutil

    if shutil.which("headstart") or not sys.argv[0].endswith("headstart"):
        return "headstart"
    return quoted(os.path.relpath(sys.argv[0]))


def quoted(path: str | os.PathLike[str]) -> str:
    import shlex

    return shlex.quote(os.fspath(path))
