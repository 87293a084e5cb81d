"""`headstart retrain`: the flags, lines and files of retrain.py, for who holds one of its tutorials."""

from __future__ import annotations

import argparse
import sys

from headstart.cli import arguments

HELP = "retrain.py of TensorFlow for Poets and TF-Hub, with its flags"
WHOLE = (
    "intermediate_store_frequency",
    "how_many_training_steps",
    "eval_step_interval",
    "train_batch_size",
    "test_batch_size",
    "validation_batch_size",
    "random_crop",
    "random_scale",
    "random_brightness",
)
NUMBERS = ("learning_rate", "testing_percentage", "validation_percentage")
TEXTS = (
    "output_graph",
    "intermediate_output_graphs_dir",
    "output_labels",
    "summaries_dir",
    "model_dir",
    "bottleneck_dir",
    "final_tensor_name",
    "architecture",
    "tfhub_module",
    "saved_model_dir",
)
SWITCHES = ("print_misclassified_test_images", "flip_left_right")
UNUSED = ("logging_verbosity", "checkpoint_path")  # of TensorFlow's own log and files


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the script's flags, with two of ours."""
    arguments.add_engine(parser)
    arguments.add_cache(parser)
    arguments.add_quiet(parser)
    parser.add_argument("--image_dir", required=True, metavar="DIR", help="a folder for each class")
    for name in WHOLE:
        parser.add_argument(f"--{name}", type=int, metavar="N", default=argparse.SUPPRESS, help="as in retrain.py")
    for name in NUMBERS:
        parser.add_argument(f"--{name}", type=float, metavar="X", default=argparse.SUPPRESS, help="as in retrain.py")
    for name in TEXTS:
        parser.add_argument(f"--{name}", metavar="TEXT", default=argparse.SUPPRESS, help="as in retrain.py")
    for name in SWITCHES:
        parser.add_argument(f"--{name}", action="store_true", default=argparse.SUPPRESS, help="as in retrain.py")
    for name in UNUSED:
        parser.add_argument(f"--{name}", metavar="TEXT", default=argparse.SUPPRESS, help="taken, and of no effect")
    parser.add_argument(
        "--split_by",
        choices=("name", "path"),
        default=argparse.SUPPRESS,
        help="name (default), or path: the old script's own split, which moves with the folder",
    )
    parser.add_argument("--seed", type=int, default=argparse.SUPPRESS, help="of batches and first weights (default: 0)")


def run(options: argparse.Namespace) -> int:
    """Learn, and say the script's lines."""
    from dataclasses import fields

    from headstart.cli import console
    from headstart.compat.retrain import RetrainOptions, retrain

    typed = {field.name: getattr(options, field.name) for field in fields(RetrainOptions) if field.name in options}
    with console.Progress(quiet=True):
        retrained = retrain(
            RetrainOptions(**typed),
            cache_dir=arguments.cache_dir_of(options),
            hardware=arguments.hardware_of(options),
            say=_say,
            warn=console.print_note,
        )
    if not options.quiet:
        graph, labels = console.quoted(retrained.graph), console.quoted(retrained.labels)
        console.print_note(f"label a photo: {console.program()} label_image --graph {graph} --labels {labels} --image PHOTO")
        console.print_note(f"a better classifier, a report, and no flags: {console.program()} train {options.image_dir}")
    return 0


def _say(line: str) -> None:
    print(line)
    sys.stdout.flush()  # who pipes it sees a step as it comes
