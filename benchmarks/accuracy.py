"""headstart's efforts and other rules against the tutorials' recipe: same photos, same four folds, all held out once.

    python benchmarks/accuracy.py [FOLDER ...]

A rule is a representation that is fixed beforehand: pixels, mirrored or not, layers, backbones; its head is learnt by
ladder.py's own code within the training folds. `quick`, `normal` and `thorough` are what `headstart train --effort` does.
Recipe: the tutorials', see recipe.py. All counts are medians over the seeds of the folds.

A rule that was picked because it does best on these sets would look better on them than it is. So the last columns pick one
for each set on all the *other* sets: among the rules of one backbone, and among all.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from headstart.backbones.backbone import Backbone
from headstart.backbones.find import BackboneSpec, find_backbone, others_like, wider_backbone
from headstart.codes.representation import Representation, pixels_for, represent
from headstart.codes.store import Store
from headstart.data.datasets import load_dataset
from headstart.data.splits import content_folds
from headstart.evaluation.comparison import mcnemar
from headstart.numerics.intervals import wilson_interval
from headstart.selection.effort import EFFORTS
from headstart.selection.ladder import Ladder
from headstart.selection.rungs import Candidate
from machine import arguments, machine, report, table
from recipe import recipe_codes, recipe_head

SETS = ("flowers", "alpaca", "ants_bees", "star_clusters", "trash", "dtd10")
N_FOLDS = 4
Networks = tuple[Backbone, Backbone, tuple[Backbone, ...]]  # as it was trained, looking at the whole photo, others like that
RULES: dict[str, Callable[[Networks], Representation]] = {
    "last layer": lambda n: Representation((n[0],)),
    "its layers": lambda n: Representation((n[0],), len(n[0].widths)),
    "quick": lambda n: EFFORTS["quick"].representation((n[1],)),
    "quick, mirrored": lambda n: Representation((n[1],), is_mirrored=True),
    "normal": lambda n: EFFORTS["normal"].representation((n[1],)),
    "normal, mirrored": lambda n: Representation((n[1],), len(n[1].widths), is_mirrored=True),
    "three backbones": lambda n: Representation((n[1], *n[2])),
    "thorough": lambda n: EFFORTS["thorough"].representation((n[1], *n[2])),
}
OF_MANY = ("three backbones", "thorough")
HOLD = {"normal": 0.30, "thorough": 0.36}  # of the recipe's errors, cut


def run_set(folder: Path, network: Path, seeds: int) -> dict[str, np.ndarray]:
    """Whether each held-out photo was labelled rightly, (seeds, n) booleans for the recipe and for each rule."""
    data, spec = load_dataset(folder), BackboneSpec()
    with tempfile.TemporaryDirectory() as name, Store(Path(name)) as store:
        usual = find_backbone(spec, Path(name))
        whole = wider_backbone(usual, spec, Path(name), pixels_for(data.images, usual.preprocess.size)) or usual
        networks = usual, whole, others_like(whole, Path(name))
        looked = represent(data.images, Representation((usual,)), store)
        images = [data.images[i] for i in looked.index]
        theirs = recipe_codes(images, network)
        labels, k = data.labels[looked.index], len(data.classes)
        codes = {rule: represent(images, make(networks), store).values for rule, make in RULES.items()}
        right = {rule: np.zeros((seeds, len(labels)), bool) for rule in ("recipe", *RULES)}
        for seed in range(seeds):
            salted = [sha256(f"{seed} ".encode() + digest).digest() for digest in looked.digests]
            fold = content_folds(salted, labels, N_FOLDS)
            for held_out in (fold == i for i in range(N_FOLDS)):
                learn = np.flatnonzero(~held_out)
                dense = recipe_head(theirs[learn], labels[learn], k, seed)
                right["recipe"][seed, held_out] = dense.logits(theirs[held_out]).argmax(axis=1) == labels[held_out]
                for rule, make in RULES.items():
                    learned = _ladder(codes[rule], labels, k, looked.digests, learn).learn(
                        Candidate(make(networks), "softmax")
                    )
                    logits = learned.choice.head.logits(codes[rule][held_out])
                    right[rule][seed, held_out] = logits.argmax(axis=1) == labels[held_out]
    return right


def _ladder(codes: np.ndarray, labels: np.ndarray, k: int, digests: Sequence[bytes], learn: np.ndarray) -> Ladder:
    """The ladder of a training on the training folds."""
    groups = [digests[i] for i in learn]
    return Ladder(lambda _, rows: codes[learn[rows]], labels[learn], k, groups)


def pick_on_others(outcomes: dict[str, dict[str, np.ndarray]], rules: Sequence[str]) -> dict[str, str]:
    """For each set, the rule with the fewest errors, as a share of the recipe's, on all the other sets together."""
    picked = {}
    for judged in outcomes:
        others = [right for name, right in outcomes.items() if name != judged]
        share = {r: np.mean([_errors(right[r]) / max(_errors(right["recipe"]), 1) for right in others]) for r in rules}
        picked[judged] = min(rules, key=lambda rule: share[rule])
    return picked


def _errors(right: np.ndarray) -> float:
    """The mean number of errors over the seeds."""
    return float((~right).sum(axis=1).mean())


def compare(name: str, right: dict[str, np.ndarray]) -> dict[str, Any]:
    """One row of the table, from (seeds, n) booleans of each method."""
    n = right["recipe"].shape[1]
    row: dict[str, Any] = {"set": name, "n": n}
    for method, ours in right.items():
        by_seed = (n - ours.sum(axis=1)).tolist()
        errors = float(np.median(by_seed))
        p = float(np.median([mcnemar(a, b) for a, b in zip(ours, right["recipe"], strict=True)]))
        interval = wilson_interval(n - errors, n)
        row[method] = {"errors": errors, "errors_by_seed": by_seed, "accuracy": 1 - errors / n, "interval": interval, "p": p}
        row[method]["errors_cut"] = 1 - errors / max(row["recipe"]["errors"], 1)
    return row


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    """A row as text."""
    low, high = row["normal"]["interval"]
    counts = [f"{row[method]['errors']:g}" for method in ("recipe", *RULES, *(("one", "any") if "one" in row else ()))]
    accuracy = f"{row['normal']['accuracy']:.3f} ({low:.3f}-{high:.3f})"
    return row["set"], f"{row['n']:,}", *counts, accuracy, f"{row['normal']['p']:.2g}"


def verdict(rows: Sequence[dict[str, Any]], total: dict[str, Any]) -> str:
    """What holds, and where headstart loses, plainly."""
    lines = []
    for effort, least in HOLD.items():
        lost = [
            f"{r['set']} ({r[effort]['errors']:g} errors to {r['recipe']['errors']:g}, p {r[effort]['p']:.2g})"
            for r in rows
            if r[effort]["errors"] > r["recipe"]["errors"]
        ]
        cut = total[effort]["errors_cut"]
        holds = "ok" if cut >= least and not lost else "MISSED"
        lines.append(
            f"{effort}: {cut:+.1%} errors cut over all sets together; loses on: {', '.join(lost) or 'none of these sets'}; "
            f"to hold: {least:.0%}, losing nowhere beyond chance: {holds}"
        )
    if "one" in total:
        lines.append(
            "picked on the other sets, judged on the one left out: "
            f"{total['one']['errors_cut']:+.1%} with one backbone, {total['any']['errors_cut']:+.1%} with any rule"
        )
    return "\n".join(lines)


def main() -> None:
    """Compare on every set, print, record."""
    parser = arguments("Accuracy of headstart's efforts and of the tutorials' recipe on the same folds.")
    parser.add_argument("folders", nargs="*", type=Path, help="more data sets, as `headstart train` takes them")
    parser.add_argument("--sets", nargs="*", default=SETS, help=f"which of the shared sets (default: {' '.join(SETS)})")
    parser.add_argument("--seeds", type=int, default=9, help="how many ways of dealing the folds (default: 9)")
    options = parser.parse_args()
    about = machine()
    network = options.shared / "weights" / "mobilenet_v2_1.0_224.onnx"
    outcomes: dict[str, dict[str, np.ndarray]] = {}
    for folder in [*(options.shared / "data" / name for name in options.sets), *options.folders]:
        print(f"{folder.name} ...", file=sys.stderr)
        outcomes[folder.resolve().name] = run_set(folder, network, options.seeds)
    picked: dict[str, dict[str, str]] = {}
    if len(outcomes) > 2:
        one = pick_on_others(outcomes, [rule for rule in RULES if rule not in OF_MANY])
        every = pick_on_others(outcomes, list(RULES))
        picked = {name: {"one": one[name], "any": every[name]} for name in outcomes}
        for name, right in outcomes.items():
            right.update({column: right[rule] for column, rule in picked[name].items()})
    rows = [compare(name, right) for name, right in outcomes.items()]
    methods = list(next(iter(outcomes.values())))
    total = compare("all", {m: np.concatenate([right[m] for right in outcomes.values()], axis=1) for m in methods})
    header = ("set", "n", *methods, "normal's accuracy (95 % interval)", "McNemar p")
    shown = table(header, [cells(row) for row in ([*rows, total] if len(rows) > 1 else rows)])
    text = f"Errors, by method:\n\n{shown}\n\n{verdict(rows, total)}"
    if picked:
        text += "\n" + "\n".join(f"picked for {name}: {rules['one']}; {rules['any']}" for name, rules in picked.items())
    report("accuracy", options, about, {"seeds": options.seeds, "sets": rows, "all": total, "picked": picked}, text)


if __name__ == "__main__":
    main()
