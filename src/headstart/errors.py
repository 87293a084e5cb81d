"""The tree of errors that headstart raises on purpose; a traceback of anything else is a bug."""

from __future__ import annotations


class HeadstartError(Exception):
    """An error that the user can fix; the message says what is wrong, what was expected and what to do.

    HeadstartError
     ├── DataError         photos, folders and tables that cannot be learnt from
     ├── BackboneError     an unknown, broken or unsuitable backbone
     ├── ClassifierError   a file or run that is not a whole headstart classifier
     ├── CacheError        the store of codes cannot be read or written
     ├── ExportError       a classifier that cannot be exported so, or whose export answers otherwise
     ├── OutputError       results cannot be written to the place that the user named
     └── MissingExtra      an optional package is needed; the message is the line that installs it
    """


class DataError(HeadstartError):
    """Photos, folders or tables that cannot be learnt from."""


class BackboneError(HeadstartError):
    """An unknown, broken or unsuitable backbone."""


class ClassifierError(HeadstartError):
    """A file or run that is not a whole headstart classifier."""


class CacheError(HeadstartError):
    """The store of codes cannot be read or written, in a command that is about it."""


class ExportError(HeadstartError):
    """A classifier that a format cannot hold, or an exported file that answers otherwise than the original."""


class OutputError(HeadstartError):
    """Results cannot be written to the place that the user named."""


class MissingExtra(HeadstartError):
    """An optional package is needed: `extra` names the extra that brings it."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(
            f"{what} needs an optional package; install it with: pip install 'headstart[{extra}]' "
            f"(in a clone of headstart: .venv/bin/pip install -e '.[{extra}]')"
        )
