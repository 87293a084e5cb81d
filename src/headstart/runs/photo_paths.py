"""Addresses: which photos of a run may be followed to where they lie, by a page or by us.

A run may be a stranger's, and so are the names in it. It decides what a page opens, the run's own photos alone, and that
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
    """What the names of a run's photos are below: a folder of photos, or the folder that their table lies in."""
    flavour = _flavour(photos)
    return str(flavour(photos).parent) if flavour(photos).suffix.lower() in TABLE_SUFFIXES else photos


def may_open(name: str, photos: str, *, has_base: bool = False) -> bool:
    """Whether a page may open a photo: one in the folder of the run's photos, on the machine that the page is read on.

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
    """How a path is to be read, wherever the run was made."""
    is_windows = DRIVE.match(path) or path.startswith("\\\\")
    return PureWindowsPath if is_windows else PurePosixPath
