"""An exported file that was opened again, as a function from pixels to outputs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from headstart.data.decoding import Failure, decode
from headstart.export.original import JudgingPhotos, Original, Outputs, stacked
from headstart.progress import Progress

N_TIMED = 20  # photos


@dataclass(frozen=True)
class Exported:
    """What runs an exported file. infer: from one image to each output, a row. runner: what runs it, for people.

    takes_any_size: it is given the photo as it was decoded, (height, width, 3), not the square that backbones see. close:
    ends what was started for it.
    """

    infer: Callable[[np.ndarray], Outputs]
    runner: str
    takes_any_size: bool = False
    close: Callable[[], None] = lambda: None

    def answers(self, original: Original, photos: JudgingPhotos, progress: Progress) -> tuple[dict[str, np.ndarray], float]:
        """The outputs for each photo, from the file's bytes, and the median of milliseconds that a photo took to infer."""
        rows, seconds = [], []
        for i, content in enumerate(photos.contents):
            pixels = decode(content) if self.takes_any_size else original.pixels(content)
            assert not isinstance(pixels, Failure)
            start = time.perf_counter()
            rows.append(self.infer(pixels))
            seconds.append(time.perf_counter() - start)
            progress("compare", i + 1, len(photos.contents))
        return stacked(rows), 1000 * float(np.median(seconds[-N_TIMED:]))
