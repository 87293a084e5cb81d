"""Reads and writes the rows of one recipe in the store of codes, many at a time."""

from __future__ import annotations

import hashlib
import itertools
import json
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from headstart.codes.store import Stamp, Store, checksum, chunks, day_number, placeholders

COMMIT_SECONDS = 1.0  # what a kill can lose
COMMIT_ROWS = 1024
_USED = "INSERT INTO images VALUES (?, ?) ON CONFLICT (digest) DO UPDATE SET used = excluded.used WHERE used < excluded.used"


class Shelf:
    """The rows of one recipe in a store. New rows are written a second's worth at a time, and at the end.

    lengths: of the parts of a row, which are stored apart. n_parts: how many of them are read; by default all. is_whole:
    tells whether a stored row is valid; one that is not counts as missing, and so is computed anew.
    """

    def __init__(
        self,
        store: Store,
        recipe: dict[str, Any],
        name: str,
        lengths: Sequence[int],
        *,
        n_parts: int | None = None,
        is_whole: Callable[[np.ndarray], bool] = lambda _: True,
    ) -> None:
        self.store, self._is_whole = store, is_whole
        about = [json.dumps({**recipe, "part": i}, sort_keys=True) for i in range(len(lengths))]
        self._recipes = [(hashlib.sha256(text.encode()).digest()[:16], text, name) for text in about]
        self._ends = [0, *itertools.accumulate(lengths)]
        self._n_parts = n_parts or len(lengths)
        query = f"SELECT 1 FROM codes WHERE recipe IN ({placeholders(self._recipes)}) LIMIT 1"
        keys = [key for key, *_ in self._recipes]
        self._was_empty = not store.read(lambda connection: connection.execute(query, keys).fetchone())
        self._lock = threading.Lock()
        self._put: set[bytes] = set()
        self._rows: dict[bytes, np.ndarray] = {}
        self._stamps: list[tuple[Any, ...]] = []
        self._used: list[bytes] = []
        self._written = time.monotonic()

    def __enter__(self) -> Shelf:
        return self

    def __exit__(self, *_: object) -> None:
        self._write()

    def get(self, digest: bytes) -> np.ndarray | None:
        """Read one image's codes, (d,) float16; None where they are not stored."""
        with self._lock:
            waiting = self._rows.get(digest)
            is_new = self._was_empty and digest not in self._put
        if waiting is not None:
            return waiting[: self._ends[self._n_parts]]
        # Where there was nothing nothing is looked up: what other processes have put there since is computed again.
        return None if is_new else self.get_many([digest]).get(digest)

    def get_many(self, digests: Sequence[bytes]) -> dict[bytes, np.ndarray]:
        """Read the codes of those images that are stored, (d,) float16 each, of the first n_parts parts."""
        rows_by_digest: dict[bytes, np.ndarray] = {digest: np.zeros(0, np.float16) for digest in digests}
        for part in range(self._n_parts):
            rows = self.store.read(partial(self._look_up, list(rows_by_digest), part))
            rows_by_digest = {
                digest: np.concatenate([rows_by_digest[digest], row]) if part else row for digest, row in rows.items()
            }
        return {digest: row for digest, row in rows_by_digest.items() if self._is_whole(row)}

    def _look_up(self, digests: Sequence[bytes], part: int, connection: sqlite3.Connection) -> dict[bytes, np.ndarray]:
        n_bytes = 2 * (self._ends[part + 1] - self._ends[part])
        rows_by_digest = {}
        for chunk in chunks(digests):
            query = f"SELECT digest, codes FROM codes WHERE recipe = ? AND digest IN ({placeholders(chunk)})"
            for digest, content in connection.execute(query, [self._recipes[part][0], *chunk]):
                codes, check = content[:n_bytes], content[n_bytes:]
                if check == checksum(digest, codes):
                    rows_by_digest[digest] = np.frombuffer(codes, np.float16)
        return rows_by_digest

    def put(self, digest: bytes, codes: np.ndarray | None, stamp: Stamp | None) -> None:
        """Store an image's codes, all parts of them (None where they are stored already), and its file's stamp."""
        with self._lock:
            self._used.append(digest)
            self._put.add(digest)
            if codes is not None:
                self._rows[digest] = codes.copy()
            if stamp:
                self._stamps.append((*stamp, digest))
        if len(self._used) >= COMMIT_ROWS or time.monotonic() - self._written > COMMIT_SECONDS:
            self._write()

    def _write(self) -> None:
        codes = [
            (key, digest, content + checksum(digest, content))
            for digest, row in self._rows.items()
            for (key, *_), (start, end) in zip(self._recipes, itertools.pairwise(self._ends), strict=True)
            for content in [row[start:end].tobytes()]
        ]
        stamps, used = self._stamps, [(digest, day_number()) for digest in self._used]

        def insert(connection: sqlite3.Connection) -> None:
            for key, about, name in self._recipes:
                text = json.dumps({"name": name, **json.loads(about)})
                connection.execute("INSERT OR IGNORE INTO recipes VALUES (?, ?)", (key, text))
            connection.executemany("INSERT OR REPLACE INTO codes VALUES (?, ?, ?)", codes)
            connection.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)", stamps)
            connection.executemany(_USED, used)

        if used:
            self.store.write(insert)
        with self._lock:
            self._rows, self._stamps, self._used = {}, [], []
        self._written = time.monotonic()
