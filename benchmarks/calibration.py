"""Do probabilities mean what they say? Expected calibration error on cross-validated predictions, before and after.

By ten bins of equal numbers of images; `after` with temperatures in whose choice the judged fifth had no part. `by chance`
is what a perfectly calibrated classifier would show on as many images.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from headstart.codes.representation import represent
from headstart.codes.store import Store
from headstart.data import datasets
from headstart.heads.labelled_codes import LabelledCodes
from headstart.selection.cross_validation import choose_head
from headstart.trust.calibration import calibrate
from machine import arguments, machine, report, table
from representations import default_representation

SETS = ("flowers", "alpaca", "ants_bees", "star_clusters", "cifar10")
SIZES = (1_000, 2_400, 10_000)  # of CIFAR-10: the largest below which five folds are held out, and one where one is
HEADS = ("softmax", "class-mean", "nearest", "hidden")


def rows(shared: Path, cache: Path) -> Iterator[dict[str, object]]:
    """A row for each set, size and head."""
    with Store(cache) as store:
        for name in SETS:
            folder = shared / "data" / name
            data = datasets.load_dataset(folder / "train.parquet" if name == "cifar10" else folder)
            for n in SIZES if name == "cifar10" else (len(data.images),):
                drawn = np.sort(np.random.default_rng(0).permutation(len(data.images))[:n])
                images = [data.images[i] for i in drawn]
                representation = default_representation(cache, images)
                codes = represent(images, representation, store)
                labels = data.labels[drawn[codes.index]]
                for head in HEADS:
                    if head == "hidden" and n != SIZES[1]:  # minutes; it is tried from 20,000 images on
                        continue
                    labelled = LabelledCodes.represented(
                        codes.values, labels, len(data.classes), codes.digests, representation
                    )
                    choice = choose_head(labelled, kind=head)
                    told = calibrate(choice.logits, labels[choice.held_out], choice.head.output)
                    assert told is not None
                    yield {
                        "set": name,
                        "images": len(labels),
                        "judged": told.n_images,
                        "head": head,
                        "temperature": told.temperature,
                        "before": told.error_before,
                        "after": told.error_after,
                        "by chance": told.bias,
                    }


def main() -> None:
    """Measure, and print."""
    options = arguments(__doc__ or "").parse_args()
    about = machine()
    with tempfile.TemporaryDirectory() as cache:
        found = list(rows(options.shared, Path(cache)))
    cells = [
        [f"{v:.3f}" if isinstance(v, float) else f"{v:,}" if isinstance(v, int) else str(v) for v in row.values()]
        for row in found
    ]
    report("calibration", options, about, {"rows": found}, table(tuple(found[0]), cells))


if __name__ == "__main__":
    main()
