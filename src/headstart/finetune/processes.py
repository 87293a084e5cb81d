"""The processes that learn together, most often one: how they meet, add up, and hear what there is to do.

Under torchrun the first one has the work; the others get it packed. What each of them learns adds up to what one would
learn with a batch of all theirs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch

from headstart.backbones.torch_modules import TorchNetwork
from headstart.data.images import Preprocess
from headstart.data.tables import ImageRef, ParquetImages, TableImage
from headstart.errors import DataError
from headstart.finetune.checkpoint import from_bytes, to_bytes
from headstart.finetune.device import device_of
from headstart.finetune.recipe import FineTuning
from headstart.heads.head import Head

PATIENT_SECONDS = 86_400  # that other processes wait for the first, which may have codes to compute


def processes() -> tuple[int, int]:
    """This process's number and how many there are, as torchrun tells it: (0, 1) without torchrun."""
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


@dataclass(frozen=True)
class Job:
    """What is learnt from, and where it begins: all that other processes have to be told."""

    images: list[ImageRef]
    labels: np.ndarray
    splits: np.ndarray
    digests: list[bytes]
    network: TorchNetwork
    head: Head


class Team:
    """The processes that learn together, each with a device of its own; most often one."""

    def __init__(self, rank: int, size: int, device: Any) -> None:
        self.rank, self.size, self.device = rank, size, device

    @classmethod
    @contextmanager
    def gathered(cls, device: str | None) -> Iterator[Team]:
        """Wait until all processes are there."""
        rank, size = processes()
        found = device_of(device, int(os.environ.get("LOCAL_RANK", rank)) if size > 1 else 0)
        if size > 1:
            backend = "nccl" if found.type == "cuda" else "gloo"
            torch.distributed.init_process_group(backend, timeout=timedelta(seconds=PATIENT_SECONDS))
        yield cls(rank, size, found)
        if size > 1:  # not after an error: it would wait for processes that wait for us; torchrun ends them all
            torch.distributed.destroy_process_group()

    def shared(self, content: bytes) -> bytes:
        """Give every process the bytes that the first one has."""
        if self.size == 1:
            return content
        length = torch.tensor([len(content)], device=self.device)
        torch.distributed.broadcast(length, 0)
        data = torch.zeros(int(length), dtype=torch.uint8, device=self.device)
        if self.rank == 0 and content:
            data.copy_(torch.frombuffer(bytearray(content), dtype=torch.uint8))
        torch.distributed.broadcast(data, 0)
        return data.cpu().numpy().tobytes()

    def tells(self, answer: bool) -> bool:
        """Give every process the first one's answer."""
        return self.shared(b"1" if answer else b"0") == b"1"

    def summed(self, numbers: list[Any]) -> list[float]:
        """Numbers added up over the processes."""
        total = torch.tensor([float(number) for number in numbers], dtype=torch.float64, device=self.device)
        if self.size > 1:
            torch.distributed.all_reduce(total)
        return total.tolist()

    def sum_gradients(self, free: list[Any]) -> None:
        """Add up gradients over the processes, in one piece; one that had no image in this step has zeros.

        torch's DistributedDataParallel would take the mean of means, which is another where the parts are not even, and
        knows nothing of layers that are run apart.
        """
        if self.size == 1:
            return
        every = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in free])
        torch.distributed.all_reduce(every)
        for p, gradient in zip(free, every.split([p.numel() for p in free]), strict=True):
            p.grad = torch.empty_like(p).copy_(gradient.view_as(p))  # in the order in memory that p has


def packed(job: Job, options: FineTuning) -> bytes:
    """A job for the other processes, which load the network by its name."""
    refs = []
    for image in job.images:
        if isinstance(image, TableImage):
            refs.append([str(image.table.path), image.table.column, image.row])
        elif isinstance(image, (str, os.PathLike)):
            refs.append([os.path.abspath(os.fspath(image))])
        else:
            raise DataError("several processes can learn together from files and tables, not from images in memory")
    ((weight, bias),) = job.head.layers
    arrays = {"labels": job.labels, "splits": job.splits, "weight": weight, "bias": bias}
    return to_bytes(
        {
            "images": refs,
            **{name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()},
            "digests": [digest.hex() for digest in job.digests],
            "network": job.network.name,
            "preprocess": asdict(job.network.preprocess),
            "parts": list(job.head.widths),
            "output": job.head.output,
            "options": {**asdict(options), "checkpoint_dir": None, "device": None},
        }
    )


def unpacked(content: bytes, load: Callable[[str], TorchNetwork]) -> tuple[Job, FineTuning]:
    """What packed wrote, with the network that load gives for its name."""
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
    job = Job(images, arrays["labels"], arrays["splits"], digests, network, head)
    return job, FineTuning(**values["options"])
