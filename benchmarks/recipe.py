"""The tutorials' recipe in NumPy: MobileNetV2's features of the whole photo, dropout, a dense softmax layer, Adam.

As in Keras' "Transfer learning and fine-tuning" and TF-Hub's make_image_classifier with the backbone frozen: photos are
squashed to the network's square (bilinear, no crop), x / 127.5 - 1, dropout 0.2, Adam at 1e-3, batches of 32, 20 epochs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from headstart.backbones.find import BackboneSpec, find_backbone
from headstart.data.decoding import decode, read_bytes
from headstart.data.tables import ImageRef, TableImage
from headstart.engines.hardware import Hardware
from headstart.engines.openvino_engine import OpenVINOEngine
from headstart.heads.head import Head
from headstart.numerics.losses import softmax

RATE, BETA1, BETA2, EPSILON = 1e-3, 0.9, 0.999, 1e-7  # Keras' Adam
EPOCHS, BATCH, DROPOUT = 20, 32, 0.2


def recipe_codes(images: Sequence[ImageRef], network: Path) -> np.ndarray:
    """Give MobileNetV2's (n, 1280) features in f32; x / 127.5 - 1 is headstart's own default for an ONNX file."""
    backbone = find_backbone(BackboneSpec(str(network)), Path())

    def load(_: int, image: Any) -> np.ndarray:
        pixels = decode(image.read() if isinstance(image, TableImage) else read_bytes(image))
        return cv2.resize(pixels, (backbone.preprocess.size,) * 2, interpolation=cv2.INTER_LINEAR)

    engine = OpenVINOEngine(backbone.network, Hardware(precision="f32"))
    return np.stack([result.outputs["codes"] for result in engine.stream(images, load)])


def recipe_head(codes: np.ndarray, labels: np.ndarray, k: int, seed: int) -> Head:
    """Learn the dense layer with dropout and Adam (Kingma & Ba 2015, in the form that Keras has)."""
    random = np.random.default_rng(seed)
    n, d = codes.shape
    limit = math.sqrt(6 / (d + k))  # Glorot & Bengio 2010
    layer = np.vstack([random.uniform(-limit, limit, (d, k)), np.zeros((1, k))]).astype(np.float32)  # the bias is last
    first, second, step = np.zeros_like(layer), np.zeros_like(layer), 0
    for _ in range(EPOCHS):
        order = random.permutation(n)
        for batch in (order[start : start + BATCH] for start in range(0, n, BATCH)):
            kept = random.random((len(batch), d), np.float32) >= DROPOUT
            x = codes[batch] * kept / np.float32(1 - DROPOUT)
            error = softmax(x @ layer[:-1] + layer[-1])
            error[np.arange(len(batch)), labels[batch]] -= 1
            gradient = np.vstack([x.T @ error, error.sum(axis=0, keepdims=True)]) / len(batch)
            step += 1
            first += (1 - BETA1) * (gradient - first)
            second += (1 - BETA2) * (gradient**2 - second)
            rate = RATE * math.sqrt(1 - BETA2**step) / (1 - BETA1**step)
            layer -= rate * first / (np.sqrt(second) + EPSILON)
    return Head(((layer[:-1], layer[-1]),))
