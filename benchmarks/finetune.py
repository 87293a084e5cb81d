"""Fine-tuning against the frozen classifier: the same photos, the same folds; and CIFAR-10 where there is a GPU.

    python benchmarks/finetune.py [--seeds 2]        flowers on the CPU
    python benchmarks/finetune.py --cifar10          CIFAR-10 on CUDA

Frozen: softmax regression on the codes of all photos outside the fold. Fine-tuned: a fifth of those is its validation split,
and its head begins at a fit on the rest. Chosen: where that lowered the cross entropy on the validation split, the same
again from all photos outside the fold, else frozen.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch

from headstart.backbones.backbone import Backbone
from headstart.backbones.builtin import DEFAULT
from headstart.backbones.find import BackboneSpec, find_backbone
from headstart.backbones.torch_modules import TorchNetwork, torch_network
from headstart.codes.compute import compute_codes
from headstart.data.datasets import load_dataset
from headstart.data.splits import TEST, TRAIN, VALIDATION, assign_splits, content_folds
from headstart.engines.hardware import available_cores
from headstart.finetune.loop import finetune
from headstart.finetune.recipe import FineTuning
from headstart.finetune.task import Task
from headstart.heads.head import Head
from headstart.heads.labelled_codes import LabelledCodes
from headstart.numerics.intervals import wilson_interval
from headstart.numerics.losses import losses
from headstart.selection.cross_validation import choose_head
from machine import Line, arguments, lines_table, machine, report, table

N_FOLDS, N_PARTS = 4, 5  # a quarter is tested on; a fifth of the rest is validation
SECONDS, CIFAR10_ACCURACY, SHARE = 300, 0.96, 0.8
METHODS = ("frozen", "fine-tuned", "chosen")


@dataclass(frozen=True)
class Photos:
    """A data set with its codes."""

    images: list[Any]
    labels: np.ndarray
    classes: tuple[str, ...]
    digests: list[bytes]
    codes: np.ndarray


def photos_of(folder: Path, backbone: Backbone) -> Photos:
    """List a data set and compute the codes of its last layer."""
    data = load_dataset(folder)
    codes = compute_codes(data.images, backbone, None)
    images = [data.images[i] for i in codes.index]
    return Photos(images, data.labels[codes.index], data.classes, codes.digests, codes.values[:, : backbone.n_codes])


def head_of(photos: Photos, rows: np.ndarray) -> Head:
    """What `headstart train` fits on the last layer's codes of some images."""
    digests = [photos.digests[i] for i in rows]
    return choose_head(LabelledCodes(photos.codes[rows], photos.labels[rows], len(photos.classes), digests)).head


def run_fold(photos: Photos, network: TorchNetwork, test: np.ndarray, seed: int) -> dict[str, Any]:
    """Whether each held-out photo was labelled rightly, and the losses, by each method; how long it took."""
    learn = np.flatnonzero(~test)
    salted = [sha256(f"validation {seed} ".encode() + photos.digests[i]).digest() for i in learn]
    is_validation = content_folds(salted, photos.labels[learn], N_PARTS) == 0
    splits = np.full(len(photos.labels), TEST)
    splits[learn] = np.where(is_validation, VALIDATION, TRAIN)
    frozen = head_of(photos, learn)
    start = head_of(photos, learn[~is_validation])
    begin = time.perf_counter()
    task = Task(photos.images, photos.labels, splits, photos.digests, network, start)
    tuned = finetune(task, options=FineTuning(seed=seed, device="cpu"))
    seconds = time.perf_counter() - begin
    codes = compute_codes([photos.images[i] for i in np.flatnonzero(test)], tuned.backbone, None).values
    scores = {"frozen": frozen.logits(photos.codes[test]), "fine-tuned": tuned.head.logits(codes)}
    scores["chosen"] = scores["frozen"]
    if tuned.best_epoch:
        again = FineTuning(seed=seed, device="cpu", keep=(tuned.best_epoch, tuned.blend))
        splits[learn] = TRAIN
        task = Task(photos.images, photos.labels, splits, photos.digests, network, frozen)
        whole = finetune(task, options=again)
        codes = compute_codes([photos.images[i] for i in np.flatnonzero(test)], whole.backbone, None).values
        scores["chosen"] = whole.head.logits(codes)
    expected = photos.labels[test]
    right = np.array([scores[method].argmax(axis=1) == expected for method in METHODS])
    loss = [float(losses(scores[method], expected).mean()) for method in METHODS]
    rate = float(np.median([epoch.images_per_second for epoch in tuned.history[1:]]))
    return {
        "right": right,
        "losses": loss,
        "seconds": seconds,
        "rate": rate,
        "best_epoch": tuned.best_epoch,
        "blend": tuned.blend,
    }


def flowers(options: argparse.Namespace) -> tuple[dict[str, Any], list[Line], str]:
    """Every photo held out once for each seed."""
    with tempfile.TemporaryDirectory() as cache:
        photos = photos_of(options.shared / "data" / "flowers", find_backbone(BackboneSpec(), Path(cache)))
    network, n = torch_network(DEFAULT), len(photos.labels)
    right = np.zeros((len(METHODS), options.seeds, n), bool)
    folds = []
    for seed in range(options.seeds):
        salted = [sha256(f"{seed} ".encode() + digest).digest() for digest in photos.digests]
        fold = content_folds(salted, photos.labels, N_FOLDS)
        for test in (fold == i for i in range(N_FOLDS)):
            folds.append(run_fold(photos, network, test, seed))
            right[:, seed, test] = folds[-1].pop("right")
            print(f"seed {seed}: {folds[-1]}", file=sys.stderr)
    loss = np.mean([fold["losses"] for fold in folds], axis=0)
    rows, methods = [], {}
    for i, method in enumerate(METHODS):
        errors = (n - right[i].sum(axis=1)).tolist()
        low, high = wilson_interval(n - int(np.median(errors)), n)
        methods[method] = {"errors_by_seed": errors, "cross_entropy": float(loss[i])}
        cells = (
            method,
            f"{1 - np.mean(errors) / n:.3f} ({low:.3f}-{high:.3f})",
            ", ".join(map(str, errors)),
            f"{loss[i]:.3f}",
        )
        rows.append(cells)
    frozen, chosen = (float(np.mean(methods[m]["errors_by_seed"])) for m in ("frozen", "chosen"))
    lines = [
        Line("flowers: one fine-tuning of 300 photos", float(np.median([f["seconds"] for f in folds])), "s", SECONDS),
        Line("flowers: rate of the layers that learn", float(np.median([f["rate"] for f in folds])), "images/s"),
        Line("flowers: errors of what is chosen", chosen, f"of {n}", frozen),
    ]
    header = ("flowers, 4 folds", "accuracy (95 % interval)", "errors by seed", "cross entropy")
    return {"methods": methods, "folds": folds}, lines, table(header, rows)


def bare_rate(network: TorchNetwork, batch: int, k: int) -> float:
    """Images/s of forward and backward of the same network alone: pixels that are there already, no optimiser."""
    net = torch.nn.Sequential(network.module, torch.nn.Linear(network.n_codes, k)).cuda().requires_grad_(True)
    net = net.to(memory_format=torch.channels_last)
    size = network.preprocess.size
    x = torch.randn(batch, 3, size, size, device="cuda").contiguous(memory_format=torch.channels_last)
    for n in (10, 50):  # the first to warm up
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(n):
            with torch.autocast("cuda", torch.bfloat16):
                loss = net(x).float().square().mean()
            loss.backward()
        torch.cuda.synchronize()
    return n * batch / (time.perf_counter() - start)


def cifar10(options: argparse.Namespace) -> tuple[dict[str, Any], list[Line], str]:
    """Everything unfrozen, 10 epochs; the test split is judged once, by the network as it is shipped."""
    folder = options.shared / "data" / "cifar10"
    with tempfile.TemporaryDirectory() as cache:
        photos = photos_of(folder, find_backbone(BackboneSpec(), Path(cache)))
    given = load_dataset(folder).splits
    splits = assign_splits(given, photos.digests, photos.labels, seed=0, validation=0.02, test=0.2)
    network, head = torch_network(DEFAULT), head_of(photos, np.flatnonzero(splits == TRAIN))
    asked = FineTuning(device="cuda", batch=options.batch, epochs=options.epochs)
    begin = time.perf_counter()
    task = Task(photos.images, photos.labels, splits, photos.digests, network, head)
    tuned = finetune(task, options=asked, on_epoch=lambda epoch: print(epoch, file=sys.stderr))
    seconds = time.perf_counter() - begin
    test = np.flatnonzero(splits == TEST)
    codes = compute_codes([photos.images[i] for i in test], tuned.backbone, None).values
    right = int((tuned.head.logits(codes).argmax(axis=1) == photos.labels[test]).sum())
    frozen = int((head.logits(photos.codes[test]).argmax(axis=1) == photos.labels[test]).sum())
    rate = float(np.median([epoch.images_per_second for epoch in tuned.history[1:]]))
    bare = bare_rate(torch_network(DEFAULT), options.batch, len(photos.classes))
    result = {
        "gpu": torch.cuda.get_device_name(),
        "accuracy": right / len(test),
        "interval": wilson_interval(right, len(test)),
        "frozen_accuracy": frozen / len(test),
        "history": [epoch._asdict() for epoch in tuned.history],
        "images_per_second": {"fine-tuning": rate, "forward and backward alone": bare},
    }
    lines = [
        Line("CIFAR-10: accuracy, frozen, last layer", frozen / len(test)),
        Line("CIFAR-10: accuracy, fine-tuned", right / len(test), "", CIFAR10_ACCURACY, at_least=True),
        Line("CIFAR-10: fine-tuning, whole", seconds, "s"),
        Line("CIFAR-10: fine-tuning", rate, "images/s"),
        Line("CIFAR-10: share of forward and backward alone", rate / bare, "", SHARE, at_least=True),
    ]
    return result, lines, f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {available_cores()} cores"


def main() -> None:
    """Measure, print, record."""
    parser = arguments("Fine-tuning and the frozen classifier on the same folds.")
    parser.add_argument("--seeds", type=int, default=2, help="how many ways of dealing the folds (default: 2)")
    parser.add_argument("--cifar10", action="store_true", help="fine-tune on CIFAR-10 instead, on a CUDA device")
    parser.add_argument("--epochs", type=int, help="epochs of CIFAR-10 (default: those of headstart)")
    parser.add_argument("--batch", type=int, default=256, help="images a step of CIFAR-10 (default: 256)")
    options = parser.parse_args()
    if options.cifar10 and not torch.cuda.is_available():
        parser.error("torch finds no CUDA device here; without --cifar10 the flowers are learnt on the CPU")
    about = machine()
    result, lines, text = (cifar10 if options.cifar10 else flowers)(options)
    name = "finetune_cifar10" if options.cifar10 else "finetune"
    report(name, options, about, {**result, "lines": lines}, f"{text}\n\n{lines_table(lines)}")
    sys.exit(any(line.verdict == "MISSED" for line in lines))


if __name__ == "__main__":
    main()
