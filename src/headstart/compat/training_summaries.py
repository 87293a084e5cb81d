"""TensorBoard's files of retrain.py: `train/` and `validation/`, under the tags that its tutorials show."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from headstart.files import write_output
from headstart.report.tensorboard.events import bytes_field, double_field, doubles_field, event_file, scalar, summary

N_BINS = 30
PLACE = "final_training_ops"


class Summaries:
    """Events of one run, which are written at its end."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._events: dict[str, list[bytes]] = {"train": [], "validation": []}

    def add(
        self, split: str, step: int, accuracy: float, cross_entropy: float, weight: np.ndarray, bias: np.ndarray
    ) -> None:
        """Add what was measured after a step."""
        events = self._events[split]
        events += [scalar("accuracy_1", accuracy, step=step), scalar("cross_entropy_1", cross_entropy, step=step)]
        for name, values in (("weights", weight), ("biases", bias)):
            events += _of_values(f"{PLACE}/{name}/summaries", values.astype(np.float64).ravel(), step)

    def write(self) -> None:
        """Write the files; raises OutputError where that cannot be."""
        now = time.time()
        for split, events in self._events.items():
            if events:
                write_output(self.folder / split / f"events.out.tfevents.{int(now)}.headstart", event_file(events, now))


def _of_values(place: str, values: np.ndarray, step: int) -> Iterator[bytes]:
    yield scalar(f"{place}/mean", float(values.mean()), step=step)
    yield scalar(f"{place}/stddev_1", float(values.std()), step=step)
    yield scalar(f"{place}/max", float(values.max()), step=step)
    yield scalar(f"{place}/min", float(values.min()), step=step)
    counts, edges = np.histogram(values, bins=N_BINS)
    numbers = (values.min(), values.max(), values.size, values.sum(), values @ values)
    parts = b"".join(double_field(number, float(x)) for number, x in enumerate(numbers, start=1))
    parts += doubles_field(6, edges) + doubles_field(7, np.concatenate([[0], counts]))
    yield summary(f"{place}/histogram", bytes_field(5, parts), step=step)
