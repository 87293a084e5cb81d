"""Checks the paths of a run's photos: which a page may open, and which name another machine (UNC paths).

A run may be a stranger's, and so may the names in it. It decides that a page opens the run's own photos only, and that
nothing asks another machine for a file because a run names one.
"""

from __future__ import annotations

import re
from pathlib import PurePath, PurePosixPath, PureWindowsPath

from headstart.data.tables import TABLE_SUFFIXES

DRIVE = re.compile(r"[A-Za-z]:[\\/]")


def is_remote(path: str) -> bool:
    r"""Whether a path names another machine, as \\host\share\photo.jpg does on Windows, where opening it asks that host."""
    return path.replace("/", "\\").startswith("\\\\")


def folder_of(photos: str) -> str:
    """Give the folder that the names of a run's photos are below: their folder, or the one that their table lies in."""
    flavour = _flavour(photos)
    return str(flavour(photos).parent) if flavour(photos).suffix.lower() in TABLE_SUFFIXES else photos


def may_open(name: str, photos: str, *, has_base: bool = False) -> bool:
    """Whether a page may open a photo: only in the folder of the run's photos, on the machine where the page is read.

    photos: run.json's. has_base: the page knows where that folder lies, and names may be relative to it.
    """
    flavour, parts = _flavour(name), re.split(r"[\\/]", name)
    is_whole = flavour is PureWindowsPath or name.startswith("/")
    if any(not part.strip(". ") for part in parts[is_whole:]):  # "", "." and ".."; Windows passes over dots at an end
        return False
    if not is_whole:
        return has_base and ":" not in parts[0]
    if flavour is PurePosixPath and "\\" in name:  # a browser may take it for a slash
        return False
    folder = flavour(folder_of(photos))
    return flavour(name).is_relative_to(folder) and flavour(name) != folder


def _flavour(path: str) -> type[PurePath]:
    """Tell whether a path is a Windows or a POSIX one, wherever the run was made."""
    is_windows = DRIVE.match(path) or path.startswith("\\\\")
    return PureWindowsPath if is_windows else PurePosixPath
