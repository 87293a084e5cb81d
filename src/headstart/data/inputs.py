"""Lists the images that `predict` is given: files, folders, patterns, and paths or one picture on stdin."""

from __future__ import annotations

import glob
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from headstart.data.datasets import Skipped, walk
from headstart.data.formats import HEADER_BYTES, is_image


def list_inputs(paths: Iterable[str], empty: list[str] | None = None) -> Iterator[str | bytes]:
    """Yield the images of paths: files, those in folders, those that match patterns, and, for `-`, those of stdin.

    Stdin holds a path a line, or one picture, which is given as bytes. empty: a list that gets the folders without files.
    """
    for path in paths:
        if path == "-":
            # Not sys.stdin: Python crashes at exit where Ctrl-C finds a thread of ours waiting for that.
            yield from _from_stdin(open(0, "rb", closefd=False), empty)
        elif os.path.isdir(path):
            unreadable: list[Skipped] = []
            file = None
            for file in itertools.chain(walk(path, unreadable), (skipped.path for skipped in unreadable)):
                yield file
            if file is None and empty is not None:
                empty.append(path)
        elif not os.path.exists(path) and glob.has_magic(path):
            matches = sorted(glob.glob(path, recursive=True))
            if not matches:
                yield path
            yield from list_inputs(matches, empty)
        else:
            yield path


def _from_stdin(stdin: Any, empty: list[str] | None) -> Iterator[str | bytes]:
    if is_image(stdin.peek(HEADER_BYTES)[:HEADER_BYTES]):
        yield stdin.read()
        return
    for line in stdin:
        if path := os.fsdecode(line.rstrip(b"\r\n")):
            yield from list_inputs([path] if path != "-" else [], empty)


def count_inputs(paths: Sequence[str]) -> int:
    """Count the images, for a progress bar; 0 where stdin is among the paths, whose number only its end tells."""
    return 0 if "-" in paths else sum(1 for _ in list_inputs(paths))
