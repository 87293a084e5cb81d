"""The batches of a fine-tuning: images decoded in threads, augmented, and run through the frozen layers.

It decides what stays in memory: pixels where all of them fit, and the outputs of frozen layers.
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
from headstart.finetune.augment import centre_views, draw_views, mix, render_views
from headstart.finetune.device import autocast
from headstart.finetune.partial import PartlyFrozen
from headstart.finetune.processes import ProcessGroup
from headstart.finetune.recipe import Recipe
from headstart.finetune.task import Task
from headstart.progress import Progress

PIXELS_BYTES = 1 << 30  # of decoded images that stay in memory, if all of them fit


class Batches:
    """Batches of inputs for the trainable part of the network, and of labels as probabilities."""

    def __init__(
        self,
        task: Task,
        net: PartlyFrozen,
        recipe: Recipe,
        group: ProcessGroup,
        train: np.ndarray,
        validation: np.ndarray,
        threads: int,
        progress: Progress,
    ) -> None:
        self.net, self.recipe, self.group, self.threads = net, recipe, group, threads
        self.preprocess = task.network.preprocess
        # The whole central square, of which views are cut; its middle is what the backbone sees at other times.
        whole = replace(self.preprocess, size=round(self.preprocess.size / self.preprocess.crop), crop=1.0)
        self.train_images = DecodedImages.of(task, train, whole)
        self.validation_images = DecodedImages.of(task, validation, self.preprocess)
        labels = torch.from_numpy(np.ascontiguousarray(task.labels[train]))
        self.labels = (functional.one_hot(labels.long(), task.head.n_classes) if labels.ndim == 1 else labels).float()
        self.activations: Any = None  # of the frozen layers, where they are stored
        self.validation_activations: Any = None
        if recipe.n_views:
            self.activations, self.validation_activations = self._run_frozen_layers(progress)

    def training(self, epoch: int, first: int) -> Iterator[tuple[Any, Any]]:
        """This process's part of each batch of an epoch, from a step on: inputs, and label probabilities (n, k).

        Each step draws from a generator of its own, so that a run that was cut short goes on as it would have.
        """
        n, size = len(self.labels), self.recipe.batch * self.group.size
        order = np.random.default_rng([self.recipe.seed, epoch]).permutation(n)
        own = slice(self.group.rank, None, self.group.size)
        batches = [order[start : start + size] for start in range(0, n, size)][first:]
        is_stored = self.activations is not None
        squares = None if is_stored else self._squares(self.train_images, [batch[own] for batch in batches])
        for step, batch in enumerate(batches, start=first):
            random = np.random.default_rng([self.recipe.seed, epoch, step])
            y = self.labels[torch.from_numpy(batch[own])].to(self.group.device)
            if squares is None:
                view = random.integers(self.recipe.n_views, size=len(batch))
                yield _float(self.activations[torch.from_numpy((view * n + batch)[own])]), y
                continue
            views = draw_views(len(batch), random, is_strong=self.recipe.is_mixed)
            x = render_views(next(squares).to(self.group.device, non_blocking=True), views.of(own), self.preprocess)
            if self.recipe.is_mixed:
                x, y = mix(x, y, np.random.default_rng([self.recipe.seed, epoch, step, 1 + self.group.rank]))
            yield self._through_trunk(x), y

    def validation(self) -> Iterator[Any]:
        """Inputs of the validation split, in order."""
        batches = _split(len(self.validation_images), self.recipe.batch)
        if self.validation_activations is not None:
            yield from (_float(self.validation_activations[torch.from_numpy(batch)]) for batch in batches)
            return
        for squares in self._squares(self.validation_images, batches):
            yield self._through_trunk(normalise(squares.to(self.group.device), self.preprocess))

    def _run_frozen_layers(self, progress: Progress) -> tuple[Any, Any]:
        """Run the frozen layers once: over each view of each image of train, the first the one that prediction sees."""
        n, n_views = len(self.labels), self.recipe.n_views
        batches = _split(n, self.recipe.batch)
        random = np.random.default_rng([self.recipe.seed, 0])
        views = [centre_views(n, self.preprocess.crop)]
        views += [draw_views(n, random, is_strong=False) for _ in range(n_views - 1)]
        stored: Any = None
        for squares, batch in zip(self._squares(self.train_images, batches), batches, strict=True):
            x = squares.to(self.group.device)
            rows = slice(batch[0], batch[-1] + 1)
            for i, view in enumerate(views):
                activations = self._through_trunk(render_views(x, view.of(rows), self.preprocess)).half()
                if stored is None:  # once, and filled: put together at the end they would take twice the memory
                    stored = torch.empty((n_views, n, *activations.shape[1:]), dtype=torch.half, device=activations.device)
                stored[i, rows] = activations
            progress("frozen layers", int(batch[-1]) + 1, n)
        stored = stored.flatten(0, 1)
        pixels = self._squares(self.validation_images, _split(len(self.validation_images), self.recipe.batch))
        of_validation = [self._through_trunk(normalise(x.to(self.group.device), self.preprocess)).half() for x in pixels]
        return stored, torch.cat(of_validation) if of_validation else stored[:0]

    def _through_trunk(self, x: Any) -> Any:
        x = x.contiguous(memory_format=torch.channels_last)
        if self.net.trunk is None:
            return x
        with torch.no_grad(), autocast(self.group.device, self.recipe.precision):
            return self.net.trunk(x).float()

    def _squares(self, source: DecodedImages, batches: list[np.ndarray]) -> Iterator[Any]:
        """Load batches in threads, a few ahead, as (n, side, side, 3) uint8 tensors."""

        def work(index: int, batch: np.ndarray) -> Result[np.ndarray]:
            pixels = torch.from_numpy(source.stack(batch))
            return Result(index, batch, None, pixels.pin_memory() if self.group.device.type == "cuda" else pixels)

        for result in in_order(batches, work, workers=max(1, min(self.threads, len(batches))), ahead=2):
            yield result.instead


class DecodedImages:
    """Images as (side, side, 3) uint8; they stay in memory once decoded, if all of them fit into PIXELS_BYTES."""

    def __init__(self, images: list[ImageRef], digests: list[bytes], preprocess: Preprocess) -> None:
        self.images, self.digests, self.preprocess = images, digests, preprocess
        self.shape = (preprocess.size, preprocess.size, 3)
        self.has_room = len(images) * math.prod(self.shape) <= PIXELS_BYTES
        self.pixels: dict[int, np.ndarray] = {}
        self.contents = _table_contents(images)

    @classmethod
    def of(cls, task: Task, rows: np.ndarray, preprocess: Preprocess) -> DecodedImages:
        """Some of a task's images."""
        return cls([task.images[i] for i in rows], [task.digests[i] for i in rows], preprocess)

    def __len__(self) -> int:
        return len(self.images)

    def stack(self, batch: np.ndarray) -> np.ndarray:
        """Give some images' pixels, (n, side, side, 3)."""
        return np.stack([self.load(i) for i in batch.tolist()]) if len(batch) else np.zeros((0, *self.shape), np.uint8)

    def load(self, i: int) -> np.ndarray:
        """Give one image's pixels; raises DataError where it cannot be read any more, or is another one by now."""
        if i in self.pixels:
            return self.pixels[i]
        image = self.images[i]
        content = same_content_of(self.contents.get(i) or image, self.digests[i])
        pixels = content if isinstance(content, Failure) else load_image(content, self.preprocess)
        if isinstance(pixels, Failure):
            raise DataError(
                f"{display_name(image)} cannot be read any more: {pixels.reason}; leave the photos alone and start again"
            )
        if self.has_room:
            self.pixels[i] = pixels
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
