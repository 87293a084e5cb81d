"""`headstart label_image`: the flags and lines of label_image.py, for who holds one of its tutorials."""

from __future__ import annotations

import argparse

from headstart.cli import arguments

HELP = "label_image.py of TensorFlow for Poets, with its flags"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the script's flags."""
    arguments.add_engine(parser)
    arguments.add_cache(parser)
    parser.add_argument("--image", required=True, metavar="PHOTO", help="the photo to label")
    parser.add_argument(
        "--graph",
        default=argparse.SUPPRESS,
        help="what retrain wrote (.pb or .onnx), a run folder, any old frozen graph [tensorflow], or imagenet",
    )
    parser.add_argument("--labels", metavar="FILE", default=argparse.SUPPRESS, help="the labels, one a line")
    for name in ("input_height", "input_width"):
        parser.add_argument(f"--{name}", type=int, metavar="PIXELS", default=argparse.SUPPRESS, help="of an old graph (224)")
    for name in ("input_mean", "input_std"):
        parser.add_argument(f"--{name}", type=float, metavar="X", default=argparse.SUPPRESS, help="of an old graph (128)")
    parser.add_argument("--input_layer", metavar="NAME", default=argparse.SUPPRESS, help="of an old graph (input)")
    parser.add_argument("--output_layer", metavar="NAME", default=argparse.SUPPRESS, help="of an old graph (final_result)")


def run(options: argparse.Namespace) -> int:
    """Label a photo, and say the script's lines."""
    from dataclasses import fields

    from headstart.cli import console
    from headstart.compat.label_image import LabelOptions, label_image
    from headstart.safety.terminal_text import printable

    typed = {field.name: getattr(options, field.name) for field in fields(LabelOptions) if field.name in options}
    labelled = label_image(
        LabelOptions(**typed), cache_dir=arguments.cache_dir_of(options), hardware=arguments.hardware_of(options)
    )
    console.print_notes(labelled.notes)
    print(f"\nEvaluation time (1-image): {labelled.seconds:.3f}s\n")
    for label, score in labelled.scores:
        print(f"{printable(label)} (score={score:.5f})")
    return 0
