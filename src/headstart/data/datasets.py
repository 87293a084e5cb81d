"""Turns a folder or a table into a Dataset: references to images, a label for each, and the splits that the data gives.

Takes a folder per class, `train/ val/ test/` folders with classes inside, a CSV or Parquet table, or a folder of Parquet
files. It decides what counts as a class and what is skipped; it reads no image.
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
from headstart.data.tables import TABLE_SUFFIXES, ImageRef, TableRow, files_outside, read_table, split_of_name
from headstart.errors import DataError
from headstart.wording import listed

DEEPEST = 10  # folders in each other that are looked through for the classes; links may go round
EXCLUDED = "excluded by the fixes"  # the beginning of the reason why an image is skipped that the user excluded
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
    positions in SPLITS, or UNASSIGNED where the data does not say. skipped: files that are no images of a class, with the
    reasons. notes: sentences for the user about where the images lie.
    """

    images: Sequence[ImageRef]
    labels: np.ndarray
    classes: tuple[str, ...]
    splits: np.ndarray
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()


def load_dataset(path: str | os.PathLike[str], *, is_learnt: bool = True) -> Dataset:
    """List a folder's or a table's images; reads no image yet.

    is_learnt: False for images that only test a classifier, which may be of one class, or one of a class. Raises DataError,
    with what to do, where there are no images, fewer than two classes, rows without a label or an image, or unknown splits.
    """
    root = Path(path)
    if not os.path.exists(path):  # of the path itself: Path("") is the current folder, and raises for too long a name
        raise DataError(f"there is no {root}{_suggest_path(root)}")
    if root.is_file():
        if root.suffix.lower() not in TABLE_SUFFIXES:
            raise DataError(
                f"{root} is a file; expected a folder with a folder per class, or a table "
                f"({', '.join(TABLE_SUFFIXES)}); an archive must be unpacked first"
            )
        rows = read_table(root)
        dataset = replace(_from_rows(rows, root), notes=_note_outside_files(rows, root.parent, root))
    else:
        tables = sorted(p for p in root.glob("*.parquet") if p.is_file() and not is_passed_over(p.name))
        rows = [row for t in tables for row in read_table(t, split_of_name(t))]
        dataset = (
            replace(_from_rows(rows, root), notes=_note_outside_files(rows, root, root)) if tables else _from_folder(root)
        )
    if is_learnt:
        check_classes(dataset.labels, dataset.classes, str(root))
    elif len(dataset.labels) == 0:
        raise DataError(f"{root} holds no images; expected {_EXPECTED_LAYOUT}")
    return dataset


def check_classes(labels: np.ndarray, classes: Sequence[str], where: str) -> None:
    """Raise DataError unless there are at least two classes, one of them with at least two images.

    A class of a single image can be learnt, though no image can test it; training/notes.py says so.
    """
    if len(labels) == 0:
        raise DataError(f"{where} holds no images; expected {_EXPECTED_LAYOUT}")
    if len(classes) == 1:
        raise DataError(
            f"{where} has one class only, {classes[0]!r}; a classifier needs at least two: add a folder with "
            "photos of what it is to be told apart from"
        )
    if counts(labels, len(classes)).max(initial=0) < 2:
        raise DataError(
            f"{where} has a single image of each class, so nothing is left to judge by; add photos, of one class at least"
        )


_EXPECTED_LAYOUT = "a folder per class, as in photos/daisy/1.jpg and photos/roses/2.jpg"


def _list_names(names: Iterable[str]) -> str:
    return listed(map(repr, names), most=3)


def _suggest_path(path: Path) -> str:
    from difflib import get_close_matches

    try:
        matches = get_close_matches(path.name, os.listdir(path.parent), n=1)
    except (OSError, ValueError):  # ValueError: a path with a NUL character
        return "" if os.path.isdir(path.parent) else f"; its folder {path.parent} does not exist either"
    return f"; did you mean {path.parent / matches[0]}?" if matches else ""


# ---- folders


def walk(folder: Path | str, skipped: list[Skipped]) -> Iterator[str]:
    """List the files below a folder in natural order, without hidden ones and system leftovers.

    Links are followed, and each real folder is visited once, the folders above this one never, so that loops end. A
    folder that cannot be read is added to `skipped`.
    """
    visited = set()
    for parent in Path(os.path.abspath(folder)).parents:
        with contextlib.suppress(OSError):
            visited.add(_file_identity(parent))
    pending = [(os.fspath(folder), True)]
    while pending:
        path, is_folder = pending.pop()
        if not is_folder:
            yield path
            continue
        try:
            if (identity := _file_identity(path)) in visited:
                continue
            visited.add(identity)
            with os.scandir(path) as entries:
                children = [(e.name, e.path, _is_folder(e)) for e in entries if not is_passed_over(e.name)]
        except OSError as error:
            skipped.append(Skipped(path, f"the folder cannot be read: {error.strerror}"))
            continue
        children.sort(key=lambda entry: natural_key(entry[0]), reverse=True)
        pending += [(child, is_folder) for _, child, is_folder in children]


def _file_identity(path: str | Path) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or to where we may not look: reported as a file that cannot be read
        return False


def is_passed_over(name: str) -> bool:
    """Whether a file or folder is hidden or a system's leftover."""
    return name.startswith(".") or name.casefold() in PASSED_OVER


def _list_folder(root: Path) -> tuple[list[Path], list[Path]]:
    """List a folder's folders and files in natural order, without headstart's own run folders."""
    try:
        names = sorted((name for name in os.listdir(root) if not is_passed_over(name)), key=natural_key)
    except OSError as error:
        raise DataError(f"{root} cannot be read: {error.strerror}") from error
    folders: list[Path] = []
    files: list[Path] = []
    for name in names:
        (folders if os.path.isdir(root / name) else files).append(root / name)
    return [p for p in folders if not os.path.isfile(p / "run.json")], files


def _split_folders(root: Path, folders: Sequence[Path]) -> dict[Path, int]:
    """Find the folders that are splits, with classes inside; none where they are classes themselves.

    They are splits if there are no other folders, or if two of them hold folders: a class may be called `train`.
    """
    splits = {p: SPLIT_NAMES[p.name.casefold()] for p in folders if p.name.casefold() in SPLIT_NAMES}
    if len(splits) < len(folders) and sum(bool(_list_folder(p)[0]) for p in splits) < 2:
        return {}
    if splits and TRAIN not in splits.values():
        raise DataError(
            f"{root} has {', '.join(p.name for p in splits)} but no train folder; expected train/CLASS/photo.jpg"
        )
    return splits


def _from_folder(root: Path) -> Dataset:
    folders, files = _list_folder(root)
    by_split = _split_folders(root, folders)
    parts = [(*_list_folder(p), split) for p, split in by_split.items()] or [(folders, [], UNASSIGNED)]
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
            files_of_class = list(walk(folder, skipped))
            if len(files_of_class) == 1 and isinstance(failure := read_bytes(files_of_class[0]), Failure):
                skipped.append(Skipped(files_of_class.pop(), failure.reason))
            images += files_of_class
            names += [folder.name] * len(files_of_class)
            splits += [split] * len(files_of_class)
            if not files_of_class:
                skipped.append(Skipped(str(folder), NO_CLASS))
    if not images:
        raise DataError(
            f"{root} holds no images in folders{_describe_contents(loose, skipped)}; expected {_EXPECTED_LAYOUT}"
        )
    if len(set(names)) == 1 and not by_split and _list_folder(root / names[0])[0]:
        below = _folder_of_classes(root / names[0])
        raise DataError(f"{root} holds the one folder {names[0]!r}, with folders inside; did you mean {below}?")
    labels, classes = encode(names, are_several=False)
    return Dataset(images, labels, classes, np.array(splits, np.int8), tuple(skipped))


def _folder_of_classes(folder: Path) -> Path:
    """Go down as long as a folder holds one folder alone, with folders inside: an archive in an archive's folder."""
    for _ in range(DEEPEST):
        folders = _list_folder(folder)[0]
        if len(folders) != 1 or not _list_folder(folders[0])[0]:
            break
        folder = folders[0]
    return folder


def _describe_contents(loose: Sequence[Path], skipped: Sequence[Skipped]) -> str:
    """Describe what a folder without images holds, for the message."""
    tables = [p for p in loose if p.suffix.lower() in TABLE_SUFFIXES]
    if tables:
        return f"; did you mean {tables[0]}?"
    if loose:
        return f"; {len(loose)} files lie in no class's folder"
    return f"; {skipped[0].path}: {skipped[0].reason}" if skipped else ""


# ---- tables


def _note_outside_files(rows: Sequence[TableRow], folder: Path, name: Path) -> tuple[str, ...]:
    """Note the files that a table names outside its folder: they are read and may be shown, and it may be a stranger's."""
    paths = files_outside(rows, folder)
    if not paths:
        return ()
    files = "1 file that lies" if len(paths) == 1 else f"{len(paths):,} files that lie"
    return (f"{name} names {files} outside its folder; the first: {paths[0]}",)


def _from_rows(rows: Sequence[TableRow], name: Path) -> Dataset:
    rows = [r for r in rows if r.image or r.label]  # spreadsheets leave empty rows at the end
    for rows_without, what in (
        ([r.where for r in rows if not r.image], "a label but no image"),
        ([r.where for r in rows if not r.label], "an image but no label"),
    ):
        if rows_without:
            raise DataError(f"{len(rows_without)} of {len(rows)} rows of {name} have {what}: {_list_names(rows_without)}")
    missing_files = [r.image for r in rows if isinstance(r.image, str) and not os.path.exists(r.image)]
    if missing_files:
        raise DataError(
            f"{name} names {len(missing_files)} files that do not exist: {_list_names(missing_files)}; "
            "a path is relative to the table's folder"
        )
    unknown_splits = sorted({r.split for r in rows if r.split and r.split.casefold() not in SPLIT_NAMES})
    if unknown_splits:
        raise DataError(
            f"{name} has the unknown split {_list_names(unknown_splits)}; known: {', '.join(SPLIT_NAMES)}, or empty"
        )
    splits = [SPLIT_NAMES[r.split.casefold()] if r.split else UNASSIGNED for r in rows]
    if rows and not {TRAIN, UNASSIGNED} & set(splits):
        raise DataError(f"{name} has no image to learn from: every row is in the validation or test split")
    images = [r.image for r in rows if r.image]
    names = [r.label for r in rows if r.label]
    labels, classes = encode(names, are_several=any(SEPARATOR in name for name in names))
    return Dataset(images, labels, classes, np.array(splits, np.int8))
