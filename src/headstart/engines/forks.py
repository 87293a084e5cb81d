"""Compiles a network when it is first needed, and again in a forked process, where a compiled one cannot run."""

from __future__ import annotations

import ctypes
import functools
import os
import threading
import weakref
from abc import ABC, abstractmethod
from typing import Any, Generic, TypeVar

from headstart.engines.ordered import SPAWN

INHERITED = f"this network was compiled before the process was forked, and cannot run here: compile it again, or {SPAWN}"
BUSY_FORK = f"this process was forked while a thread predicted, and a network could hang in it: {SPAWN}"
# Held while a network is compiled, and while the process forks: a child never starts in the middle of a compilation.
# Another reason for one at a time: OpenVINO's binding sets something up at a process's first inference; two threads that
# do it at once wait for each other for ever (pybind11's gil_safe_call_once_and_store, seen with OpenVINO 2026.4).
COMPILING = threading.RLock()


E = TypeVar("E", bound=Any)


class CompilesOnce(ABC, Generic[E]):
    """An object with a network that is compiled when it is first needed, and again in a process that is forked after that.

    A copy and a pickle leave out the compiled network, which each compiles for itself.
    """

    _engine: E | None = None

    @abstractmethod
    def _compile(self) -> E:
        """Compile the network."""

    @property
    def engine(self) -> E:
        """The compiled network, one for all threads."""
        if self._engine is None or self._engine.is_inherited:
            with COMPILING:
                if self._engine is None or self._engine.is_inherited:
                    self._engine = self._compile()
        return self._engine

    def __getstate__(self) -> dict[str, Any]:
        """The state without the compiled network."""
        return {**self.__dict__, "_engine": None}


_alive: weakref.WeakSet[Any] = weakref.WeakSet()  # the engines of this process
AT_FORK = {"was_busy": False}  # whether this process was forked from one in which a network ran at that moment


def mark_at_fork(engine: Any) -> None:
    """In a process that is forked from this one, let an engine know that it is inherited, and never free it there."""
    _watch_forks()
    _alive.add(engine)


@functools.cache
def _watch_forks() -> None:
    if hasattr(os, "register_at_fork"):  # Windows cannot fork
        os.register_at_fork(before=COMPILING.acquire, after_in_parent=COMPILING.release, after_in_child=_in_child)


def _in_child() -> None:
    COMPILING.release()
    for engine in list(_alive):
        AT_FORK["was_busy"] |= engine.is_busy
        engine.is_inherited = True
        # To free it, even when the process ends, would wait for ever for threads that are not here (OpenVINO 2026.4).
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(engine))
    _alive.clear()
