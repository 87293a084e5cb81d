"""The head: layers (or votes of neighbours) that turn codes into logits, and logits into probabilities.

Arrays in, arrays out. Every kind of head (headstart.heads.kinds) ends as one of these, whatever it was learnt by.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headstart.numerics.losses import OUTPUTS, unit_rows

VOTE = 0.05  # of each class, beside those of the neighbours, so that no class is impossible


@dataclass(frozen=True)
class Head:
    """Probabilities from codes.

    layers: (weight (d, m) float32, bias (m,) float32) each, with a ReLU between them. widths: how many of the d codes each
    layer of the backbone has; each part is brought to length 1 first; () leaves them as they are. output: `softmax` (one
    label an image), `sigmoid` (any number of labels) or `votes`. votes: (n, k) float32, for the n images that the layer
    compares with: the weight of each in the column of its class; else None. n_neighbours: how many of those vote.
    temperature: what logits are divided by, so that probabilities mean what they say (headstart.trust.calibration).
    """

    layers: tuple[tuple[np.ndarray, np.ndarray], ...]
    widths: tuple[int, ...] = ()
    output: str = "softmax"
    votes: np.ndarray | None = None
    n_neighbours: int = 0
    temperature: float = 1.0

    @property
    def n_classes(self) -> int:
        """The number of classes."""
        return int(self.layers[-1][1].size if self.votes is None else self.votes.shape[1])

    def logits(self, codes: np.ndarray) -> np.ndarray:
        """Scores before the output: (n, d) codes of any float type to (n, k) float32."""
        x = unit_rows(codes.astype(np.float32), self.widths)
        for i, (weight, bias) in enumerate(self.layers):
            x = (np.maximum(x, 0) if i else x) @ weight + bias
        return x if self.votes is None else log_votes(x, self.votes, self.n_neighbours)

    def probabilities(self, codes: np.ndarray) -> np.ndarray:
        """(n, d) codes of any float type to (n, k) float32; rows sum to 1, but for `sigmoid`."""
        return self.output_of(self.logits(codes))

    def output_of(self, logits: np.ndarray) -> np.ndarray:
        """Probabilities (n, k) from scores, at the head's temperature."""
        return OUTPUTS[self.output](logits / np.float32(self.temperature))


def log_votes(closeness: np.ndarray, votes: np.ndarray, n_neighbours: int) -> np.ndarray:
    """The logarithm of each class's share among the nearest images; closeness: (n, m) to each of the m images with votes."""
    nearest = np.argpartition(-closeness, n_neighbours - 1, axis=1)[:, :n_neighbours]
    shares = votes[nearest].sum(axis=1) + np.float32(VOTE)
    return np.log(shares / shares.sum(axis=1, keepdims=True))
