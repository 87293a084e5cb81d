"""The ImageNet classifier, which needs no training: a Lite backbone with the last layer of its own weights."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from headstart.backbones.builtin import BACKBONES, DEFAULT, lite_weights
from headstart.backbones.efficientnet_lite import imagenet_layer
from headstart.backbones.find import BackboneSpec, find_backbone
from headstart.cache_folder import default_cache_dir
from headstart.classifier.classifier import Classifier
from headstart.engines.hardware import Hardware
from headstart.errors import BackboneError
from headstart.heads.head import Head


def imagenet_classes() -> tuple[str, ...]:
    """The 1,000 names of ImageNet's classes, in the order of every ImageNet network (list from torchvision, BSD-3)."""
    return tuple(files("headstart.classifier").joinpath("imagenet_classes.txt").read_text(encoding="utf-8").splitlines())


def imagenet_classifier(
    backbone: str = DEFAULT, *, cache_dir: Path | None = None, hardware: Hardware | None = None
) -> Classifier:
    """Make the classifier of ImageNet's 1,000 classes, as any other Classifier; needs no photos and no network."""
    if backbone not in BACKBONES:
        raise BackboneError(f"{backbone!r} has no ImageNet layer; those that have: {', '.join(BACKBONES)}")
    network = find_backbone(BackboneSpec(backbone), Path(cache_dir) if cache_dir else default_cache_dir())
    head = Head((imagenet_layer(lite_weights(BACKBONES[backbone])),))
    return Classifier.build(network, head, imagenet_classes(), {"head": {"kind": "imagenet"}}, hardware or Hardware())
