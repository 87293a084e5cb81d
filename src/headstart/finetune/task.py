"""The task of a fine-tuning: the images, labels and splits, the network and the head that it starts from; and its bytes.

Under torchrun the first process has the task; the others receive its bytes.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from headstart.backbones.torch_modules import TorchNetwork
from headstart.data.images import Preprocess
from headstart.data.tables import ImageRef, ParquetImages, TableImage
from headstart.errors import DataError
from headstart.finetune.checkpoint import from_bytes, to_bytes
from headstart.finetune.recipe import FineTuning
from headstart.heads.head import Head


@dataclass(frozen=True)
class Task:
    """What a fine-tuning learns from, and where it starts.

    images: n, each usable. labels: (n,) positions of classes, or (n, k) of 0 and 1 for a `sigmoid` head. splits: (n,) as in
    data.splits; what is neither train nor validation is not looked at. digests: each image's sha256. head: one layer on the
    network's codes, fitted on images of train alone, or else validation flatters epoch 0.
    """

    images: list[ImageRef]
    labels: np.ndarray
    splits: np.ndarray
    digests: list[bytes]
    network: TorchNetwork
    head: Head


def pack(task: Task, options: FineTuning) -> bytes:
    """Serialise a task for other processes, which load the network by its name; raises DataError for images in memory."""
    refs = []
    for image in task.images:
        if isinstance(image, TableImage):
            refs.append([str(image.table.path), image.table.column, image.row])
        elif isinstance(image, (str, os.PathLike)):
            refs.append([os.path.abspath(os.fspath(image))])
        else:
            raise DataError("several processes can learn together from files and tables, not from images in memory")
    ((weight, bias),) = task.head.layers
    arrays = {"labels": task.labels, "splits": task.splits, "weight": weight, "bias": bias}
    return to_bytes(
        {
            "images": refs,
            **{name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()},
            "digests": [digest.hex() for digest in task.digests],
            "network": task.network.name,
            "preprocess": asdict(task.network.preprocess),
            "parts": list(task.head.widths),
            "output": task.head.output,
            "options": {**asdict(options), "checkpoint_dir": None, "device": None},
        }
    )


def unpack(content: bytes, load: Callable[[str], TorchNetwork]) -> tuple[Task, FineTuning]:
    """Read what pack wrote; load: gives the network of a name."""
    values = from_bytes(content)
    tables: dict[tuple[str, str], ParquetImages] = {}
    images: list[ImageRef] = []
    for ref in values["images"]:
        if len(ref) == 1:
            images.append(ref[0])
            continue
        path, column, row = ref
        if (path, column) not in tables:
            tables[path, column] = ParquetImages(Path(path))
            tables[path, column].column = column
        images.append(TableImage(tables[path, column], row))
    arrays = {name: values[name].numpy() for name in ("labels", "splits", "weight", "bias")}
    digests = [bytes.fromhex(digest) for digest in values["digests"]]
    head = Head(((arrays["weight"], arrays["bias"]),), tuple(values["parts"]), values["output"])
    network = replace(load(values["network"]), preprocess=Preprocess(**values["preprocess"]))
    task = Task(images, arrays["labels"], arrays["splits"], digests, network, head)
    return task, FineTuning(**values["options"])
