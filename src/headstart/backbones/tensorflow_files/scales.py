"""How TensorFlow's networks want their pixels scaled: to [0, 1], to [-1, 1], by ImageNet's mean, or not at all."""

from __future__ import annotations

from typing import Any

# What the pixels are that a network was made for: mean and std in units of [0, 1].
SCALES = {
    "[0, 1]": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "[-1, 1]": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "pixels": ((0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255)),
    "ImageNet's": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "ImageNet's mean": ((123.68 / 255, 116.779 / 255, 103.939 / 255), (1 / 255, 1 / 255, 1 / 255)),
}

# How Keras' applications want their pixels, by the beginning of the model's name: keras.applications.*.preprocess_input.
KERAS_SCALES = {
    "mobilenetv3": "pixels",
    "efficientnet": "pixels",
    "convnext": "pixels",
    "densenet": "ImageNet's",
    "vgg": "ImageNet's mean",
    "resnet50v2": "[-1, 1]",
    "resnet101v2": "[-1, 1]",
    "resnet152v2": "[-1, 1]",
    "resnet": "ImageNet's mean",
}
RESCALING = ("Rescaling", "Normalization", "TrueDivide", "Divide", "Subtract", "Multiply")


def keras_scale(model: Any) -> tuple[str, str]:
    """Tell how a Keras model wants its pixels, and why: unscaled if it scales them itself, else as its application does."""
    first = [layer for layer in model.layers[:5] if not hasattr(layer, "layers")]
    if any(type(layer).__name__ in RESCALING for layer in first):
        return "pixels", "for it scales them itself"
    names = [model.name, *(layer.name for layer in model.layers if hasattr(layer, "layers"))]
    for name in names:
        for beginning, scale in KERAS_SCALES.items():
            if name.lower().replace("_", "").startswith(beginning):
                return scale, f"as Keras' {name} takes them"
    return "[-1, 1]", "as most of Keras' applications take them"
