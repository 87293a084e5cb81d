"""Do forecasts of the learning curve hold the gain that comes? Some classes of CIFAR-10, learnt from n photos each and then
from more.

Each time a head is learnt from n photos a class and tested on a fourth as many, the learning curve is drawn as `train` draws
it, and where it forecasts what `ahead` more photos a class bring, the gain is measured: heads learnt from n and from n +
ahead photos, drawn anew, judged on images that nothing else has seen.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from headstart.backbones.find import BackboneSpec, find_backbone
from headstart.codes.representation import Representation, represent
from headstart.codes.store import Store
from headstart.data import datasets
from headstart.heads.kinds import HEADS
from headstart.heads.labelled_codes import LabelledCodes
from headstart.selection.cross_validation import choose_head
from headstart.selection.learning_curve import QUICK, THOROUGH, HeldOutFold, learning_curve
from headstart.selection.rungs import Selection
from headstart.training.steps.run_learning_curve import fit_as_chosen
from machine import arguments, machine, report, table

CASES = ((3, 50), (3, 150), (5, 100), (5, 250), (10, 100), (10, 250))  # classes, photos of each that are learnt from
N_JUDGES = 500  # images of each class that judge the gain
N_DRAWS = 5


def rows(shared: Path, cache: Path, n_seeds: int) -> Iterator[dict[str, object]]:
    """A row for each case and effort."""
    backbone = find_backbone(BackboneSpec("efficientnet-lite0"), cache)
    with Store(cache) as store:
        data = datasets.load_dataset(shared / "data" / "cifar10" / "train.parquet")
        drawn = np.sort(np.random.default_rng(0).permutation(len(data.images))[:12_000])
        codes = represent([data.images[i] for i in drawn], Representation((backbone,)), store)
    of_image = data.labels[drawn[codes.index]]
    for n_classes, n in CASES:
        for effort in (QUICK, THOROUGH):
            made = []
            for seed in range(n_seeds):
                rng = np.random.default_rng((n_classes, n, seed))
                classes = rng.permutation(10)[:n_classes]
                of_class = [rng.permutation(np.flatnonzero(of_image == c)) for c in classes]
                made.append(
                    _forecast(codes.values, codes.digests, of_class, n, effort is THOROUGH, look=Representation((backbone,)))
                )
            told = [m for m in made if m is not None]
            held = [low <= gain <= high for low, high, gain in told]
            yield {
                "classes": n_classes,
                "photos": n,
                "ahead": 100,
                "curve": "thorough" if effort is THOROUGH else "quick",
                "forecasts": f"{len(told)} of {n_seeds}",
                "held": float(np.mean(held)) if told else float("nan"),
                "width, points": 100 * float(np.mean([high - low for low, high, _ in told])) if told else float("nan"),
                "gain, points": 100 * float(np.mean([gain for *_, gain in told])) if told else float("nan"),
            }


def _forecast(
    codes: np.ndarray, digests: list[bytes], of_class: list[np.ndarray], n: int, is_thorough: bool, *, look: Representation
) -> tuple[float, float, float] | None:
    """The range of the gain that is forecast, and the gain that came; None where nothing is forecast."""
    k, n_test = len(of_class), n // 4
    learn, test = (np.concatenate([c[part] for c in of_class]) for part in (slice(n), slice(n, n + n_test)))
    train = LabelledCodes(codes[learn], np.repeat(np.arange(k), n), k, [digests[i] for i in learn])
    choice = choose_head(train)
    groups, of_test = [digests[i] for i in test], np.repeat(np.arange(k), n_test)
    fold = HeldOutFold(np.arange(len(learn)), codes[test], of_test, groups, choice.head.logits(codes[test]))
    curve = learning_curve(
        train,
        [fold],
        fit=fit_as_chosen(Selection(look, choice, ()), k, len(learn)),
        effort=THOROUGH if is_thorough else QUICK,
        temperature=choice.head.temperature,
    )
    if curve.forecast is None:
        return None
    ahead = curve.forecast
    low, high = (x - ahead.accuracy for x in ahead.interval)
    gains = []
    judges = np.concatenate([c[-N_JUDGES:] for c in of_class])
    truth, rng = np.repeat(np.arange(k), N_JUDGES), np.random.default_rng(0)
    for _ in range(N_DRAWS):
        pool = [rng.permutation(c[:-N_JUDGES])[: n + ahead.n_more] for c in of_class]
        right = []
        for many in (n, n + ahead.n_more):
            some = np.concatenate([c[:many] for c in pool])
            fitter = HEADS["softmax"].fitter(codes[some], np.repeat(np.arange(k), many), k)
            head = fitter.head(fitter.fit(choice.strength * np.sqrt(n / many)))
            right.append(float((head.logits(codes[judges]).argmax(axis=1) == truth).mean()))
        gains.append(right[1] - right[0])
    return low, high, float(np.mean(gains))


def main() -> None:
    """Measure, and print."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--seeds", type=int, default=25, help="forecasts of each case (default: 25)")
    options = parser.parse_args()
    about = machine()
    with tempfile.TemporaryDirectory() as cache:
        found = list(rows(options.shared, Path(cache), options.seeds))
    cells = [[f"{v:.2f}" if isinstance(v, float) else str(v) for v in row.values()] for row in found]
    report("forecast", options, about, {"rows": found}, table(tuple(found[0]), cells))


if __name__ == "__main__":
    main()
