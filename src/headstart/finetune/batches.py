"""The images of a fine-tuning as batches: decoded in threads, seen as views, run through the frozen layers.

It decides what is kept in memory: pixels where all of them fit, and of frozen layers what they give.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from headstart.backbones.torch_modules import normalise
from headstart.data.decoding import Failure
from headstart.data.images import Preprocess, display_name, load_image
from headstart.data.tables import ImageRef, TableImage, same_content_of
from headstart.engines.ordered import Result, in_order
from headstart.errors import DataError
from headstart.finetune.augment import drawn_views, middle_views, mixed, seen
from headstart.finetune.device import autocast
from headstart.finetune.partial import Unfrozen
from headstart.finetune.processes import Job, Team
from headstart.finetune.recipe import Recipe
from headstart.progress import Progress

PIXELS_BYTES = 1 << 30  # decoded images kept in memory, if all of them fit


class Data:
    """Batches, as what the trainable part of the network takes, and the labels as probabilities."""

    def __init__(
        self,
        job: Job,
        net: Unfrozen,
        recipe: Recipe,
        team: Team,
        train: np.ndarray,
        validation: np.ndarray,
        threads: int,
        progress: Progress,
    ) -> None:
        self.net, self.recipe, self.team, self.threads = net, recipe, team, threads
        self.preprocess = job.network.preprocess
        # The whole central square, of which views are cut; its middle is what the backbone sees at other times.
        whole = replace(self.preprocess, size=round(self.preprocess.size / self.preprocess.crop), crop=1.0)
        self.train = Squares.of(job, train, whole)
        self.validated = Squares.of(job, validation, self.preprocess)
        of_train = torch.from_numpy(np.ascontiguousarray(job.labels[train]))
        one_each = functional.one_hot(of_train.long(), job.head.n_classes) if of_train.ndim == 1 else of_train
        self.labels = one_each.float()
        self.kept: Any = None
        self.kept_validation: Any = None
        if recipe.n_views:
            self.kept, self.kept_validation = self._kept(progress)

    def batches(self, epoch: int, first: int) -> Iterator[tuple[Any, Any]]:
        """This process's part of each batch of an epoch, from a step on: inputs, and label probabilities (n, k).

        Each step draws from a generator of its own, so that a run that was cut short goes on as it would have.
        """
        n, size = len(self.labels), self.recipe.batch * self.team.size
        order = np.random.default_rng([self.recipe.seed, epoch]).permutation(n)
        own = slice(self.team.rank, None, self.team.size)
        groups = [order[start : start + size] for start in range(0, n, size)][first:]
        squares = None if self.kept is not None else self._squares(self.train, [group[own] for group in groups])
        for step, group in enumerate(groups, start=first):
            random = np.random.default_rng([self.recipe.seed, epoch, step])
            y = self.labels[torch.from_numpy(group[own])].to(self.team.device)
            if squares is None:
                view = random.integers(self.recipe.n_views, size=len(group))
                yield _float(self.kept[torch.from_numpy((view * n + group)[own])]), y
                continue
            views = drawn_views(len(group), random, is_strong=self.recipe.is_mixed)
            x = seen(next(squares).to(self.team.device, non_blocking=True), views.of(own), self.preprocess)
            if self.recipe.is_mixed:
                x, y = mixed(x, y, np.random.default_rng([self.recipe.seed, epoch, step, 1 + self.team.rank]))
            yield self._through_trunk(x), y

    def validation(self) -> Iterator[Any]:
        """Inputs of the validation split, in order."""
        batches = _split(len(self.validated), self.recipe.batch)
        if self.kept_validation is not None:
            yield from (_float(self.kept_validation[torch.from_numpy(batch)]) for batch in batches)
            return
        for squares in self._squares(self.validated, batches):
            yield self._through_trunk(normalise(squares.to(self.team.device), self.preprocess))

    def _kept(self, progress: Progress) -> tuple[Any, Any]:
        """Run the frozen layers once: over each view of each image of train, the first the one that prediction sees."""
        n, n_views = len(self.labels), self.recipe.n_views
        batches = _split(n, self.recipe.batch)
        random = np.random.default_rng([self.recipe.seed, 0])
        views = [middle_views(n, self.preprocess.crop)]
        views += [drawn_views(n, random, is_strong=False) for _ in range(n_views - 1)]
        of_train: Any = None
        for squares, batch in zip(self._squares(self.train, batches), batches, strict=True):
            x = squares.to(self.team.device)
            rows = slice(batch[0], batch[-1] + 1)
            for view, drawn in enumerate(views):
                activations = self._through_trunk(seen(x, drawn.of(rows), self.preprocess)).half()
                if of_train is None:  # once, and filled: put together at the end they would take twice the memory
                    of_train = torch.empty((n_views, n, *activations.shape[1:]), dtype=torch.half, device=activations.device)
                of_train[view, rows] = activations
            progress("frozen layers", int(batch[-1]) + 1, n)
        of_train = of_train.flatten(0, 1)
        pixels = self._squares(self.validated, _split(len(self.validated), self.recipe.batch))
        of_validation = [self._through_trunk(normalise(x.to(self.team.device), self.preprocess)).half() for x in pixels]
        return of_train, torch.cat(of_validation) if of_validation else of_train[:0]

    def _through_trunk(self, x: Any) -> Any:
        x = x.contiguous(memory_format=torch.channels_last)
        if self.net.trunk is None:
            return x
        with torch.no_grad(), autocast(self.team.device, self.recipe.precision):
            return self.net.trunk(x).float()

    def _squares(self, source: Squares, batches: list[np.ndarray]) -> Iterator[Any]:
        """Load batches in threads, a few ahead, as (n, side, side, 3) uint8 tensors."""

        def work(index: int, batch: np.ndarray) -> Result[np.ndarray]:
            pixels = torch.from_numpy(source.stack(batch))
            return Result(index, batch, None, pixels.pin_memory() if self.team.device.type == "cuda" else pixels)

        for result in in_order(batches, work, workers=max(1, min(self.threads, len(batches))), ahead=2):
            yield result.instead


class Squares:
    """Images as (side, side, 3) uint8; kept once they are decoded if all of them fit into PIXELS_BYTES."""

    def __init__(self, images: list[ImageRef], digests: list[bytes], preprocess: Preprocess) -> None:
        self.images, self.digests, self.preprocess = images, digests, preprocess
        self.shape = (preprocess.size, preprocess.size, 3)
        self.is_kept = len(images) * math.prod(self.shape) <= PIXELS_BYTES
        self.kept: dict[int, np.ndarray] = {}
        self.contents = _table_contents(images)

    @classmethod
    def of(cls, job: Job, rows: np.ndarray, preprocess: Preprocess) -> Squares:
        """Some of a job's images."""
        return cls([job.images[i] for i in rows], [job.digests[i] for i in rows], preprocess)

    def __len__(self) -> int:
        return len(self.images)

    def stack(self, batch: np.ndarray) -> np.ndarray:
        """Give some images' pixels, (n, side, side, 3)."""
        return np.stack([self.load(i) for i in batch.tolist()]) if len(batch) else np.zeros((0, *self.shape), np.uint8)

    def load(self, i: int) -> np.ndarray:
        """Give one image's pixels; raises DataError where it cannot be read any more, or is another one by now."""
        if i in self.kept:
            return self.kept[i]
        image = self.images[i]
        content = same_content_of(self.contents.get(i) or image, self.digests[i])
        pixels = content if isinstance(content, Failure) else load_image(content, self.preprocess)
        if isinstance(pixels, Failure):
            raise DataError(
                f"{display_name(image)} cannot be read any more: {pixels.reason}; leave the photos alone and start again"
            )
        if self.is_kept:
            self.kept[i] = pixels
        return pixels


def _table_contents(images: list[ImageRef]) -> dict[int, Any]:
    """Encoded images of tables, read in the order of their rows: read in any other, each costs a whole row group."""
    contents, n_bytes = {}, 0
    rows = [(str(image.table.path), image.row, i) for i, image in enumerate(images) if isinstance(image, TableImage)]
    for _, _, i in sorted(rows):
        contents[i] = images[i].read()  # type: ignore[union-attr]
        n_bytes += len(contents[i])
        if n_bytes > PIXELS_BYTES:
            break
    return contents


def _split(n: int, size: int) -> list[np.ndarray]:
    return [np.arange(start, min(n, start + size)) for start in range(0, n, size)]


def _float(x: Any) -> Any:
    return x.float().contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x.float()
