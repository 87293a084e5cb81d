"""`headstart explain`: shows why a photo gets its label, as a heat map and the most similar photos of the training."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from headstart.cli import arguments

if TYPE_CHECKING:
    from headstart.classifier.classifier import Classifier

HELP = "show why a photo gets its label"
MOST_NAMED = 20  # classes in a message


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    arguments.add_engine(parser)
    arguments.add_cache(parser)
    arguments.add_quiet(parser)
    arguments.add_json(parser)
    arguments.add_output(parser)
    arguments.add_run(parser, "a run folder, its model.onnx, hf:owner/name, or `imagenet`")
    parser.add_argument("photo", metavar="PHOTO", help="any photo")
    parser.add_argument("--label", metavar="CLASS", default=None, help="explain another class than the likeliest")


def run(options: argparse.Namespace) -> int:
    """Explain a photo's label: where the evidence lies, and which photos of the training are most similar."""
    from headstart.classifier.explain import Explainer
    from headstart.cli import console, summaries
    from headstart.files import check_output
    from headstart.report.heat_image import write_heat
    from headstart.runs.nearest_photos import nearest_training_photos
    from headstart.safety.terminal_text import printable

    classifier, output = arguments.classifier_of(options), options.output
    if output is not None:
        check_output(output, overwrite=options.overwrite)
    explainer = Explainer(classifier)
    square = explainer.square_of(options.photo)
    label = _class_of(options.label, classifier)
    (prediction,) = classifier.predict(options.photo)
    heat, codes = explainer.explain(square, label), explainer.outputs(square)["codes"]
    nearest = nearest_training_photos(options.run, classifier, codes, photo=options.photo)
    if output is not None:
        write_heat(output, square, heat.shown, [near.path for near in nearest])
    if options.json:
        explanation = {
            "label": classifier.classes[heat.label],
            "is_exact": heat.is_exact,
            "heat": [[round(float(v), 4) for v in row] for row in heat.values],
            "constant": heat.constant,
            "nearest": [near._asdict() for near in nearest],
        }
        return console.print_json({**prediction.to_json(), **explanation})
    print(summaries.people_row(prediction, max(len(str(prediction.prediction)), 1)))
    for near in nearest:
        print(printable(f"  like {near.path} ({near.label})"))
    if output is not None:
        how = "it adds up to the score" if heat.is_exact else "by covering the photo piece by piece"
        print(printable(f"{output}: where the evidence for {classifier.classes[heat.label]} lies ({how})"))
    return 0


def _class_of(name: str | None, classifier: Classifier) -> int | None:
    """The position of a class that is asked for."""
    from headstart.errors import DataError
    from headstart.wording import listed

    if name is None:
        return None
    if name not in classifier.classes:
        raise DataError(f"there is no class {name!r}; the classes: {listed(classifier.classes, most=MOST_NAMED)}")
    return classifier.classes.index(name)
