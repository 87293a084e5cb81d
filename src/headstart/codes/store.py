"""The store of codes: which images have codes by which recipe, and which files are unchanged since they were read.

Keeps rows of numbers, each under an image's sha256 and the recipe that they were computed by, in the SQLite file of
database.py; shelf.py reads and writes the rows. It decides what is forgotten, and when a file counts as unchanged.
"""

from __future__ import annotations

import json
import sqlite3
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

from headstart.codes.database import DamagedError, Database

T = TypeVar("T")

LOOK_UP_ROWS = 500  # SQLite takes at most 999 parameters where it is old


class Stamp(NamedTuple):
    """The state of a file, which tells without reading it that it is unchanged; times in nanoseconds."""

    path: bytes
    size: int
    mtime: int
    ctime: int


class Store(Database):
    """A folder's store of codes: images, their rows by recipe, and the files that they were read from."""

    def touch(self, digests: Sequence[bytes]) -> None:
        """Note that these images were used today, so that pruning spares them; write nothing where that is noted."""
        today = day_number()

        def older(connection: sqlite3.Connection) -> list[bytes]:
            return [
                digest
                for chunk in chunks(digests)
                for (digest,) in connection.execute(
                    f"SELECT digest FROM images WHERE used < ? AND digest IN ({placeholders(chunk)})", [today, *chunk]
                )
            ]

        rows = [(today, digest) for digest in self.read(older)]
        if rows:
            self.write(lambda connection: connection.executemany("UPDATE images SET used = ? WHERE digest = ?", rows))

    def digests_of(self, stamps: Iterable[Stamp]) -> dict[bytes, bytes]:
        """Look up, by path, the sha256 of those files that were read before and have not changed since."""
        wanted = {stamp.path: stamp for stamp in stamps}

        def look_up(connection: sqlite3.Connection) -> dict[bytes, bytes]:
            digests = {}
            for chunk in chunks(list(wanted)):
                query = f"SELECT * FROM files WHERE path IN ({placeholders(chunk)})"
                for *stamp, digest in connection.execute(query, chunk):
                    if wanted[stamp[0]] == tuple(stamp):
                        digests[stamp[0]] = digest
            return digests

        return self.read(look_up)

    def summary(self) -> dict[str, Any]:
        """Summarise the store: its size in bytes, images, files, and a row for each recipe."""

        def count(connection: sqlite3.Connection) -> dict[str, Any]:
            (images,) = connection.execute("SELECT COUNT(*) FROM images").fetchone()
            (files,) = connection.execute("SELECT COUNT(*) FROM files").fetchone()
            rows = connection.execute(
                "SELECT about, (SELECT COUNT(*) FROM codes WHERE codes.recipe = recipes.recipe) FROM recipes"
            ).fetchall()
            try:
                recipes = [{**json.loads(about), "images": n} for about, n in rows]
            except ValueError as error:
                raise DamagedError("a recipe in it is no JSON") from error
            return {
                "path": str(self.path),
                "size_bytes": self.size_bytes(),
                "images": images,
                "files": files,
                "recipes": sorted(recipes, key=lambda recipe: -recipe["images"]),
            }

        return self.read(count)

    def prune(self, days: int) -> int:
        """Delete the images that no run has used for some days, and free their space; returns how many."""
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
        """Delete everything; returns how many images."""
        return self.prune(days=-1)


def checksum(digest: bytes, codes: bytes) -> bytes:
    """Compute the CRC-32 that is stored behind a row's codes: SQLite notices damage to its pages, but none within a row."""
    return zlib.crc32(codes, zlib.crc32(digest)).to_bytes(4, "little")


def day_number() -> int:
    """Count the days from 1970 to today."""
    return int(time.time() // 86400)


def placeholders(values: Sequence[Any]) -> str:
    """Write the question marks that stand for some values in an SQL statement."""
    return ",".join("?" * len(values))


def chunks(values: Sequence[T]) -> Iterator[Sequence[T]]:
    """Split values into as many at a time as one SQL statement may name."""
    for start in range(0, len(values), LOOK_UP_ROWS):
        yield values[start : start + LOOK_UP_ROWS]
