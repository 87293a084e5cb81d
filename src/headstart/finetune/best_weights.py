"""The best weights of a fine-tuning: early stopping by the validation loss, and a blend of first and fine-tuned weights.

Takes how each epoch went and its weights; gives those to keep. It decides which epoch is best, when another is not worth
its time, and how much of the way from the first weights is gone (Wortsman et al. 2022, "Robust fine-tuning of zero-shot
models").
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import torch

from headstart.finetune.partial import copy_weights
from headstart.finetune.recipe import Recipe

BLENDS = (0.25, 0.5, 0.75)  # parts of the way from the first weights to the fine-tuned ones, tried at the end
HALFWAY = 0.5  # of the way is gone where validation has too few images to pick an epoch by (FEW_TO_JUDGE)
PATIENCE = 0.4  # of the epochs may pass without a lower validation loss

Weights: TypeAlias = dict[str, Any]
"""Tensors by their names."""


class Epoch(NamedTuple):
    """How one epoch went; number 0 is the network and head as they came, before anything was learnt."""

    epoch: int
    train_loss: float | None
    validation_loss: float | None
    validation_accuracy: float | None
    lr: float
    seconds: float
    images_per_second: float


class BestWeights:
    """The weights to keep, the epoch that they are of, and how far they go from the first weights to that epoch's.

    validate: gives cross entropy and accuracy on the validation split under some weights, None where that has no image.
    """

    def __init__(
        self, recipe: Recipe, first: Weights, validate: Callable[[Weights], tuple[float | None, float | None]]
    ) -> None:
        self.recipe, self.first, self.validate = recipe, first, validate
        self.weights, self.epoch, self.blend = first, 0, 1.0
        self.history: list[Epoch] = []

    @property
    def lowest_loss(self) -> float:
        """The lowest validation loss of all epochs."""
        return min((e.validation_loss for e in self.history if e.validation_loss is not None), default=math.inf)

    def add(self, epoch: Epoch, weights: Weights) -> None:
        """Note an epoch, and keep its weights if validation may pick the epoch and likes it best so far."""
        loss = epoch.validation_loss
        if self.recipe.is_judged and loss is not None and loss < self.lowest_loss:
            self.weights, self.epoch = copy_weights(weights), epoch.epoch
        self.history.append(epoch)

    def is_patience_over(self, epoch: int) -> bool:
        """Whether nothing was gained for so many epochs that no other is worth its time."""
        patience = max(3, math.ceil(PATIENCE * self.recipe.epochs))
        return self.recipe.is_judged and epoch - self.epoch >= patience

    def choose_blend(self, last: Weights) -> None:
        """Go but part of the way from the first weights, to the best or the last, where validation likes that better."""
        last_epoch = len(self.history) - 1
        if not self.recipe.is_judged:
            blend = self.recipe.keep[1] if self.recipe.keep else HALFWAY
            weights, before = self._between(last, blend), self.history[0].validation_loss
            loss, _ = self.validate(weights)
            if self.recipe.keep or loss is None or before is None or loss < before:
                self.weights, self.epoch, self.blend = weights, last_epoch, blend
            return
        lowest = self.lowest_loss
        for epoch, end in dict([(last_epoch, last), (self.epoch, self.weights)]).items():
            for blend in BLENDS if epoch else ():
                weights = self._between(end, blend)
                loss, _ = self.validate(weights)
                if loss is not None and loss < lowest:
                    lowest, self.weights, self.epoch, self.blend = loss, weights, epoch, blend

    def _between(self, end: Weights, blend: float) -> Weights:
        return {name: torch.lerp(self.first[name], end[name], blend) for name in end}

    def state(self) -> dict[str, Any]:
        """What a checkpoint needs to go on from here."""
        history = [list(epoch) for epoch in self.history]
        return {"history": history, "best": self.weights, "best_epoch": self.epoch, "blend": self.blend}

    def load_state(self, state: dict[str, Any], device: Any) -> None:
        """Go on from a checkpoint's state."""
        self.history = [Epoch(*row) for row in state["history"]]
        self.weights = {name: tensor.to(device) for name, tensor in state["best"].items()}
        self.epoch, self.blend = state["best_epoch"], state["blend"]
