"""Effort: how much a training tries, a row of EFFORTS each; counted in work and never in seconds.

The rows were chosen by leaving whole data sets out (benchmarks/accuracy.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from headstart.backbones.backbone import FEW, MORE, WHOLE, Backbone
from headstart.codes.representation import Representation


@dataclass(frozen=True)
class Effort:
    """How photos are represented, and what else is tried.

    mirrored: how photos are taken (FEW, WHOLE, MORE) whose codes are averaged with those of their mirror images. is_deep:
    whether heads on one, two and all layers are averaged. has_all_backbones: whether those of all built-in backbones that
    are installed are. tries_heads: class means for few photos, a hidden layer for many. about: for people.
    """

    name: str
    mirrored: tuple[str, ...]
    is_deep: bool
    has_all_backbones: bool
    tries_heads: bool
    about: str

    def representation(self, backbones: Sequence[Backbone], pixels: str = MORE) -> Representation:
        """How photos are represented by backbones with this effort; pixels: how they are taken (see mirrored)."""
        n_layers = max(len(backbone.widths) for backbone in backbones) if self.is_deep else 1
        is_mirrored = pixels in self.mirrored and all(backbone.can_mirror for backbone in backbones)
        return Representation(tuple(backbones), n_layers, is_mirrored)


EFFORTS = {
    row.name: row
    for row in (
        Effort("quick", (), False, False, False, "the whole photo, one head on the last layer's codes"),
        # Mirror images of larger photos cost as much again and gained next to nothing; of small ones a few in a hundred.
        Effort(
            "normal",
            (FEW, WHOLE),
            True,
            False,
            True,
            "the whole photo, a small one mirrored too; the mean of heads on three depths",
        ),
        Effort(
            "thorough",
            (FEW, WHOLE, MORE),
            True,
            True,
            True,
            "the same, mirrored, of every built-in backbone that is installed",
        ),
    )
}
DEFAULT = "normal"
