"""A head: probabilities from codes, and what is asked of them: how wrong, how often right. Arrays in, arrays out.

It decides how scores become probabilities, and what every way of learning a head (headstart.heads.kinds) is measured by.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headstart.numerics.losses import OUTPUTS, unit_rows

VOTE = 0.05  # what each class has in votes before any neighbour is asked, so that none is impossible


@dataclass(frozen=True)
class Head:
    """Probabilities from codes.

    layers: (weight (d, m) float32, bias (m,) float32) each, with a ReLU between them. widths: how the d numbers divide into
    the codes of single layers of the backbone, each of which is brought to length 1 first; () leaves them as they are.
    output: `softmax` (one label an image), `sigmoid` (any number of labels) or `votes`. votes: (n, k) float32, how much
    each of the n images that the layer compares with counts, in the column of its class, and n_neighbours, how many of them
    are asked; else None.
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
        """How many probabilities it gives."""
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
    """The logarithm of the share of the nearest images that has each class."""
    nearest = np.argpartition(-closeness, n_neighbours - 1, axis=1)[:, :n_neighbours]
    shares = votes[nearest].sum(axis=1) + np.float32(VOTE)
    return np.log(shares / shares.sum(axis=1, keepdims=True))
