"""The rungs of headstart's ladder against the tutorials' recipe: the same photos, the same four folds, all held out once.

    python benchmarks/accuracy.py [FOLDER ...]

Each rung is what `headstart train` does with it: every choice is made by cross-validation within the training folds, on
ladder.py's own code. `last layer`: --budget 0. `deeper codes`: --views none, at the backbone's own pixels. `default`: more
pixels and mirroring as well. `auto`: --backbone auto, with all three Lite backbones. Recipe: the tutorials', see recipe.py.
All counts are medians over the seeds of the folds.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from headstart.backbones.backbone import Backbone
from headstart.backbones.find import AUTO, BackboneSpec, find_backbones, wider_backbone
from headstart.codes.representation import Representation, pixels_for, represent
from headstart.codes.store import Store
from headstart.data.datasets import load_dataset
from headstart.data.splits import content_folds
from headstart.evaluation.comparison import mcnemar
from headstart.numerics.intervals import wilson_interval
from headstart.selection.ladder import Ladder
from headstart.selection.rungs import Candidate
from machine import arguments, machine, report, table
from recipe import recipe_codes, recipe_head

SETS = ("flowers", "alpaca", "ants_bees", "star_clusters")
N_FOLDS = 4
RUNGS = ("last layer", "deeper codes", "default", "auto")
LEAST = "default"  # the rung that has to hold


def run_set(folder: Path, network: Path, seeds: int) -> dict[str, np.ndarray]:
    """Whether each held-out photo was labelled rightly, (seeds, n) booleans for the recipe and for each rung."""
    data = load_dataset(folder)
    with tempfile.TemporaryDirectory() as name, Store(Path(name)) as store:
        first, others = find_backbones(BackboneSpec(AUTO), Path(name))
        looked = represent(data.images, Representation((first,)), store)
        images = [data.images[i] for i in looked.index]
        theirs = recipe_codes(images, network)
        labels, k = data.labels[looked.index], len(data.classes)
        known: dict[Representation, np.ndarray] = {}

        def codes_of(look: Representation, rows: np.ndarray) -> np.ndarray:
            if look not in known:
                known[look] = represent(images, look, store).values
            return known[look][rows]

        pixels = pixels_for(images, first.preprocess.size)
        wider = partial(wider_backbone, spec=BackboneSpec(AUTO), cache_dir=Path(name), pixels=pixels)
        right = {rung: np.zeros((seeds, len(labels)), bool) for rung in ("recipe", *RUNGS)}
        for seed in range(seeds):
            salted = [sha256(f"{seed} ".encode() + digest).digest() for digest in looked.digests]
            fold = content_folds(salted, labels, N_FOLDS)
            for held_out in (fold == i for i in range(N_FOLDS)):
                learn = np.flatnonzero(~held_out)
                dense = recipe_head(theirs[learn], labels[learn], k, seed)
                right["recipe"][seed, held_out] = dense.logits(theirs[held_out]).argmax(axis=1) == labels[held_out]
                for rung in RUNGS:
                    ladder = ladder_of(rung, codes_of, labels, k, looked.digests, learn, wider, others)
                    learned = ladder.learn(Candidate(Representation((first,)), "softmax"))
                    codes = codes_of(learned.representation, np.flatnonzero(held_out))
                    right[rung][seed, held_out] = learned.choice.head.logits(codes).argmax(axis=1) == labels[held_out]
    return right


def ladder_of(
    rung: str,
    codes_of: Callable[[Representation, np.ndarray], np.ndarray],
    labels: np.ndarray,
    k: int,
    digests: Sequence[bytes],
    learn: np.ndarray,
    wider: Callable[[Backbone], Backbone | None],
    others: Sequence[Backbone],
) -> Ladder:
    """The ladder up to a rung, on the training folds; no clock decides."""
    is_plain = rung in RUNGS[:2]
    return Ladder(
        lambda look, rows: codes_of(look, learn[rows]),
        labels[learn],
        k,
        [digests[i] for i in learn],
        wider=(lambda _: None) if is_plain else wider,
        others=others if rung == "auto" else (),
        views=() if is_plain else None,
        budget=0 if rung == "last layer" else 1e9,
    )


def compare(name: str, right: dict[str, np.ndarray]) -> dict[str, Any]:
    """One row of the table, from (seeds, n) booleans of each method."""
    n = right["recipe"].shape[1]
    row: dict[str, Any] = {"set": name, "n": n}
    for method, ours in right.items():
        by_seed = (n - ours.sum(axis=1)).tolist()
        errors = int(np.median(by_seed))
        p = float(np.median([mcnemar(a, b) for a, b in zip(ours, right["recipe"], strict=True)]))
        interval = wilson_interval(n - errors, n)
        row[method] = {"errors": errors, "errors_by_seed": by_seed, "accuracy": 1 - errors / n, "interval": interval, "p": p}
    row["errors_cut"] = 1 - row[LEAST]["errors"] / max(row["recipe"]["errors"], 1)
    return row


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    """A row as text."""
    low, high = row[LEAST]["interval"]
    counts = [str(row[method]["errors"]) for method in ("recipe", *RUNGS)]
    accuracy = f"{row[LEAST]['accuracy']:.3f} ({low:.3f}-{high:.3f})"
    return row["set"], f"{row['n']:,}", *counts, accuracy, f"{row['errors_cut']:+.0%}", f"{row[LEAST]['p']:.2g}"


def verdict(rows: Sequence[dict[str, Any]], total: dict[str, Any]) -> str:
    """Where headstart loses, plainly."""
    lost = [
        f"{r['set']} ({r[LEAST]['errors']} errors to {r['recipe']['errors']}, p {r[LEAST]['p']:.2g})"
        for r in rows
        if r[LEAST]["errors"] > r["recipe"]["errors"]
    ]
    even = [r["set"] for r in rows if r[LEAST]["errors"] == r["recipe"]["errors"]]
    holds = "ok" if total["errors_cut"] >= 1 / 3 and not lost else "MISSED"
    return (
        f"the default loses on: {', '.join(lost) or 'none of these sets'}; as many errors on: {', '.join(even) or 'none'}.\n"
        f"Share of errors cut over all sets together: {total['errors_cut']:+.0%}; to hold: a third, losing nowhere: {holds}"
    )


def main() -> None:
    """Compare on every set, print, record."""
    parser = arguments("Accuracy of headstart's ladder and of the tutorials' recipe on the same folds.")
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
        rows.append(compare(folder.resolve().name, outcomes[-1]))
    total = compare("all", {m: np.concatenate([o[m] for o in outcomes], axis=1) for m in outcomes[0]})
    header = ("set", "n", "recipe", *RUNGS, "default's accuracy (95 % interval)", "errors cut", "McNemar p")
    shown = table(header, [cells(row) for row in ([*rows, total] if len(rows) > 1 else rows)])
    text = f"Errors, by method:\n\n{shown}\n\n{verdict(rows, total)}"
    report("accuracy", options, about, {"seeds": options.seeds, "sets": rows, "all": total}, text)


if __name__ == "__main__":
    main()
