"""Fine-tuning: the upper layers of a network learn along with the head, from the head that was chosen on frozen codes.

Takes a Task; gives a backbone in standard form, its head and how each epoch went. It decides the order of things: epochs,
validation, checkpoints, and what a checkpoint belongs to.

Linear probing first, then fine-tuning (Kumar et al. 2022, arXiv:2202.10054): a head that starts at random would send its
first large gradients through the pretrained layers and spoil them. Batch norm stays in inference mode.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from headstart.errors import DataError, HeadstartError, MissingExtra

try:  # before our own modules that need it
    import torch
except ImportError as error:
    raise MissingExtra("fine-tuning", "torch") from error

from headstart.backbones.backbone import Backbone
from headstart.backbones.torch_modules import TorchNetwork, torch_network
from headstart.data.splits import TRAIN, VALIDATION
from headstart.engines.hardware import Hardware
from headstart.engines.openvino_engine import OpenVINOEngine
from headstart.finetune.augment import LEAST_AREA
from headstart.finetune.batches import Batches, DecodedImages
from headstart.finetune.best_weights import BLENDS, HALFWAY, PATIENCE, BestWeights, Epoch, Weights
from headstart.finetune.checkpoint import Checkpoint, from_bytes
from headstart.finetune.device import autocast, cores, limited_threads, memory_errors_explained
from headstart.finetune.partial import LAYER_DECAY, WEIGHT_DECAY, PartlyFrozen, copy_weights
from headstart.finetune.processes import ProcessGroup
from headstart.finetune.recipe import UNFREEZE, FineTuning, Recipe, default_unfreeze, recipe_for
from headstart.finetune.steps import SMOOTHING, WARM_UP, Stepper
from headstart.finetune.task import Task, pack, unpack
from headstart.heads.head import Head
from headstart.numerics.losses import is_right, losses
from headstart.progress import Progress
from headstart.versions import own_version, versions

SAVE_SECONDS = 300.0  # within an epoch; at its end a checkpoint is written anyway
CHECK_EVERY = 20  # steps: asking a GPU for a number makes it wait
FORMAT = 1


@dataclass(frozen=True)
class FineTuned:
    """The result of a fine-tuning: the backbone in standard form and its head.

    validation_index: (m,) int64, positions of the validation images. validation_probabilities: (m, k) float32.
    best_epoch: the one that is kept, 0 where nothing was gained. blend: how far the weights go from the first ones to those
    of that epoch; part of the way is often better than all of it (best_weights.py). n_trained: the number of weights that
    learnt. resumed_from: how many whole epochs a checkpoint held, None where there was none.
    """

    backbone: Backbone
    head: Head
    validation_index: np.ndarray
    validation_probabilities: np.ndarray
    history: tuple[Epoch, ...]
    unfrozen: str
    epochs: int
    best_epoch: int
    blend: float
    n_trained: int
    seconds: float
    resumed_from: int | None
    notes: tuple[str, ...]


def finetune(
    task: Task,
    *,
    options: FineTuning = FineTuning(),
    progress: Progress = lambda *_: None,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
) -> FineTuned:
    """Let the upper layers of a network learn from the train split, and keep what validation likes best.

    progress: called as (stage, done, total); on_epoch: after each epoch.

    Under torchrun the first process calls this, and all others finetune_worker(). Raises HeadstartError, whose message
    says what to do, for too little memory, a loss that is no number, and images that cannot be read any more.
    """
    with ProcessGroup.join(options.device) as group:
        group.broadcast(pack(task, options) if group.size > 1 else b"")
        tuned = _train(task, options, group, progress, on_epoch)
    assert tuned is not None
    return tuned


def finetune_worker(load: Callable[[str], TorchNetwork] = torch_network, *, device: str | None = None) -> None:
    """Be one of the other processes under torchrun: wait for the first one's work and share it until it is done."""
    with ProcessGroup.join(device) as group:
        content = group.broadcast(b"")
        if content:
            task, options = unpack(content, load)
            _train(task, options, group, lambda *_: None, lambda _: None)


def dismiss_workers(*, device: str | None = None) -> None:
    """Let the other processes end where the first one has no fine-tuning for them."""
    with ProcessGroup.join(device) as group:
        group.broadcast(b"")


class _Training:
    """One fine-tuning under way, in one process.

    position: the epoch and step to go on with. elapsed: seconds until the checkpoint that it was resumed from.
    """

    def __init__(
        self,
        task: Task,
        options: FineTuning,
        group: ProcessGroup,
        progress: Progress,
        on_epoch: Callable[[Epoch], None],
    ) -> None:
        self.task, self.options, self.group, self.progress, self.on_epoch = task, options, group, progress, on_epoch
        self.train, self.validation = (np.flatnonzero(task.splits == split) for split in (TRAIN, VALIDATION))
        if not len(self.train):
            raise DataError("there is no image in the train split to fine-tune with; make the validation split smaller")
        unfreeze = options.unfreeze or default_unfreeze(len(self.train))
        self.net = PartlyFrozen(task.network, task.head, UNFREEZE[unfreeze])
        size, n, n_validation = task.network.preprocess.size, len(self.train), len(self.validation)
        self.recipe = recipe_for(options, unfreeze, n, n_validation, self.net, size, group.device)
        self.net.whole.to(group.device, memory_format=torch.channels_last)  # on a CPU several times as fast
        self.n_steps = math.ceil(len(self.train) / (self.recipe.batch * group.size))  # an epoch
        n_steps = self.n_steps * self.recipe.epochs
        self.stepper = Stepper(self.net, task.head.output, self.recipe, group, n_steps, is_compiled=options.compile)
        self.best = BestWeights(self.recipe, copy_weights(self.stepper.average), self._validate)
        self.position, self.elapsed = (1, 0), 0.0
        self.notes: list[str] = []
        self.checkpoint = Checkpoint(options.checkpoint_dir, _fingerprint(task, self.recipe, self.net, group), self.notes)

    def run(self) -> FineTuned | None:
        """Train from the checkpoint or from the beginning; gives the result in the first process, None in others."""
        resumed_from = self._resume()
        self.clock = time.perf_counter() - self.elapsed
        if self.position[0] <= self.recipe.epochs:
            threads = cores(self.options.threads)
            images = self.task, self.net, self.recipe, self.group
            self.batches = Batches(*images, self.train, self.validation, threads, self.progress)
            if not self.best.history:
                self._end_epoch(0, None, time.perf_counter(), 0)
            while self.position[0] <= self.recipe.epochs:
                self._run_epoch()
        return self._result(resumed_from) if self.group.rank == 0 else None

    def _run_epoch(self) -> None:
        (epoch, first), start = self.position, time.perf_counter()
        last_save, n, size = start, len(self.train), self.recipe.batch * self.group.size
        for step, (x, y) in enumerate(self.batches.training(epoch, first), start=first):
            # The last step of an epoch may have fewer images, over all processes.
            self.stepper.step(x, y, (epoch - 1) * self.n_steps + step, min(size, n - step * size))
            if step % CHECK_EVERY == 0 or self.group.device.type == "cpu":
                self._check_loss()
            self.progress("fine-tuning", (epoch - 1) * n + min(n, (step + 1) * size), self.recipe.epochs * n)
            if time.perf_counter() - last_save > SAVE_SECONDS and step + 1 < self.n_steps:
                self.position, last_save = (epoch, step + 1), time.perf_counter()
                self._save()
        self._check_loss()
        self._end_epoch(epoch, self.group.sum(self.stepper.loss_sum), start, n - first * size)
        self.stepper.loss_sum = [0.0, 0.0]
        is_last = self.group.broadcast_answer(self._should_stop(time.perf_counter() - start))
        last = self.recipe.epochs if is_last else epoch
        self.position = (last + 1, 0)
        if last == self.recipe.epochs and self.group.rank == 0:
            self.best.choose_blend(self.stepper.average)
        self._save()

    def _check_loss(self) -> None:
        if not self.stepper.is_finite():
            raise HeadstartError(
                f"the loss of the fine-tuning is no number any more in epoch {self.position[0]}; lower the learning rate "
                f"(now {self.recipe.lr:g}), or unfreeze less (now {self.recipe.unfreeze})"
            )

    def _end_epoch(self, epoch: int, loss_sum: list[float] | None, start: float, n: int) -> None:
        """Validate the averaged weights, and note how the epoch went; n: images that it has learnt from since start."""
        if self.group.rank:
            return
        trained = time.perf_counter() - start
        loss, accuracy = self._validate(self.stepper.average)
        rate = self.stepper.rate if epoch else 0.0
        seconds = time.perf_counter() - start
        mean = loss_sum[0] / loss_sum[1] if loss_sum else None
        self.best.add(Epoch(epoch, mean, loss, accuracy, rate, seconds, n / max(trained, 1e-9)), self.stepper.average)
        self.on_epoch(self.best.history[-1])

    def _validate(self, weights: Weights) -> tuple[float | None, float | None]:
        """Cross entropy and accuracy on the validation split under some weights."""
        if not len(self.validation):
            return None, None
        with self.net.using(weights), torch.no_grad(), autocast(self.group.device, self.recipe.precision):
            logits = np.concatenate([self.stepper.forward(x).float().cpu().numpy() for x in self.batches.validation()])
        labels = self.task.labels[self.validation]
        return float(losses(logits, labels).mean()), float(is_right(logits, labels).mean())

    def _should_stop(self, seconds: float) -> bool:
        """Whether to stop after this epoch: nothing was gained for a while, or another would take longer than allowed."""
        epoch, budget = self.position[0], self.options.budget_seconds
        if self.group.rank:
            return False
        if self.recipe.keep:
            return epoch >= self.recipe.keep[0]
        is_late = budget is not None and time.perf_counter() - self.clock + seconds > budget
        if is_late and epoch < self.recipe.epochs:
            self.notes.append(f"stopped after epoch {epoch} of {self.recipe.epochs}: {budget:g} s are spent")
        return is_late or self.best.is_patience_over(epoch)

    def _save(self) -> None:
        if self.group.rank == 0:
            is_done = self.position[0] > self.recipe.epochs
            self.checkpoint.write(
                {
                    "at": list(self.position),
                    "elapsed": time.perf_counter() - self.clock,
                    "running": [float(number) for number in self.stepper.loss_sum],
                    **self.best.state(),
                    **({} if is_done else self.stepper.state()),
                }
            )

    def _resume(self) -> int | None:
        """Take up the work where the checkpoint left it, in every process; gives how many whole epochs it held."""
        content = self.group.broadcast(self.checkpoint.read() if self.group.rank == 0 else b"")
        if not content:
            return None
        state = from_bytes(content)
        self.position, self.elapsed = (state["at"][0], state["at"][1]), state["elapsed"]
        self.best.load_state(state, self.group.device)
        if self.group.rank == 0:  # the losses of other processes are in no checkpoint
            self.stepper.loss_sum = list(state["running"])
        if "free" in state:
            self.stepper.load_state(state)
        return max(0, len(self.best.history) - 1)

    def _result(self, resumed_from: int | None) -> FineTuned:
        self.net.load(self.best.weights)
        backbone, head = self.net.backbone(), replace(self.task.head, layers=(self.net.head_layer(),))
        return FineTuned(
            backbone=backbone,
            head=head,
            validation_index=self.validation,
            validation_probabilities=head.probabilities(self._validation_codes(backbone)),
            history=tuple(self.best.history),
            unfrozen=self.recipe.unfreeze,
            epochs=len(self.best.history) - 1,
            best_epoch=self.best.epoch,
            blend=self.best.blend,
            n_trained=sum(p.numel() for p in self.stepper.weights.values()),
            seconds=time.perf_counter() - self.clock,
            resumed_from=resumed_from,
            notes=tuple(self.notes),
        )

    def _validation_codes(self, backbone: Backbone) -> np.ndarray:
        """The codes that the network gives where it will be used, on the engine, not on torch."""
        images = DecodedImages.of(self.task, self.validation, backbone.preprocess)
        if not len(images):
            return np.zeros((0, backbone.n_codes), np.float32)
        engine = OpenVINOEngine(backbone.network, Hardware(threads=cores(self.options.threads)))
        stream = engine.stream(range(len(images)), lambda _, i: images.load(i))
        return np.stack([result.outputs["codes"] for result in stream if result.outputs])


def _train(
    task: Task, options: FineTuning, group: ProcessGroup, progress: Progress, on_epoch: Callable[[Epoch], None]
) -> FineTuned | None:
    with memory_errors_explained(), limited_threads(cores(options.threads)):
        return _Training(task, options, group, progress, on_epoch).run()


def _fingerprint(task: Task, recipe: Recipe, net: PartlyFrozen, group: ProcessGroup) -> str:
    """A sha256 of everything that changes the result; threads only change how sums are rounded."""
    sha = hashlib.sha256()
    constants: list[Any] = [FORMAT, UNFREEZE, LAYER_DECAY, WEIGHT_DECAY, WARM_UP, SMOOTHING]
    constants += [BLENDS, HALFWAY, PATIENCE, LEAST_AREA]
    library_versions = {**versions(), "headstart": own_version(), "torch": torch.__version__}
    about = [asdict(recipe), asdict(task.network.preprocess), constants, library_versions, group.size]
    sha.update(json.dumps([*about, group.device.type, task.splits.tolist(), task.labels.tolist()]).encode())
    sha.update(b"".join(task.digests))
    for name, tensor in net.whole.state_dict().items():
        sha.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    return sha.hexdigest()
