"""How `headstart train` represents photos by default, for the benchmarks of what is built on that."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from headstart.backbones.backbone import MORE
from headstart.backbones.find import BackboneSpec, find_backbone, wider_backbone
from headstart.codes.representation import Representation, pixels_for
from headstart.data.tables import ImageRef
from headstart.selection.effort import DEFAULT, EFFORTS


def default_representation(cache: Path, images: Sequence[ImageRef] | None = None) -> Representation:
    """The default effort's; images: decide its pixels, as in a training; without them it is that of larger photos."""
    spec = BackboneSpec()
    usual = find_backbone(spec, cache)
    pixels = MORE if images is None else pixels_for(images, usual.preprocess.size)
    return EFFORTS[DEFAULT].representation((wider_backbone(usual, spec, cache, pixels) or usual,), pixels)
