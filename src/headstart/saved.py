"""A run that lies on the disk: what it says of itself, what it knows of its photos, and the photos that are still there.

Takes a run folder; gives everything that its report, plots and map are drawn from. It decides what counts as the same photo.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from headstart import datasets
from headstart.classifier import Classifier
from headstart.engine import Hardware
from headstart.errors import DataError, HeadstartError
from headstart.findings import Findings
from headstart.review import ISSUES
from headstart.tables import TABLE_SUFFIXES, ImageRef, TableImage

NEEDED = {"classes": list, "photos": str, "images": dict, "evaluation": dict}  # of run.json
ROW = re.compile(r"\.parquet#\d+$", re.IGNORECASE)  # of a name: the photo's bytes stand in a table


@dataclass(frozen=True)
class SavedRun:
    """A run folder. images: where each of the findings' photos lies, None for those that are gone."""

    folder: Path
    about: dict[str, Any]
    findings: Findings
    issues: list[dict[str, Any]]
    images: list[ImageRef | None]

    @property
    def n_gone(self) -> int:
        """How many photos are not where they were."""
        return sum(image is None for image in self.images)

    def classifier(self, hardware: Hardware = Hardware()) -> Classifier:
        """Load its classifier; raises ClassifierError where that is gone or damaged."""
        return Classifier.load(self.folder, hardware)


def open_run(folder: str | os.PathLike[str], *, photos: str | os.PathLike[str] | None = None) -> SavedRun:
    """Read a run folder; raises DataError where it is none, or of an earlier release.

    photos: where its photos lie now, if not where they lay.
    """
    folder = Path(folder)
    about, findings = read_about(folder), Findings.load(folder)
    is_of_one_run = about["images"].get("used") == len(findings.names)
    if len(findings.probabilities) and findings.probabilities.shape[1] != len(about["classes"]) or not is_of_one_run:
        raise DataError(f"the files of {folder} are not of one run; train again")
    if photos is not None and not os.path.exists(photos):
        raise DataError(f"there is no {os.fspath(photos)}; --photos names the folder or the table that was learnt from")
    where = about["photos"] if photos is None else photos
    images = _images(findings, where, about["photos"])
    if photos is not None and findings.names and not any(image is not None for image in images):
        raise DataError(f"none of the run's photos lies in {os.fspath(photos)}; --photos names what was learnt from")
    return SavedRun(folder, about, findings, _read_issues(folder / ISSUES), images)


def read_about(folder: Path) -> dict[str, Any]:
    """What a run folder's run.json says; raises DataError where there is none, or where it is not whole."""
    path = folder / "run.json"
    about = _read_json(path)
    lacking = [name for name, kind in NEEDED.items() if not isinstance(about.get(name), kind)]
    if lacking:
        raise DataError(f"{path} does not say its {' and '.join(lacking)} as headstart wrote them; train again")
    return about


def _read_issues(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    issues = _read_json(path).get("issues")
    if not isinstance(issues, list) or not all(isinstance(i, dict) and isinstance(i.get("kind"), str) for i in issues):
        raise DataError(f"{path} does not hold issues as headstart wrote them; remove it, or train again")
    return issues


def _read_json(path: Path) -> dict[str, Any]:
    try:
        told = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"there is no {path}; name a run folder, as `headstart train` makes it, not a file in it") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read, or is not whole: {error}") from error
    if not isinstance(told, dict):
        raise DataError(f"{path} is not what headstart wrote there")
    return told


def _images(findings: Findings, photos: str | os.PathLike[str], before: str) -> list[ImageRef | None]:
    """Find each photo by its place below the folder or beside the table, which may have been moved; else by its name.

    Files are looked for one by one: a folder that has changed meanwhile may be none that could be learnt from.
    """
    base, base_before = _base(os.path.abspath(photos)), _base(before)
    rows = _table_rows(photos, base) if any(ROW.search(name) for name in findings.names) else {}
    found: list[ImageRef | None] = []
    for name in findings.names:
        places = list(_places(name, base_before))
        files = [*(os.path.join(base, place) for place in places), *([name] if os.path.isabs(name) else [])]
        in_table = (rows[place] for place in places if place in rows)
        found.append(next(in_table, None) or next((file for file in files if os.path.isfile(file)), None))
    return found


def _table_rows(photos: str | os.PathLike[str], base: str) -> dict[str, TableImage]:
    """The photos whose bytes stand in tables, by their place below a folder; none where the tables cannot be read now."""
    try:
        images = datasets.load_dataset(photos).images
    except HeadstartError:
        return {}
    return {os.path.relpath(str(image), base): image for image in images if isinstance(image, TableImage)}


def _base(photos: str) -> str:
    """What names are below: a folder of photos, or the folder that a table lies in."""
    return os.path.dirname(photos) if PurePath(photos).suffix.lower() in TABLE_SUFFIXES else photos


def _places(name: str, base: str) -> Iterator[str]:
    """Where below a folder a photo may have lain, the likeliest first: its name may be relative to where the run was made,
    which nobody knows any more."""
    path = PurePath(os.path.normpath(name))
    if path.is_absolute():
        with contextlib.suppress(ValueError):  # another drive
            yield os.path.relpath(path, base)
        return
    parts = tuple(itertools.dropwhile(lambda part: part == os.pardir, path.parts))
    tail = PurePath(base).parts
    for n in range(len(parts) - 1, -1, -1):
        if n == 0 or parts[:n] == tail[-n:]:
            yield os.path.join(*parts[n:])
