"""A partly frozen network: a backbone of which only the upper layers learn, with the head behind it.

Takes a torch network, a head of one layer and the share of layers to set free; gives scores, weights and, in the end, a
backbone in standard form. It decides which layers are apart from the rest, and how fast each of the others learns.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from headstart.backbones.backbone import Backbone
from headstart.backbones.standard_form import n_parameters, standard_form
from headstart.backbones.torch_modules import TorchNetwork, is_chain, layers_of, to_onnx
from headstart.heads.head import Head
from headstart.numerics.losses import SMALLEST_LENGTH

LAYER_DECAY, WEIGHT_DECAY = 0.8, 0.02


class PartlyFrozen:
    """A copy of a network with a head behind it, of which only the upper layers and the head learn.

    trunk: the frozen layers, where they can be run apart from the rest, so that their outputs can be stored; else None.
    """

    def __init__(self, network: TorchNetwork, head: Head, share: float) -> None:
        if len(head.layers) != 1 or head.votes is not None or head.widths not in ((), (network.n_codes,)):
            raise ValueError("fine-tuning begins at a head of one layer on the codes of the last layer")
        ((weight, bias),) = head.layers
        self.network, self.is_unit = network, bool(head.widths)
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

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """Groups for the optimizer: each layer at LAYER_DECAY of the rate of the one above; no decay of norms and biases."""
        layers = [[p for part in layer for p in part.parameters()] for layer in self.open]
        in_layers = {id(p) for layer in layers for p in layer}
        layers[:0] = [[p for p in self.module.parameters() if p.requires_grad and id(p) not in in_layers]]
        layers.append(list(self.head.parameters()))
        groups = []
        for depth, layer in enumerate(reversed(layers)):
            for decay, some in ((WEIGHT_DECAY, [p for p in layer if p.ndim > 1]), (0.0, [p for p in layer if p.ndim < 2])):
                if some:
                    groups.append({"params": some, "lr": lr * LAYER_DECAY**depth, "weight_decay": decay})
        return groups

    def trainable(self) -> dict[str, Any]:
        """The weights that learn, by their names."""
        return {name: p for name, p in self.whole.named_parameters() if p.requires_grad}

    def load(self, weights: dict[str, Any]) -> None:
        """Set the weights that learn."""
        with torch.no_grad():
            for name, p in self.trainable().items():
                p.copy_(weights[name])

    @contextmanager
    def using(self, weights: dict[str, Any]) -> Iterator[None]:
        """Use other weights within a `with` block."""
        own = copy_weights(self.trainable())
        self.load(weights)
        try:
            yield
        finally:
            self.load(own)

    def head_layer(self) -> tuple[np.ndarray, np.ndarray]:
        """The head's weight (d, k) and bias (k,), float32."""
        weight, bias = (p.detach().float().cpu().numpy().copy() for p in (self.head.weight.T, self.head.bias))
        return weight, bias

    def backbone(self) -> Backbone:
        """The network as it is now, in standard form."""
        source = self.network
        network = standard_form(to_onnx(self.module, source.preprocess.size), source.preprocess, codes="codes")
        return Backbone(
            name=f"{source.name} (fine-tuned)",
            network=network.SerializeToString(deterministic=True),
            preprocess=source.preprocess,
            widths=(source.n_codes,),
            n_parameters=n_parameters(network),
            license=source.license,
            output="codes",
        )


def copy_weights(weights: dict[str, Any]) -> dict[str, Any]:
    """A copy of weights that no step changes any more."""
    return {name: w.detach().clone() for name, w in weights.items()}


def _parts(layers: list[list[Any]]) -> list[Any]:
    return [part for layer in layers for part in layer]
