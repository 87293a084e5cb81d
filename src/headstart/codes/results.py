"""Results of earlier runs on the same input: what has not changed since is read from the cache, and not computed again.

Takes everything that a result depends on; gives the result, from the cache folder or computed. A result is known by the
sha256 of its input, of this code and of NumPy's version, so that nothing stale is ever given.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

import headstart
from headstart.cache_folder import is_usable
from headstart.files import write_atomically
from headstart.safety.npz_arrays import DAMAGE

MOST_FILES = 300  # of results that are kept; those that were not used for longest go first
SECONDS_A_DAY = 86_400
Arrays: TypeAlias = Mapping[str, np.ndarray]


class Results:
    """The results that a cache folder holds, in its folder `results`."""

    def __init__(self, cache_dir: Path) -> None:
        self._folder = cache_dir / "results"
        self._is_usable = is_usable(cache_dir, self._folder)

    def arrays(self, name: str, inputs: Sequence[Any], compute: Callable[[], Arrays]) -> Arrays:
        """Give what `compute` gives: from the cache, if it was computed of the same inputs before.

        inputs: everything that the result depends on: arrays, bytes, lists of bytes, and values whose repr says all of them.
        """
        if not self._is_usable:
            return compute()
        path = self._folder / f"{name}-{_key(name, inputs)}.npz"
        found = _read(path)
        if found is not None:
            return found
        arrays = compute()
        content = io.BytesIO()
        np.savez(content, allow_pickle=False, **arrays)
        with contextlib.suppress(OSError):  # a full disk: it is computed again the next time
            write_atomically(path, content.getvalue())
            self._forget_oldest()
        return arrays

    def record(self, name: str, inputs: Sequence[Any], compute: Callable[[], Any]) -> Any:
        """As `arrays`, of what can be written as JSON."""

        def as_array() -> Arrays:
            return {"json": np.frombuffer(json.dumps(compute()).encode(), np.uint8)}

        return json.loads(self.arrays(name, inputs, as_array)["json"].tobytes())

    def prune(self, days: int) -> int:
        """Delete the results that no run has used for some days; gives how many."""
        last, n = time.time() - days * SECONDS_A_DAY, 0
        for path in self._folder.glob("*.npz") if self._is_usable else ():
            with contextlib.suppress(OSError):
                if path.stat().st_mtime < last:
                    path.unlink()
                    n += 1
        return n

    def _forget_oldest(self) -> None:
        paths = list(self._folder.glob("*.npz"))
        if len(paths) > MOST_FILES:
            paths.sort(key=lambda path: path.stat().st_mtime)
            for path in paths[: len(paths) - MOST_FILES]:
                path.unlink(missing_ok=True)


def _read(path: Path) -> Arrays | None:
    """The arrays of a file, which counts as used now; None where there is none, or only a damaged one."""
    try:
        content = path.read_bytes()
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        os.utime(path)
    except DAMAGE:
        return None
    return arrays


def _key(name: str, inputs: Sequence[Any]) -> str:
    digest = hashlib.sha256(f"{name} {np.__version__} {_code_state()}".encode())
    for value in inputs:
        if isinstance(value, np.ndarray):
            digest.update(f"{value.dtype} {value.shape} ".encode())
            digest.update(np.ascontiguousarray(value).data)
        elif isinstance(value, bytes):
            digest.update(b"%d " % len(value) + value)
        elif isinstance(value, list) and all(isinstance(item, bytes) for item in value):
            digest.update(b"%d " % len(value) + b"".join(b"%d " % len(item) + item for item in value))
        else:
            digest.update(f"{value!r} ".encode())
    return digest.hexdigest()[:32]


@cache
def _code_state() -> str:
    """The state of headstart's own files: whoever changes one, or installs another version, gets nothing that is stale."""
    package = Path(headstart.__file__).parent
    states = sorted((str(p.relative_to(package)), p.stat().st_size, p.stat().st_mtime_ns) for p in package.rglob("*.py"))
    return hashlib.sha256(repr(states).encode()).hexdigest()
