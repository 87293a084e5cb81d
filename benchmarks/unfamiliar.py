"""Does unfamiliarity tell photos of something else from photos like those that were learnt from?

Learns from four fifths of each set, and shows the other fifth together with photos of every other set, and classes that were
kept back. AUROC: how often something else looks stranger than a familiar photo; 0.5 is guessing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from headstart.codes.representation import Representation, represent
from headstart.data import datasets
from headstart.data.splits import content_folds
from headstart.heads.labelled_codes import LabelledCodes
from headstart.numerics.losses import softmax, unit_rows
from headstart.selection.cross_validation import choose_head
from headstart.trust.fit import build_trust
from headstart.trust.unfamiliarity import energy, learn_distance, roc_auc
from machine import arguments, machine, report, table
from representations import default_representation

SETS = ("flowers", "alpaca", "ants_bees", "star_clusters", "cifar10")
MOST_IMAGES = 2_000  # of CIFAR-10
MOST_PROBES = 400  # of each other set
K = 5
N_FOLDS = 5


class Coded(NamedTuple):
    """A set's codes, labels, sha256 and number of classes."""

    codes: np.ndarray
    labels: np.ndarray
    digests: list[bytes]
    n_classes: int
    representation: Representation

    @property
    def last(self) -> np.ndarray:
        """The codes of the last layer."""
        return self.codes[:, : self.representation.widths[0]]


def coded(shared: Path, name: str, cache: Path) -> Coded:
    """Codes as the default effort has them for larger photos."""
    folder = shared / "data" / name
    data = datasets.load_dataset(folder / "train.parquet" if name == "cifar10" else folder)
    drawn = np.sort(np.random.default_rng(0).permutation(len(data.images))[:MOST_IMAGES])
    images, representation = [data.images[i] for i in drawn], default_representation(cache)
    codes = represent(images, representation, None)
    return Coded(codes.values, data.labels[drawn[codes.index]], codes.digests, len(data.classes), representation)


def scores(learnt: Coded, shown: np.ndarray) -> tuple[dict[str, np.ndarray], float]:
    """How strange each photo looks by each way, and headstart's threshold."""
    labelled = LabelledCodes.represented(
        learnt.codes, learnt.labels, learnt.n_classes, learnt.digests, learnt.representation
    )
    trust = build_trust(labelled, [str(i) for i in range(learnt.n_classes)], choose_head(labelled))
    logits = trust.choice.head.logits(shown) / np.float32(trust.choice.head.temperature)
    assert trust.unfamiliarity is not None
    return {
        "headstart": trust.unfamiliarity(shown, logits),
        "distance alone": learn_distance(learnt.last, learnt.labels, learnt.n_classes)(shown[:, : learnt.last.shape[1]]),
        f"{K} nearest photos": nearest(learnt.last, shown[:, : learnt.last.shape[1]]),
        "energy alone": energy(logits),
        "max softmax": -softmax(logits).max(axis=1),
    }, 1.0


def nearest(learnt: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """The mean distance to the K nearest photos, rows brought to length 1 (Sun et al. 2022)."""
    a, b = (unit_rows(rows.astype(np.float32), (rows.shape[1],)) for rows in (learnt, shown))
    return np.sqrt(np.maximum(0, np.sort(2 - 2 * b @ a.T, axis=1)[:, :K])).mean(axis=1)


def of(whole: Coded, rows: np.ndarray) -> Coded:
    """Some of a set's photos."""
    return Coded(
        whole.codes[rows],
        whole.labels[rows],
        [whole.digests[i] for i in np.flatnonzero(rows)],
        whole.n_classes,
        whole.representation,
    )


def pairs(sets: dict[str, Coded], n_folds: int) -> Iterator[dict[str, object]]:
    """A row for each pair of sets."""
    for name, whole in sets.items():
        others = {other: them.codes[:MOST_PROBES] for other, them in sets.items() if other != name}
        fold = content_folds(whole.digests, whole.labels, N_FOLDS)
        found: dict[str, list[dict[str, float]]] = {other: [] for other in others}
        for i in range(n_folds):
            shown = [whole.codes[fold == i], *others.values()]
            told, threshold = scores(of(whole, fold != i), np.concatenate(shown))
            ends = np.cumsum([len(part) for part in shown])
            for other, start, end in zip(others, ends, ends[1:], strict=False):
                row = {
                    way: roc_auc(np.r_[s[: ends[0]], s[start:end]], np.arange(ends[0] + end - start) >= ends[0])
                    for way, s in told.items()
                }
                row["familiar that pass"] = float((told["headstart"][: ends[0]] <= threshold).mean())
                row["others noticed"] = float((told["headstart"][start:end] > threshold).mean())
                found[other].append(row)
        for other, rows in found.items():
            yield {"learnt": name, "shown": other, **{way: float(np.mean([r[way] for r in rows])) for way in rows[0]}}


def classes_left_out(sets: dict[str, Coded]) -> Iterator[dict[str, object]]:
    """A row for each set of three classes or more: each of its classes in turn is something else."""
    for name, whole in sets.items():
        if whole.n_classes < 3:
            continue
        held_out = content_folds(whole.digests, whole.labels, N_FOLDS) == 0
        rows = []
        for left in range(whole.n_classes):
            is_left = whole.labels == left
            learnt = of(whole, ~held_out & ~is_left)
            numbers = np.cumsum(np.arange(whole.n_classes) != left) - 1
            learnt = learnt._replace(labels=numbers[learnt.labels], n_classes=whole.n_classes - 1)
            told, threshold = scores(learnt, np.concatenate([whole.codes[held_out & ~is_left], whole.codes[is_left]]))
            strange = np.arange(len(told["headstart"])) >= (held_out & ~is_left).sum()
            row = {way: roc_auc(s, strange) for way, s in told.items()}
            row["familiar that pass"] = float((told["headstart"][~strange] <= threshold).mean())
            row["others noticed"] = float((told["headstart"][strange] > threshold).mean())
            rows.append(row)
        yield {
            "learnt": name,
            "shown": "a class left out",
            **{way: float(np.mean([r[way] for r in rows])) for way in rows[0]},
        }


def main() -> None:
    """Measure, and print."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--folds", type=int, default=N_FOLDS, help=f"of {N_FOLDS}, how many are held out in turn")
    options = parser.parse_args()
    about = machine()
    with tempfile.TemporaryDirectory() as cache:
        sets = {name: coded(options.shared, name, Path(cache)) for name in SETS}
    rows = [*pairs(sets, options.folds), *classes_left_out(sets)]
    ways = [key for key in rows[0] if key not in ("learnt", "shown")]
    far = [row for row in rows if row["shown"] != "a class left out"]
    near = [row for row in rows if row["shown"] == "a class left out"]
    means = [
        {"learnt": f"mean of {len(some)}", "shown": "", **{w: float(np.mean([r[w] for r in some])) for w in ways}}
        for some in (far, near)
    ]
    cells = [
        [str(row["learnt"]), str(row["shown"]), *(f"{row[way]:.3f}" for way in ways)]
        for row in (*far, means[0], *near, means[1])
    ]
    report("unfamiliar", options, about, {"rows": [*rows, *means]}, table(("learnt", "shown", *ways), cells))


if __name__ == "__main__":
    main()
