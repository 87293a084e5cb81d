"""Fine-tuning: the upper layers of a network learn along with the head, from the head that was chosen on frozen codes.

Takes images, labels, splits, a torch network and a head; gives a backbone in standard form, its head and how each epoch
went. It decides how each step is made, which epoch is kept, and what a checkpoint belongs to.

Linear probing first, then fine-tuning (Kumar et al. 2022, arXiv:2202.10054): a head that starts at random would send its
first large gradients through the pretrained layers and spoil them. Batch norm stays in inference mode.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from headstart.backbones.backbone import Backbone
from headstart.backbones.torch_modules import TorchNetwork, torch_network
from headstart.data.splits import TRAIN, VALIDATION
from headstart.data.tables import ImageRef
from headstart.engines.hardware import Hardware
from headstart.engines.openvino_engine import OpenVINOEngine
from headstart.errors import DataError, HeadstartError, MissingExtra
from headstart.finetune.augment import LEAST_AREA
from headstart.finetune.batches import Data, Squares
from headstart.finetune.checkpoint import Checkpoint, from_bytes
from headstart.finetune.device import autocast, cores, limited_threads, told_memory
from headstart.finetune.partial import LAYER_DECAY, WEIGHT_DECAY, Unfrozen, copied
from headstart.finetune.processes import Job, Team, packed, unpacked
from headstart.finetune.recipe import UNFREEZE, FineTuning, default_unfreeze, recipe_for
from headstart.heads.head import Head
from headstart.numerics.losses import is_right, losses
from headstart.progress import Progress
from headstart.versions import own_version, versions

try:  # before our own modules that need it
    import torch
    from torch.nn import functional
except ImportError as error:
    raise MissingExtra("fine-tuning", "torch") from error

BLENDS = (0.25, 0.5, 0.75)  # parts of the way from the network that came to the one that learnt, tried at the end
HALFWAY = 0.5  # of the way is gone where validation has too few images to pick an epoch by (FEW_TO_JUDGE)
PATIENCE = 0.4  # of the epochs may pass without a lower validation loss
WARM_UP = 0.1  # of the steps
SMOOTHING = 0.1  # of labels, where MIXED_FROM images are learnt from; of 300 it made the cross entropy a third worse
SAVE_SECONDS = 300.0  # within an epoch; at its end a checkpoint is written anyway
CHECK_EVERY = 20  # steps: asking a GPU for a number makes it wait
FORMAT = 1


class Epoch(NamedTuple):
    """How one epoch went; number 0 is the network and head as they came, before anything was learnt."""

    epoch: int
    train_loss: float | None
    validation_loss: float | None
    validation_accuracy: float | None
    lr: float
    seconds: float
    images_per_second: float


@dataclass(frozen=True)
class FineTuned:
    """What came of it: the backbone in standard form and its head.

    validation_index: (m,) int64, positions of the validation images. validation_probabilities: (m, k) float32.
    best_epoch: the one that is kept, 0 where nothing was gained. blend: how far it went from the weights that came to those
    of that epoch; part of the way is often better than all of it (Wortsman et al. 2022, "Robust fine-tuning of zero-shot
    models"). n_trained: weights that were free. resumed_from: how many whole epochs a checkpoint held, None where there was
    none.
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
    images: Sequence[ImageRef],
    labels: np.ndarray,
    splits: np.ndarray,
    digests: Sequence[bytes],
    network: TorchNetwork,
    head: Head,
    *,
    options: FineTuning = FineTuning(),
    progress: Progress = lambda *_: None,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
) -> FineTuned:
    """Let the upper layers of a network learn from the train split, and keep what validation likes best.

    images: n, each usable. labels: (n,) positions of classes, or (n, k) of 0 and 1 for a `sigmoid` head. splits: (n,) as in
    data.splits; what is neither train nor validation is not looked at. digests: each image's sha256. head: one layer on
    the network's codes, fitted on images of train alone, or else validation flatters epoch 0. progress: called as
    (stage, done, total); on_epoch: after each epoch.

    Under torchrun the first process calls this, and all others finetune_worker(). Raises HeadstartError, whose message
    says what to do, for too little memory, a loss that is no number, and images that cannot be read any more.
    """
    job = Job(list(images), np.asarray(labels), np.asarray(splits), list(digests), network, head)
    with Team.gathered(options.device) as team:
        team.shared(packed(job, options) if team.size > 1 else b"")
        tuned = _trained(job, options, team, progress, on_epoch)
    assert tuned is not None
    return tuned


def finetune_worker(load: Callable[[str], TorchNetwork] = torch_network, *, device: str | None = None) -> None:
    """Be one of the other processes under torchrun: wait for the first one's work and share it until it is done."""
    with Team.gathered(device) as team:
        content = team.shared(b"")
        if content:
            job, options = unpacked(content, load)
            _trained(job, options, team, lambda *_: None, lambda _: None)


def dismiss_workers(*, device: str | None = None) -> None:
    """Let the other processes end where the first one has no fine-tuning for them."""
    with Team.gathered(device) as team:
        team.shared(b"")


class _Training:
    """One fine-tuning under way, in one process."""

    def __init__(
        self, job: Job, options: FineTuning, team: Team, progress: Progress, on_epoch: Callable[[Epoch], None]
    ) -> None:
        self.job, self.options, self.team, self.progress, self.on_epoch = job, options, team, progress, on_epoch
        self.train, self.validation = (np.flatnonzero(job.splits == split) for split in (TRAIN, VALIDATION))
        if not len(self.train):
            raise DataError("there is no image in the train split to fine-tune with; make the validation split smaller")
        self.device = team.device
        unfreeze = options.unfreeze or default_unfreeze(len(self.train))
        self.net = Unfrozen(job.network, job.head, UNFREEZE[unfreeze])
        size, n, n_validation = job.network.preprocess.size, len(self.train), len(self.validation)
        self.recipe = recipe_for(options, unfreeze, n, n_validation, self.net, size, self.device)
        self.net.whole.to(self.device, memory_format=torch.channels_last)  # on a CPU several times as fast
        self.loss = _loss_of(job.head, SMOOTHING if self.recipe.is_large else 0.0)
        self.forward = torch.compile(self.net.logits) if options.compile else self.net.logits
        self.free = self.net.free()
        self.average = copied(self.free)
        self.optimizer = torch.optim.AdamW(self.net.groups(self.recipe.lr), fused=self.device.type == "cuda")
        self.rates = [group["lr"] for group in self.optimizer.param_groups]
        self.n_steps = math.ceil(len(self.train) / (self.recipe.batch * team.size))
        self.history: list[Epoch] = []
        self.first = self.best = copied(self.average)
        self.best_epoch, self.blend = 0, 1.0
        self.at, self.elapsed, self.running = (1, 0), 0.0, [0.0, 0.0]
        self.notes: list[str] = []
        self.checkpoint = Checkpoint(options.checkpoint_dir, self._fingerprint(), self.notes)

    def run(self) -> FineTuned | None:
        """Train from the checkpoint or from the beginning; gives the result in the first process, None in others."""
        resumed = self._resume()
        self.clock = time.perf_counter() - self.elapsed
        if self.at[0] <= self.recipe.epochs:
            threads = cores(self.options.threads)
            about = self.job, self.net, self.recipe, self.team
            self.data = Data(*about, self.train, self.validation, threads, self.progress)
            if not self.history:
                self._judge(0, None, time.perf_counter(), 0)
            while self.at[0] <= self.recipe.epochs:
                self._learn_epoch()
        return self._result(resumed) if self.team.rank == 0 else None

    def _learn_epoch(self) -> None:
        (epoch, first), start = self.at, time.perf_counter()
        saved, n = start, len(self.train)
        for step, (x, y) in enumerate(self.data.batches(epoch, first), start=first):
            self._step(x, y, (epoch - 1) * self.n_steps + step, self._in_step(step))
            if step % CHECK_EVERY == 0 or self.device.type == "cpu":
                self._check_loss()
            self.progress(
                "fine-tuning",
                (epoch - 1) * n + min(n, (step + 1) * self.recipe.batch * self.team.size),
                self.recipe.epochs * n,
            )
            if time.perf_counter() - saved > SAVE_SECONDS and step + 1 < self.n_steps:
                self.at, saved = (epoch, step + 1), time.perf_counter()
                self._save()
        self._check_loss()
        self._judge(epoch, self.team.summed(self.running), start, n - first * self.recipe.batch * self.team.size)
        self.running = [0.0, 0.0]
        last = self.recipe.epochs if self.team.tells(self._is_enough(time.perf_counter() - start)) else epoch
        self.at = (last + 1, 0)
        if last == self.recipe.epochs and self.team.rank == 0:
            self._blend()
        self._save()

    def _in_step(self, step: int) -> int:
        """How many images all processes together learn from in one step: the last of an epoch may have fewer."""
        size = self.recipe.batch * self.team.size
        return min(size, len(self.train) - step * size)

    def _step(self, x: Any, y: Any, step: int, n: int) -> None:
        """Learn from this process's part of n images; gradients are added up over processes, the loss is the mean of n."""
        share = _schedule(step, self.n_steps * self.recipe.epochs)
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * share
        self.optimizer.zero_grad(set_to_none=False)
        for part in torch.arange(len(y)).tensor_split(self.recipe.accumulate):
            if len(part):
                with autocast(self.device, self.recipe.precision):
                    logits = self.forward(x[part[0] : part[-1] + 1])
                loss = self.loss(logits.float(), y[part[0] : part[-1] + 1])
                (loss / n).backward()
                self.running[0] = self.running[0] + loss.detach()
        self.running[1] += len(y)
        self.team.sum_gradients(list(self.free.values()))
        self.optimizer.step()
        decay = min(max(0.0, 1 - 10 / (self.n_steps * self.recipe.epochs)), 0.9998, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.values()), list(self.free.values()), 1 - decay)

    def _check_loss(self) -> None:
        if not math.isfinite(float(self.running[0])):
            raise HeadstartError(
                f"the loss of the fine-tuning is no number any more in epoch {self.at[0]}; lower the learning rate "
                f"(now {self.recipe.lr:g}), or unfreeze less (now {self.recipe.unfreeze})"
            )

    def _judge(self, epoch: int, running: list[float] | None, start: float, n: int) -> None:
        """Look at the validation split with the averaged weights, and keep them where they are the best so far."""
        if self.team.rank:
            return
        trained = time.perf_counter() - start
        loss, accuracy = self._validated(self.average)
        lowest = min((e.validation_loss for e in self.history if e.validation_loss is not None), default=math.inf)
        if self.recipe.is_judged and loss is not None and loss < lowest:
            self.best, self.best_epoch = copied(self.average), epoch
        rate = self.optimizer.param_groups[0]["lr"] if epoch else 0.0
        seconds = time.perf_counter() - start
        mean = running[0] / running[1] if running else None
        self.history.append(Epoch(epoch, mean, loss, accuracy, rate, seconds, n / max(trained, 1e-9)))
        self.on_epoch(self.history[-1])

    def _validated(self, weights: dict[str, Any]) -> tuple[float | None, float | None]:
        """Cross entropy and accuracy on the validation split under some weights."""
        if not len(self.validation):
            return None, None
        with self.net.under(weights), torch.no_grad(), autocast(self.device, self.recipe.precision):
            logits = np.concatenate([self.forward(x).float().cpu().numpy() for x in self.data.validation()])
        expected = self.job.labels[self.validation]
        return float(losses(logits, expected).mean()), float(is_right(logits, expected).mean())

    def _blend(self) -> None:
        """Go but part of the way from the weights that came, to the best or the last, where validation likes that better."""
        last = len(self.history) - 1
        if not self.recipe.is_judged:
            blend = self.recipe.keep[1] if self.recipe.keep else HALFWAY
            weights, before = self._between(self.average, blend), self.history[0].validation_loss
            loss, _ = self._validated(weights)
            if self.recipe.keep or loss is None or before is None or loss < before:
                self.best, self.best_epoch, self.blend = weights, last, blend
            return
        lowest = min(e.validation_loss for e in self.history if e.validation_loss is not None)
        for epoch, end in dict([(last, self.average), (self.best_epoch, self.best)]).items():
            for blend in BLENDS if epoch else ():
                weights = self._between(end, blend)
                loss, _ = self._validated(weights)
                if loss is not None and loss < lowest:
                    lowest, self.best, self.best_epoch, self.blend = loss, weights, epoch, blend

    def _between(self, end: dict[str, Any], blend: float) -> dict[str, Any]:
        return {name: torch.lerp(self.first[name], end[name], blend) for name in end}

    def _is_enough(self, seconds: float) -> bool:
        """Whether to stop after this epoch: nothing was gained for a while, or another would take longer than allowed."""
        if self.team.rank:
            return False
        if self.recipe.keep:
            return self.at[0] >= self.recipe.keep[0]
        patience = max(3, math.ceil(PATIENCE * self.recipe.epochs))
        budget = self.options.budget_seconds
        is_late = budget is not None and time.perf_counter() - self.clock + seconds > budget
        if is_late and self.at[0] < self.recipe.epochs:
            self.notes.append(f"stopped after epoch {self.at[0]} of {self.recipe.epochs}: {budget:g} s are spent")
        return is_late or (self.recipe.is_judged and self.at[0] - self.best_epoch >= patience)

    def _fingerprint(self) -> str:
        """Of everything that changes the result; threads only change how sums are rounded."""
        sha = hashlib.sha256()
        constants = [FORMAT, UNFREEZE, LAYER_DECAY, WEIGHT_DECAY, WARM_UP, SMOOTHING, BLENDS, HALFWAY, PATIENCE, LEAST_AREA]
        made_with = {**versions(), "headstart": own_version(), "torch": torch.__version__}
        about = [asdict(self.recipe), asdict(self.job.network.preprocess), constants, made_with, self.team.size]
        sha.update(json.dumps([*about, self.device.type, self.job.splits.tolist(), self.job.labels.tolist()]).encode())
        sha.update(b"".join(self.job.digests))
        for name, tensor in self.net.whole.state_dict().items():
            sha.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
        return sha.hexdigest()

    def _save(self) -> None:
        if self.team.rank == 0:
            is_done = self.at[0] > self.recipe.epochs
            under_way = {"free": dict(self.free), "average": self.average, "optimizer": self.optimizer.state_dict()}
            self.checkpoint.write(
                {
                    "at": list(self.at),
                    "elapsed": time.perf_counter() - self.clock,
                    "running": [float(number) for number in self.running],
                    "history": [list(epoch) for epoch in self.history],
                    "best": self.best,
                    "best_epoch": self.best_epoch,
                    "blend": self.blend,
                    **({} if is_done else under_way),
                }
            )

    def _resume(self) -> int | None:
        """Take up the work where the checkpoint left it, in every process; gives how many whole epochs it held."""
        content = self.team.shared(self.checkpoint.read() if self.team.rank == 0 else b"")
        if not content:
            return None
        state = from_bytes(content)
        self.at, self.elapsed = (state["at"][0], state["at"][1]), state["elapsed"]
        self.history = [Epoch(*row) for row in state["history"]]
        self.best, self.best_epoch = {n: t.to(self.device) for n, t in state["best"].items()}, state["best_epoch"]
        self.blend = state["blend"]
        if self.team.rank == 0:  # the losses of other processes are in no checkpoint
            self.running = list(state["running"])
        if "free" in state:
            self.net.put(state["free"])
            self.average = {name: t.to(self.device) for name, t in state["average"].items()}
            self.optimizer.load_state_dict(state["optimizer"])
        return max(0, len(self.history) - 1)

    def _result(self, resumed: int | None) -> FineTuned:
        self.net.put(self.best)
        backbone, head = self.net.backbone(), replace(self.job.head, layers=(self.net.layer(),))
        return FineTuned(
            backbone=backbone,
            head=head,
            validation_index=self.validation,
            validation_probabilities=head.probabilities(self._validation_codes(backbone)),
            history=tuple(self.history),
            unfrozen=self.recipe.unfreeze,
            epochs=len(self.history) - 1,
            best_epoch=self.best_epoch,
            blend=self.blend,
            n_trained=sum(p.numel() for p in self.free.values()),
            seconds=time.perf_counter() - self.clock,
            resumed_from=resumed,
            notes=tuple(self.notes),
        )

    def _validation_codes(self, backbone: Backbone) -> np.ndarray:
        """What the network gives where it will be used, on the engine, not on torch."""
        squares = Squares.of(self.job, self.validation, backbone.preprocess)
        if not len(squares):
            return np.zeros((0, backbone.n_codes), np.float32)
        engine = OpenVINOEngine(backbone.network, Hardware(threads=cores(self.options.threads)))
        stream = engine.stream(range(len(squares)), lambda _, i: squares.load(i))
        return np.stack([result.outputs["codes"] for result in stream if result.outputs])


def _trained(
    job: Job, options: FineTuning, team: Team, progress: Progress, on_epoch: Callable[[Epoch], None]
) -> FineTuned | None:
    with told_memory(), limited_threads(cores(options.threads)):
        return _Training(job, options, team, progress, on_epoch).run()


def _loss_of(head: Head, smoothing: float) -> Callable[[Any, Any], Any]:
    """The cross entropy of scores and label probabilities, both (n, k), summed over the images, as head.losses has it."""
    if head.output == "sigmoid":
        return lambda logits, y: functional.binary_cross_entropy_with_logits(logits, y, reduction="sum")
    return lambda logits, y: functional.cross_entropy(logits, y, reduction="sum", label_smoothing=smoothing)


def _schedule(step: int, n_steps: int) -> float:
    """The share of the learning rate at a step: up in a line, then down half a cosine (Loshchilov & Hutter 2017)."""
    n_warm = max(1, round(WARM_UP * n_steps))
    if step < n_warm:
        return (step + 1) / n_warm
    return 0.5 * (1 + math.cos(math.pi * (step - n_warm) / max(1, n_steps - n_warm)))
