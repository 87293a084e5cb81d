"""Names of backbones in old TensorFlow tutorials, and the backbone that each stands for here.

Takes a name out of retrain.py, Model Maker or make_image_classifier; gives the name of the backbone that it means. It
decides what counts as the same network: one of another width or kind does not, and is only named as the nearest.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from headstart.errors import BackboneError


class Alias(NamedTuple):
    """A name in an old tutorial.

    stands_for: the backbone that it means here; None where there is no equivalent, only something near.
    """

    name: str
    stands_for: str | None
    tutorial: str
    about: str
    nearest: str = ""


_RETRAIN, _MAKER = "retrain.py --architecture", "TensorFlow Lite Model Maker, make_image_classifier"
_SAME, _RETRAINED = "the same network and weights", "the same network, with weights that timm trained"
_HALF_WIDTH = "timm:mobilenetv2_050.lamb_in1k"

ALIASES = {
    alias.name: alias
    for alias in (
        Alias(
            "inception_v3", "timm:inception_v3.tf_in1k", _RETRAIN, "the same network, with the weights of TensorFlow's slim"
        ),
        Alias("mobilenet_1.0_224", "timm:mobilenetv1_100.ra4_e3600_r224_in1k", _RETRAIN, _RETRAINED),
        Alias("mobilenet_0.75_224", None, _RETRAIN, "MobileNetV1 at 0.75 of its width", "efficientnet-lite0"),
        Alias("mobilenet_0.50_224", None, _RETRAIN, "MobileNetV1 at half its width", _HALF_WIDTH),
        Alias("mobilenet_0.25_224", None, _RETRAIN, "MobileNetV1 at a quarter of its width", _HALF_WIDTH),
        Alias("mobilenet_v2", "timm:mobilenetv2_100.ra_in1k", _MAKER, _RETRAINED),
        Alias("resnet_50", "timm:resnet50.a1_in1k", _MAKER, _RETRAINED),
        *(Alias(f"efficientnet_lite{n}", f"efficientnet-lite{n}", _MAKER, _SAME) for n in (0, 1, 2)),
        *(Alias(f"efficientnet_lite{n}", f"timm:tf_efficientnet_lite{n}.in1k", _MAKER, _SAME) for n in (3, 4)),
    )
}
OTHER_MOBILENETS = re.compile(r"(mobilenet_(?:1\.0|0\.75|0\.50|0\.25)_)(?:(?:192|160|128)(?:_quantized)?|224_quantized)")


def resolve_alias(name: str) -> str | None:
    """Give the backbone that a tutorial's name stands for; None for any other name.

    Raises BackboneError for a tutorial's name that has no equivalent here, with the nearest.
    """
    other = OTHER_MOBILENETS.fullmatch(name)  # retrain.py had each at four sizes, quantised or not
    alias = ALIASES.get(f"{other[1]}224" if other else name)
    if alias is None or (alias.stands_for and not other):
        return alias and alias.stands_for
    raise BackboneError(
        f"{name} ({alias.tutorial}) has no equivalent that headstart could fetch; the nearest is "
        f"{alias.nearest or alias.name}. If you have its .pb or .tflite file: headstart backbones import FILE"
    )
