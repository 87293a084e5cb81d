"""Maps a function over items in many threads, and yields the results in the order of the items."""

from __future__ import annotations

import itertools
import os
import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from headstart.errors import HeadstartError

T = TypeVar("T")
Outputs = dict[str, np.ndarray]
SPAWN = "start processes with multiprocessing's method spawn"
WINDOW = 32  # images a worker that may be taken ahead of the reader


@dataclass(frozen=True, slots=True)
class Result(Generic[T]):
    """The result for one item: the network's outputs for it, or what `load` returned instead of pixels."""

    index: int
    item: T
    outputs: Outputs | None
    instead: Any = None


def is_pixels(value: Any) -> bool:
    """Whether what `load` returned is to be inferred."""
    return isinstance(value, np.ndarray) and value.dtype == np.uint8


def stack_outputs(rows: Sequence[Outputs]) -> Outputs:
    """Stack the outputs for several images, (d,) each, to (v, d)."""
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def numbered_chunks(items: Iterable[T], n: int) -> Iterator[list[tuple[int, T]]]:
    """Split items into chunks of n, each item with its number."""
    numbered = enumerate(items)
    while chunk := list(itertools.islice(numbered, n)):
        yield chunk


def in_order(
    items: Iterable[T], work: Callable[[int, T], Result[Any]], *, workers: int, ahead: int = WINDOW
) -> Generator[Result[Any], None, None]:
    """Map `work` over items in threads, yielding in order; at most `ahead` items a worker are taken before the reader.

    A slow item holds back what is yielded, not what is worked on, until the window is full. An exception in `work` or in
    `items` ends the stream and is raised here; closing the generator stops the workers.
    """
    source = enumerate(items)
    taking, room = threading.Lock(), threading.Semaphore(ahead * workers)
    done: queue.SimpleQueue[Result[Any] | BaseException | None] = queue.SimpleQueue()
    stopped = threading.Event()

    def run() -> None:
        try:
            while not stopped.is_set():
                room.acquire()
                with taking:
                    index, item = next(source, (-1, None)) if not stopped.is_set() else (-1, None)
                if index < 0:
                    room.release()
                    break
                done.put(work(index, item))  # type: ignore[arg-type]
        except BaseException as error:  # noqa: BLE001  raised again by the reader
            done.put(error)
        done.put(None)

    started = []
    try:
        for i in range(workers):
            thread = threading.Thread(target=run, name=f"headstart-{i}", daemon=True)
            thread.start()
            started.append(thread)
        yield from _in_item_order(done, room, workers)
    finally:
        stopped.set()
        room.release(workers)
        # Once we hold `taking`, no worker takes another item. A worker that holds it for a second waits for an item, maybe
        # for ever (nobody types at the terminal that the items come from); nobody waits for it, and it ends with that item.
        if taking.acquire(timeout=1):
            taking.release()
            for thread in started:
                thread.join()


def _in_item_order(done: queue.SimpleQueue[Any], room: threading.Semaphore, workers: int) -> Iterator[Any]:
    waiting: dict[int, Any] = {}
    next_index, process = 0, os.getpid()
    while workers:
        if os.getpid() != process:
            raise HeadstartError(f"a stream of predictions ends with the process that began it; here it was forked: {SPAWN}")
        result = done.get()
        if isinstance(result, BaseException):
            raise result
        if result is None:
            workers -= 1
            continue
        waiting[result.index] = result
        while next_index in waiting:
            yield waiting.pop(next_index)
            room.release()
            next_index += 1
