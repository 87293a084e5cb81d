"""What `predict` is given: files, folders, patterns, and stdin with paths or a picture. Opens them up as they come."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from headstart.datasets import Skipped, walk
from headstart.images import HEADER_BYTES, is_image


def open_up(paths: Iterable[str]) -> Iterator[str | bytes]:
    """Files as they are, folders and patterns opened up, `-` as the paths or the one picture that stdin holds."""
    for path in paths:
        if path == "-":
            # Not sys.stdin: Python crashes at exit where Ctrl-C finds a thread of ours waiting for that.
            yield from _from_stdin(open(0, "rb", closefd=False))
        elif os.path.isdir(path):
            unreadable: list[Skipped] = []
            yield from walk(path, unreadable)
            yield from (skipped.path for skipped in unreadable)
        elif not os.path.exists(path) and glob.has_magic(path):
            found = sorted(glob.glob(path, recursive=True))
            if not found:
                yield path
            yield from open_up(found)
        else:
            yield path


def _from_stdin(stdin: Any) -> Iterator[str | bytes]:
    if is_image(stdin.peek(HEADER_BYTES)[:HEADER_BYTES]):
        yield stdin.read()
        return
    for line in stdin:
        if path := os.fsdecode(line.rstrip(b"\r\n")):
            yield from open_up([path] if path != "-" else [])


def count(paths: Sequence[str]) -> int:
    """How many images there will be, for the time left; 0 where only the end of stdin will tell."""
    return 0 if "-" in paths else sum(1 for _ in open_up(paths))
