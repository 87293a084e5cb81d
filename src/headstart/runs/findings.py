"""Reads and writes findings.npz: labels, splits, held-out probabilities, codes and map positions of a run's photos.

Report, map, plots and TensorBoard are drawn from these arrays, without the photos. No pickle is ever read.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

import numpy as np

from headstart.data.labels import are_many
from headstart.data.splits import SPLITS, TEST
from headstart.errors import DataError
from headstart.files import write_output
from headstart.safety.npz_arrays import DAMAGE, Expected, read_arrays
from headstart.selection.cross_validation import cross_fitted_thresholds

FILE_NAME = "findings.npz"
TEXT = "names"
MAX_FLOAT32 = 5_000_000  # probabilities that are stored in 32 bits; more, as of 1,000 classes, in 16
LONGEST_NAME = 32_767  # characters of a path, the most that any system takes
MAX_CODE, MAX_POSITION = 100.0, 1e6  # of codes of length 1 and their axes; of positions on the map and unfamiliarity
ARRAYS: dict[str, tuple[Expected, ...]] = {
    "digests": (("u", ("n", 32)),),
    "names": (("u", ("bytes",)),),
    "labels": (("iu", ("n",)), ("iu", ("n", "k"))),
    "splits": (("iu", ("n",)),),
    "groups": (("iu", ("n",)),),
    "held_out": (("iu", ("m",)),),
    "probabilities": (("f", ("m", "k")),),
    "unfamiliarity": (("f", ("n",)),),
    "space": (("f", ("n", "e")),),
    "space_mean": (("f", ("d",)),),
    "space_axes": (("f", ("d", "e")),),
    "positions": (("f", ("n", 2)),),
}
TYPES = {
    **dict.fromkeys(("labels", "groups", "held_out"), np.int64),
    **dict.fromkeys(("probabilities", "unfamiliarity", "space_mean", "space_axes", "positions"), np.float32),
    "splits": np.int8,
    "digests": np.uint8,
    "space": np.float16,
}


@dataclass(frozen=True)
class Outcomes:
    """The predictions for m held-out photos, and whether they are right.

    labels, predictions: (m,) int64, or (m, k) bool. is_right: (m,) bool. confidence: (m,) float32, the probability of the
    prediction; with several labels, of the decision that was wrong by most, where one was wrong.
    """

    labels: np.ndarray
    predictions: np.ndarray
    is_right: np.ndarray
    confidence: np.ndarray


@dataclass(frozen=True)
class Findings:
    """The arrays of findings.npz about the n photos of a run.

    names: (n,) str, as in predictions.csv. labels: (n,) int64, positions of classes, or (n, k) uint8 of 0 and 1. splits:
    (n,) int8, positions in splits.SPLITS. digests: (n, 32) uint8, each photo's sha256. groups: (n,) int64, the same number
    for copies of a photo. held_out: (m,) int64, ascending: the rows that were predicted by a fit that had not seen them.
    probabilities: (m, k) float32, of those predictions, calibrated. unfamiliarity: (n,) float32, above 1 where a photo
    counts as unfamiliar, NaN where it was not held out. space: (n, e) float16, codes of the last layer, of length 1, along
    their e first principal axes: (codes - space_mean) @ space_axes, with space_mean (d,) and space_axes (d, e) float32.
    positions: (n, 2) float32 on the map, NaN where a photo is not on it.
    """

    names: tuple[str, ...]
    labels: np.ndarray
    splits: np.ndarray
    digests: np.ndarray
    groups: np.ndarray
    held_out: np.ndarray
    probabilities: np.ndarray
    unfamiliarity: np.ndarray
    space: np.ndarray
    space_mean: np.ndarray
    space_axes: np.ndarray
    positions: np.ndarray

    def outcomes(self, thresholds: Sequence[float] | None = None) -> Outcomes:
        """Compare the prediction for each held-out photo with its label.

        thresholds: of several labels a photo, else 0.5. Photos that chose the thresholds, all but those of the test split,
        are judged by thresholds that they had no part in.
        """
        labels, p = self.labels[self.held_out], self.probabilities
        if not are_many(self.labels):
            predictions = p.argmax(axis=1) if len(p) else np.zeros(0, np.int64)
            return Outcomes(labels, predictions, predictions == labels, p[np.arange(len(p)), predictions])
        applies = p >= (self._thresholds_of_each(np.array(thresholds, np.float32)) if thresholds else np.float32(0.5))
        is_wrong = applies != (labels > 0)
        worst = np.where(is_wrong, np.where(applies, p, 1 - p), 0).max(axis=1, initial=0)
        is_right = ~is_wrong.any(axis=1)
        return Outcomes(labels > 0, applies, is_right, np.where(is_right, p.max(axis=1, initial=0), worst))

    def _thresholds_of_each(self, thresholds: np.ndarray) -> np.ndarray:
        """Give the thresholds that judge each held-out photo, (m, k)."""
        is_test = self.splits[self.held_out] == TEST
        return np.where(is_test[:, None], thresholds, self._cross_fitted_thresholds)

    @cached_property
    def _cross_fitted_thresholds(self) -> np.ndarray:
        """Thresholds for all but the test split's photos, (m, k): those of a fifth were chosen by the other four fifths."""
        thresholds = np.full(self.probabilities.shape, 0.5, np.float32)
        others = np.flatnonzero(self.splits[self.held_out] != TEST)
        thresholds[others] = cross_fitted_thresholds(
            self.probabilities[others], self.labels[self.held_out[others]], self.groups[self.held_out[others]].tolist()
        )
        return thresholds

    def mistakes(self, thresholds: Sequence[float] | None = None) -> np.ndarray:
        """Give the rows of held-out photos that were predicted wrongly, the most confident first: (w,) int64."""
        outcomes = self.outcomes(thresholds)
        wrong = np.flatnonzero(~outcomes.is_right)
        return self.held_out[wrong[np.argsort(-outcomes.confidence[wrong], kind="stable")]]

    def nearest(self, row: int, n: int) -> tuple[int, ...]:
        """Find the rows of the n photos most similar to one, none of the test split and no copy of itself."""
        others = np.flatnonzero((self.splits != TEST) & (self.digests != self.digests[row]).any(axis=1))
        return self.nearest_to(self.space[row], n, others)

    def nearest_to(self, place: np.ndarray, n: int, among: np.ndarray) -> tuple[int, ...]:
        """Find the n rows, among some, that lie nearest to a place (e,) in space, the nearest first."""
        difference = self.space[among].astype(np.float32) - place.astype(np.float32)
        return tuple(among[np.argsort(np.einsum("ne,ne->n", difference, difference), kind="stable")[:n]].tolist())

    def save(self, folder: Path) -> None:
        """Write findings.npz into a run folder, whole or not at all; raises OutputError where it cannot be written."""
        arrays = {f.name: getattr(self, f.name) for f in fields(self) if f.name != TEXT}
        if self.probabilities.size > MAX_FLOAT32:
            arrays["probabilities"] = self.probabilities.astype(np.float16)
        content = io.BytesIO()
        np.savez_compressed(content, names=_names_as_bytes(self.names), **arrays)  # type: ignore[arg-type]
        write_output(folder / FILE_NAME, content.getvalue())

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Findings:
        """Read findings.npz of a run folder; raises DataError where there is none, or where it is damaged."""
        path = Path(folder) / FILE_NAME
        try:
            arrays = read_arrays(path.read_bytes(), ARRAYS)
            _check_values(arrays)
            names = arrays[TEXT].tobytes().decode("utf-8", "surrogateescape").split("\0")[:-1]
            if len(names) != len(arrays["labels"]) or max(map(len, names), default=0) > LONGEST_NAME:
                raise ValueError(f"it has {len(names):,} names of {len(arrays['labels']):,} photos, or one is too long")
        except FileNotFoundError:
            raise DataError(
                f"{folder} holds no {FILE_NAME}: it is no run folder, or one of an earlier release; train again"
            ) from None
        except DAMAGE as error:
            raise DataError(
                f"{path} is not whole, or not headstart's ({error or type(error).__name__}); train again"
            ) from error
        many = {"labels": np.uint8} if are_many(arrays["labels"]) else {}
        of_type = {name: arrays[name].astype(kind) for name, kind in {**TYPES, **many}.items()}
        return cls(tuple(names), **of_type)


def _check_values(arrays: dict[str, np.ndarray]) -> None:
    """Raise ValueError for a number out of range: a class, a split or a row that does not exist, say."""
    labels, n = arrays["labels"], len(arrays["labels"])
    _check_range("labels", labels, 0, 1 if are_many(labels) else np.inf)  # how many classes there are run.json says
    _check_range("splits", arrays["splits"], 0, len(SPLITS) - 1)
    _check_range("digests", arrays["digests"], 0, 255)
    for name in ("groups", "held_out"):
        _check_range(name, arrays[name], 0, n - 1)
    if (np.diff(arrays["held_out"].astype(np.int64)) <= 0).any():
        raise ValueError("held_out does not ascend")
    _check_range("probabilities", arrays["probabilities"], -1e-3, 1.001)
    for name in ("space", "space_mean", "space_axes"):
        _check_range(name, arrays[name], -MAX_CODE, MAX_CODE)
    for name in ("unfamiliarity", "positions"):
        _check_range(name, arrays[name][~np.isnan(arrays[name])], -MAX_POSITION, MAX_POSITION)


def _check_range(name: str, values: np.ndarray, low: float, high: float) -> None:
    if not ((values >= low) & (values <= high)).all():
        raise ValueError(f"{name} holds {values[~((values >= low) & (values <= high))][0]}; expected {low:g} to {high:g}")


def _names_as_bytes(names: Sequence[str]) -> np.ndarray:
    """Encode names, each ended by NUL: a file's name has none, but may have bytes that are not UTF-8."""
    return np.frombuffer("".join(f"{name}\0" for name in names).encode("utf-8", "surrogateescape"), np.uint8)
