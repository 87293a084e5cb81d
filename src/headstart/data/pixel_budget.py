"""Bounds the memory of decoding: at most so many pixels in all threads of the process at once.

A PNG of half a megabyte may hold 200 megapixels, whatever the number of threads.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

MOST_PIXELS = 256_000_000  # in flight: 16 threads have 16 megapixels each; at 3 to 12 bytes a pixel 3 GB at most


class PixelBudget:
    """Bounds the pixels that threads decode at once; first come, first served, and an image above the bound goes alone."""

    def __init__(self, most: int = MOST_PIXELS) -> None:
        self._most = most
        self._is_watching = False
        self._begin()

    def _begin(self) -> None:
        self._n_in_flight = 0
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()

    def _watch_forks(self) -> None:
        """A forked process has none of this one's threads, so nothing is in flight there."""
        self._is_watching = True
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._begin)

    @contextmanager
    def of_one_image(self) -> Iterator[PixelLease]:
        """Lease pixels for one image, until it is decoded and no longer needed at its full size."""
        lease = PixelLease(self)
        try:
            yield lease
        finally:
            lease.give_back()

    def take(self, n_pixels: int) -> None:
        """Wait until so many pixels fit beside those in flight, or none are in flight."""
        if not self._is_watching:
            self._watch_forks()
        turn = object()
        with self._changed:
            self._waiting.append(turn)
            try:
                while not (self._waiting[0] is turn and self._fits(n_pixels)):
                    self._changed.wait()
                self._n_in_flight += n_pixels
            finally:
                self._waiting.remove(turn)
                self._changed.notify_all()

    def _fits(self, n_pixels: int) -> bool:
        return not self._n_in_flight or self._n_in_flight + n_pixels <= self._most

    def give_back(self, n_pixels: int) -> None:
        """Return pixels to the budget."""
        with self._changed:
            self._n_in_flight -= n_pixels
            self._changed.notify_all()


class PixelLease:
    """The pixels that one image has taken of a budget."""

    def __init__(self, budget: PixelBudget) -> None:
        self._budget, self._n_pixels = budget, 0

    def take(self, n_pixels: int) -> None:
        """Wait for the image's pixels, once: a second call changes nothing."""
        if not self._n_pixels:
            self._budget.take(n_pixels)
            self._n_pixels = n_pixels

    def give_back(self) -> None:
        """Return the image's pixels to the budget."""
        if self._n_pixels:
            self._budget.give_back(self._n_pixels)
            self._n_pixels = 0


IN_FLIGHT = PixelBudget()
