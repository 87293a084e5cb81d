"""The process group of a fine-tuning (torch.distributed, started by torchrun), most often of one process.

It broadcasts what the first process has, and adds up losses and gradients: what the processes learn together is what one
would learn with a batch of all theirs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch

from headstart.finetune.device import device_of

PATIENT_SECONDS = 86_400  # that other processes wait for the first, which may have codes to compute


def rank_and_size() -> tuple[int, int]:
    """This process's number and the number of processes, as torchrun sets them: (0, 1) without torchrun."""
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


class ProcessGroup:
    """The processes that learn together, each with a device of its own."""

    def __init__(self, rank: int, size: int, device: Any) -> None:
        self.rank, self.size, self.device = rank, size, device

    @classmethod
    @contextmanager
    def join(cls, device: str | None) -> Iterator[ProcessGroup]:
        """Join the group, once all processes are there, and leave it at the end."""
        rank, size = rank_and_size()
        own = device_of(device, int(os.environ.get("LOCAL_RANK", rank)) if size > 1 else 0)
        if size > 1:
            backend = "nccl" if own.type == "cuda" else "gloo"
            torch.distributed.init_process_group(backend, timeout=timedelta(seconds=PATIENT_SECONDS))
        yield cls(rank, size, own)
        if size > 1:  # not after an error: it would wait for processes that wait for us; torchrun ends them all
            torch.distributed.destroy_process_group()

    def broadcast(self, content: bytes) -> bytes:
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

    def broadcast_answer(self, answer: bool) -> bool:
        """Give every process the answer that the first one has."""
        return self.broadcast(b"1" if answer else b"0") == b"1"

    def sum(self, numbers: list[Any]) -> list[float]:
        """Add up each of some numbers over the processes."""
        total = torch.tensor([float(number) for number in numbers], dtype=torch.float64, device=self.device)
        if self.size > 1:
            torch.distributed.all_reduce(total)
        return total.tolist()

    def sum_gradients(self, weights: list[Any]) -> None:
        """Add up gradients over the processes, in one piece; one that had no image in this step has zeros.

        torch's DistributedDataParallel would take the mean of means, which is another where the parts are not even, and
        knows nothing of layers that are run apart.
        """
        if self.size == 1:
            return
        every = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in weights])
        torch.distributed.all_reduce(every)
        for p, gradient in zip(weights, every.split([p.numel() for p in weights]), strict=True):
            p.grad = torch.empty_like(p).copy_(gradient.view_as(p))  # in the order in memory that p has
