"""Files that are there whole or not at all, whoever else writes them and whenever we are killed."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from headstart.errors import OutputError


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all, whoever else writes it and whenever we are killed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".headstart-{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(content)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def write_output(path: Path, content: bytes | str) -> None:
    """Write one of the files that the user asked for; raises OutputError with the reason where it cannot be.

    Text is written as UTF-8. Names of files are bytes on Linux: those that are not UTF-8 come out as they were.
    """
    try:
        write_atomically(path, content if isinstance(content, bytes) else content.encode("utf-8", "surrogateescape"))
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}") from error
