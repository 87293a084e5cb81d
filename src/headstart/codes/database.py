"""The SQLite file of codes: opens it, runs reads and transactions, and moves a damaged file aside.

It decides what happens to a file that is damaged or another program's, how long another process may hold it, and that work
goes on where nothing can be stored. What the tables hold is for store.py to say.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self, TypeVar

from headstart.cache_folder import check_owner, make_cache_folder
from headstart.errors import CacheError

T = TypeVar("T")
log = logging.getLogger("headstart")

BUSY_SECONDS = 60.0  # how long another process may hold the file
NOT_KEPT = "what is computed from here on is not kept in the cache: "  # a note's beginning
APPLICATION_ID = 0x68656164  # "head", in the header of every store
FILE_NAME = "codes-1.sqlite"  # a store of another layout has another name, so that old and new releases live side by side
SCHEMA = f"""
PRAGMA application_id = {APPLICATION_ID};
CREATE TABLE recipes (recipe BLOB PRIMARY KEY, about TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE codes (recipe BLOB NOT NULL, digest BLOB NOT NULL, codes BLOB NOT NULL);
CREATE UNIQUE INDEX codes_key ON codes (recipe, digest);
CREATE TABLE images (digest BLOB PRIMARY KEY, used INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE files (path BLOB PRIMARY KEY, size INTEGER NOT NULL, mtime INTEGER NOT NULL, ctime INTEGER NOT NULL,
                    digest BLOB NOT NULL) WITHOUT ROWID;
"""


class Database:
    """A folder's SQLite file; any number of threads and processes may use it at once.

    A file that is damaged, or another program's, is moved aside with a warning, and a new one is begun. Where it cannot be
    written (a full disk, say), a warning says so once, and nothing more is stored; where it cannot be read, it counts as
    empty. is_needed: raise CacheError instead, for commands that are about the store itself. notes: what run.json says of
    such failures.
    """

    def __init__(self, folder: Path, *, is_needed: bool = False) -> None:
        self.path = folder / FILE_NAME
        self.notes: list[str] = []
        self._is_needed = is_needed
        self._lock = threading.RLock()
        try:
            self._open(folder)
        except CacheError as error:
            self._stop_storing(error)

    def _open(self, folder: Path) -> None:
        make_cache_folder(folder)
        check_owner(self.path)  # a folder of root's may be everybody's, as /tmp is
        try:
            self._connection = self._connect()
        except sqlite3.Error as error:
            self._recover(error)

    def _connect(self) -> sqlite3.Connection:
        self._identity = _file_identity(self.path)
        connection = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            # Nothing is written, not even the journal's mode, until the file has proved to be ours.
            if not _is_ours(connection):
                _create_tables(connection)
            self._identity = self._identity or _file_identity(self.path)
            _use_wal(connection)
            connection.execute("PRAGMA synchronous = NORMAL")
        except BaseException:
            connection.close()
            raise
        return connection

    def _stop_storing(self, error: CacheError, *, is_readable: bool = False) -> None:
        """Store nothing from here on, and warn once; is_readable: what was stored before can still be read."""
        if self._is_needed:
            raise error
        if not self.notes:
            self.notes.append(f"{NOT_KEPT}{error}")
            log.warning("%s", self.notes[0])
        if not is_readable:
            with contextlib.suppress(AttributeError, sqlite3.Error):
                self._connection.close()
            self._connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
            _create_tables(self._connection)

    def read(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        """Run an operation that reads."""
        with self._lock:
            try:
                return self._run(operation)
            except CacheError as error:
                self._stop_storing(error)
                return operation(self._connection)

    def _run(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        """Run an operation; again, on a new file, if the old one proves to be damaged."""
        with self._lock:
            for _ in range(2):
                try:
                    return operation(self._connection)
                except sqlite3.Error as error:
                    self._recover(error)
            raise CacheError(f"the cache {self.path} cannot be used; remove it, or choose another with --cache DIR")

    def write(self, operation: Callable[[sqlite3.Connection], T]) -> T | None:
        """Run an operation in a transaction of its own: it happens whole or not at all, even if the process is killed.

        Returns None where nothing can be stored.
        """

        def transaction(connection: sqlite3.Connection) -> T:
            connection.execute("BEGIN IMMEDIATE")
            try:
                result = operation(connection)
                connection.execute("COMMIT")
                return result
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

        with self._lock:
            if not self.notes:
                try:
                    return self._run(transaction)
                except CacheError as error:
                    self._stop_storing(error, is_readable=True)
        return None

    def _recover(self, error: sqlite3.Error) -> None:
        """Move a file that is damaged or not ours aside and begin a new one; raise CacheError for every other error."""
        code = _result_code(error)
        if code == sqlite3.SQLITE_FULL:
            raise CacheError(
                f"no room is left for the cache {self.path}; what was computed before is kept. Free some space, choose "
                "another place with --cache DIR, or remove that file"
            ) from error
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise CacheError(
                f"another program holds the cache {self.path}; try again when it is done, or choose another with --cache DIR"
            ) from error
        is_damaged = code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
        if not (is_damaged or isinstance(error, DamagedError) or self.path.is_dir()):
            raise CacheError(
                f"the cache {self.path} cannot be used: {error}; choose another with --cache DIR or HEADSTART_CACHE"
            ) from error
        try:
            with contextlib.suppress(AttributeError):
                self._connection.close()
            if self._identity == _file_identity(self.path):  # else another process has already mended it
                self._move_aside(error)
            self._connection = self._connect()
        except (sqlite3.Error, OSError) as again:
            raise CacheError(
                f"the cache {self.path} is damaged ({error}) and cannot be begun anew ({again}); remove it, or choose "
                "another with --cache DIR"
            ) from again

    def _move_aside(self, error: sqlite3.Error) -> None:
        name = f"{self.path.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(4)}"
        for suffix in ("", "-wal", "-shm", "-journal"):
            with contextlib.suppress(FileNotFoundError):
                os.replace(f"{self.path}{suffix}", self.path.with_name(name + suffix))
        log.warning("the cache %s cannot be read (%s); it is kept as %s, and a new one is begun", self.path, error, name)

    def size_bytes(self) -> int:
        """The size of the store on disk, its write-ahead log included."""
        size = 0
        for suffix in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                size += os.stat(f"{self.path}{suffix}").st_size
        return size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()


class DamagedError(sqlite3.DatabaseError):
    """Damage that SQLite does not notice: the database is another program's, or holds what headstart did not write."""


def _is_ours(connection: sqlite3.Connection) -> bool:
    """Whether a file is a store of codes; raises DamagedError where it is another program's database, not an empty one."""
    # In this order: another process may make the store between the two, and its tables alone would look like a stranger's.
    has_tables = connection.execute("SELECT 1 FROM sqlite_master").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if application == APPLICATION_ID:
        return True
    if application or has_tables:
        raise DamagedError("it is another program's database")
    return False


def _create_tables(connection: sqlite3.Connection) -> None:
    # Rows of 2.5 KB fill pages of 16 KB to 94 %, those of 4 KB to 63 %.
    connection.execute("PRAGMA page_size = 16384")
    connection.execute("BEGIN IMMEDIATE")
    if not _is_ours(connection):  # else another process was faster
        for statement in SCHEMA.split(";"):
            connection.execute(statement)
    connection.execute("COMMIT")


def _use_wal(connection: sqlite3.Connection) -> None:
    """Turn on write-ahead logging, which lets readers and a writer work at once.

    That needs the file for itself for a moment, and SQLite does not wait for it.
    """
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if _result_code(error) not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) or time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _result_code(error: sqlite3.Error) -> int | None:
    """SQLite's result code without the details in its upper bytes; None for errors of Python's own."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _file_identity(path: Path) -> tuple[int, int] | None:
    """The device and inode of the file at a path; None where there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
