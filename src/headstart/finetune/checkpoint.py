"""Checkpoints: the state of a training as one file, which a killed run goes on from.

It decides when a file is whole and of this very training; any other is ignored, with a note. Nothing in it is executed.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import torch

from headstart.files import write_atomically


class Checkpoint:
    """A file of tensors and plain values with its sha256 before it, which belongs to exactly one recipe."""

    def __init__(self, folder: Path | None, fingerprint: str, notes: list[str]) -> None:
        self.path = folder / f"finetune-{fingerprint[:16]}.pt" if folder else None
        self.fingerprint, self.notes = fingerprint, notes

    def write(self, state: dict[str, Any]) -> None:
        """Write a state, whole or not at all; a full disk makes a note, and stops nothing."""
        if self.path is None:
            return
        content = to_bytes({"fingerprint": self.fingerprint, **state})
        try:
            write_atomically(self.path, hashlib.sha256(content).digest() + content)
        except OSError as error:
            note = f"no checkpoint can be written to {self.path.parent}: {error.strerror}; if it is killed, it begins anew"
            if note not in self.notes:
                self.notes.append(note)

    def read(self) -> bytes:
        """Give a state's bytes; none where there is no file, and with a note where it is damaged or another's."""
        try:
            whole = self.path.read_bytes() if self.path else b""
        except FileNotFoundError:
            return b""
        except OSError as error:
            self.notes.append(f"the checkpoint {self.path} cannot be read and was ignored: {error.strerror}")
            return b""
        content = whole[32:]
        if self.path and (hashlib.sha256(content).digest() != whole[:32]):
            self.notes.append(f"the checkpoint {self.path} is damaged and was ignored")
            return b""
        if content and from_bytes(content).get("fingerprint") != self.fingerprint:
            self.notes.append(f"the checkpoint {self.path} is of another training and was ignored")
            return b""
        return content


def to_bytes(values: dict[str, Any]) -> bytes:
    """Tensors and plain values as torch writes them."""
    content = io.BytesIO()
    torch.save(values, content)
    return content.getvalue()


def from_bytes(content: bytes) -> dict[str, Any]:
    """Read what to_bytes wrote: tensors and plain values only, nothing is executed."""
    return dict(torch.load(io.BytesIO(content), weights_only=True, map_location="cpu"))
