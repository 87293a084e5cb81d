"""What the map is drawn from."""

import cv2
import numpy as np

from headstart.runs.findings import Findings

HOSTILE_NAMES = [
    "</script><script>alert(1)</script>",
    'it\'s "quoted".jpg',
    "🌼 daisy.jpg",
    "وردة.jpg",
    "bad \udcff byte.jpg",
    "a,b\n.jpg",
]


def jpeg_of_colour(colour, side=40):
    return cv2.imencode(".jpg", np.full((side, side, 3), colour, np.uint8))[1].tobytes()


def findings_of(names, labels, *, positions=None, probabilities=None, held_out=None):
    n = len(names)
    rng = np.random.default_rng(0)
    held_out = np.arange(n) if held_out is None else np.asarray(held_out)
    k = labels.shape[1] if labels.ndim == 2 else int(labels.max(initial=0)) + 1
    return Findings(
        names=tuple(names),
        labels=labels,
        splits=np.arange(n).astype(np.int8) % 3,
        digests=np.zeros((n, 32), np.uint8),
        groups=np.arange(n),
        held_out=held_out,
        probabilities=np.full((len(held_out), k), 1 / max(1, k), np.float32) if probabilities is None else probabilities,
        unfamiliarity=np.zeros(n, np.float32),
        space=np.zeros((n, 4), np.float16),
        space_mean=np.zeros(8, np.float32),
        space_axes=np.zeros((8, 4), np.float32),
        positions=rng.normal(size=(n, 2)).astype(np.float32) if positions is None else positions,
    )
