"""Label errors: of labels that are swapped on purpose, how many are listed first, and how many are flagged.

    python benchmarks/label_errors.py [FOLDER ...]

5 % of the labels of each set are swapped for another class, drawn anew for each seed. `first 5 %`: the share of truly
swapped ones among as many of the lowest quality as were swapped. Rankings are compared on the probabilities of the default;
sources of probabilities by its ranking. Photos of these sets that are wrongly labelled by nature count against all.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from headstart.backbones.find import BackboneSpec, find_backbone, wider_backbone
from headstart.checks import label_errors
from headstart.checks.label_errors import confident_classes, find_label_errors, out_of_fold
from headstart.codes.representation import Representation, pixels_for, represent
from headstart.codes.store import Store
from headstart.data.datasets import load_dataset
from headstart.data.splits import content_folds
from headstart.engines.hardware import available_cores
from headstart.heads.kinds import HEADS
from headstart.heads.labelled_codes import LabelledCodes
from headstart.selection.cross_validation import choose_head
from machine import Line, arguments, clocked, lines_table, machine, report, table

SETS = ("flowers", "ants_bees", "alpaca", "star_clusters", "cifar10")
SHARE = 0.05
MOST = 5_000  # images of a set
SEEDS = {"cifar10": 10}
DEFAULT = "last layer"
HOLD = 0.8  # of the first 5 % listed of the flowers
WHOLE = 60_000


@dataclass(frozen=True)
class Photos:
    """Codes by source, with labels and digests."""

    codes: dict[str, tuple[np.ndarray, tuple[int, ...]]]
    labels: np.ndarray
    n_classes: int
    digests: list[bytes]


def look(folder: Path, store: Store, cache: Path) -> Photos:
    """The codes of a set, or of a part of it, as each source has them."""
    data = load_dataset(folder)
    some = np.sort(np.random.default_rng(0).permutation(len(data.images))[:MOST])
    images = [data.images[i] for i in some]
    spec = BackboneSpec()
    first = find_backbone(spec, cache)
    wider = wider_backbone(first, spec, cache, pixels_for(images, first.preprocess.size)) or first
    deep = represent(images, Representation((first,), len(first.widths)), store)
    whole = represent(images, Representation((wider,), len(wider.widths), is_mirrored=True), store)
    n_last, all_widths = first.widths[0], first.widths
    codes = {
        DEFAULT: (deep.values[:, :n_last], ()),
        "deeper layers": (deep.values, all_widths),
        "whole photo, mirrored": (whole.values[:, :n_last], ()),
        "both": (whole.values, all_widths),
    }
    return Photos(codes, data.labels[some][deep.index], len(data.classes), deep.digests)


def swapped(labels: np.ndarray, n_classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels of which SHARE are wrong, and which those are."""
    rng = np.random.default_rng(seed)
    which = rng.choice(len(labels), max(1, round(SHARE * len(labels))), replace=False)
    given = labels.copy()
    given[which] = (labels[which] + rng.integers(1, n_classes, len(which))) % n_classes
    return given, np.isin(np.arange(len(labels)), which)


def _others(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    others = probabilities.copy()
    others[np.arange(len(labels)), labels] = 0
    return others.max(axis=1)


def _own(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return probabilities[np.arange(len(labels)), labels]


def _entropy(probabilities: np.ndarray) -> np.ndarray:
    return -(probabilities * np.log(np.maximum(probabilities, 1e-12))).sum(axis=1)


RANKINGS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "p / (p + q)": lambda p, y: find_label_errors(p, y).quality,
    "self-confidence p": _own,
    "margin p - q": lambda p, y: _own(p, y) - _others(p, y),
    "p / entropy": lambda p, y: _own(p, y) / np.maximum(_entropy(p), 1e-6),
}


def _by_head_alone(codes: np.ndarray, labels: np.ndarray, n_classes: int, digests: Sequence[bytes]) -> np.ndarray:
    """One head, cross-validated once: what choose_head gives, or its like where that holds out one fold of five."""
    choice = choose_head(LabelledCodes(codes, labels, n_classes, digests))
    probabilities = np.eye(n_classes, dtype=np.float32)[labels]
    probabilities[choice.held_out] = choice.probabilities
    if len(choice.held_out) < len(labels) // 2:
        fitter, fold = HEADS["softmax"].fitter(codes, labels, n_classes, ()), content_folds(digests, labels, 5)
        for held_out in (fold == i for i in range(1, 5)):
            head = fitter.head(fitter.fit(choice.strength, weights=~held_out))
            probabilities[held_out] = head.probabilities(codes[held_out])
    return probabilities


def average_precision(scores: np.ndarray, is_wrong: np.ndarray) -> float:
    """Mean precision at each of the wrong ones, the lowest score first."""
    found = is_wrong[np.argsort(scores, kind="stable")]
    return float((np.cumsum(found) / np.arange(1, len(found) + 1))[found].mean())


def judged(scores: np.ndarray, is_wrong: np.ndarray) -> dict[str, float]:
    """How good a ranking is."""
    first = np.argsort(scores, kind="stable")[: int(is_wrong.sum())]
    return {"average_precision": average_precision(scores, is_wrong), "first": float(is_wrong[first].mean())}


def flagged(probabilities: np.ndarray, labels: np.ndarray, is_wrong: np.ndarray) -> dict[str, float]:
    """Precision and recall of the flags, and of the paper's off-diagonal alone."""
    told = {"flags": find_label_errors(probabilities, labels).is_flagged}
    told["off-diagonal"] = confident_classes(probabilities, labels) != labels
    both = {}
    for name, flags in told.items():
        both[f"{name}_precision"] = float(is_wrong[flags].mean()) if flags.any() else 1.0
        both[f"{name}_recall"] = float(flags[is_wrong].mean())
    return both


def run_set(name: str, photos: Photos, seeds: int) -> dict[str, Any]:
    """All numbers of a set, means over the seeds; and how many photos are flagged where nothing was swapped."""
    k, digests = photos.n_classes, photos.digests
    rows: dict[str, list[dict[str, float]]] = {}
    flags: list[dict[str, float]] = []
    for seed in range(seeds):
        given, is_wrong = swapped(photos.labels, k, seed)
        for source, (codes, widths) in photos.codes.items():
            if source in ("deeper layers", "both") and len(given) > 1000:
                continue  # minutes
            probabilities = out_of_fold(codes, given, k, digests, widths=widths, threads=available_cores())
            ranked = RANKINGS if source == DEFAULT else {"p / (p + q)": RANKINGS["p / (p + q)"]}
            for ranking, quality in ranked.items():
                rows.setdefault(f"{source}, {ranking}", []).append(judged(quality(probabilities, given), is_wrong))
            if source == DEFAULT:
                flags.append(flagged(probabilities, given, is_wrong))
        alone = _by_head_alone(photos.codes[DEFAULT][0], given, k, digests)
        found = find_label_errors(alone, given)
        rows.setdefault(f"{DEFAULT}, head alone", []).append(judged(found.quality, is_wrong))
    clean = out_of_fold(photos.codes[DEFAULT][0], photos.labels, k, digests, threads=available_cores())
    means = {
        row: {what: float(np.mean([one[what] for one in of_seed])) for what in of_seed[0]} for row, of_seed in rows.items()
    }
    firsts = [one["first"] for one in rows[f"{DEFAULT}, p / (p + q)"]]
    return {
        "set": name,
        "n": len(photos.labels),
        "seeds": seeds,
        "rankings": means,
        "first_by_seed": firsts,
        "flags": {what: float(np.mean([one[what] for one in flags])) for what in flags[0]},
        "flagged_as_it_is": int(find_label_errors(clean, photos.labels).is_flagged.sum()),
    }


def speed(shared: Path, store: Store, cache: Path) -> list[Line]:
    """How long out_of_fold takes: wall clock, and seconds of all cores, which other programs disturb less."""
    data = load_dataset(shared / "data" / "cifar10")
    codes = represent(data.images, Representation((find_backbone(BackboneSpec(), cache),)), store)
    lines = []
    for n, hold in ((3_670, 1.0), (WHOLE, 8.0)):
        part = codes.values[:n], data.labels[codes.index][:n], len(data.classes), codes.digests[:n]
        wall, cpu = clocked(partial(out_of_fold, *part, threads=available_cores()))
        lines.append(Line(f"out_of_fold, {n:,} x {codes.values.shape[1]:,} codes, 10 classes", wall, "s", hold))
        lines.append(Line(f"the same, seconds of all {available_cores()} cores", cpu, "s"))
    return lines


def shown(results: Sequence[dict[str, Any]]) -> str:
    """Tables of rankings and of flags."""
    names = list(dict.fromkeys(row for result in results for row in result["rankings"]))
    cells = [
        (row, *(_two(result["rankings"].get(row), "first", "average_precision") for result in results)) for row in names
    ]
    sets = [result["set"] for result in results]
    flags = [
        (what, *(_two(result["flags"], f"{what}_precision", f"{what}_recall") for result in results))
        for what in ("flags", "off-diagonal")
    ]
    flags.append(("photos flagged as the set is", *(f"{r['flagged_as_it_is']} of {r['n']:,}" for r in results)))
    return (
        f"Truly swapped among the first 5 % listed / average precision:\n\n{table(('', *sets), cells)}\n\n"
        f"Precision / recall of what is flagged:\n\n{table(('', *sets), flags)}"
    )


def _two(numbers: dict[str, float] | None, first: str, second: str) -> str:
    return f"{numbers[first]:.2f} / {numbers[second]:.2f}" if numbers else ""


def main() -> None:
    """Swap labels in every set, look for them, print, record."""
    parser = arguments("Swapped labels: how many are listed first, how many are flagged.")
    parser.add_argument("folders", nargs="*", type=Path, help="more data sets, as `headstart train` takes them")
    parser.add_argument("--sets", nargs="*", default=SETS, help=f"which of the shared sets (default: {' '.join(SETS)})")
    parser.add_argument("--seeds", type=int, default=40, help="ways of swapping (default: 40; 10 of cifar10)")
    parser.add_argument("--cache", type=Path, help="folder that keeps codes (default: a new one)")
    parser.add_argument("--no-speed", action="store_true", help="leave out the 60,000 images")
    options = parser.parse_args()
    about = machine()
    results = []
    with tempfile.TemporaryDirectory() as name:
        cache = options.cache or Path(name)
        with Store(cache) as store:
            for folder in [*(options.shared / "data" / one for one in options.sets), *options.folders]:
                print(f"{folder.name} ...", file=sys.stderr)
                seeds = min(options.seeds, SEEDS.get(folder.name, options.seeds))
                results.append(run_set(folder.resolve().name, look(folder, store, cache), seeds))
            lines = [] if options.no_speed else speed(options.shared, store, cache)
    flowers = next((r for r in results if r["set"] == "flowers"), None)
    if flowers:
        measured = float(np.mean(flowers["first_by_seed"]))
        lines.insert(0, Line("flowers: truly swapped of the first 5 % listed", measured, "", HOLD, at_least=True))
    told = f"{label_errors.N_NEIGHBOURS} neighbours, flagged below {label_errors.MAX_QUALITY}"
    text = f"{shown(results)}\n\n{lines_table(lines)}\n\n{told}"
    report("label_errors", options, about, {"sets": results, "lines": lines}, text)


if __name__ == "__main__":
    main()
