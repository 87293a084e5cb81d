"""headstart's default against the tutorials' recipe: the same photos, the same four folds, every photo held out once.

    python benchmarks/accuracy.py [FOLDER ...]

headstart: codes of efficientnet-lite0, and a head whose regularisation is chosen on the training folds, as `headstart
train` does. Recipe: the tutorials', see recipe.py. All counts are medians over the seeds of the folds.
"""

from __future__ import annotations

import math
import sys
import tempfile
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from headstart.backbones import load_backbone
from headstart.codes import compute_codes
from headstart.datasets import load_dataset
from headstart.evaluate import wilson_interval
from headstart.select import choose_head, content_folds
from machine import arguments, machine, report, table
from recipe import recipe_codes, recipe_head

SETS = ("flowers", "alpaca", "ants_bees", "star_clusters")
N_FOLDS = 4


def run_set(folder: Path, network: Path, seeds: int) -> tuple[np.ndarray, np.ndarray]:
    """Whether each held-out photo was labelled rightly, by headstart and by the recipe: (seeds, n) booleans each."""
    data = load_dataset(folder)
    with tempfile.TemporaryDirectory() as cache:
        ours = compute_codes(data.images, load_backbone(cache_dir=Path(cache)), None)
    theirs = recipe_codes([data.images[i] for i in ours.index], network)
    labels, k = data.labels[ours.index], len(data.classes)
    right = np.zeros((2, seeds, len(labels)), bool)
    for seed in range(seeds):
        salted = [sha256(f"{seed} ".encode() + digest).digest() for digest in ours.digests]
        fold = content_folds(salted, labels, N_FOLDS)
        for held_out in (fold == i for i in range(N_FOLDS)):
            learn = ~held_out
            digests = [ours.digests[i] for i in np.flatnonzero(learn)]
            head = choose_head(ours.values[learn], labels[learn], k, digests).head
            dense = recipe_head(theirs[learn], labels[learn], k, seed)
            for method, scores in enumerate((head.logits(ours.values[held_out]), dense.logits(theirs[held_out]))):
                right[method, seed, held_out] = scores.argmax(axis=1) == labels[held_out]
    return right[0], right[1]


def mcnemar(a: np.ndarray, b: np.ndarray) -> float:
    """McNemar's exact p: how likely at least so uneven a share of the photos that only one gets right is by chance."""
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    n = only_a + only_b
    return min(1.0, 2 * sum(math.comb(n, i) for i in range(min(only_a, only_b) + 1)) / 2**n)


def compare(name: str, ours: np.ndarray, theirs: np.ndarray) -> dict[str, Any]:
    """One row of the table, from (seeds, n) booleans."""
    n = ours.shape[1]
    row: dict[str, Any] = {"set": name, "n": n}
    for method, right in (("headstart", ours), ("recipe", theirs)):
        by_seed = (n - right.sum(axis=1)).tolist()
        errors = int(np.median(by_seed))
        interval = wilson_interval(n - errors, n)
        row[method] = {"errors": errors, "errors_by_seed": by_seed, "accuracy": 1 - errors / n, "interval": interval}
    before, after = row["recipe"]["errors"], row["headstart"]["errors"]
    row["errors_cut"] = (before - after) / max(before, 1)
    row["mcnemar_p"] = float(np.median([mcnemar(a, b) for a, b in zip(ours, theirs, strict=True)]))
    return row


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    """A row as text."""
    scores = []
    for method in (row["headstart"], row["recipe"]):
        low, high = method["interval"]
        scores += [f"{method['accuracy']:.3f} ({low:.3f}-{high:.3f})", str(method["errors"])]
    return row["set"], f"{row['n']:,}", *scores, f"{row['errors_cut']:+.0%}", f"{row['mcnemar_p']:.2g}"


def verdict(rows: Sequence[dict[str, Any]]) -> str:
    """Where headstart loses, plainly."""
    lost = [
        f"{r['set']} ({r['headstart']['errors']} errors to {r['recipe']['errors']}, p {r['mcnemar_p']:.2g})"
        for r in rows
        if r["headstart"]["errors"] > r["recipe"]["errors"]
    ]
    even = [r["set"] for r in rows if r["headstart"]["errors"] == r["recipe"]["errors"]]
    mean = float(np.mean([r["errors_cut"] for r in rows]))
    holds = "ok" if mean >= 1 / 3 and not lost and not even else "MISSED"
    return (
        f"headstart loses on: {', '.join(lost) or 'none of these sets'}; as many errors on: {', '.join(even) or 'none'}.\n"
        f"Share of errors cut, mean of the sets: {mean:+.0%}; to hold: a third, and fewer errors on every set: {holds}"
    )


def main() -> None:
    """Compare on every set, print, record."""
    parser = arguments("Accuracy of headstart's default and of the tutorials' recipe on the same folds.")
    parser.add_argument("folders", nargs="*", type=Path, help="more data sets, as `headstart train` takes them")
    parser.add_argument("--sets", nargs="*", default=SETS, help=f"which of the shared sets (default: {' '.join(SETS)})")
    parser.add_argument("--seeds", type=int, default=9, help="how many ways of dealing the folds (default: 9)")
    options = parser.parse_args()
    about = machine()
    network = options.shared / "weights" / "mobilenet_v2_1.0_224.onnx"
    rows, outcomes = [], []
    for folder in [*(options.shared / "data" / name for name in options.sets), *options.folders]:
        print(f"{folder.name} ...", file=sys.stderr)
        outcomes.append(run_set(folder, network, options.seeds))
        rows.append(compare(folder.resolve().name, *outcomes[-1]))
    total = compare("all", *(np.concatenate(right, axis=1) for right in zip(*outcomes, strict=True)))
    header = ("set", "n", "headstart (95 % interval)", "errors", "recipe (95 % interval)", "errors", "cut", "McNemar p")
    text = f"{table(header, [cells(row) for row in ([*rows, total] if len(rows) > 1 else rows)])}\n\n{verdict(rows)}"
    report("accuracy", options, about, {"seeds": options.seeds, "sets": rows, "all": total}, text)


if __name__ == "__main__":
    main()
