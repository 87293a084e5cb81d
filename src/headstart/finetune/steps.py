"""The steps of a fine-tuning: forward, loss, gradients, AdamW at a warm-up and cosine learning rate, and averaged weights.

Takes batches; changes the trainable weights of a network in place. It decides the learning rate of each step, how labels
are smoothed, and how fast the average follows the weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from headstart.finetune.device import autocast
from headstart.finetune.partial import PartlyFrozen, copy_weights
from headstart.finetune.processes import ProcessGroup
from headstart.finetune.recipe import Recipe

WARM_UP = 0.1  # of the steps
SMOOTHING = 0.1  # of labels, where MIXED_FROM images are learnt from; of 300 it made the cross entropy a third worse


class Stepper:
    """A network in training: its weights, their average over the steps, and the optimizer.

    n_steps: of the whole training. loss_sum: the loss of this epoch so far, and of how many images it is the sum, in this
    process.
    """

    def __init__(
        self, net: PartlyFrozen, output: str, recipe: Recipe, group: ProcessGroup, n_steps: int, *, is_compiled: bool
    ) -> None:
        self.net, self.recipe, self.group, self.n_steps = net, recipe, group, n_steps
        self.forward = torch.compile(net.logits) if is_compiled else net.logits
        self.loss = _loss_of(output, SMOOTHING if recipe.is_large else 0.0)
        self.weights = net.trainable()
        self.average = copy_weights(self.weights)
        self.optimizer = torch.optim.AdamW(net.parameter_groups(recipe.lr), fused=group.device.type == "cuda")
        self.rates = [parameters["lr"] for parameters in self.optimizer.param_groups]
        self.loss_sum: list[Any] = [0.0, 0.0]

    @property
    def rate(self) -> float:
        """The head's learning rate at the last step."""
        return float(self.optimizer.param_groups[0]["lr"])

    def step(self, x: Any, y: Any, step: int, n: int) -> None:
        """Learn from this process's part of n images; gradients are added up over processes, the loss is the mean of n."""
        share = rate_share(step, self.n_steps)
        for parameters, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            parameters["lr"] = rate * share
        self.optimizer.zero_grad(set_to_none=False)
        for part in torch.arange(len(y)).tensor_split(self.recipe.accumulate):
            if len(part):
                with autocast(self.group.device, self.recipe.precision):
                    logits = self.forward(x[part[0] : part[-1] + 1])
                loss = self.loss(logits.float(), y[part[0] : part[-1] + 1])
                (loss / n).backward()
                self.loss_sum[0] = self.loss_sum[0] + loss.detach()
        self.loss_sum[1] += len(y)
        self.group.sum_gradients(list(self.weights.values()))
        self.optimizer.step()
        decay = min(max(0.0, 1 - 10 / self.n_steps), 0.9998, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.values()), list(self.weights.values()), 1 - decay)

    def is_finite(self) -> bool:
        """Whether the loss of this epoch is still a number; on a GPU this waits for the steps so far."""
        return math.isfinite(float(self.loss_sum[0]))

    def state(self) -> dict[str, Any]:
        """What a checkpoint needs to go on from here."""
        return {"free": dict(self.weights), "average": self.average, "optimizer": self.optimizer.state_dict()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint's state."""
        self.net.load(state["free"])
        self.average = {name: tensor.to(self.group.device) for name, tensor in state["average"].items()}
        self.optimizer.load_state_dict(state["optimizer"])


def _loss_of(output: str, smoothing: float) -> Callable[[Any, Any], Any]:
    """The cross entropy of scores and label probabilities, both (n, k), summed over the images (numerics.losses)."""
    if output == "sigmoid":
        return lambda logits, y: functional.binary_cross_entropy_with_logits(logits, y, reduction="sum")
    return lambda logits, y: functional.cross_entropy(logits, y, reduction="sum", label_smoothing=smoothing)


def rate_share(step: int, n_steps: int) -> float:
    """The share of the learning rate at a step: up in a line, then down half a cosine (Loshchilov & Hutter 2017)."""
    n_warm = max(1, round(WARM_UP * n_steps))
    if step < n_warm:
        return (step + 1) / n_warm
    return 0.5 * (1 + math.cos(math.pi * (step - n_warm) / max(1, n_steps - n_warm)))
