"""Fine-tuning: the upper layers of a network learn along with the head, from the head that was chosen on frozen codes.

Takes images, labels, splits, a torch network and a head; gives a backbone in standard form, its head and how each epoch
went. It decides how much is unfrozen, how each step is made, which epoch is kept, and what a checkpoint belongs to.

Linear probing first, then fine-tuning (Kumar et al. 2022, arXiv:2202.10054): a head that starts at random would send its
first large gradients through the pretrained layers and spoil them. Batch norm stays in inference mode.
"""

from __future__ import annotations

import copy
import hashlib
import io
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from headstart.backbones import Backbone
from headstart.engine import Engine, Hardware, Result, available_cores, in_order
from headstart.errors import DataError, HeadstartError, MissingExtra
from headstart.files import write_atomically
from headstart.heads import SMALLEST_LENGTH, Head, is_right, losses
from headstart.images import Failure, Preprocess, display_name, load_image
from headstart.networks import n_parameters, standard_form
from headstart.runs import own_version, versions
from headstart.splits import TRAIN, VALIDATION
from headstart.tables import ImageRef, ParquetImages, TableImage
from headstart.torch_networks import TorchNetwork, is_chain, layers_of, normalised, to_onnx, torch_network

try:
    import torch
    from torch import nn
    from torch.nn import functional
except ImportError as error:
    raise MissingExtra("fine-tuning", "torch") from error

Progress: TypeAlias = Callable[[str, int, int], None]

UNFREEZE = {"head": 0.0, "last": 0.25, "half": 0.5, "all": 1.0}  # the share of a network's layers, from the codes down
FEW_IMAGES, SOME_IMAGES, MANY_IMAGES = 50, 2_000, 10_000  # to learn from: below them head, last, half; from the last on, all
MIXED_FROM = 5_000  # images from which on strong views, mixup and cutmix pay; fewer are learnt in too few epochs for them
LAYER_DECAY, WEIGHT_DECAY, WARM_UP = 0.8, 0.02, 0.1
SMOOTHING = 0.1  # of labels, where MIXED_FROM images are learnt from; of 300 it made the cross entropy a third worse
BLENDS = (0.25, 0.5, 0.75)  # parts of the way from the network that came to the one that learnt, tried at the end
FEW_TO_JUDGE, HALFWAY = 200, 0.5  # validation images, below which no epoch is picked: all are run, and half the way is gone
PATIENCE = 0.4  # of the epochs may pass without a lower validation loss
LEAST_AREA = 0.4  # of the central square that a view shows
EPOCHS = {"head": 10, "last": 10, "half": 10, "all": 10}
RATES = {"head": 1e-3, "last": 3e-4, "half": 3e-4, "all": 5e-4}
PIXELS_BYTES = 1 << 30  # decoded images kept in memory, if all of them fit
TRUNK_BYTES = 2 << 30  # activations of the frozen layers kept in memory
MOST_VIEWS = 8  # of each image, where the frozen layers' activations are kept
SAVE_SECONDS = 300.0  # within an epoch; at its end a checkpoint is written anyway
PATIENT_SECONDS = 86_400  # that other processes wait for the first, which may have codes to compute
CHECK_EVERY = 20  # steps: asking a GPU for a number makes it wait
FORMAT = 1


@dataclass(frozen=True)
class FineTuning:
    """What may be asked of a fine-tuning; None means: from the amount of data.

    unfreeze: a key of UNFREEZE. batch: images a step and process. accumulate: parts that a batch is worked off in, where
    memory is short. lr: of the head, lower layers have less. device: `cpu`, `cuda`, by default the GPU if there is one.
    precision: `auto` is bfloat16 where the hardware has it, else `f32`. budget_seconds: no epoch is begun that would end
    later. keep: an epoch and a blend to end with, whatever validation says: so what was chosen on some images is learnt
    again from all. compile: let torch compile the network first, a minute that pays on a GPU for long trainings.
    """

    unfreeze: str | None = None
    epochs: int | None = None
    batch: int | None = None
    accumulate: int = 1
    lr: float | None = None
    seed: int = 0
    checkpoint_dir: Path | None = None
    device: str | None = None
    threads: int | None = None
    precision: str = "auto"
    budget_seconds: float | None = None
    keep: tuple[int, float] | None = None
    compile: bool = False

    def __post_init__(self) -> None:
        if self.unfreeze not in (None, *UNFREEZE):
            raise HeadstartError(f"unknown --unfreeze {self.unfreeze!r}; it is one of: {', '.join(UNFREEZE)}")
        if self.precision not in ("auto", "f32"):
            raise HeadstartError(f"unknown precision {self.precision!r}; it is one of: auto, f32")
        for name in ("epochs", "batch", "accumulate", "threads"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise HeadstartError(f"{name} must be at least 1, not {number}")
        if self.seed < 0:
            raise HeadstartError(f"the seed is {self.seed}; expected 0 or more")
        if self.lr is not None and not 0 < self.lr <= 1:
            raise HeadstartError(f"the learning rate is {self.lr}; expected more than 0, at most 1 (often 0.001)")


@dataclass(frozen=True)
class Recipe:
    """A fine-tuning with nothing left open.

    is_large: whether labels are smoothed, is_mixed: whether images are mixed and seen in strong views. is_judged: whether
    validation picks the epoch. n_views: how many of each image are kept, where the frozen layers run but once; 0 where each
    epoch draws new ones.
    """

    unfreeze: str
    epochs: int
    batch: int
    accumulate: int
    lr: float
    seed: int
    precision: str
    is_large: bool
    is_mixed: bool
    is_judged: bool
    n_views: int
    budget_seconds: float | None
    keep: tuple[int, float] | None


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
    headstart.splits; what is neither train nor validation is not looked at. digests: each image's sha256. head: one layer on
    the network's codes, fitted on images of train alone, or else validation flatters epoch 0. progress: called as
    (stage, done, total); on_epoch: after each epoch.

    Under torchrun the first process calls this, and all others finetune_worker(). Raises HeadstartError, whose message
    says what to do, for too little memory, a loss that is no number, and images that cannot be read any more.
    """
    job = _Job(list(images), np.asarray(labels), np.asarray(splits), list(digests), network, head)
    with _Team.gathered(options.device) as team:
        team.shared(_packed(job, options) if team.size > 1 else b"")
        tuned = _trained(job, options, team, progress, on_epoch)
    assert tuned is not None
    return tuned


def finetune_worker(load: Callable[[str], TorchNetwork] = torch_network, *, device: str | None = None) -> None:
    """Be one of the other processes under torchrun: wait for the first one's work and share it until it is done."""
    with _Team.gathered(device) as team:
        content = team.shared(b"")
        if content:
            job, options = _unpacked(content, load)
            _trained(job, options, team, lambda *_: None, lambda _: None)


def dismiss_workers(*, device: str | None = None) -> None:
    """Let the other processes end where the first one has no fine-tuning for them."""
    with _Team.gathered(device) as team:
        team.shared(b"")


def processes() -> tuple[int, int]:
    """This process's number and how many there are, as torchrun tells it: (0, 1) without torchrun."""
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


@dataclass(frozen=True)
class _Job:
    """What is learnt from, and where it begins: all that other processes have to be told."""

    images: list[ImageRef]
    labels: np.ndarray
    splits: np.ndarray
    digests: list[bytes]
    network: TorchNetwork
    head: Head


class _Training:
    """One fine-tuning under way, in one process."""

    def __init__(
        self, job: _Job, options: FineTuning, team: _Team, progress: Progress, on_epoch: Callable[[Epoch], None]
    ) -> None:
        self.job, self.options, self.team, self.progress, self.on_epoch = job, options, team, progress, on_epoch
        self.train, self.validation = (np.flatnonzero(job.splits == split) for split in (TRAIN, VALIDATION))
        if not len(self.train):
            raise DataError("there is no image in the train split to fine-tune with; make the validation split smaller")
        self.device = team.device
        unfreeze = options.unfreeze or _unfreeze(len(self.train))
        self.net = _Unfrozen(job.network, job.head, UNFREEZE[unfreeze])
        size, n, n_validation = job.network.preprocess.size, len(self.train), len(self.validation)
        self.recipe = _recipe(options, unfreeze, n, n_validation, self.net, size, self.device)
        self.net.whole.to(self.device, memory_format=torch.channels_last)  # on a CPU several times as fast
        self.loss = _loss_of(job.head, SMOOTHING if self.recipe.is_large else 0.0)
        self.forward = torch.compile(self.net.logits) if options.compile else self.net.logits
        self.free = {name: p for name, p in self.net.whole.named_parameters() if p.requires_grad}
        self.average = {name: p.detach().clone() for name, p in self.free.items()}
        self.optimizer = torch.optim.AdamW(self.net.groups(self.recipe.lr), fused=self.device.type == "cuda")
        self.rates = [group["lr"] for group in self.optimizer.param_groups]
        self.n_steps = math.ceil(len(self.train) / (self.recipe.batch * team.size))
        self.history: list[Epoch] = []
        self.first = self.best = self._copied(self.average)
        self.best_epoch, self.blend = 0, 1.0
        self.at, self.elapsed, self.running = (1, 0), 0.0, [0.0, 0.0]
        self.notes: list[str] = []
        self.checkpoint = _Checkpoint(options.checkpoint_dir, self._fingerprint(), self.notes)

    def run(self) -> FineTuned | None:
        """Train from the checkpoint or from the beginning; gives the result in the first process, None in others."""
        resumed = self._resume()
        self.clock = time.perf_counter() - self.elapsed
        if self.at[0] <= self.recipe.epochs:
            threads = _cores(self.options.threads)
            about = self.job, self.net, self.recipe, self.team
            self.data = _Data(*about, self.train, self.validation, threads, self.progress)
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
                with _autocast(self.device, self.recipe):
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
            self.best, self.best_epoch = self._copied(self.average), epoch
        rate = self.optimizer.param_groups[0]["lr"] if epoch else 0.0
        seconds = time.perf_counter() - start
        mean = running[0] / running[1] if running else None
        self.history.append(Epoch(epoch, mean, loss, accuracy, rate, seconds, n / max(trained, 1e-9)))
        self.on_epoch(self.history[-1])

    def _validated(self, weights: dict[str, Any]) -> tuple[float | None, float | None]:
        """Cross entropy and accuracy on the validation split under some weights."""
        if not len(self.validation):
            return None, None
        with self._weights(weights), torch.no_grad(), _autocast(self.device, self.recipe):
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

    @contextmanager
    def _weights(self, weights: dict[str, Any]) -> Iterator[None]:
        """Put other weights in for a while."""
        own = self._copied(self.free)
        self._put(weights)
        try:
            yield
        finally:
            self._put(own)

    def _put(self, weights: dict[str, Any]) -> None:
        with torch.no_grad():
            for name, p in self.free.items():
                p.copy_(weights[name])

    @staticmethod
    def _copied(weights: dict[str, Any]) -> dict[str, Any]:
        return {name: w.detach().clone() for name, w in weights.items()}

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
        state = _values(content)
        self.at, self.elapsed = (state["at"][0], state["at"][1]), state["elapsed"]
        self.history = [Epoch(*row) for row in state["history"]]
        self.best, self.best_epoch = {n: t.to(self.device) for n, t in state["best"].items()}, state["best_epoch"]
        self.blend = state["blend"]
        if self.team.rank == 0:  # the losses of other processes are in no checkpoint
            self.running = list(state["running"])
        if "free" in state:
            self._put(state["free"])
            self.average = {name: t.to(self.device) for name, t in state["average"].items()}
            self.optimizer.load_state_dict(state["optimizer"])
        return max(0, len(self.history) - 1)

    def _result(self, resumed: int | None) -> FineTuned:
        self._put(self.best)
        given = self.job.network
        model = to_onnx(self.net.module, given.preprocess.size)
        network = standard_form(model, given.preprocess, codes="codes")
        backbone = Backbone(
            name=f"{given.name} (fine-tuned)",
            network=network.SerializeToString(deterministic=True),
            preprocess=given.preprocess,
            widths=(given.n_codes,),
            n_parameters=n_parameters(network),
            license=given.license,
            output="codes",
        )
        weight, bias = (p.detach().float().cpu().numpy().copy() for p in (self.net.head.weight.T, self.net.head.bias))
        head = replace(self.job.head, layers=((weight, bias),))
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
        squares = _Squares([self.job.images[i] for i in self.validation], backbone.preprocess)
        if not len(squares):
            return np.zeros((0, backbone.n_codes), np.float32)
        engine = Engine(backbone.network, Hardware(threads=_cores(self.options.threads)))
        stream = engine.stream(range(len(squares)), lambda _, i: squares.load(i))
        return np.stack([result.outputs["codes"] for result in stream if result.outputs])


def _trained(
    job: _Job, options: FineTuning, team: _Team, progress: Progress, on_epoch: Callable[[Epoch], None]
) -> FineTuned | None:
    with _told_memory(), _threads(_cores(options.threads)):
        return _Training(job, options, team, progress, on_epoch).run()


class _Unfrozen:
    """A copy of a network with a head behind it, of which only the upper layers and the head learn.

    trunk: the layers that never change, where they can be run apart from the rest; what they give can then be kept.
    """

    def __init__(self, network: TorchNetwork, head: Head, share: float) -> None:
        if len(head.layers) != 1 or head.votes is not None or head.parts not in ((), (network.n_codes,)):
            raise ValueError("fine-tuning begins at a head of one layer on the codes of the last layer")
        ((weight, bias),) = head.layers
        self.is_unit = bool(head.parts)
        self.module = copy.deepcopy(network.module).cpu().float().eval().requires_grad_(False)
        self.head = nn.Linear(*weight.shape)
        with torch.no_grad():
            self.head.weight.copy_(torch.from_numpy(np.ascontiguousarray(weight.T)))
            self.head.bias.copy_(torch.from_numpy(np.ascontiguousarray(bias)))
        self.whole = nn.ModuleDict({"module": self.module, "head": self.head})
        layers = layers_of(self.module)
        n_open = min(len(layers), max(1, round(share * len(layers)))) if share else 0
        self.frozen, self.open = layers[: len(layers) - n_open], layers[len(layers) - n_open :]
        for part in _parts(self.open):
            part.requires_grad_(True)
        if share == 1:
            self.module.requires_grad_(True)  # with what belongs to no layer, a transformer's positions
        self.trunk, self.top = self._cut(network.preprocess.size)

    def _cut(self, size: int) -> tuple[Any, Any]:
        if not self.open:
            return self.module, nn.Identity()
        if self.frozen and is_chain(self.module, size):
            return nn.Sequential(*_parts(self.frozen)), nn.Sequential(*_parts(self.open))
        return None, self.module

    def logits(self, x: Any) -> Any:
        """What the trunk gives, or pixels where there is no trunk, to scores (n, k)."""
        codes = self.top(x)
        return self.head(functional.normalize(codes.float(), dim=1, eps=SMALLEST_LENGTH) if self.is_unit else codes)

    def groups(self, lr: float) -> list[dict[str, Any]]:
        """What learns, each layer at LAYER_DECAY of the rate of the one above; norms and biases are not pulled to zero."""
        layers = [[p for part in layer for p in part.parameters()] for layer in self.open]
        known = {id(p) for layer in layers for p in layer}
        layers[:0] = [[p for p in self.module.parameters() if p.requires_grad and id(p) not in known]]
        layers.append(list(self.head.parameters()))
        groups = []
        for depth, layer in enumerate(reversed(layers)):
            for decay, some in ((WEIGHT_DECAY, [p for p in layer if p.ndim > 1]), (0.0, [p for p in layer if p.ndim < 2])):
                if some:
                    groups.append({"params": some, "lr": lr * LAYER_DECAY**depth, "weight_decay": decay})
        return groups


def _parts(layers: list[list[Any]]) -> list[Any]:
    return [part for layer in layers for part in layer]


class _Data:
    """Batches, as what the trainable part of the network takes, and the labels as probabilities."""

    def __init__(
        self,
        job: _Job,
        net: _Unfrozen,
        recipe: Recipe,
        team: _Team,
        train: np.ndarray,
        validation: np.ndarray,
        threads: int,
        progress: Progress,
    ) -> None:
        self.net, self.recipe, self.team, self.threads = net, recipe, team, threads
        self.preprocess = job.network.preprocess
        # The whole central square, of which views are cut; its middle is what the backbone sees at other times.
        whole = replace(self.preprocess, size=round(self.preprocess.size / self.preprocess.crop), crop=1.0)
        self.train = _Squares([job.images[i] for i in train], whole)
        self.validated = _Squares([job.images[i] for i in validation], self.preprocess)
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
            views = _drawn_views(len(group), random, is_strong=self.recipe.is_mixed)
            x = _seen(next(squares).to(self.team.device, non_blocking=True), views.of(own), self.preprocess)
            if self.recipe.is_mixed:
                x, y = _mixed(x, y, np.random.default_rng([self.recipe.seed, epoch, step, 1 + self.team.rank]))
            yield self._through_trunk(x), y

    def validation(self) -> Iterator[Any]:
        """Inputs of the validation split, in order."""
        batches = _split(len(self.validated), self.recipe.batch)
        if self.kept_validation is not None:
            yield from (_float(self.kept_validation[torch.from_numpy(batch)]) for batch in batches)
            return
        for squares in self._squares(self.validated, batches):
            yield self._through_trunk(normalised(squares.to(self.team.device), self.preprocess))

    def _kept(self, progress: Progress) -> tuple[Any, Any]:
        """Run the frozen layers once: over each view of each image of train, the first the one that prediction sees."""
        n, n_views = len(self.labels), self.recipe.n_views
        batches = _split(n, self.recipe.batch)
        random = np.random.default_rng([self.recipe.seed, 0])
        views = [_middle_views(n, self.preprocess.crop)]
        views += [_drawn_views(n, random, is_strong=False) for _ in range(n_views - 1)]
        of_train: Any = None
        for squares, batch in zip(self._squares(self.train, batches), batches, strict=True):
            x = squares.to(self.team.device)
            rows = slice(batch[0], batch[-1] + 1)
            for view, drawn in enumerate(views):
                activations = self._through_trunk(_seen(x, drawn.of(rows), self.preprocess)).half()
                if of_train is None:  # once, and filled: put together at the end they would take twice the memory
                    of_train = torch.empty((n_views, n, *activations.shape[1:]), dtype=torch.half, device=activations.device)
                of_train[view, rows] = activations
            progress("frozen layers", int(batch[-1]) + 1, n)
        of_train = of_train.flatten(0, 1)
        pixels = self._squares(self.validated, _split(len(self.validated), self.recipe.batch))
        of_validation = [self._through_trunk(normalised(x.to(self.team.device), self.preprocess)).half() for x in pixels]
        return of_train, torch.cat(of_validation) if of_validation else of_train[:0]

    def _through_trunk(self, x: Any) -> Any:
        x = x.contiguous(memory_format=torch.channels_last)
        if self.net.trunk is None:
            return x
        with torch.no_grad(), _autocast(self.team.device, self.recipe):
            return self.net.trunk(x).float()

    def _squares(self, source: _Squares, batches: list[np.ndarray]) -> Iterator[Any]:
        """Load batches in threads, a few ahead, as (n, side, side, 3) uint8 tensors."""

        def work(index: int, batch: np.ndarray) -> Result[np.ndarray]:
            pixels = torch.from_numpy(source.stack(batch))
            return Result(index, batch, None, pixels.pin_memory() if self.team.device.type == "cuda" else pixels)

        for result in in_order(batches, work, workers=max(1, min(self.threads, len(batches))), ahead=2):
            yield result.instead


class _Squares:
    """Images as (side, side, 3) uint8; kept once they are decoded if all of them fit into PIXELS_BYTES."""

    def __init__(self, images: list[ImageRef], preprocess: Preprocess) -> None:
        self.images, self.preprocess = images, preprocess
        self.shape = (preprocess.size, preprocess.size, 3)
        self.is_kept = len(images) * math.prod(self.shape) <= PIXELS_BYTES
        self.kept: dict[int, np.ndarray] = {}
        self.contents = _table_contents(images)

    def __len__(self) -> int:
        return len(self.images)

    def stack(self, batch: np.ndarray) -> np.ndarray:
        """Give some images' pixels, (n, side, side, 3)."""
        return np.stack([self.load(i) for i in batch.tolist()]) if len(batch) else np.zeros((0, *self.shape), np.uint8)

    def load(self, i: int) -> np.ndarray:
        """Give one image's pixels; raises DataError where it cannot be read any more."""
        if i in self.kept:
            return self.kept[i]
        image = self.images[i]
        content = self.contents.get(i) or (image.read() if isinstance(image, TableImage) else image)
        pixels = content if isinstance(content, Failure) else load_image(content, self.preprocess)
        if isinstance(pixels, Failure):
            raise DataError(
                f"{display_name(image)} cannot be read any more: {pixels.reason}; leave the photos alone and retry"
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


@dataclass(frozen=True)
class _Views:
    """How images are seen: theta (n, 2, 3), where each point of the view lies in [-1, 1]²; colour (n, 3), see _seen."""

    theta: np.ndarray
    colour: np.ndarray

    def of(self, rows: slice) -> _Views:
        """Those of some of the images."""
        return _Views(self.theta[rows], self.colour[rows])


def _middle_views(n: int, share: float) -> _Views:
    theta = np.tile(np.array([[share, 0, 0], [0, share, 0]], np.float32), (n, 1, 1))
    return _Views(theta, np.ones((n, 3), np.float32))


def _drawn_views(n: int, random: np.random.Generator, *, is_strong: bool) -> _Views:
    """Draw a window and a side for each image (Szegedy et al. 2015); strong views also have two changes out of five.

    Two of many at a strength drawn for each is RandAugment (Cubuk et al. 2020), here in one resampling: turned, sheared,
    brighter, more contrast, more colour.
    """
    area, ratio = random.uniform(LEAST_AREA, 1, n), np.exp(random.uniform(np.log(3 / 4), np.log(4 / 3), n))
    width, height = np.minimum(1, np.sqrt(area * ratio)), np.minimum(1, np.sqrt(area / ratio))
    x, y = (random.uniform(-1, 1, n) * (1 - side) for side in (width, height))
    mirror = np.where(random.random(n) < 0.5, -1, 1)
    changes = random.uniform(-1, 1, (n, 5)) * (random.random((n, 5)).argsort(axis=1) < 2) * is_strong
    angle, shear = 0.5 * changes[:, 0], 0.3 * changes[:, 1]
    cos, sin = np.cos(angle), np.sin(angle)
    turned = np.stack([np.stack([cos, cos * shear - sin], 1), np.stack([sin, sin * shear + cos], 1)], 1)
    scaled = turned * np.stack([width * mirror, height], 1)[:, None, :]
    theta = np.concatenate([scaled, np.stack([x, y], 1)[:, :, None]], axis=2)
    return _Views(theta.astype(np.float32), (1 + 0.5 * changes[:, 2:]).astype(np.float32))


def _seen(squares: Any, views: _Views, preprocess: Preprocess) -> Any:
    """(n, side, side, 3) uint8 to views (n, 3, S, S), normalised, on the squares' device.

    Colours are multiplied: all by the first number, their distance from the image's mean by the second, from grey by the
    third.
    """
    x = squares.permute(0, 3, 1, 2).float() / 255
    shape = [len(x), 3, preprocess.size, preprocess.size]
    theta, colour = (torch.from_numpy(np.ascontiguousarray(a)).to(x.device) for a in (views.theta, views.colour))
    if len(x):
        grid = functional.affine_grid(theta, shape, align_corners=False)
        x = functional.grid_sample(x, grid, padding_mode="reflection", align_corners=False)
    if (views.colour != 1).any():
        brightness, contrast, saturation = (c[:, None, None, None] for c in colour.T)
        mean, grey = x.mean(dim=(1, 2, 3), keepdim=True), x.mean(dim=1, keepdim=True)
        x = grey + (x - grey) * saturation
        x = ((mean + (x - mean) * contrast) * brightness).clamp(0, 1)
    mean, std = (torch.tensor(numbers, device=x.device)[:, None, None] for numbers in (preprocess.mean, preprocess.std))
    return (x - mean) / std


def _mixed(x: Any, y: Any, random: np.random.Generator) -> tuple[Any, Any]:
    """Half of the batches as they are; others are mixed with themselves backwards, as a whole (mixup) or in a box (cutmix).

    Zhang et al. 2018, Yun et al. 2019.
    """
    kind, share = random.random(), float(random.beta(0.2, 0.2))
    if kind < 0.5:
        return x, y
    if kind < 0.75:
        return x.lerp(x.flip(0), share), y.lerp(y.flip(0), share)
    side = x.shape[-1]
    length = round(side * math.sqrt(random.random()))
    top, left = random.integers(0, side - length + 1, 2)
    mixed = x.clone()
    mixed[:, :, top : top + length, left : left + length] = x.flip(0)[:, :, top : top + length, left : left + length]
    return mixed, y.lerp(y.flip(0), (length / side) ** 2)


class _Team:
    """The processes that learn together, each with a device of its own; most often one."""

    def __init__(self, rank: int, size: int, device: Any) -> None:
        self.rank, self.size, self.device = rank, size, device

    @classmethod
    @contextmanager
    def gathered(cls, device: str | None) -> Iterator[_Team]:
        """Wait until all processes are there."""
        rank, size = processes()
        found = _device(device, int(os.environ.get("LOCAL_RANK", rank)) if size > 1 else 0)
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


def _device(name: str | None, local_rank: int) -> Any:
    kind = (name or ("cuda" if torch.cuda.is_available() else "cpu")).lower()
    if kind.split(":")[0] == "cuda" and not torch.cuda.is_available():
        raise HeadstartError("torch finds no CUDA device here; fine-tune with --device CPU, or install torch with CUDA")
    if kind == "gpu" or kind.split(":")[0] not in ("cpu", "cuda"):
        raise HeadstartError(f"fine-tuning knows the devices cpu and cuda, not {name!r}")
    if kind == "cuda":
        torch.cuda.set_device(local_rank)
        return torch.device("cuda", local_rank)
    return torch.device(kind)


def _unfreeze(n: int) -> str:
    """How much is unfrozen by default: more where there is more to learn from."""
    if n < SOME_IMAGES:
        return "head" if n < FEW_IMAGES else "last"
    return "half" if n < MANY_IMAGES else "all"


def _recipe(options: FineTuning, unfreeze: str, n: int, n_validation: int, net: _Unfrozen, size: int, device: Any) -> Recipe:
    """Fill in what the options leave open."""
    epochs = options.epochs or EPOCHS[unfreeze]
    is_large = n >= MIXED_FROM
    n_views = 0
    if net.trunk is not None and not (is_large and device.type == "cuda"):
        with torch.no_grad():
            n_bytes = 2 * net.trunk(torch.zeros(1, 3, size, size)).numel()
        n_views = min(MOST_VIEWS, epochs, (TRUNK_BYTES // n_bytes - n_validation) // n)
    return Recipe(
        unfreeze=unfreeze,
        epochs=epochs,
        batch=min(n, options.batch or (32 if n < SOME_IMAGES else 128)),
        accumulate=options.accumulate,
        lr=options.lr or RATES[unfreeze],
        seed=options.seed,
        precision="bf16" if options.precision == "auto" and _has_bfloat16(device) else "f32",
        is_large=is_large,
        is_mixed=is_large and n_views <= 0,
        is_judged=n_validation >= FEW_TO_JUDGE and options.keep is None,
        n_views=max(0, n_views),
        budget_seconds=options.budget_seconds,
        keep=options.keep,
    )


def _has_bfloat16(device: Any) -> bool:
    """Whether the hardware multiplies in bfloat16; where it does not, torch would be slower with it."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    able = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def _loss_of(head: Head, smoothing: float) -> Callable[[Any, Any], Any]:
    """The cross entropy of scores and label probabilities, both (n, k), summed over the images, as heads.losses has it."""
    if head.output == "sigmoid":
        return lambda logits, y: functional.binary_cross_entropy_with_logits(logits, y, reduction="sum")
    return lambda logits, y: functional.cross_entropy(logits, y, reduction="sum", label_smoothing=smoothing)


def _autocast(device: Any, recipe: Recipe) -> Any:
    """Compute in bfloat16 where the recipe says so; weights and their updates stay float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bf16")


def _schedule(step: int, n_steps: int) -> float:
    """The share of the learning rate at a step: up in a line, then down half a cosine (Loshchilov & Hutter 2017)."""
    n_warm = max(1, round(WARM_UP * n_steps))
    if step < n_warm:
        return (step + 1) / n_warm
    return 0.5 * (1 + math.cos(math.pi * (step - n_warm) / max(1, n_steps - n_warm)))


class _Checkpoint:
    """A file of tensors and plain values with its sha256 before it, which belongs to exactly one recipe."""

    def __init__(self, folder: Path | None, fingerprint: str, notes: list[str]) -> None:
        self.path = folder / f"finetune-{fingerprint[:16]}.pt" if folder else None
        self.fingerprint, self.notes = fingerprint, notes

    def write(self, state: dict[str, Any]) -> None:
        """Write a state, whole or not at all; a full disk is told, and stops nothing."""
        if self.path is None:
            return
        content = _bytes({"fingerprint": self.fingerprint, **state})
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
        if content and _values(content).get("fingerprint") != self.fingerprint:
            self.notes.append(f"the checkpoint {self.path} is of another training and was ignored")
            return b""
        return content


def _bytes(values: dict[str, Any]) -> bytes:
    content = io.BytesIO()
    torch.save(values, content)
    return content.getvalue()


def _values(content: bytes) -> dict[str, Any]:
    """Read what _bytes wrote: tensors and plain values only, nothing is executed."""
    return dict(torch.load(io.BytesIO(content), weights_only=True, map_location="cpu"))


def _packed(job: _Job, options: FineTuning) -> bytes:
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
    return _bytes(
        {
            "images": refs,
            **{name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()},
            "digests": [digest.hex() for digest in job.digests],
            "network": job.network.name,
            "preprocess": asdict(job.network.preprocess),
            "parts": list(job.head.parts),
            "output": job.head.output,
            "options": {**asdict(options), "checkpoint_dir": None, "device": None},
        }
    )


def _unpacked(content: bytes, load: Callable[[str], TorchNetwork]) -> tuple[_Job, FineTuning]:
    values = _values(content)
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
    job = _Job(images, arrays["labels"], arrays["splits"], digests, network, head)
    return job, FineTuning(**values["options"])


@contextmanager
def _told_memory() -> Iterator[None]:
    """Turn the ways in which torch says that memory ran out into a sentence."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        told = isinstance(error, (torch.OutOfMemoryError, MemoryError))
        if not told and not any(words in str(error) for words in ("DefaultCPUAllocator", "out of memory")):
            raise
        raise HeadstartError(
            "there is not enough memory for this fine-tuning; lower --batch, work it off in parts with --accumulate, "
            "unfreeze less (--unfreeze last), or choose a backbone of smaller images"
        ) from error


def _cores(asked: int | None) -> int:
    """The cores that a process may use: its share of the machine's where torchrun has started several on it."""
    return asked or max(1, available_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))


@contextmanager
def _threads(n: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)
