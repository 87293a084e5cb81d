"""The recipe: photos -> codes -> head -> evaluation -> a run folder. Read `train()` from top to bottom.

It decides what a run writes and where, and what is left out of learning and said so.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from headstart import datasets, labels
from headstart.augment import parse_views
from headstart.backbones import DEFAULT, Backbone
from headstart.classifier import FILE_NAME, Classifier
from headstart.codes import Codes, Progress, Store, default_cache_dir
from headstart.datasets import Dataset
from headstart.engine import Hardware, available_cores
from headstart.errors import DataError, HeadstartError
from headstart.evaluate import (
    Evaluation,
    MultiLabelEvaluation,
    best_thresholds,
    evaluate,
    evaluate_multilabel,
    wilson_interval,
)
from headstart.files import write_output
from headstart.head import Head, is_right
from headstart.heads import HEADS, MOST_NEIGHBOURS
from headstart.images import display_name
from headstart.ladder import BUDGET, Candidate, Ladder, Learned
from headstart.learning_curve import Fit
from headstart.learning_curve import learning_curve as draw_learning_curve
from headstart.learning_curve import sentence as curve_sentence
from headstart.looks import Look, look_at, pixels_for
from headstart.runs import HeldOut, check_free, draft_of, own_version, publish, versions, write_tables
from headstart.select import MANY_LABELS, Choice
from headstart.splits import SPLITS, TEST, TRAIN, VALIDATION
from headstart.trust import Trust, build_trust
from headstart.unfamiliar import KEPT
from headstart.usable import Usable, usable
from headstart.zoo import AUTO, Wish, find_backbones, notes_on, wider_backbone

FEW_TESTED = 30
CURVE_L2 = 0.03  # where the chosen head has none
CURVE_SECONDS = 0.5  # for a learning curve that nobody asked for


@dataclass(frozen=True)
class Run:
    """What `train` gives: where the run folder is, the classifier, and how good it is."""

    folder: Path
    classifier: Classifier
    evaluation: Evaluation | MultiLabelEvaluation
    about: dict[str, Any]


@dataclass
class Stages:
    """Seconds that each stage of a run took, in order."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Time a block under a name."""
        start = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 3)


def train(
    photos: str | os.PathLike[str],
    run: str | os.PathLike[str] | None = None,
    *,
    backbone: str = DEFAULT,
    size: int | None = None,
    mean: tuple[float, float, float] | None = None,
    std: tuple[float, float, float] | None = None,
    output: str | None = None,
    head: str = "auto",
    views: str = "auto",
    budget: float = BUDGET,
    balance: bool = False,
    finetune: bool = False,
    unfreeze: str | None = None,
    epochs: int | None = None,
    batch: int | None = None,
    force: bool = False,
    learning_curve: bool = False,
    test: float = 0.2,
    seed: int = 0,
    cache: str | os.PathLike[str] | None = None,
    device: str = "CPU",
    threads: int | None = None,
    precision: str = "auto",
    progress: Progress = lambda *_: None,
) -> Run:
    """Learn a classifier from labelled photos and write a run folder.

    photos: a folder per class, train/val/test folders of those, or a table (.csv, .tsv, .parquet). run: the folder to
    write; by default a new one named after the photos, in the current folder. backbone: a name from
    headstart.backbones.BACKBONES, or an ONNX file, which size, mean, std and output describe where it does not itself;
    `auto` compares all that are installed. head: a row of headstart.heads.HEADS; `auto` leaves it to held-out data. views:
    what augment.parse_views reads, to be learnt from as well if that is better; `auto` tries mirroring only, `none`
    nothing. budget: seconds that choosing beyond the first rung may take; 0 keeps the last layer's codes. balance: let
    every class count the same. finetune: let the backbone learn as well (extra torch), and keep that only if it is better
    on validation beyond chance, or with force; unfreeze: how much of it, a key of finetune.UNFREEZE; epochs: how long at
    most; batch: images a step. learning_curve: draw it with all the time it takes; else it has CURVE_SECONDS. test: the
    share of the images to test with, where the data gives no test split. seed: which images those are. cache: the folder
    that keeps codes, by default the user's cache folder. device, threads, precision: see engine.Hardware. progress: called
    as (stage, done, total).

    Raises HeadstartError, whose message says what to do, for anything that the caller can mend.
    """
    arguments = {k: v for k, v in locals().items() if k not in ("photos", "run", "progress")}
    _check_share(test)
    _check_head(head)
    _check_tuning(finetune, {"unfreeze": unfreeze, "epochs": epochs, "batch": batch, "force": force or None}, balance)
    if seed < 0:
        raise HeadstartError(f"the seed is {seed}; expected 0 or more")
    tried_views = None if views == "auto" else [str(view) for view in parse_views(views)]
    run = None if run is None else Path(run)
    if run is not None:
        check_free(run)
    stages = Stages()
    hardware = Hardware(device, threads, precision)
    cache_dir = Path(cache) if cache is not None else default_cache_dir()
    wish = Wish(backbone, size, mean, std, output)

    tuning = None
    if finetune:
        from headstart.finetune import FineTuning
        from headstart.judge import check_name

        check_name(wish.name)
        tuning = FineTuning(
            unfreeze,
            epochs,
            batch,
            seed=seed,
            checkpoint_dir=cache_dir / "checkpoints",
            device=_torch_device(device),
            threads=threads,
            precision=precision,
        )

    with stages("list"):
        dataset = datasets.load_dataset(photos)
        first_head = _first_head(head, dataset)
    with stages("backbone"):
        network, others = find_backbones(wish, cache_dir)
        first = Look((network,), depth=len(network.widths) if budget > 0 else 1)
    with Store(cache_dir) as store:
        with stages("codes"):
            codes = look_at(dataset.images, first, store, hardware=hardware, progress=progress)
        with stages("splits"):
            data = usable(dataset, codes, str(photos), seed=seed, test=test)
        if network.source:
            data.notes.append(_of_a_strangers_network(network))
        data.notes.extend(notes_on((network, *others)))
        with stages("choose"):
            pixels = pixels_for(data.images, network.preprocess.size)
            source = _Source(data, first, store, seed, hardware, progress)
            learn = np.flatnonzero(data.splits != TEST)
            learned = Ladder(
                lambda look, rows: source.codes_of(look, learn[rows]),
                data.labels[learn],
                len(data.classes),
                [data.digests[i] for i in learn],
                wider=lambda other: wider_backbone(other, wish, cache_dir, pixels),
                others=others,
                views=tried_views,
                heads=None if head == AUTO else [],
                balance=balance,
                budget=budget,
                threads=hardware.threads or available_cores(),
                progress=progress,
            ).learn(Candidate(replace(first, depth=1), first_head))
        verdict = None
        if tuning is not None:
            with stages("fine-tune"):
                from headstart.judge import fine_tuned

                try:
                    verdict = fine_tuned(
                        data,
                        source.codes_of,
                        learned,
                        options=tuning,
                        force=force,
                        threads=hardware.threads or available_cores(),
                        progress=progress,
                    )
                    learned = verdict.learned
                except HeadstartError as error:  # the frozen classifier is there, and is not lost for it
                    data.notes.append(f"fine-tuning came to nothing, the frozen classifier stays: {error}")
        with stages("evaluate"):
            seen = replace(learned.look, views=())
            learnt = source.codes_of(seen, learn)
            trust = build_trust(
                learnt,
                data.labels[learn],
                data.classes,
                [data.digests[i] for i in learn],
                learned.choice,
                n_codes=learned.look.parts[0],
                threads=hardware.threads or available_cores(),
            )
            learned = replace(learned, choice=trust.choice)
            tested = source.codes_of(seen, np.flatnonzero(data.splits == TEST))
            judged = _judged(data, learned.choice, tested)
            evaluation = judged.evaluation
        with stages("curve"):
            curve = None
            is_frozen = verdict is None or not verdict.is_taken  # a tuned backbone has seen what would be held out
            if is_frozen and not labels.are_many(data.labels):
                curve = draw_learning_curve(
                    learnt,
                    data.labels[learn],
                    len(data.classes),
                    [data.digests[i] for i in learn],
                    fit=_fit_as_chosen(learned, len(data.classes)),
                    parts=learned.look.parts,
                    l2=learned.choice.strength if learned.choice.kind in ("softmax", "sigmoid") else CURVE_L2,
                    seed=seed,
                    budget_seconds=None if learning_curve else CURVE_SECONDS,
                    progress=progress,
                )
    if evaluation.n_images < FEW_TESTED:
        data.notes.append(f"only {evaluation.n_images} photos to judge by: mind the interval, and add photos if you can")
    with stages("build"):
        about = _about(photos, arguments, data, codes, learned, judged)
        about["fine_tuning"] = None if verdict is None else verdict.to_json()
        about["learning_curve"] = None if curve is None else {**curve.to_json(), "sentence": curve_sentence(curve)}
        about |= trust.to_json()
        classifier = Classifier.build(
            learned.look,
            learned.choice.head,
            data.classes,
            _of_the_artefact(about, trust, learned.look.backbones),
            hardware,
            unfamiliarity=trust.unfamiliarity,
        )
    about["model"] = {
        "file": FILE_NAME,
        "bytes": len(classifier.content),
        "sha256": sha256(classifier.content).hexdigest(),
    }
    with draft_of(run) as draft:
        with stages("write"):
            classifier.save(draft / FILE_NAME)
            write_tables(draft, data.classes, judged.held_out, data.skipped)
        about["seconds"] = stages.seconds
        write_output(draft / "run.json", json.dumps(about, indent=2) + "\n")
        return Run(publish(draft, run, photos), classifier, evaluation, about)


@dataclass(frozen=True)
class _Source:
    """Where the ladder gets codes: those of the first look are in memory, others come through the store."""

    data: Usable
    first: Look
    store: Store
    seed: int
    hardware: Hardware
    progress: Progress

    def codes_of(self, look: Look, rows: np.ndarray) -> np.ndarray:
        """As ladder.CodesOf, of rows of the data."""
        if replace(look, depth=self.first.depth) == self.first:
            columns = slice(sum(look.parts))
            return self.data.codes[:, columns] if len(rows) == len(self.data.codes) else self.data.codes[rows, columns]
        images = [self.data.images[i] for i in rows]
        looked = look_at(images, look, self.store, seed=self.seed, hardware=self.hardware, progress=self.progress)
        if looked.failures:
            i, failure = next(iter(looked.failures.items()))
            raise DataError(f"{display_name(images[i])} could be used a moment ago, and cannot any more: {failure.reason}")
        return looked.values


@dataclass(frozen=True)
class _Judged:
    """How good the head is, the rows that say so, and of several labels an image, from which probability on each applies."""

    evaluation: Evaluation | MultiLabelEvaluation
    held_out: list[HeldOut]
    thresholds: np.ndarray | None


def _judged(data: Usable, choice: Choice, tested: np.ndarray) -> _Judged:
    """Judge on the test split, which nothing has seen so far; where it is empty, on the cross-validation.

    Gives all that was held out as well: test judged by the head, the others by the fits that had not seen them.
    """
    test = np.flatnonzero(data.splits == TEST)
    others = np.flatnonzero(data.splits != TEST)[choice.held_out]
    probabilities, judged, split = choice.head.probabilities(tested), test, "test"
    if not len(test):
        probabilities, judged, split = choice.probabilities, others, "cross-validation"
    if not len(judged):
        raise DataError("there are too few different images to test with; add photos")
    thresholds = None
    evaluation: Evaluation | MultiLabelEvaluation
    if labels.are_many(data.labels):
        thresholds = best_thresholds(choice.probabilities, data.labels[others]).astype(np.float32)
        evaluation = evaluate_multilabel(probabilities, data.labels[judged], data.classes, thresholds, split=split)
    else:
        evaluation = evaluate(probabilities, data.labels[judged], data.classes, split=split)
    both = zip([*test, *others], [*choice.head.probabilities(tested), *choice.probabilities], strict=True)
    rows = []
    for i, p in sorted(both, key=lambda pair: int(pair[0])):
        prediction = labels.named(p.argmax() if thresholds is None else p >= thresholds, data.classes)
        label = labels.named(data.labels[i], data.classes)
        rows.append(HeldOut(data.names[i], SPLITS[data.splits[i]], label, prediction, float(p.max())))
    return _Judged(evaluation, rows, thresholds)


def _about(
    photos: Any, arguments: dict[str, Any], data: Usable, codes: Codes, learned: Learned, judged: _Judged
) -> dict[str, Any]:
    """All that run.json says, but for what only the end knows."""
    choice, look = learned.choice, learned.look
    counts = {SPLITS[s]: int((data.splits == s).sum()) for s in (TRAIN, VALIDATION, TEST)}
    cv_correct = int(is_right(choice.logits, data.labels[data.splits != TEST][choice.held_out]).sum())
    fingerprint = sha256(b"".join(sorted(d + bytes([s]) for d, s in zip(data.digests, data.splits.tolist(), strict=True))))
    return {
        "headstart": own_version(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "photos": os.path.abspath(photos),
        "arguments": {k: os.fspath(v) if isinstance(v, os.PathLike) else v for k, v in arguments.items()},
        "classes": list(data.classes),
        "images": {"used": len(data.labels), **counts, "skipped": len(data.skipped), "computed": codes.n_computed},
        "images_of_class": dict(zip(data.classes, labels.counts(data.labels, len(data.classes)).tolist(), strict=True)),
        "splits_sha256": fingerprint.hexdigest(),
        "notes": data.notes,
        "choice": {
            "backbone": look.name,
            "pixels": look.backbones[0].preprocess.size,
            "layers": look.depth,
            "mirrored": look.is_mirrored,
            "views": list(look.views),
            "head": choice.kind,
            "strength": choice.strength,
            "trials": [asdict(t) for t in choice.trials],
        },
        "ladder": [asdict(rung) for rung in learned.rungs],
        "cross_validation": {
            "n_images": len(choice.held_out),
            "n_correct": cv_correct,
            "accuracy": cv_correct / len(choice.held_out) if len(choice.held_out) else None,
            "interval": wilson_interval(cv_correct, len(choice.held_out)),
        },
        "evaluation": judged.evaluation.to_json(),
        "thresholds": None if judged.thresholds is None else judged.thresholds.tolist(),
        "versions": versions(),
    }


def _of_the_artefact(about: dict[str, Any], trust: Trust, backbones: Sequence[Backbone]) -> dict[str, Any]:
    """What model.onnx says of itself: nothing of the machine or the folders that it was made in."""
    left_out = ("classes", "confusion")  # in run.json, and as large as the square of the number of classes
    evaluation = {k: v for k, v in about["evaluation"].items() if k not in left_out}
    return {
        "headstart": about["headstart"],
        "created": about["created"],
        "images": about["images"],
        "evaluation": evaluation,
        **({"thresholds": about["thresholds"]} if about["thresholds"] else {}),
        "calibration": _calibration_in_short(trust),
        "unfamiliar": {"threshold": 1.0, "familiar_share": KEPT} if trust.unfamiliarity else None,
        "conformal": trust.conformal,
        "license_notes": notes_on(backbones),
        "head": {"kind": about["choice"]["head"], "strength": about["choice"]["strength"]},
        "versions": {"onnx": about["versions"]["onnx"]},
    }


def _calibration_in_short(trust: Trust) -> dict[str, Any] | None:
    told = trust.calibration and trust.calibration.to_json()
    return told and {name: value for name, value in told.items() if not name.startswith("bins")}


def _of_a_strangers_network(network: Backbone) -> str:
    """What was made of an ONNX file that does not say everything about itself."""
    wanted = network.preprocess
    return (
        f"{network.name}: codes are the {network.n_codes:,} numbers of {network.output!r}, images have {wanted.size} pixels "
        f"and are normalised with mean {wanted.mean} and std {wanted.std}; other choices: --output, --size, --mean, --std"
    )


def _fit_as_chosen(learned: Learned, n_classes: int) -> Fit | None:
    """What the learning curve learns with: the kind of head that was chosen, None where that is regression anyway."""
    kind, strength, parts = learned.choice.kind, learned.choice.strength, learned.look.parts
    if kind in ("softmax", "sigmoid", "hidden"):  # a hidden layer takes minutes; regression shows where the curve leads
        return None

    def fit(codes: np.ndarray, of_image: np.ndarray) -> Head:
        fitter = HEADS[kind].fitter(codes, of_image, n_classes, parts)
        return fitter.head(fitter.fit(strength))

    return fit


def _torch_device(device: str) -> str | None:
    """Where fine-tuning runs: on the GPU that was named, else on whatever there is."""
    return device.lower() if device.upper().startswith("CUDA") else None


def _first_head(head: str, dataset: Dataset) -> str:
    """The kind of head to begin with; raises HeadstartError, before any work, for one that cannot learn these labels."""
    is_many, n, n_classes = labels.are_many(dataset.labels), len(dataset.images), len(dataset.classes)
    if is_many and head not in (AUTO, *MANY_LABELS):
        raise HeadstartError(
            f"these images have several labels each; of the heads only {' and '.join(MANY_LABELS)} tell them"
        )
    if head == "sigmoid" and not is_many and n_classes > 2:
        raise HeadstartError(
            f"a sigmoid head tells two classes apart, or several labels an image; here are {n_classes} classes: use softmax"
        )
    if head == "nearest" and n > MOST_NEIGHBOURS:
        raise HeadstartError(
            f"the k-nearest head carries all images' codes along, {MOST_NEIGHBOURS:,} at most; here are {n:,}: use softmax"
        )
    return head if head != AUTO else "sigmoid" if is_many else "softmax"


def _check_tuning(finetune: bool, options: dict[str, object], balance: bool) -> None:
    given = [name for name, value in options.items() if value is not None]
    if given and not finetune:
        raise HeadstartError(f"{', '.join(given)} belong to fine-tuning; add --finetune")
    if finetune and balance:
        raise HeadstartError("fine-tuning lets every photo count the same; leave --balance away, or --finetune")


def _check_head(head: str) -> None:
    if head != AUTO and head not in HEADS:
        raise HeadstartError(f"there is no head {head!r}; the heads: {AUTO}, {', '.join(HEADS)}")


def _check_share(test: float) -> None:
    if not 0 <= test <= 0.9:
        raise HeadstartError(f"the share to test with is {test}; expected 0 to 0.9")
