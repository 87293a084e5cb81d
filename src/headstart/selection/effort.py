"""Effort: how much a training tries, a row of EFFORTS each; counted in work and never in seconds.

The rows were chosen by leaving whole data sets out (benchmarks/accuracy.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from headstart.backbones.backbone import Backbone
from headstart.codes.representation import Representation


@dataclass(frozen=True)
class Effort:
    """How photos are represented, and what else is tried.

    is_mirrored: the codes of a photo and its mirror image are averaged. is_deep: the mean of heads on one, two and all
    layers. has_all_backbones: of the built-in backbones all that are installed, and the mean of their heads. tries_heads:
    class means for few photos, a hidden layer for many. about: for people.
    """

    name: str
    is_mirrored: bool
    is_deep: bool
    has_all_backbones: bool
    tries_heads: bool
    about: str

    def representation(self, backbones: Sequence[Backbone]) -> Representation:
        """How photos are represented by backbones with this effort."""
        n_layers = max(len(backbone.widths) for backbone in backbones) if self.is_deep else 1
        is_mirrored = self.is_mirrored and all(backbone.can_mirror for backbone in backbones)
        return Representation(tuple(backbones), n_layers, is_mirrored)


EFFORTS = {
    row.name: row
    for row in (
        Effort("quick", False, False, False, False, "the whole photo, one head on the last layer's codes"),
        Effort(
            "normal",
            True,
            True,
            False,
            True,
            "the whole photo and its mirror image, the mean of heads on one, two and all layers",
        ),
        Effort("thorough", True, True, True, True, "the same of every built-in backbone that is installed"),
    )
}
DEFAULT = "normal"
