"""The workspace that all steps of a recipe share: hardware, the store of codes, a seed, progress, and a clock."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from headstart.codes.compute import Codes
from headstart.codes.representation import Representation, represent
from headstart.codes.results import Results
from headstart.codes.store import Store
from headstart.data.images import display_name
from headstart.data.tables import ImageRef, check_same
from headstart.engines.hardware import Hardware, available_cores
from headstart.errors import DataError
from headstart.progress import Progress, underway


class Workspace:
    """The means of long work on photos; a context manager, which opens the store of codes and closes it.

    seconds: how long each stage took, in order, for run.json.
    """

    def __init__(self, cache_dir: Path, hardware: Hardware, *, seed: int = 0, progress: Progress = lambda *_: None) -> None:
        self.cache_dir = cache_dir
        self.hardware = hardware
        self.seed = seed
        self.progress = progress
        self.seconds: dict[str, float] = {}

    def __enter__(self) -> Workspace:
        self.store = Store(self.cache_dir)
        self.results = Results(self.cache_dir)
        return self

    def __exit__(self, *_: object) -> None:
        self.store.close()

    @property
    def threads(self) -> int:
        """How many cores to use."""
        return self.hardware.threads or available_cores()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a block under a name, and report that it begins and ends."""
        start = time.perf_counter()
        with underway(self.progress, name):
            yield
        self.seconds[name] = round(time.perf_counter() - start, 3)

    def represent(self, images: Sequence[ImageRef], representation: Representation, *, with_stats: bool = False) -> Codes:
        """Compute the codes of images, those that the store does not hold; failures are among them.

        with_stats: measure the images' statistics in the same visit, for the store.
        """
        return represent(
            images,
            representation,
            self.store,
            seed=self.seed,
            with_stats=with_stats,
            hardware=self.hardware,
            progress=self.progress,
        )

    def represent_again(
        self, images: Sequence[ImageRef], digests: Sequence[bytes], representation: Representation, *, during: str
    ) -> Codes:
        """Compute codes of images that could be used before; digests: the sha256 that each had then.

        Raises DataError where one has changed or cannot be used any more. during: what was going on, for the message.
        """
        codes = self.represent(images, representation)
        if codes.failures:
            i, failure = next(iter(codes.failures.items()))
            raise DataError(f"{display_name(images[i])} could be used a moment ago, and cannot any more: {failure.reason}")
        check_same(images, digests, codes.digests, during)
        return codes


def check_readable(codes: Codes, n_images: int, where: str) -> None:
    """Raise DataError where none of n images of a folder or table could be used."""
    if not len(codes.index):
        reason = next((failure.reason for failure in codes.failures.values()), "there is none")
        raise DataError(f"none of the {n_images} files of {where} can be used as an image; the first: {reason}")
