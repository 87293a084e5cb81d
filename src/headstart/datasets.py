"""From a folder or a table to a Dataset: references to images, a label for each, and the splits.

Takes a folder per class, `train/ val/ test/` folders with classes inside, a CSV or Parquet table, or a folder of Parquet
files. It decides what counts as a class, and which split each image belongs to: by its content and the seed alone, so that
adding, moving or renaming photos never moves another, and byte-identical images always share a split.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import threading
from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from headstart.errors import DataError, MissingExtra
from headstart.images import Failure, ImageSource

SPLITS = ("train", "validation", "test")
TRAIN, VALIDATION, TEST = range(3)
UNASSIGNED = -1
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("val", "valid", "validation", "dev"), VALIDATION),
    **dict.fromkeys(("test", "testing"), TEST),
}
PASSED_OVER = {"thumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin", "system volume information"}
TABLE_SUFFIXES = (".csv", ".tsv", ".parquet")
IMAGE_COLUMNS = ("path", "image", "file_name", "filename", "file")
LABEL_COLUMNS = ("label", "class")


class TableImage(NamedTuple):
    """An image whose bytes stand in a row of a Parquet file."""

    table: ParquetImages
    row: int

    def __str__(self) -> str:
        return f"{self.table.path}#{self.row}"

    def read(self) -> bytes | Failure:
        """Read the row's bytes."""
        return self.table.read(self.row)


ImageRef: TypeAlias = "ImageSource | TableImage"


class Skipped(NamedTuple):
    """A file that is left out, with the reason."""

    path: str
    reason: str


@dataclass(frozen=True)
class Dataset:
    """Images by reference, with their labels.

    labels: (n,) int64, positions in `classes`. splits: (n,) int8, positions in SPLITS, or UNASSIGNED where the data does
    not say. skipped: what was found beside them and left out.
    """

    images: Sequence[ImageRef]
    labels: np.ndarray
    classes: tuple[str, ...]
    splits: np.ndarray
    skipped: tuple[Skipped, ...] = ()


def load_dataset(path: str | os.PathLike[str]) -> Dataset:
    """List a folder's or a table's images; reads no image yet.

    Raises DataError, with what to do, for everything that cannot be learnt from: see the tests for the whole list.
    """
    root = Path(path)
    if not root.exists():
        raise DataError(f"there is no {root}{_nearby(root)}")
    if root.is_file():
        if root.suffix.lower() not in TABLE_SUFFIXES:
            raise DataError(
                f"{root} is a file; expected a folder with a folder per class, or a table "
                f"({', '.join(TABLE_SUFFIXES)}); an archive must be unpacked first"
            )
        dataset = _from_rows(_read_table(root), [root])
    else:
        tables = sorted(p for p in root.glob("*.parquet") if not p.name.startswith("."))
        dataset = _from_rows([row for t in tables for row in _read_table(t)], tables) if tables else _from_folder(root)
    check_classes(dataset.labels, dataset.classes, str(root))
    return dataset


def natural_key(name: str) -> tuple[Any, ...]:
    """Sort `class 2` before `class 10`; upper and lower case together, ties by the name itself."""
    parts = re.split(r"(\d+)", name)
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p.casefold()) for p in parts if p], name  # type: ignore[return-value]


def check_classes(labels: np.ndarray, classes: Sequence[str], where: str) -> None:
    """Raise DataError unless there are at least two classes, each with at least two images."""
    if len(labels) == 0:
        raise DataError(f"{where} holds no images; expected {_LAYOUT}")
    if len(classes) == 1:
        raise DataError(
            f"{where} has one class only, {classes[0]!r}; a classifier needs at least two: add a folder with "
            "photos of what it is to be told apart from"
        )
    counts = np.bincount(labels, minlength=len(classes))
    few = [name for name, n in zip(classes, counts, strict=True) if n < 2]
    if few:
        raise DataError(
            f"{_some(few)} {'has' if len(few) == 1 else 'have'} a single image; a class needs at least two, "
            "one to learn from and one to test with: add photos, or take the class out"
        )


_LAYOUT = "a folder per class, as in photos/daisy/1.jpg and photos/roses/2.jpg"


def _some(names: Sequence[str], most: int = 3) -> str:
    shown = ", ".join(repr(n) for n in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def _nearby(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f"; its folder {folder} does not exist either"
    from difflib import get_close_matches

    near = get_close_matches(path.name, os.listdir(folder), n=1)
    return f"; did you mean {folder / near[0]}?" if near else ""


# ---- folders


def walk(folder: Path | str, skipped: list[Skipped]) -> Iterator[str]:
    """List the files below a folder in natural order; hidden ones and system leftovers are passed over.

    Links are followed, and each real folder is visited once, so that loops end. A folder that cannot be read goes to
    `skipped`.
    """
    seen: set[tuple[int, int]] = set()

    def visit(path: str) -> Iterator[str]:
        try:
            status = os.stat(path)
            if (status.st_dev, status.st_ino) in seen:
                return
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(path) as entries:
                found = [(e.name, e.path, e.is_dir()) for e in entries if not is_passed_over(e.name)]
        except OSError as error:
            skipped.append(Skipped(path, f"the folder cannot be read: {error.strerror}"))
            return
        found.sort(key=lambda entry: natural_key(entry[0]))
        for _, child, is_folder in found:
            if is_folder:
                yield from visit(child)
            else:
                yield child

    yield from visit(os.fspath(folder))


def is_passed_over(name: str) -> bool:
    """Whether a file or folder is hidden or a system's leftover."""
    return name.startswith(".") or name.casefold() in PASSED_OVER


def _folders(root: Path) -> list[Path]:
    try:
        entries = [p for p in root.iterdir() if not is_passed_over(p.name) and p.is_dir()]
    except OSError as error:
        raise DataError(f"{root} cannot be read: {error.strerror}") from error
    return sorted((p for p in entries if not (p / "run.json").is_file()), key=lambda p: natural_key(p.name))


def _from_folder(root: Path) -> Dataset:
    folders = _folders(root)
    by_split = {p: SPLIT_NAMES.get(p.name.casefold()) for p in folders}
    is_split = bool(folders) and None not in by_split.values() and any(_folders(p) for p in folders)
    parts = [(p, by_split[p]) for p in folders] if is_split else [(root, UNASSIGNED)]
    skipped: list[Skipped] = []
    images: list[ImageRef] = []
    names: list[str] = []
    splits: list[int | None] = []
    for part, split in parts:
        for p in sorted((p for p in part.iterdir() if not p.is_dir() and not is_passed_over(p.name)), key=lambda p: p.name):
            skipped.append(Skipped(str(p), "it is in no class's folder"))
        for folder in _folders(part):
            before = len(images)
            images.extend(walk(folder, skipped))
            names += [folder.name] * (len(images) - before)
            splits += [split] * (len(images) - before)
            if len(images) == before:
                skipped.append(Skipped(str(folder), "the folder holds no files, so it is no class"))
    if not images:
        loose = f"; {len(skipped)} files lie in no class's folder" if skipped else ""
        raise DataError(f"{root} holds no images in folders{loose}; expected {_LAYOUT}")
    if is_split and TRAIN not in by_split.values():
        raise DataError(
            f"{root} has {', '.join(p.name for p in folders)} but no train folder; expected train/CLASS/photo.jpg"
        )
    return _dataset(images, names, splits, skipped)


def _dataset(
    images: Sequence[ImageRef], names: Sequence[str], splits: Sequence[int | None], skipped: Sequence[Skipped] = ()
) -> Dataset:
    classes = tuple(sorted(set(names), key=natural_key))
    position = {name: i for i, name in enumerate(classes)}
    labels = np.array([position[name] for name in names], np.int64)
    return Dataset(images, labels, classes, np.array(splits, np.int8), tuple(skipped))


# ---- tables


class _TableRow(NamedTuple):
    where: str  # for messages: file and row
    image: str | TableImage | None
    label: str | None
    split: str | None


def _from_rows(rows: Sequence[_TableRow], tables: Sequence[Path]) -> Dataset:
    name = str(tables[0]) if len(tables) == 1 else str(tables[0].parent)
    for rows_without, what in (
        ([r.where for r in rows if not r.image], "a label but no image"),
        ([r.where for r in rows if r.image and not r.label], "an image but no label"),
    ):
        if rows_without:
            raise DataError(f"{len(rows_without)} of {len(rows)} rows of {name} have {what}: {_some(rows_without)}")
    missing = [str(r.image) for r in rows if isinstance(r.image, str) and not os.path.exists(r.image)]
    if missing:
        raise DataError(
            f"{name} names {len(missing)} files that do not exist: {_some(missing)}; a path is relative to the "
            "table's folder"
        )
    unknown = sorted({r.split for r in rows if r.split and r.split.casefold() not in SPLIT_NAMES})
    if unknown:
        raise DataError(f"{name} has the unknown split {_some(unknown)}; known: {', '.join(SPLIT_NAMES)}, or empty")
    splits = [SPLIT_NAMES[r.split.casefold()] if r.split else UNASSIGNED for r in rows]
    if rows and not {TRAIN, UNASSIGNED} & set(splits):
        raise DataError(f"{name} has no image to learn from: every row is in the validation or test split")
    return _dataset([r.image for r in rows if r.image], [r.label for r in rows if r.label], splits)


def _column(found: Sequence[str], wanted: Sequence[str], table: Path) -> str:
    """The table's own name for a column, found whatever its case."""
    by_name = {name.strip().casefold(): name for name in reversed(found)}
    for name in wanted:
        if name in by_name:
            return by_name[name]
    raise DataError(f"{table} has no column {' or '.join(wanted[:2])}; its columns: {', '.join(found) or 'none'}")


def _read_table(table: Path) -> list[_TableRow]:
    try:
        return _read_parquet(table) if table.suffix.lower() == ".parquet" else _read_csv(table)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table} cannot be read: {error}") from error


def _read_csv(table: Path) -> list[_TableRow]:
    with table.open(newline="", encoding="utf-8-sig") as file:
        header = file.readline()
        file.seek(0)
        delimiter = max(",;\t", key=header.count)
        reader = csv.DictReader(file, delimiter=delimiter)
        found = [name for name in reader.fieldnames or [] if name]
        image, label = _column(found, IMAGE_COLUMNS, table), _column(found, LABEL_COLUMNS, table)
        split = next((name for name in found if name.strip().casefold() == "split"), None)
        return [
            _TableRow(
                f"row {reader.line_num}",
                _beside(table, row[image]),
                (row[label] or "").strip(),
                (row[split] or "").strip() if split else None,
            )
            for row in reader
        ]


def _beside(table: Path, path: str | None) -> str | None:
    path = (path or "").strip()
    return os.path.join(table.parent, path) if path else None


def _read_parquet(table: Path) -> list[_TableRow]:
    images = ParquetImages(table)
    file = images.file
    found = list(file.schema_arrow.names)
    image, label = _column(found, ("image", *IMAGE_COLUMNS), table), _column(found, LABEL_COLUMNS, table)
    split = next((name for name in found if name.casefold() == "split"), None)
    kind = file.schema_arrow.field(image).type
    labels = _parquet_labels(file, label)
    n = len(labels)
    splits = file.read([split]).column(0).to_pylist() if split else [_split_of_name(table)] * n
    import pyarrow

    if pyarrow.types.is_struct(kind) or pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind):
        images.column = image
        refs: list[str | TableImage | None] = [TableImage(images, i) for i in range(n)]
    else:
        refs = [_beside(table, str(p) if p is not None else None) for p in file.read([image]).column(0).to_pylist()]
    return [
        _TableRow(f"row {i + 1}", ref, text, s) for i, (ref, text, s) in enumerate(zip(refs, labels, splits, strict=True))
    ]


def _split_of_name(table: Path) -> str | None:
    """`train.parquet` and `test-00000-of-00001.parquet` say which split they hold."""
    word = re.split(r"[^a-z]", table.name.casefold())[0]
    return word if word in SPLIT_NAMES else None


def _parquet_labels(file: Any, column: str) -> list[str | None]:
    """Labels as text; whole numbers take their names from Hugging Face's metadata where the file has it."""
    values = file.read([column]).column(0).to_pylist()
    metadata = (file.schema_arrow.metadata or {}).get(b"huggingface")
    names: Any = None
    if metadata:
        try:
            names = json.loads(metadata)["info"]["features"][column].get("names")
        except (ValueError, KeyError, TypeError, AttributeError):
            names = None
    if names and all(isinstance(v, int) and 0 <= v < len(names) for v in values if v is not None):
        return [None if v is None else str(names[v]) for v in values]
    return [None if v is None else str(v).strip() for v in values]


class ParquetImages:
    """The image column of a Parquet file, read a row group at a time; any number of threads may read."""

    def __init__(self, path: Path) -> None:
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError as error:
            raise MissingExtra("reading Parquet", "parquet") from error
        self.path = path
        try:
            self.file = pyarrow.parquet.ParquetFile(path)
        except (pyarrow.ArrowException, OSError) as error:
            raise DataError(f"{path} is not a valid Parquet file: {error}") from error
        groups = [self.file.metadata.row_group(i).num_rows for i in range(self.file.num_row_groups)]
        self.starts = np.concatenate([[0], np.cumsum(groups)]).astype(int)
        self.column = ""
        self._lock = threading.Lock()
        self._groups: OrderedDict[int, Any] = OrderedDict()

    def read(self, row: int) -> bytes | Failure:
        """Read the bytes of one row's image, or follow the path that stands there instead of bytes."""
        from headstart.images import read_bytes

        group = int(np.searchsorted(self.starts, row, side="right")) - 1
        value = self._group(group)[row - int(self.starts[group])].as_py()
        if isinstance(value, dict):
            if value.get("bytes") is None and value.get("path"):
                return read_bytes(os.path.join(self.path.parent, value["path"]))
            value = value.get("bytes")
        return value if value else Failure("empty", "the row holds no bytes")

    def _group(self, group: int) -> Any:
        # Readers move through a table in order, so two groups are enough: one being finished, one being begun.
        with self._lock:
            if group not in self._groups:
                self._groups[group] = self.file.read_row_group(group, columns=[self.column]).column(0)
                while len(self._groups) > 2:
                    self._groups.popitem(last=False)
            return self._groups[group]


# ---- splits


def assign_splits(
    given: np.ndarray, digests: Sequence[bytes], labels: np.ndarray, *, seed: int, validation: float, test: float
) -> np.ndarray:
    """Complete the splits: (n,) int8, positions in SPLITS, from the (n,) given ones and each image's sha256.

    Each image draws a number in [0, 1) from its content and the seed; the lowest `test` of them are the test split, the
    next `validation` the validation split. A split that the data gives is not drawn for. So shares are met on average
    in every class, and nothing that happens to one photo moves another. The one exception: a class whose every image
    drew the test split keeps the image of the highest number in train, for it could not be learnt at all.
    """
    splits = given.astype(np.int8).copy()
    drawn = np.isin(splits, (UNASSIGNED, TRAIN) if _given(given, TRAIN) else (UNASSIGNED,))
    test_share = 0.0 if _given(given, TEST) else test
    validation_share = 0.0 if _given(given, VALIDATION) else validation
    numbers = np.array([_draw(digest, seed) for digest in digests])
    splits[drawn] = TRAIN
    splits[drawn & (numbers < test_share + validation_share)] = VALIDATION
    splits[drawn & (numbers < test_share)] = TEST
    for label in set(labels.tolist()) - set(labels[splits != TEST].tolist()):
        of_class = drawn & (labels == label)
        if of_class.any():
            splits[of_class & (numbers == numbers[of_class].max())] = TRAIN
    return splits


def _given(splits: np.ndarray, split: int) -> bool:
    return bool((splits == split).any())


def _draw(digest: bytes, seed: int) -> float:
    return int.from_bytes(hashlib.sha256(f"split {seed} ".encode() + digest).digest()[:8], "big") / 2**64


def leaks(splits: np.ndarray, digests: Sequence[bytes]) -> np.ndarray:
    """Positions of images whose very bytes stand in a later split too (train < validation < test): (m,) int64."""
    highest: dict[bytes, int] = {}
    for digest, split in zip(digests, splits.tolist(), strict=True):
        highest[digest] = max(highest.get(digest, 0), split)
    return np.array([i for i, (d, s) in enumerate(zip(digests, splits.tolist(), strict=True)) if s < highest[d]], np.int64)


def n_contradictions(labels: np.ndarray, digests: Sequence[bytes]) -> int:
    """How many different images stand under more than one label, byte for byte the same."""
    pairs = set(zip(digests, labels.tolist(), strict=True))
    return sum(n > 1 for n in Counter(digest for digest, _ in pairs).values())
