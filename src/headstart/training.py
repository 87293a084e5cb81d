"""The recipe: photos -> codes -> head -> evaluation -> a run folder. Read `train()` from top to bottom.

It decides what a run writes and where, and what is left out of learning and said so.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from headstart import datasets
from headstart.backbones import BACKBONES, DEFAULT, Backbone, load_backbone
from headstart.classifier import FILE_NAME, Classifier
from headstart.codes import Codes, Progress, Store, compute_codes, default_cache_dir
from headstart.datasets import NO_CLASS, Dataset, Skipped
from headstart.engine import Hardware, available_cores
from headstart.errors import DataError, HeadstartError
from headstart.evaluate import Evaluation, evaluate, wilson_interval
from headstart.files import write_output
from headstart.images import display_name
from headstart.runs import HeldOut, check_free, draft_of, own_version, publish, versions, write_tables
from headstart.select import Choice, choose_head
from headstart.splits import SPLITS, TEST, TRAIN, VALIDATION, assign_splits, contradictions, leaks

FEW_TESTED = 30
VALIDATION_SHARE = 0.1  # drawn as test is; today its images are learnt from and chosen by as those of train are


@dataclass(frozen=True)
class Run:
    """What `train` gives: where the run folder is, the classifier, and how good it is."""

    folder: Path
    classifier: Classifier
    evaluation: Evaluation
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
    balance: bool = False,
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
    headstart.backbones.BACKBONES or an ONNX file, which size, mean, std and output describe where it does not itself.
    balance: let every class count the same. test: the share of the images to test with, where the data gives no test split.
    seed: which images those are. cache: the folder that keeps codes, by default the user's cache folder.
    device, threads, precision: see engine.Hardware. progress: called as (stage, done, total).

    Raises HeadstartError, whose message says what to do, for anything that the caller can mend.
    """
    arguments = {k: v for k, v in locals().items() if k not in ("photos", "run", "progress")}
    _check_share(test)
    run = None if run is None else Path(run)
    if run is not None:
        check_free(run)
    stages = Stages()
    hardware = Hardware(device, threads, precision)
    cache_dir = Path(cache) if cache is not None else default_cache_dir()

    with stages("list"):
        dataset = datasets.load_dataset(photos)
    with stages("backbone"):
        network = load_backbone(backbone, cache_dir=cache_dir, size=size, mean=mean, std=std, output=output)
    with stages("codes"), Store(cache_dir) as store:
        codes = compute_codes(dataset.images, network, store, hardware=hardware, progress=progress)
    with stages("splits"):
        data = _usable(dataset, codes, str(photos), seed=seed, test=test)
    if backbone not in BACKBONES:
        data.notes.append(_of_a_strangers_network(network))
    with stages("head"):
        learn = data.splits != TEST
        choice = choose_head(
            data.codes[learn],
            data.labels[learn],
            len(data.classes),
            [d for d, used in zip(data.digests, learn, strict=True) if used],
            balance=balance,
            threads=hardware.threads or available_cores(),
            progress=progress,
        )
    with stages("evaluate"):
        held_out, evaluation = _evaluated(data, choice)
    if evaluation.n_images < FEW_TESTED:
        data.notes.append(f"only {evaluation.n_images} photos to judge by: mind the interval, and add photos if you can")
    with stages("build"):
        about = _about(photos, arguments, data, codes, choice, evaluation)
        classifier = Classifier.build(network, choice.head, data.classes, _of_the_artefact(about), hardware)
    about["model"] = {
        "file": FILE_NAME,
        "bytes": len(classifier.content),
        "sha256": sha256(classifier.content).hexdigest(),
    }
    with draft_of(run) as draft:
        with stages("write"):
            classifier.save(draft / FILE_NAME)
            write_tables(draft, data.classes, held_out, data.skipped)
        about["seconds"] = stages.seconds
        write_output(draft / "run.json", json.dumps(about, indent=2) + "\n")
        return Run(publish(draft, run, photos), classifier, evaluation, about)


@dataclass(frozen=True)
class _Data:
    """The images that can be used, with their codes; classes without one are gone."""

    names: list[str]
    codes: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    digests: list[bytes]
    splits: np.ndarray
    skipped: list[Skipped]
    notes: list[str]


def _usable(dataset: Dataset, codes: Codes, where: str, *, seed: int, test: float) -> _Data:
    """Leave out what could not be used, and what would make the test dishonest, and say so."""
    images = dataset.images
    skipped = [*dataset.skipped, *(Skipped(display_name(images[i]), f.reason) for i, f in codes.failures.items())]
    notes = []
    if len(codes.index) == 0:
        first = next(iter(codes.failures.values())).reason
        raise DataError(f"none of the {len(images)} files of {where} can be used as an image; the first: {first}")
    labels = dataset.labels[codes.index]
    present = np.bincount(labels, minlength=len(dataset.classes)) > 0
    if not present.all():
        gone = [name for name, there in zip(dataset.classes, present, strict=True) if not there]
        notes.append(f"no image of {', '.join(map(repr, gone))} can be used; that is no class of this run")
        labels = (np.cumsum(present) - 1)[labels]
    classes = tuple(name for name, there in zip(dataset.classes, present, strict=True) if there)
    datasets.check_classes(labels, classes, where)
    splits = assign_splits(
        dataset.splits[codes.index], codes.digests, labels, seed=seed, validation=VALIDATION_SHARE, test=test
    )
    names = [display_name(images[i]) for i in codes.index]
    contradicting = contradictions(labels, codes.digests)
    if contradicting:
        first = " and ".join(names[i] for i in contradicting[0])
        notes.append(f"{len(contradicting)} photos have more than one label, byte for byte the same; the first: {first}")
    notes += [f"{path}: {reason}" for path, reason in dataset.skipped if reason == NO_CLASS]
    leaking = leaks(splits, codes.digests)
    if len(leaking):
        notes.append(
            f"{len(leaking)} images of train or validation stand, byte for byte the same, in the test split of the data; "
            "they are left out of learning, so that the test stays honest"
        )
        skipped += [Skipped(names[i], "the very same image is in the test split") for i in leaking]
    kept = np.delete(np.arange(len(labels)), leaking)
    if not np.isin(np.arange(len(classes)), labels[kept][splits[kept] != TEST]).all():
        left = sorted(set(range(len(classes))) - set(labels[kept][splits[kept] != TEST].tolist()))
        names_left = ", ".join(repr(classes[i]) for i in left[:3])
        raise DataError(f"{where} leaves {names_left} with no image to learn from; move some of its test images to train")
    return _Data(
        [names[i] for i in kept],
        codes.values[kept] if len(leaking) else codes.values,
        labels[kept],
        classes,
        [codes.digests[i] for i in kept],
        splits[kept],
        skipped,
        notes,
    )


def _evaluated(data: _Data, choice: Choice) -> tuple[list[HeldOut], Evaluation]:
    """Judge on the test split, which nothing has seen so far; where it is empty, on the cross-validation.

    Gives all that was held out as well: test judged by the head, the others by the fits that had not seen them.
    """
    test = np.flatnonzero(data.splits == TEST)
    others = np.flatnonzero(data.splits != TEST)[choice.held_out]
    by_head = choice.head.probabilities(data.codes[test])
    if len(test):
        evaluation = evaluate(by_head, data.labels[test], data.classes)
    elif len(others):
        evaluation = evaluate(choice.probabilities, data.labels[others], data.classes, split="cross-validation")
    else:
        raise DataError("there are too few different images to test with; add photos")
    judged = sorted(zip([*test, *others], [*by_head, *choice.probabilities], strict=True), key=lambda pair: int(pair[0]))
    rows = []
    for i, p in judged:
        label, prediction = data.classes[data.labels[i]], data.classes[p.argmax()]
        rows.append(HeldOut(data.names[i], SPLITS[data.splits[i]], label, prediction, float(p.max())))
    return rows, evaluation


def _about(
    photos: Any, arguments: dict[str, Any], data: _Data, codes: Codes, choice: Choice, evaluation: Evaluation
) -> dict[str, Any]:
    """All that run.json says, but for what only the end knows."""
    counts = {SPLITS[s]: int((data.splits == s).sum()) for s in (TRAIN, VALIDATION, TEST)}
    cv_correct = int((choice.probabilities.argmax(axis=1) == data.labels[data.splits != TEST][choice.held_out]).sum())
    fingerprint = sha256(b"".join(sorted(d + bytes([s]) for d, s in zip(data.digests, data.splits.tolist(), strict=True))))
    return {
        "headstart": own_version(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "photos": os.path.abspath(photos),
        "arguments": {k: os.fspath(v) if isinstance(v, os.PathLike) else v for k, v in arguments.items()},
        "classes": list(data.classes),
        "images": {"used": len(data.labels), **counts, "skipped": len(data.skipped), "computed": codes.n_computed},
        "images_of_class": dict(
            zip(data.classes, np.bincount(data.labels, minlength=len(data.classes)).tolist(), strict=True)
        ),
        "splits_sha256": fingerprint.hexdigest(),
        "notes": data.notes,
        "choice": {"l2": choice.l2, "trials": [asdict(t) for t in choice.trials]},
        "cross_validation": {
            "n_images": len(choice.held_out),
            "n_correct": cv_correct,
            "accuracy": cv_correct / len(choice.held_out) if len(choice.held_out) else None,
            "interval": wilson_interval(cv_correct, len(choice.held_out)),
        },
        "evaluation": evaluation.to_json(),
        "versions": versions(),
    }


def _of_the_artefact(about: dict[str, Any]) -> dict[str, Any]:
    """What model.onnx says of itself: nothing of the machine or the folders that it was made in."""
    evaluation = {k: about["evaluation"][k] for k in ("split", "n_images", "accuracy", "interval", "top5", "cross_entropy")}
    return {
        "headstart": about["headstart"],
        "created": about["created"],
        "images": about["images"],
        "evaluation": evaluation,
        "head": {"kind": "softmax", "l2": about["choice"]["l2"]},
        "versions": {"onnx": about["versions"]["onnx"]},
    }


def _of_a_strangers_network(network: Backbone) -> str:
    """What was made of an ONNX file that does not say everything about itself."""
    wanted = network.preprocess
    return (
        f"{network.name}: codes are the {network.n_codes:,} numbers of {network.output!r}, images have {wanted.size} pixels "
        f"and are normalised with mean {wanted.mean} and std {wanted.std}; other choices: --output, --size, --mean, --std"
    )


def _check_share(test: float) -> None:
    if not 0 <= test <= 0.9:
        raise HeadstartError(f"the share to test with is {test}; expected 0 to 0.9")
