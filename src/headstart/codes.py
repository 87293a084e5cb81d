"""Codes: computed once for each image, then kept. The only file that knows SQLite.

Takes image references and a backbone; gives an (n, d) array with a Failure for each image that could not be used. It
decides what is known already: a row is keyed by the image's sha256 and by everything else that changes the answer (the
backbone's sha256, the preprocessing, the view, the precision).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import secrets
import sqlite3
import threading
import time
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np

from headstart.backbones import Backbone
from headstart.engine import Engine, Hardware, Result
from headstart.errors import BackboneError, CacheError
from headstart.images import Failure, display_name, load_image, read_bytes
from headstart.tables import ImageRef, ParquetImages, TableImage

T = TypeVar("T")
Progress: TypeAlias = Callable[[str, int, int], None]
"""Told of long work as it goes on: (stage, done, total)."""

log = logging.getLogger("headstart")

PIXELS_VERSION = 1  # raise it when images.py gives other pixels than before: all codes are then computed anew
COMMIT_SECONDS = 1.0  # what a kill can lose
COMMIT_ROWS = 1024
BUSY_SECONDS = 60.0  # how long another process may hold the store
TICK_NANOSECONDS = 20_000_000  # two changes of a file within a tick of the kernel's clock (10 ms at most) share their times
CHECK_BYTES = 4
LOOK_UP_ROWS = 500  # SQLite takes at most 999 parameters where it is old
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


def default_cache_dir() -> Path:
    """HEADSTART_CACHE, else the user's cache folder as the system has it; no folder is made yet."""
    from platformdirs import user_cache_path

    return Path(os.environ.get("HEADSTART_CACHE") or user_cache_path("headstart", appauthor=False))


@dataclass(frozen=True)
class Codes:
    """What became of n images.

    values: (m, d) float16, a row for each usable image. index: (m,) int64, which image each row is of. digests: the
    sha256 of each row's image. failures: the Failure of every other image, by its position. n_computed: how many of the
    rows were not known before.
    """

    values: np.ndarray
    index: np.ndarray
    digests: list[bytes]
    failures: dict[int, Failure]
    n_computed: int


def compute_codes(
    images: Sequence[ImageRef],
    backbone: Backbone,
    store: Store | None,
    *,
    view: str = "original",
    hardware: Hardware = Hardware(),
    progress: Progress = lambda *_: None,
) -> Codes:
    """Give every image's codes, computing only those that the store does not hold.

    store: None keeps nothing. Raises CacheError when the store cannot be
    written (a full disk), BackboneError when the backbone gives numbers that are no numbers.
    """
    shelf = None
    if store:
        recipe = {
            "backbone": backbone.sha256,
            "preprocess": asdict(backbone.preprocess),
            "view": view,
            "precision": hardware.precision,
            "device": hardware.device.upper(),
            "pixels": PIXELS_VERSION,
        }
        shelf = Shelf(store, recipe, backbone)
    stamp_of = _stamps(images)
    rows = np.zeros((len(images), backbone.n_codes), np.float16)
    digests: list[bytes | None] = [None] * len(images)
    failures: dict[int, Failure] = {}
    if shelf:
        _fill_from_files(images, stamp_of, shelf, rows, digests)
    todo = [i for i, digest in enumerate(digests) if digest is None]
    n_computed = 0
    if todo:
        engine = Engine(backbone.network, hardware)
        stream = _stream(images, todo, stamp_of, backbone, shelf, engine)
        with shelf or contextlib.nullcontext(), contextlib.closing(stream):  # however it ends, the workers end first
            for done, fresh in enumerate(stream, start=1):
                i = fresh.position
                if isinstance(fresh.codes, Failure):
                    failures[i] = fresh.codes
                else:
                    digests[i], rows[i] = fresh.digest, _finite(fresh.codes, images[i], backbone)
                    n_computed += fresh.is_new
                    if shelf:
                        shelf.put(fresh.digest, rows[i] if fresh.is_new else None, fresh.stamp)
                progress("codes", done, len(todo))
    index = np.array([i for i, digest in enumerate(digests) if digest is not None], np.int64)
    known = [digest for digest in digests if digest is not None]
    return Codes(rows if len(index) == len(images) else rows[index], index, known, failures, n_computed)


class _Stamp(NamedTuple):
    """What tells that a file is unchanged without reading it; times in nanoseconds."""

    path: bytes
    size: int
    mtime: int
    ctime: int


class _Fresh(NamedTuple):
    position: int
    digest: bytes
    codes: np.ndarray | Failure
    stamp: _Stamp | None
    is_new: bool


def _stamps(images: Sequence[ImageRef]) -> Callable[[ImageRef], _Stamp | None]:
    """Give the function that stamps these images: a file by its state when asked, a table's row by its table's state now."""
    tables = {image.table for image in images if isinstance(image, TableImage)}
    states = {table: state for table in tables if (state := _table_state(table))}

    def stamp_of(image: ImageRef) -> _Stamp | None:
        if isinstance(image, TableImage):
            state = states.get(image.table)
            return state and state._replace(path=b"%s#%d" % (state.path, image.row))
        return _state(image) if isinstance(image, (str, os.PathLike)) else None

    return stamp_of


def _state(path: str | os.PathLike[str]) -> _Stamp | None:
    """A file's stamp; None where there is no file, or where it is so new that it could change and keep its times."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    if time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) < TICK_NANOSECONDS:
        return None
    return _Stamp(os.fsencode(os.path.abspath(path)), status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _table_state(table: ParquetImages) -> _Stamp | None:
    """A table's stamp; None where it has been replaced since it was opened, or where a row may name a file instead of
    holding its bytes, for that file may change and the table stay as it is."""
    from pyarrow import ArrowException, parquet

    state = _state(table.path)
    try:
        about = parquet.read_metadata(table.path)
    except (ArrowException, OSError):
        return None
    parts = [about.row_group(i).column(j) for i in range(about.num_row_groups) for j in range(about.num_columns)]
    bytes_of = [part.statistics for part in parts if part.path_in_schema == f"{table.column}.bytes"]
    is_whole = all(statistics is not None and statistics.null_count == 0 for statistics in bytes_of)
    return state if is_whole and about.equals(table.file.metadata) else None


def _fill_from_files(
    images: Sequence[ImageRef],
    stamp_of: Callable[[ImageRef], _Stamp | None],
    shelf: Shelf,
    rows: np.ndarray,
    digests: list[bytes | None],
) -> None:
    """Fill in what is known of files that have not changed since they were last read."""
    stamps = {i: stamp for i, image in enumerate(images) if (stamp := stamp_of(image))}
    read_before = shelf.store.digests_of(stamps.values())
    places: dict[bytes, list[int]] = {}
    for i, stamp in stamps.items():
        if stamp.path in read_before:
            places.setdefault(read_before[stamp.path], []).append(i)
    for chunk in _chunks(list(places)):
        for digest, codes in shelf.get_many(chunk).items():
            for i in places[digest]:
                digests[i], rows[i] = digest, codes
    shelf.store.touch([digest for digest in places if digests[places[digest][0]]])


def _stream(
    images: Sequence[ImageRef],
    todo: Sequence[int],
    stamp_of: Callable[[ImageRef], _Stamp | None],
    backbone: Backbone,
    shelf: Shelf | None,
    engine: Engine,
) -> Generator[_Fresh, None, None]:
    """Read, look up, decode and infer; the bytes of an image that was moved or renamed are met again by their hash."""
    notes: dict[int, tuple[bytes, _Stamp | None]] = {}

    def load(_: int, position: int) -> Any:
        image = images[position]
        stamp = stamp_of(image)  # before it is read, so that a change meanwhile shows
        content = _content(image)
        # An image without bytes of its own is hashed once it has proved to be one.
        pixels = None if isinstance(content, (bytes, Failure)) else load_image(content, backbone.preprocess)
        if isinstance(content, Failure) or isinstance(pixels, Failure):
            return content if isinstance(content, Failure) else pixels
        digest = _digest(content)
        notes[position] = digest, stamp
        known = shelf.get(digest) if shelf else None
        if known is not None:
            return known
        return load_image(content, backbone.preprocess) if pixels is None else pixels

    result: Result[int]
    for result in engine.stream(todo, load):
        digest, stamp = notes.pop(result.item, (b"", None))
        if result.outputs is not None:
            yield _Fresh(result.item, digest, result.outputs["codes"], stamp, True)
        else:
            yield _Fresh(result.item, digest, result.instead, stamp, False)


def _content(image: ImageRef) -> Any:
    """Bytes where the image has them (a file's, a table row's), else the picture or array itself."""
    if isinstance(image, TableImage):
        return image.read()
    if isinstance(image, (str, os.PathLike)):
        return read_bytes(image)
    return bytes(image) if isinstance(image, (bytearray, memoryview)) else image


def _digest(content: Any) -> bytes:
    """The sha256 of bytes, else of the pixels and of everything that changes how they are seen."""
    if isinstance(content, bytes):
        return hashlib.sha256(content).digest()
    if isinstance(content, np.ndarray):
        about, pixels = f"array {content.shape} {content.dtype} ", content.tobytes()
    else:
        orientation = content.getexif().get(0x0112, 1)
        seen = content.convert("RGBA") if content.mode == "P" or content.has_transparency_data else content
        about, pixels = f"{seen.mode} {seen.size} {orientation} ", seen.tobytes()
    return hashlib.sha256(about.encode() + pixels).digest()


def _finite(codes: np.ndarray, image: ImageRef, backbone: Backbone) -> np.ndarray:
    with np.errstate(over="ignore"):
        row = codes.astype(np.float16)
    if not np.isfinite(row).all():
        raise BackboneError(
            f"the backbone {backbone.name} gives codes of {display_name(image)} that are not finite in 16 "
            "bits; check its --mean and --std, or try --precision f32"
        )
    return row


class Store:
    """A folder's SQLite file of codes; any number of threads and processes may use it at once.

    A file that is damaged, or not ours, is moved aside with a warning, and a new one is begun.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE_NAME
        self._lock = threading.RLock()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CacheError(
                f"the cache folder {folder} cannot be made: {error.strerror}; choose another with --cache DIR "
                "or HEADSTART_CACHE"
            ) from error
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

    def read(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        """Run an operation; again, on a new store, if the old one proves to be damaged."""
        with self._lock:
            for _ in range(2):
                try:
                    return operation(self._connection)
                except sqlite3.Error as error:
                    self._mend(error)
            raise CacheError(f"the cache {self.path} cannot be used; remove it, or choose another with --cache DIR")

    def write(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        """Run an operation in a transaction of its own: it happens whole or not at all, whatever happens to us."""

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

        return self.read(transaction)

    def _mend(self, error: sqlite3.Error) -> None:
        """Move a store that is damaged or not ours aside and begin a new one; every other error is the user's to mend."""
        code = _primary_code(error)
        if code == sqlite3.SQLITE_FULL:
            raise CacheError(
                f"no room is left for the cache {self.path}; what was computed before is kept. Free some space, "
                "run `headstart cache clear`, or choose another place with --cache DIR"
            ) from error
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise CacheError(
                f"another program holds the cache {self.path}; try again when it is done, or choose another with --cache DIR"
            ) from error
        is_damaged = code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
        if not (is_damaged or isinstance(error, _NotOursError) or self.path.is_dir()):
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
        today = _today()

        def older(connection: sqlite3.Connection) -> list[bytes]:
            return [
                digest
                for chunk in _chunks(digests)
                for (digest,) in connection.execute(
                    f"SELECT digest FROM images WHERE used < ? AND digest IN ({_marks(chunk)})", [today, *chunk]
                )
            ]

        rows = [(today, digest) for digest in self.read(older)]
        if rows:
            self.write(lambda connection: connection.executemany("UPDATE images SET used = ? WHERE digest = ?", rows))

    def digests_of(self, stamps: Iterable[_Stamp]) -> dict[bytes, bytes]:
        """Give, by path, the sha256 of those files that were read before and have not changed since."""
        wanted = {stamp.path: stamp for stamp in stamps}

        def look_up(connection: sqlite3.Connection) -> dict[bytes, bytes]:
            found = {}
            for chunk in _chunks(list(wanted)):
                for *stamp, digest in connection.execute(f"SELECT * FROM files WHERE path IN ({_marks(chunk)})", chunk):
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
            recipes = [{**json.loads(about), "images": n} for about, n in rows]
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
        last = _today() - days

        def forget(connection: sqlite3.Connection) -> int:
            (n,) = connection.execute("SELECT COUNT(*) FROM images WHERE used < ?", (last,)).fetchone()
            connection.execute("DELETE FROM images WHERE used < ?", (last,))
            for table in ("codes", "files"):
                connection.execute(f"DELETE FROM {table} WHERE digest NOT IN (SELECT digest FROM images)")
            connection.execute("DELETE FROM recipes WHERE recipe NOT IN (SELECT DISTINCT recipe FROM codes)")
            return int(n)

        n = self.write(forget)
        self._shrink()
        return n

    def clear(self) -> int:
        """Forget everything and give the space back; gives how many images."""

        def forget(connection: sqlite3.Connection) -> int:
            (n,) = connection.execute("SELECT COUNT(*) FROM images").fetchone()
            for table in ("codes", "files", "images", "recipes"):
                connection.execute(f"DELETE FROM {table}")  # whole tables need next to no room, even on a full disk
            return int(n)

        n = self.write(forget)
        self._shrink()
        return n

    def _shrink(self) -> None:
        """Give space back; that needs room for a while, and where there is none the space is kept for codes to come."""
        try:
            self.read(lambda connection: connection.execute("VACUUM"))
            self.read(lambda connection: connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())
        except CacheError as error:
            log.warning("what was forgotten is forgotten, but its space is kept for codes to come: %s", error)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()


class Shelf:
    """The rows of one recipe in a store. Rows that are put are written a second's worth at a time, and at its end."""

    def __init__(self, store: Store, recipe: dict[str, Any], backbone: Backbone) -> None:
        self.store = store
        self._key = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).digest()[:16]
        self._about = json.dumps({"name": backbone.name, **recipe})
        self._n_bytes = 2 * backbone.n_codes
        self._lock = threading.Lock()
        self._rows: dict[bytes, np.ndarray] = {}
        self._stamps: list[tuple[Any, ...]] = []
        self._used: list[bytes] = []
        self._written = time.monotonic()

    def __enter__(self) -> Shelf:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not CacheError:  # a store that could not be written a moment ago would only say so again
            self._write()

    def get(self, digest: bytes) -> np.ndarray | None:
        """Give one image's codes, (d,) float16, if they are known."""
        with self._lock:
            waiting = self._rows.get(digest)
        return waiting if waiting is not None else self.get_many([digest]).get(digest)

    def get_many(self, digests: Sequence[bytes]) -> dict[bytes, np.ndarray]:
        """Give the codes of those images that are known, (d,) float16 each."""

        def look_up(connection: sqlite3.Connection) -> dict[bytes, np.ndarray]:
            found = {}
            for chunk in _chunks(digests):
                query = f"SELECT digest, codes FROM codes WHERE recipe = ? AND digest IN ({_marks(chunk)})"
                for digest, sealed in connection.execute(query, [self._key, *chunk]):
                    if len(sealed) == self._n_bytes + CHECK_BYTES and sealed[self._n_bytes :] == _check(
                        digest, codes := sealed[: self._n_bytes]
                    ):
                        found[digest] = np.frombuffer(codes, np.float16)
            return found

        return self.store.read(look_up)

    def put(self, digest: bytes, codes: np.ndarray | None, stamp: _Stamp | None) -> None:
        """Keep an image's codes (None where they are known), and what its file looks like."""
        with self._lock:
            self._used.append(digest)
            if codes is not None:
                self._rows[digest] = codes.copy()
            if stamp:
                self._stamps.append((*stamp, digest))
        if len(self._used) >= COMMIT_ROWS or time.monotonic() - self._written > COMMIT_SECONDS:
            self._write()

    def _write(self) -> None:
        rows = {digest: row.tobytes() for digest, row in self._rows.items()}
        codes = [(self._key, digest, row + _check(digest, row)) for digest, row in rows.items()]
        stamps, used = self._stamps, [(digest, _today()) for digest in self._used]

        def insert(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT OR IGNORE INTO recipes VALUES (?, ?)", (self._key, self._about))
            connection.executemany("INSERT OR REPLACE INTO codes VALUES (?, ?, ?)", codes)
            connection.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)", stamps)
            connection.executemany(_USED, used)

        if used:
            self.store.write(insert)
        with self._lock:
            self._rows, self._stamps, self._used = {}, [], []
        self._written = time.monotonic()


_USED = "INSERT INTO images VALUES (?, ?) ON CONFLICT (digest) DO UPDATE SET used = excluded.used WHERE used < excluded.used"


class _NotOursError(sqlite3.DatabaseError):
    """The file is a database, but no store of codes."""


def _is_store(connection: sqlite3.Connection) -> bool:
    """Whether a file is a store; raises _NotOursError where it is another program's database, not an empty one."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if application == APPLICATION_ID:
        return True
    if application or connection.execute("SELECT 1 FROM sqlite_master").fetchone():
        raise _NotOursError("it is another program's database")
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


def _check(digest: bytes, codes: bytes) -> bytes:
    """What stands behind a row's codes: SQLite itself notices damage to its own pages, but none within a row."""
    return zlib.crc32(codes, zlib.crc32(digest)).to_bytes(CHECK_BYTES, "little")


def _today() -> int:
    return int(time.time() // 86400)


def _marks(values: Sequence[Any]) -> str:
    return ",".join("?" * len(values))


def _chunks(values: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(values), LOOK_UP_ROWS):
        yield values[start : start + LOOK_UP_ROWS]
