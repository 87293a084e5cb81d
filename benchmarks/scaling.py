"""How codes, their rows at length 1, should be scaled before the head: held-out cross entropy at the best regularisation.

    python benchmarks/scaling.py [FOLDER ...]

Four folds, three shuffles, every set in ../shared/data that is a folder of photos. The way that headstart takes was chosen
on these sets as a whole, and accuracy.py judges on the same ones, so its numbers are a little too good by that choice.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from headstart.backbones.find import BackboneSpec, find_backbone
from headstart.cache_folder import default_cache_dir
from headstart.codes.compute import compute_codes
from headstart.codes.store import Store
from headstart.data.datasets import load_dataset
from headstart.heads.kinds import HALF_DECADES
from headstart.heads.logistic import SoftmaxRegression
from headstart.numerics.losses import softmax

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
SETS = [DATA / name for name in ("flowers", "alpaca", "ants_bees", "star_clusters")]
N_FOLDS, SEEDS = 4, (0, 1, 2)


class Plain(SoftmaxRegression):
    """Each code to variance 1."""

    @staticmethod
    def scales(variance: np.ndarray, widths: Sequence[int]) -> np.ndarray:
        return np.sqrt(variance + np.float32(1e-12))


class OneScale(SoftmaxRegression):
    """The same scale for all."""

    @staticmethod
    def scales(variance: np.ndarray, widths: Sequence[int]) -> np.ndarray:
        return np.sqrt(np.full_like(variance, variance.mean() + np.float32(1e-12)))


WAYS = {
    "plain": (lambda codes: codes, Plain),
    "one scale": (lambda codes: codes, OneScale),
    "halfway": (lambda codes: codes, SoftmaxRegression),
    "square roots": (lambda codes: np.sqrt(np.maximum(codes, 0)), Plain),
}


def held_out_cross_entropy(problem: SoftmaxRegression, n_classes: int) -> float:
    """The lowest over the grid, from images that were held out."""
    labels, losses = problem.labels, np.zeros(len(HALF_DECADES))
    for seed in SEEDS:
        fold = np.zeros(len(labels), int)
        rng = np.random.default_rng(seed)
        for label in range(n_classes):
            of_class = rng.permutation(np.flatnonzero(labels == label))
            fold[of_class] = np.arange(len(of_class)) % N_FOLDS
        for f in range(N_FOLDS):
            warm = None
            for i, l2 in enumerate(HALF_DECADES):
                warm = problem.fit(l2, weights=(fold != f).astype(np.float32), start=warm, tolerance=1e-4)
                p = softmax(problem.logits(warm, fold == f))
                losses[i] -= np.log(p[np.arange(len(p)), labels[fold == f]] + 1e-12).sum()
    return float(losses.min() / (len(SEEDS) * len(labels)))


def main() -> None:
    """Print a row for each set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="*", type=Path, default=SETS)
    print(f"{'set':<16}", *(f"{way:>18}" for way in WAYS))
    for folder in parser.parse_args().folders:
        dataset = load_dataset(folder)
        cache = default_cache_dir()
        codes = compute_codes(dataset.images, find_backbone(BackboneSpec(), cache), Store(cache))
        labels, n_classes = dataset.labels[codes.index], len(dataset.classes)
        values = codes.values.astype(np.float32)
        losses = [
            held_out_cross_entropy(kind(change(values), labels, n_classes), n_classes) for change, kind in WAYS.values()
        ]
        print(f"{folder.name:<16}", *(f"{loss:>18.3f}" for loss in losses), flush=True)


if __name__ == "__main__":
    main()
