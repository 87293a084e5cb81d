"""retrain with the tutorial's defaults: how long, and how good beside the tutorial's own head on the same codes and splits.

The tutorial's head is the same gradient descent (4,000 steps of 100 photos at 0.01) on codes as they are, where
`headstart retrain` standardises them first. The photos lie under ten names, and `--split_by path` gives each another split.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from headstart.backbones.builtin import DEFAULT
from headstart.codes.representation import Representation
from headstart.codes.workspace import Workspace
from headstart.compat.architecture import find_architecture
from headstart.compat.gradient_descent import Batches, learn
from headstart.compat.image_lists import PATH, list_images
from headstart.compat.retrain import RetrainOptions, retrain
from headstart.data.splits import TEST, TRAIN
from headstart.engines.hardware import Hardware
from headstart.heads.scaling import Standardised
from machine import Line, arguments, lines_table, machine, report, seconds

N_SPLITS = 10
SECONDS = 30
SET = "star_clusters"


class _Raw(Standardised):
    """Codes as they are."""

    def __init__(self, codes: np.ndarray) -> None:
        self.rows, self.widths = codes, (codes.shape[1],)


def options_for(photos: Path, tmp: Path, seed: int = 0) -> RetrainOptions:
    """The tutorial's flags: all defaults but for places, and the backbone that every machine has."""
    return RetrainOptions(
        image_dir=str(photos),
        output_graph=str(tmp / "graph.onnx"),
        output_labels=str(tmp / "labels.txt"),
        summaries_dir=str(tmp / "summaries"),
        model_dir=str(tmp / "models"),
        architecture=DEFAULT,
        split_by=PATH,
        seed=seed,
    )


def tutorial(options: RetrainOptions, cache: Path) -> float:
    """The test accuracy of the tutorial's own head on the same codes and the same split."""
    images = list_images(options.image_dir, testing=10, validation=10, split_by=PATH)
    backbone, _ = find_architecture(options.architecture, options.model_dir, cache)
    with Workspace(cache, Hardware()) as workspace:
        codes = workspace.represent(list(images.paths), Representation((backbone,)))
    labels, splits = np.array(images.of_image)[codes.index], np.array(images.splits)[codes.index]
    data, k = _Raw(codes.values.astype(np.float32)), len(images.labels)
    batches = Batches([np.flatnonzero((labels == i) & (splits == TRAIN)) for i in range(k)], options.train_batch_size)
    steps, rate = options.how_many_training_steps, options.learning_rate
    *_, last = learn(data, labels, k, batches, steps=steps, rate=rate, seed=options.seed)
    test = np.flatnonzero(splits == TEST)
    return float(((data.rows[test] @ last.weight + last.bias).argmax(axis=1) == labels[test]).mean())


def cold(photos: Path, tmp: Path) -> float:
    """Seconds of the whole command, with an empty cache."""
    flags = [f"--image_dir={photos}", f"--architecture={DEFAULT}", f"--output_graph={tmp / 'graph.onnx'}"]
    flags += [f"--output_labels={tmp / 'labels.txt'}", f"--summaries_dir={tmp / 'logs'}", f"--cache={tmp / 'cold'}"]
    command = [sys.executable, "-m", "headstart", "retrain", *flags]
    return seconds(lambda: subprocess.run(command, check=True, capture_output=True))


def main() -> None:
    """Measure, print, record."""
    options = arguments("retrain with the tutorial's defaults.").parse_args()
    about = machine()
    with tempfile.TemporaryDirectory() as folder:
        tmp = Path(folder)
        photos = options.shared / "data" / SET
        took = median(cold(photos, tmp / str(i)) for i in range(3))
        ours, theirs, tested = [], [], 0
        for seed in range(N_SPLITS):
            copy = tmp / f"photos {seed}"
            shutil.copytree(photos, copy)
            asked = options_for(copy, tmp, seed)
            done = retrain(asked, cache_dir=tmp / "cache")
            ours.append(done.accuracy or 0.0)
            theirs.append(tutorial(asked, tmp / "cache"))
            tested += done.n_tested
    result: dict[str, Any] = {"seconds": took, "accuracy": ours, "tutorial": theirs, "n_tested": tested}
    lines = [
        Line(f"retrain, 4,000 steps, {SET}, an empty cache, process start to exit", took, "s", SECONDS),
        Line(f"final test accuracy, median of {N_SPLITS} splits", 100 * median(ours), "%"),
        Line("the tutorial's own head on the same codes and splits", 100 * median(theirs), "%"),
        Line(f"test photos wrong, all splits together ({tested} tested)", _wrong(ours, tested), ""),
        Line("of the tutorial's own head", _wrong(theirs, tested), ""),
    ]
    report("old_commands", options, about, result, lines_table(lines))


def _wrong(accuracies: list[float], tested: int) -> float:
    return round(tested * (1 - float(np.mean(accuracies))), 1)


if __name__ == "__main__":
    main()
