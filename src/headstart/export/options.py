"""The options of an export, as far as a format has them (formats.Format.options)."""

from __future__ import annotations

from dataclasses import dataclass

from headstart.errors import ExportError


@dataclass(frozen=True)
class Options:
    """How the file is to be.

    half: weights in 16 bits, computed in 32. batch: how many images at a time, or `any`; None: as the network has it.
    any_size: images of any size, resized within the file. slim: probabilities alone. runtime: where onnxruntime-web lies,
    for the web.
    """

    half: bool = False
    batch: str | None = None
    any_size: bool = False
    slim: bool = False
    runtime: str | None = None

    def __post_init__(self) -> None:
        if self.batch is not None and self.batch != "any" and not (self.batch.isdecimal() and int(self.batch)):
            raise ExportError(f"--batch is a whole number of at least 1, or any; not {self.batch!r}")
        if self.any_size and self.batch not in (None, "1"):
            raise ExportError("--any-size takes one image at a time, for images of different sizes make no batch")
