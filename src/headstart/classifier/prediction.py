"""A Prediction: the classifier's answer for one image, or the reason why there is none."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Prediction:
    """The answer for one image, or the reason why there is none.

    status: `ok`, else one of decoding.FAILURES, with the reason. prediction: of a classifier with several labels an
    image, all that apply, with | between them, perhaps none; probability is the highest in any case. top: the likeliest
    classes with their probabilities, highest first. unfamiliarity: 0.5 for a typical photo, above 1 where it looks like
    nothing in the training images, which is then what `unfamiliar` says; None of a classifier that cannot tell. set: with a
    coverage asked for, the classes that hold the right one so often, likeliest first.
    """

    path: str
    status: str
    reason: str | None = None
    prediction: str | None = None
    probability: float | None = None
    top: tuple[tuple[str, float], ...] = ()
    unfamiliar: bool | None = None
    unfamiliarity: float | None = None
    set: tuple[str, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """The row that every output format shares."""
        members = None if self.set is None else list(self.set)
        return {**asdict(self), "top": [list(pair) for pair in self.top], "set": members}
