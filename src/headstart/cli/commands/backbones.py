"""`headstart backbones`: lists the pretrained networks; `backbones import` makes an ONNX file of a TensorFlow one."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from headstart.cli import arguments

HELP = "list the backbones, or import one"
COLUMNS = ("backbone", "licence", "installed", "pixels", "parameters", "codes", "images/s")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options, and the commands below this one."""
    parser.description = "List the backbones, or make one of a TensorFlow file."
    _add_list(parser, False)
    actions = parser.add_subparsers(metavar="ACTION")
    _add_list(actions.add_parser("list", help="list them, as without an action"), argparse.SUPPRESS)
    importing = actions.add_parser("import", help="make one of a TensorFlow file", argument_default=argparse.SUPPRESS)
    importing.set_defaults(run_command=run_import)
    arguments.add_json(importing, argparse.SUPPRESS)
    importing.add_argument(
        "file", metavar="FILE", type=Path, help="a SavedModel folder, a frozen .pb, a .tflite or a .keras file"
    )
    importing.add_argument(
        "-o",
        dest="target",
        metavar="OUT",
        type=Path,
        default=None,
        help="the ONNX file to write (default: FILE's name with .onnx)",
    )
    arguments.add_overwrite(importing, "OUT")
    importing.add_argument("--size", type=int, metavar="PIXELS", help="the side of its images, where the file does not say")
    arguments.add_normalisation(importing, "in [0, 1] (default: what files of its kind have)")
    importing.add_argument("--output", metavar="NAME", help="the value that holds the features (default: all outputs)")


def _add_list(parser: argparse.ArgumentParser, default: Any) -> None:
    arguments.add_engine(parser)
    arguments.add_cache(parser)
    arguments.add_json(parser, default)
    parser.add_argument("--measure", action="store_true", default=default, help="measure their speed on this machine")


def run(options: argparse.Namespace) -> int:
    """List the built-in backbones, and say how to use them and others."""
    from headstart.cli import console

    rows = _rows(options)
    if options.json:
        return console.print_json([*rows, *_recommended_rows()])
    print(_table(rows))
    print(_recommended_table())
    print(_advice(is_measured=options.measure, are_all_installed=all(row["installed"] for row in rows)))
    return 0


def _rows(options: argparse.Namespace) -> list[dict[str, Any]]:
    """What is known of each built-in backbone; its speed on this machine with --measure."""
    from headstart.backbones.builtin import BACKBONES, is_installed
    from headstart.backbones.find import BackboneSpec, find_backbone
    from headstart.engines.engine import open_engine

    rows = []
    for backbone in BACKBONES.values():
        row: dict[str, Any] = {
            "name": backbone.name,
            "size": backbone.size,
            "n_parameters": backbone.n_parameters,
            "n_codes": backbone.n_codes,
            "license": backbone.license,
            "installed": is_installed(backbone),
            "images_per_second": None,
        }
        if options.measure and row["installed"]:
            network = find_backbone(BackboneSpec(backbone.name), arguments.cache_dir_of(options)).network
            row["images_per_second"] = round(open_engine(network, arguments.hardware_of(options)).images_per_second())
        rows.append(row)
    return rows


def _table(rows: list[dict[str, Any]]) -> str:
    from headstart.cli.console import table

    cells = [
        (
            str(row["name"]),
            str(row["license"]),
            "yes" if row["installed"] else "no",
            f"{row['size']}",
            f"{row['n_parameters'] / 1e6:.1f} M",
            f"{row['n_codes']:,}",
            f"{row['images_per_second']:,}" if row["images_per_second"] else "-",
        )
        for row in rows
    ]
    return table(COLUMNS, cells, left=2)


def _recommended_rows() -> list[dict[str, Any]]:
    """What is published of backbones that need a download."""
    from dataclasses import asdict

    from headstart.backbones.huggingface.recommended import RECOMMENDED

    return [{**asdict(row), "size_mb": row.size_mb} for row in RECOMMENDED]


def _recommended_table() -> str:
    """Backbones that are worth a download, with what each is good for."""
    from headstart.backbones.huggingface.recommended import RECOMMENDED
    from headstart.cli.console import table

    cells = [
        (
            row.name,
            row.license,
            f"{row.size}",
            f"{row.n_parameters / 1e6:.1f} M",
            f"{100 * row.accuracy:.1f} %",
            f"{row.size_mb} MB",
            row.good_for,
        )
        for row in RECOMMENDED
    ]
    sources = "".join(f"\n  {source}" for source in dict.fromkeys(row.source for row in RECOMMENDED))
    header = ("with the extra [torch]", "licence", "pixels", "parameters", "ImageNet", "download", "good for")
    rows = table(header, cells, left=2, text=(6,))
    return f"\n{rows}\n  ImageNet: published top-1 accuracy at those pixels, by:{sources}"


def _advice(*, is_measured: bool, are_all_installed: bool) -> str:
    from headstart.backbones.tutorial_names import ALIASES

    lines = [
        "\nUse one with: headstart train PHOTOS --backbone NAME; average all that are installed: --backbone auto.",
        "Others: --backbone FILE.onnx, timm:NAME (any of timm's), hf:owner/repo/file.onnx; the tutorials' names:",
        f"  {', '.join(alias.name for alias in ALIASES.values() if alias.stands_for)}",
        "A TensorFlow file first becomes ONNX: headstart backbones import FILE",
    ]
    if not is_measured:
        lines.append("Measure them on this machine with: headstart backbones --measure")
    if not are_all_installed:
        lines.append("Install the others with: pip install 'headstart[backbones]'")
        lines.append("  (in a clone of headstart: .venv/bin/pip install -e '.[backbones]')")
    return "\n".join(lines)


def run_import(options: argparse.Namespace) -> int:
    """Make an ONNX file of a TensorFlow one."""
    import json

    from headstart.backbones.tensorflow_files.import_file import IMPORT_KEY, import_file
    from headstart.cli import console
    from headstart.files import check_output, write_output

    source: Path = options.file
    target: Path = options.target or Path(f"{source.stem}.onnx")
    check_output(target, overwrite=options.overwrite)
    model = import_file(source, **arguments.options_for(import_file, options))
    write_output(target, model.SerializeToString(deterministic=True))
    about = json.loads(next((p.value for p in model.metadata_props if p.key == IMPORT_KEY), "{}"))
    if options.json:
        return console.print_json({"file": str(target), **about})
    print(f"{target}: from {source}, {about.get('kind', 'a TensorFlow file')}, images in {about.get('scale')}")
    if (difference := about.get("difference")) is not None:
        print(f"its outputs differ from the original's by {difference:.1g} of the largest, on random images")
    print(f"Use it with:\n  headstart train PHOTOS --backbone {console.quoted(target)}")
    return 0
