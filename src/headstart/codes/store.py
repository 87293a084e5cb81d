"""The store of codes: a file of SQLite's, and the only file that knows it.

Takes rows of numbers, each keyed by an image's sha256 and by the recipe that they were made with, and gives them back. It
decides when rows are written, what is forgotten, what happens to a file that is damaged or not ours, and that work goes on
where nothing can be kept.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import sqlite3
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from headstart.cache_folder import check_owner, make_cache_folder
from headstart.errors import CacheError

T = TypeVar("T")
log = logging.getLogger("headstart")

COMMIT_SECONDS = 1.0  # what a kill can lose
COMMIT_ROWS = 1024
BUSY_SECONDS = 60.0  # how long another process may hold the store
LOOK_UP_ROWS = 500  # SQLite takes at most 999 parameters where it is old
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


class Stamp(NamedTuple):
    """What tells that a file is unchanged without reading it; times in nanoseconds."""

    path: bytes
    size: int
    mtime: int
    ctime: int


class Store:
    """A folder's SQLite file of codes; any number of threads and processes may use it at once.

    A file that is damaged, or not ours, is moved aside with a warning, and a new one is begun. Where it cannot be written (a
    full disk, say), a warning says so once, and nothing more is kept; where it cannot be read, nothing is known.
    is_needed: CacheError instead, for what is about the store itself. notes: what run.json says of that.
    """

    def __init__(self, folder: Path, *, is_needed: bool = False) -> None:
        self.path = folder / FILE_NAME
        self.notes: list[str] = []
        self._is_needed = is_needed
        self._lock = threading.RLock()
        try:
            self._open(folder)
        except CacheError as error:
            self._go_without(error)

    def _open(self, folder: Path) -> None:
        make_cache_folder(folder)
        check_owner(self.path)  # a folder of root's may be everybody's, as /tmp is
        try:
            self._connection = self._connect()
        except sqlite3.Error as error:
            self._mend(error)

    def _connect(self) -> sqlite3.Connection:
        self._identity = _identity(self.path)
        connection = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            # Nothing is written, not even the journal's mode, until the file has proved to be ours.
            if not _is_store(connection):
                _make_store(connection)
            self._identity = self._identity or _identity(self.path)
            _use_wal(connection)
            connection.execute("PRAGMA synchronous = NORMAL")
        except BaseException:
            connection.close()
            raise
        return connection

    def _go_without(self, error: CacheError, *, is_readable: bool = False) -> None:
        """Keep nothing from here on, and say so once; is_readable: what was kept before is still known."""
        if self._is_needed:
            raise error
        if not self.notes:
            self.notes.append(f"{NOT_KEPT}{error}")
            log.warning("%s", self.notes[0])
        if not is_readable:
            with contextlib.suppress(AttributeError, sqlite3.Error):
                self._connection.close()
            self._connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
            _make_store(self._connection)

    def read(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        """Run an operation that reads."""
        with self._lock:
            try:
                return self._run(operation)
            except CacheError as error:
                self._go_without(error)
                return operation(self._connection)

    def _run(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        """Run an operation; again, on a new store, if the old one proves to be damaged."""
        with self._lock:
            for _ in range(2):
                try:
                    return operation(self._connection)
                except sqlite3.Error as error:
                    self._mend(error)
            raise CacheError(f"the cache {self.path} cannot be used; remove it, or choose another with --cache DIR")

    def write(self, operation: Callable[[sqlite3.Connection], T]) -> T | None:
        """Run an operation in a transaction of its own: it happens whole or not at all, whatever happens to us.

        None where nothing can be kept.
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
                    self._go_without(error, is_readable=True)
        return None

    def _mend(self, error: sqlite3.Error) -> None:
        """Move a store that is damaged or not ours aside and begin a new one; every other error is the user's to mend."""
        code = _primary_code(error)
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
        if not (is_damaged or isinstance(error, _DamagedError) or self.path.is_dir()):
            raise CacheError(
                f"the cache {self.path} cannot be used: {error}; choose another with --cache DIR or HEADSTART_CACHE"
            ) from error
        try:
            with contextlib.suppress(AttributeError):
                self._connection.close()
            if self._identity == _identity(self.path):  # else another process has already mended it
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

    def touch(self, digests: Sequence[bytes]) -> None:
        """Note that these images were used today, so that pruning spares them; writes nothing where that stands there."""
        today = day_number()

        def older(connection: sqlite3.Connection) -> list[bytes]:
            return [
                digest
                for chunk in chunks(digests)
                for (digest,) in connection.execute(
                    f"SELECT digest FROM images WHERE used < ? AND digest IN ({marks(chunk)})", [today, *chunk]
                )
            ]

        rows = [(today, digest) for digest in self.read(older)]
        if rows:
            self.write(lambda connection: connection.executemany("UPDATE images SET used = ? WHERE digest = ?", rows))

    def digests_of(self, stamps: Iterable[Stamp]) -> dict[bytes, bytes]:
        """Give, by path, the sha256 of those files that were read before and have not changed since."""
        wanted = {stamp.path: stamp for stamp in stamps}

        def look_up(connection: sqlite3.Connection) -> dict[bytes, bytes]:
            found = {}
            for chunk in chunks(list(wanted)):
                for *stamp, digest in connection.execute(f"SELECT * FROM files WHERE path IN ({marks(chunk)})", chunk):
                    if wanted[stamp[0]] == tuple(stamp):
                        found[stamp[0]] = digest
            return found

        return self.read(look_up)

    def summary(self) -> dict[str, Any]:
        """What the store holds: its size in bytes, images, files, and a row for each recipe."""

        def count(connection: sqlite3.Connection) -> dict[str, Any]:
            (images,) = connection.execute("SELECT COUNT(*) FROM images").fetchone()
            (files,) = connection.execute("SELECT COUNT(*) FROM files").fetchone()
            rows = connection.execute(
                "SELECT about, (SELECT COUNT(*) FROM codes WHERE codes.recipe = recipes.recipe) FROM recipes"
            ).fetchall()
            try:
                recipes = [{**json.loads(about), "images": n} for about, n in rows]
            except ValueError as error:
                raise _DamagedError("a recipe in it is no JSON") from error
            return {
                "path": str(self.path),
                "size_bytes": self.size_bytes(),
                "images": images,
                "files": files,
                "recipes": sorted(recipes, key=lambda recipe: -recipe["images"]),
            }

        return self.read(count)

    def size_bytes(self) -> int:
        """The size of the store on disk, its write-ahead log included."""
        size = 0
        for suffix in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                size += os.stat(f"{self.path}{suffix}").st_size
        return size

    def prune(self, days: int) -> int:
        """Forget the images that no run has used for some days, and give the space back; gives how many."""
        last = day_number() - days

        def forget(connection: sqlite3.Connection) -> int:
            (n,) = connection.execute("SELECT COUNT(*) FROM images WHERE used < ?", (last,)).fetchone()
            connection.execute("DELETE FROM images WHERE used < ?", (last,))
            for table in ("codes", "files"):
                connection.execute(f"DELETE FROM {table} WHERE digest NOT IN (SELECT digest FROM images)")
            connection.execute("DELETE FROM recipes WHERE recipe NOT IN (SELECT DISTINCT recipe FROM codes)")
            return int(n)

        n = self.write(forget)
        self.read(lambda connection: connection.execute("VACUUM"))
        self.read(lambda connection: connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())
        return n or 0

    def clear(self) -> int:
        """Forget everything; gives how many images."""
        return self.prune(days=-1)

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()


class _DamagedError(sqlite3.DatabaseError):
    """What SQLite does not mind: a database that is not ours, or that holds what we did not write."""


def _is_store(connection: sqlite3.Connection) -> bool:
    """Whether a file is a store; raises _DamagedError where it is another program's database, not an empty one."""
    # In this order: another process may make the store between the two, and its tables alone would look like a stranger's.
    has_tables = connection.execute("SELECT 1 FROM sqlite_master").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if application == APPLICATION_ID:
        return True
    if application or has_tables:
        raise _DamagedError("it is another program's database")
    return False


def _make_store(connection: sqlite3.Connection) -> None:
    # Rows of 2.5 KB fill pages of 16 KB to 94 %, those of 4 KB to 63 %.
    connection.execute("PRAGMA page_size = 16384")
    connection.execute("BEGIN IMMEDIATE")
    if not _is_store(connection):  # else another process was faster
        for statement in SCHEMA.split(";"):
            connection.execute(statement)
    connection.execute("COMMIT")


def _use_wal(connection: sqlite3.Connection) -> None:
    """Write-ahead logging lets readers and a writer work at once. Turning it on needs the file for itself for a moment,
    and SQLite does not wait for that by itself."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if _primary_code(error) not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) or time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _primary_code(error: sqlite3.Error) -> int | None:
    """SQLite's result code without the details in its upper bytes; None for errors of Python's own."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file lies at a path."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def check_rows(digest: bytes, codes: bytes) -> bytes:
    """What stands behind a row's codes: SQLite itself notices damage to its own pages, but none within a row."""
    return zlib.crc32(codes, zlib.crc32(digest)).to_bytes(4, "little")


def day_number() -> int:
    return int(time.time() // 86400)


def marks(values: Sequence[Any]) -> str:
    return ",".join("?" * len(values))


def chunks(values: Sequence[T]) -> Iterator[Sequence[T]]:
    """As many at a time as one question may name."""
    for start in range(0, len(values), LOOK_UP_ROWS):
        yield values[start : start + LOOK_UP_ROWS]
