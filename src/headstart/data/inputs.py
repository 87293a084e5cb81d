"""What `predict` is given: files, folders, patterns, and stdin with paths or a picture. Opens them up as they come."""

from __future__ import annotations

import glob
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from headstart.data.datasets import Skipped, walk
from headstart.data.formats import HEADER_BYTES, is_image


def open_up(paths: Iterable[str], empty: list[str] | None = None) -> Iterator[str | bytes]:
    """Files as they are, folders and patterns opened up, `-` as the paths or the one picture that stdin holds.

    empty: is given the folders in which there are none.
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
            found = sorted(glob.glob(path, recursive=True))
            if not found:
                yield path
            yield from open_up(found, empty)
        else:
            yield path


def _from_stdin(stdin: Any, empty: list[str] | None) -> Iterator[str | bytes]:
    if is_image(stdin.peek(HEADER_BYTES)[:HEADER_BYTES]):
        yield stdin.read()
        return
    for line in stdin:
        if path := os.fsdecode(line.rstrip(b"\r\n")):
            yield from open_up([path] if path != "-" else [], empty)


def count(paths: Sequence[str]) -> int:
    """How many images there will be, for the time left; 0 where only the end of stdin will tell."""
    return 0 if "-" in paths else sum(1 for _ in open_up(paths))
