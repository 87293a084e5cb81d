"""From a folder or a table to a Dataset: references to images, a label for each, and the splits that the data gives.

Takes a folder per class, `train/ val/ test/` folders with classes inside, a CSV or Parquet table, or a folder of Parquet
files. It decides what counts as a class and what is passed over; it reads no image.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from headstart.data.decoding import Failure, read_bytes
from headstart.data.labels import SEPARATOR, counts, encode, natural_key
from headstart.data.splits import SPLIT_NAMES, TRAIN, UNASSIGNED
from headstart.data.tables import TABLE_SUFFIXES, ImageRef, TableRow, outside, read_table, split_of_name
from headstart.errors import DataError
from headstart.wording import listed

EXCLUDED = "excluded by the fixes"  # how the reason begins, of an image that the user left out
DEEPEST = 10  # folders in each other that are looked through for the classes; links may go round
NO_CLASS = "the folder holds no images, so it is no class"
PASSED_OVER = {"thumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin", "system volume information"}


class Skipped(NamedTuple):
    """A file that is left out, with the reason."""

    path: str
    reason: str


@dataclass(frozen=True)
class Dataset:
    """Images by reference, with their labels.

    labels: (n,) int64, positions in `classes`; (n, k) uint8 where a table's images have several labels. splits: (n,) int8,
    positions in SPLITS, or UNASSIGNED where the data does not say. skipped: what was found beside them and left out. notes:
    what the user should know of where they lie.
    """

    images: Sequence[ImageRef]
    labels: np.ndarray
    classes: tuple[str, ...]
    splits: np.ndarray
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()


def load_dataset(path: str | os.PathLike[str], *, is_learnt: bool = True) -> Dataset:
    """List a folder's or a table's images; reads no image yet.

    is_learnt: False for images that only judge, which may be of one class, or one of a class.

    Raises DataError, with what to do, for everything that cannot be learnt from: see the tests for the whole list.
    """
    root = Path(path)
    if not os.path.exists(path):  # of the path itself: Path("") is the current folder, and raises for too long a name
        raise DataError(f"there is no {root}{_nearby(root)}")
    if root.is_file():
        if root.suffix.lower() not in TABLE_SUFFIXES:
            raise DataError(
                f"{root} is a file; expected a folder with a folder per class, or a table "
                f"({', '.join(TABLE_SUFFIXES)}); an archive must be unpacked first"
            )
        rows = read_table(root)
        dataset = replace(_from_rows(rows, root), notes=_of_places(rows, root.parent, root))
    else:
        tables = sorted(p for p in root.glob("*.parquet") if p.is_file() and not is_passed_over(p.name))
        rows = [row for t in tables for row in read_table(t, split_of_name(t))]
        dataset = replace(_from_rows(rows, root), notes=_of_places(rows, root, root)) if tables else _from_folder(root)
    if is_learnt:
        check_classes(dataset.labels, dataset.classes, str(root))
    elif len(dataset.labels) == 0:
        raise DataError(f"{root} holds no images; expected {_LAYOUT}")
    return dataset


def check_classes(labels: np.ndarray, classes: Sequence[str], where: str) -> None:
    """Raise DataError unless there are at least two classes, one of them with at least two images.

    A class of a single image can be learnt, though nothing can judge it; usable.py says so.
    """
    if len(labels) == 0:
        raise DataError(f"{where} holds no images; expected {_LAYOUT}")
    if len(classes) == 1:
        raise DataError(
            f"{where} has one class only, {classes[0]!r}; a classifier needs at least two: add a folder with "
            "photos of what it is to be told apart from"
        )
    if counts(labels, len(classes)).max(initial=0) < 2:
        raise DataError(
            f"{where} has a single image of each class, so nothing is left to judge by; add photos, of one class at least"
        )


_LAYOUT = "a folder per class, as in photos/daisy/1.jpg and photos/roses/2.jpg"


def _quoted(names: Iterable[str]) -> str:
    return listed(map(repr, names), most=3)


def _nearby(path: Path) -> str:
    from difflib import get_close_matches

    try:
        near = get_close_matches(path.name, os.listdir(path.parent), n=1)
    except (OSError, ValueError):  # ValueError: a path with a NUL character
        return "" if os.path.isdir(path.parent) else f"; its folder {path.parent} does not exist either"
    return f"; did you mean {path.parent / near[0]}?" if near else ""


# ---- folders


def walk(folder: Path | str, skipped: list[Skipped]) -> Iterator[str]:
    """List the files below a folder in natural order; hidden ones and system leftovers are passed over.

    Links are followed, and each real folder is visited once, the folders above this one never, so that loops end. A
    folder that cannot be read goes to `skipped`.
    """
    seen = set()
    for parent in Path(os.path.abspath(folder)).parents:
        with contextlib.suppress(OSError):
            seen.add(_identity(parent))
    pending = [(os.fspath(folder), True)]
    while pending:
        path, is_folder = pending.pop()
        if not is_folder:
            yield path
            continue
        try:
            if (identity := _identity(path)) in seen:
                continue
            seen.add(identity)
            with os.scandir(path) as entries:
                found = [(e.name, e.path, _is_folder(e)) for e in entries if not is_passed_over(e.name)]
        except OSError as error:
            skipped.append(Skipped(path, f"the folder cannot be read: {error.strerror}"))
            continue
        found.sort(key=lambda entry: natural_key(entry[0]), reverse=True)
        pending += [(child, is_folder) for _, child, is_folder in found]


def _identity(path: str | Path) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or to where we may not look: a file that cannot be read, and will be told so
        return False


def is_passed_over(name: str) -> bool:
    """Whether a file or folder is hidden or a system's leftover."""
    return name.startswith(".") or name.casefold() in PASSED_OVER


def _listed(root: Path) -> tuple[list[Path], list[Path]]:
    """A folder's folders and files in natural order; headstart's own runs among them are passed over."""
    try:
        names = sorted((name for name in os.listdir(root) if not is_passed_over(name)), key=natural_key)
    except OSError as error:
        raise DataError(f"{root} cannot be read: {error.strerror}") from error
    folders: list[Path] = []
    files: list[Path] = []
    for name in names:
        (folders if os.path.isdir(root / name) else files).append(root / name)
    return [p for p in folders if not os.path.isfile(p / "run.json")], files


def _splits_of(root: Path, folders: Sequence[Path]) -> dict[Path, int]:
    """The folders that are splits, with classes inside; none where they are classes themselves.

    They are splits if there are no others, or if two of them hold folders: a class may be called `train`.
    """
    splits = {p: SPLIT_NAMES[p.name.casefold()] for p in folders if p.name.casefold() in SPLIT_NAMES}
    if len(splits) < len(folders) and sum(bool(_listed(p)[0]) for p in splits) < 2:
        return {}
    if splits and TRAIN not in splits.values():
        raise DataError(
            f"{root} has {', '.join(p.name for p in splits)} but no train folder; expected train/CLASS/photo.jpg"
        )
    return splits


def _from_folder(root: Path) -> Dataset:
    folders, files = _listed(root)
    by_split = _splits_of(root, folders)
    parts = [(*_listed(p), split) for p, split in by_split.items()] or [(folders, [], UNASSIGNED)]
    loose = files + [p for _, in_part, _ in parts for p in in_part]
    skipped = [Skipped(str(p), "it is in no class's folder") for p in loose]
    if by_split:
        skipped += [
            Skipped(str(p), "it is none of the train, validation and test folders") for p in folders if p not in by_split
        ]
    images: list[ImageRef] = []
    names: list[str] = []
    splits: list[int] = []
    for class_folders, _, split in parts:
        for folder in class_folders:
            found = list(walk(folder, skipped))
            if len(found) == 1 and isinstance(failure := read_bytes(found[0]), Failure):
                skipped.append(Skipped(found.pop(), failure.reason))
            images += found
            names += [folder.name] * len(found)
            splits += [split] * len(found)
            if not found:
                skipped.append(Skipped(str(folder), NO_CLASS))
    if not images:
        raise DataError(f"{root} holds no images in folders{_instead(loose, skipped)}; expected {_LAYOUT}")
    if len(set(names)) == 1 and not by_split and _listed(root / names[0])[0]:
        below = _folder_of_classes(root / names[0])
        raise DataError(f"{root} holds the one folder {names[0]!r}, with folders inside; did you mean {below}?")
    labels, classes = encode(names, are_several=False)
    return Dataset(images, labels, classes, np.array(splits, np.int8), tuple(skipped))


def _folder_of_classes(folder: Path) -> Path:
    """Go down as long as a folder holds one folder alone, with folders inside: an archive in an archive's folder."""
    for _ in range(DEEPEST):
        folders = _listed(folder)[0]
        if len(folders) != 1 or not _listed(folders[0])[0]:
            break
        folder = folders[0]
    return folder


def _instead(loose: Sequence[Path], skipped: Sequence[Skipped]) -> str:
    """What a folder without images holds, for the message."""
    tables = [p for p in loose if p.suffix.lower() in TABLE_SUFFIXES]
    if tables:
        return f"; did you mean {tables[0]}?"
    if loose:
        return f"; {len(loose)} files lie in no class's folder"
    return f"; {skipped[0].path}: {skipped[0].reason}" if skipped else ""


# ---- tables


def _of_places(rows: Sequence[TableRow], folder: Path, name: Path) -> tuple[str, ...]:
    """Say which files a table, which may be a stranger's, names outside its own folder: they are read, and may be shown."""
    found = outside(rows, folder)
    if not found:
        return ()
    files = "1 file that lies" if len(found) == 1 else f"{len(found):,} files that lie"
    return (f"{name} names {files} outside its folder; the first: {found[0]}",)


def _from_rows(rows: Sequence[TableRow], name: Path) -> Dataset:
    rows = [r for r in rows if r.image or r.label]  # spreadsheets leave empty rows at the end
    for rows_without, what in (
        ([r.where for r in rows if not r.image], "a label but no image"),
        ([r.where for r in rows if not r.label], "an image but no label"),
    ):
        if rows_without:
            raise DataError(f"{len(rows_without)} of {len(rows)} rows of {name} have {what}: {_quoted(rows_without)}")
    missing = [r.image for r in rows if isinstance(r.image, str) and not os.path.exists(r.image)]
    if missing:
        raise DataError(
            f"{name} names {len(missing)} files that do not exist: {_quoted(missing)}; a path is relative to the "
            "table's folder"
        )
    unknown = sorted({r.split for r in rows if r.split and r.split.casefold() not in SPLIT_NAMES})
    if unknown:
        raise DataError(f"{name} has the unknown split {_quoted(unknown)}; known: {', '.join(SPLIT_NAMES)}, or empty")
    splits = [SPLIT_NAMES[r.split.casefold()] if r.split else UNASSIGNED for r in rows]
    if rows and not {TRAIN, UNASSIGNED} & set(splits):
        raise DataError(f"{name} has no image to learn from: every row is in the validation or test split")
    images = [r.image for r in rows if r.image]
    names = [r.label for r in rows if r.label]
    labels, classes = encode(names, are_several=any(SEPARATOR in name for name in names))
    return Dataset(images, labels, classes, np.array(splits, np.int8))
