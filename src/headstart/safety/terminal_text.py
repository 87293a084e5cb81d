"""Text for terminals: replaces escape sequences, control characters and bidirectional overrides, whatever prints them.

Names of files, folders and classes are strangers' text, and stand in results, notes and error messages: they could move the
cursor, colour the screen or turn words round. So everything that a command prints passes here. It decides what is harmless.
"""

from __future__ import annotations

import contextlib
import logging
import re
import sys
from collections.abc import Iterator
from typing import IO, Any

from headstart.files import writing

# Control characters but for a line's end and a tab (C0, DEL, C1 with its one-byte escapes), what ends a line or a paragraph
# in Unicode, and what changes the direction of text ("Trojan Source", Boucher & Anderson 2021).
HARMFUL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")

STDOUT, STDERR = "the standard output", "the standard error output"  # in messages


def harmless(text: str) -> str:
    """Replace each character that would do something to a terminal by a question mark."""
    return HARMFUL.sub("?", text)


def harmless_line(text: object) -> str:
    """Make a text harmless, in one line: a name with a line's end in it cannot look like a message of its own."""
    return harmless(str(text)).replace("\n", "?")


def printable(text: str) -> str:
    """Replace what cannot be printed, for a name in a table's column: nothing is wider or narrower than it looks."""
    return "".join(c if c.isprintable() else "?" for c in text)


class HarmlessStream:
    """A stream of text to which nothing harmful is written; it is the stream itself in everything else.

    what: how an OutputError calls it where it cannot be written.
    """

    def __init__(self, stream: IO[str], what: str = "the output") -> None:
        self.stream, self.what = stream, what

    def write(self, text: str) -> int:
        """Write what of a text is harmless, and a question mark for what is not."""
        with writing(self.what):
            return self.stream.write(harmless(text))

    def writelines(self, lines: Iterator[str]) -> None:
        """Write some lines."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


class HarmlessBytes:
    """A stream of UTF-8 bytes to which nothing harmful is written, for whole rows that are printed to a terminal."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream = stream

    def write(self, content: bytes) -> int:
        """Write what of a row is harmless, and a question mark for what is not."""
        return self.stream.write(harmless(bytes(content).decode("utf-8", "replace")).encode())

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


class HarmlessFormatter(logging.Formatter):
    """Formats the log's messages, which stand in no stream of ours."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record."""
        return harmless(super().format(record))


@contextlib.contextmanager
def harmless_streams() -> Iterator[None]:
    """Let nothing harmful be printed meanwhile, by whomever."""
    with (
        contextlib.redirect_stdout(HarmlessStream(sys.stdout, STDOUT)),  # type: ignore[type-var]
        contextlib.redirect_stderr(HarmlessStream(sys.stderr, STDERR)),  # type: ignore[type-var]
    ):
        yield


def raw_stream(stream: Any) -> Any:
    """Give the stream behind a harmless one, for progress bars, which move the cursor on purpose and show no names."""
    return raw_stream(stream.stream) if isinstance(stream, HarmlessStream) else stream
