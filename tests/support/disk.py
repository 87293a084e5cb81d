"""A disk that is full."""

import contextlib
import os


def fill(path, keep=0):
    """Write a file until the disk is full, but for some bytes."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"x" * 4096):
            pass
    os.truncate(path, max(0, path.stat().st_size - keep))
