"""The cache folder: made for its user alone, and refused where another user could have written to it.

Codes, networks and checkpoints in it are trusted. It decides whose folder it may be.
"""

from __future__ import annotations

import os
from pathlib import Path

from headstart.errors import CacheError

FOR_ITS_USER_ALONE = 0o700
ROOT = 0  # may write anywhere in any case


def make_cache_folder(folder: Path) -> None:
    """Make the cache folder if there is none; raises CacheError where it cannot be made, and where it is another user's."""
    try:
        folder.mkdir(mode=FOR_ITS_USER_ALONE, parents=True, exist_ok=True)
    except OSError as error:
        raise CacheError(
            f"the cache folder {folder} cannot be made: {error.strerror}; choose another with --cache DIR or HEADSTART_CACHE"
        ) from error
    check_owner(folder)


def is_usable(folder: Path, *below: Path) -> bool:
    """Make the cache folder; give whether it and some paths below it may be used, for work that can do without a cache."""
    try:
        make_cache_folder(folder)
        for path in below:
            check_owner(path)
    except CacheError:
        return False
    return True


def check_owner(path: Path) -> None:
    """Raise CacheError where a folder or file belongs to another user, who could have written anything there.

    Files of root's are trusted; where root itself runs this process, only those. Where there are no user ids, as on
    Windows, nothing is checked.
    """
    if not hasattr(os, "geteuid"):
        return
    try:
        owner, own = os.stat(path).st_uid, os.geteuid()
    except FileNotFoundError:
        return
    except OSError as error:
        raise CacheError(f"the cache {path} cannot be used: {error.strerror}; choose another with --cache DIR") from error
    if owner not in (own, ROOT):
        raise CacheError(
            f"the cache {path} belongs to another user (id {owner}, and this is {own}), so what lies there is not believed; "
            "choose another with --cache DIR or HEADSTART_CACHE, or make it yours with chown"
        )


def default_cache_dir() -> Path:
    """The path in HEADSTART_CACHE, else the user's cache folder of this system; no folder is made."""
    from platformdirs import user_cache_path

    return Path(os.environ.get("HEADSTART_CACHE") or user_cache_path("headstart", appauthor=False))
