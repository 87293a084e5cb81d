"""Writes files atomically, whole or not at all, whoever else writes them and whenever the process is killed; and locks.

It decides what a file is called until it is whole: a random name that nothing had before, so that no file or link of the
user's is written to, and two runs never share one.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from headstart.errors import OutputError


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, whoever else writes it and whenever the process is killed."""
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
    """Write a file that the user named; raises OutputError with the reason where that fails.

    Text is written as UTF-8. Names of files are bytes on Linux: those that are not UTF-8 come out as they were.
    """
    encoded = content if isinstance(content, bytes) else content.encode("utf-8", "surrogateescape")
    with writing(path):
        write_atomically(path, encoded)


def check_output(path: Path, *, overwrite: bool) -> None:
    """Raise OutputError, before any work, where a file exists and may not be replaced, and where none can be written.

    A link is replaced as a file is. A folder never is, nor a pipe or a device, which a file at its place would cut off.
    """
    if "\0" in str(path):
        raise OutputError(f"{str(path)!r} cannot be written: no name has a zero byte")
    with writing(path):
        if path.is_dir():
            raise OutputError(f"{path} is a folder; name a file in it")
        if os.path.lexists(path) and not overwrite:
            raise OutputError(f"{path} is there already; name another file, or add --overwrite")
        if path.exists() and not path.is_file():
            raise OutputError(f"{path} is a pipe or a device, and no file takes its place; name another")
    check_folder(path.absolute().parent, path)


def check_folder(folder: Path, what: object, advice: str = "") -> None:
    """Raise OutputError unless something new can be written into a folder, which may have to be made first."""
    with writing(what, advice):
        nearest = next(above for above in (folder, *folder.parents) if os.path.lexists(above) or above == above.parent)
        if not nearest.is_dir():
            raise OutputError(f"{what} cannot be written: {nearest} is no folder{advice}")
        if not os.access(nearest, os.W_OK | os.X_OK):
            raise OutputError(f"{what} cannot be written: you may not write into {nearest}{advice}")


@contextlib.contextmanager
def output_file(path: Path, *, overwrite: bool) -> Iterator[IO[bytes]]:
    """Open a file that the user named, to be written bit by bit; it gets its name once it is whole.

    An exception leaves what was written so far beside it, as NAME.(random).partial, and has a note that says so. Raises
    OutputError where the file is there already, unless it may be replaced, and where it cannot be written.
    """
    check_output(path, overwrite=overwrite)
    part = path.with_name(f"{path.name[:40]}.{secrets.token_hex(8)}.partial")  # a name has 255 bytes at most
    try:
        with writing(path):
            file = part.open("xb")
        try:
            yield Output(file, path)  # type: ignore[misc]  # what a writer asks of a file
        finally:
            with writing(path):
                file.close()
        with writing(path):
            _give_name(part, path, overwrite)
    except BaseException as error:
        with contextlib.suppress(OSError):
            if part.stat().st_size:
                error.add_note(f"what was written so far is in {part}")
            else:
                part.unlink()
        raise


def _give_name(part: Path, path: Path, overwrite: bool) -> None:
    """Rename a finished file; raises OutputError where another took its name meanwhile, unless it may be replaced."""
    if not overwrite:
        try:
            os.link(part, path)  # unlike a rename, it never replaces a file
        except (OSError, NotImplementedError):  # the name is taken, or this disk has no links
            check_output(path, overwrite=overwrite)
        else:
            part.unlink()
            return
    os.replace(part, path)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Lock a file that is made for this and removed at the end; yields whether this process holds the lock.

    The system releases the lock when a process ends, however it ends: a file that a kill left locks nothing. Where a disk
    has no locks, every process gets it. Raises OSError where the file cannot be made.
    """
    while True:
        file = path.open("ab")
        is_held = _lock(file)
        if not is_held or _is_at(file, path):
            break
        file.close()  # the one that held it has removed it meanwhile
    try:
        yield is_held
    finally:
        with contextlib.suppress(OSError):
            if is_held and os.name != "nt":  # before another can lock it
                path.unlink()
        file.close()
        with contextlib.suppress(OSError):
            if is_held and os.name == "nt":  # which removes no open file, nor one that another has opened by now
                path.unlink()


def _lock(file: IO[bytes]) -> bool:
    """Lock an open file; False where another process holds the lock, True as well where the disk has no locks."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK, errno.EDEADLK)
    return True


def _is_at(file: IO[bytes], path: Path) -> bool:
    """Whether an open file still lies at a path."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except OSError:
        return False


@contextlib.contextmanager
def writing(what: object, advice: str = "") -> Iterator[None]:
    """Turn the system's errors into an OutputError that names what cannot be written, but for a closed pipe."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        if os.name == "nt" and error.errno == errno.EINVAL and not isinstance(what, Path):
            raise BrokenPipeError from error  # what Windows says of a closed pipe
        raise OutputError(f"{what} cannot be written: {error.strerror or error}{advice}") from error


class Output:
    """A stream of bytes whose errors are OutputErrors that name what cannot be written."""

    def __init__(self, stream: IO[bytes], what: object) -> None:
        self.stream, self.what = stream, what

    def write(self, content: Any) -> int:
        """Write some bytes."""
        with writing(self.what):
            return self.stream.write(content)

    def flush(self) -> None:
        """Flush the stream."""
        with writing(self.what):
            self.stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)
