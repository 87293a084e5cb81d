"""Reads labelled tables, CSV and Parquet; and tells by its sha256 whether an image is still the same photo.

Takes a table; gives a TableRow for each of its rows. It decides which columns are meant; what the rows mean together is
for datasets.py to say.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from headstart.data.decoding import Failure, ImageSource, read_bytes
from headstart.data.images import display_name
from headstart.data.splits import SPLIT_NAMES
from headstart.errors import DataError, MissingExtra

if TYPE_CHECKING:
    from PIL import Image


TABLE_SUFFIXES = (".csv", ".tsv", ".parquet")
WINDOW_ROWS = 1024  # of a Parquet file, between the first and the last that are being read
IMAGE_COLUMNS = ("path", "image", "img", "file_name", "filename", "file")
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


def content_of(image: ImageRef) -> Any:
    """Read an image's bytes, of a file or of a table's row, or a Failure; a picture or an array is given as it is."""
    if isinstance(image, TableImage):
        return image.read()
    if isinstance(image, (str, os.PathLike)):
        return read_bytes(image)
    return bytes(image) if isinstance(image, (bytearray, memoryview)) else image


def digest_of(content: Any) -> bytes:
    """Compute the sha256 of an image's bytes; of one without bytes, of the pixels and of all that changes their meaning."""
    if isinstance(content, bytes):
        return hashlib.sha256(content).digest()
    if isinstance(content, np.ndarray):
        description, pixels = f"array {content.shape} {content.dtype} ", content.tobytes()
    else:
        picture = content.convert("RGBA") if content.mode == "P" or content.has_transparency_data else content
        description, pixels = f"{picture.mode} {picture.size} {_orientation(content)} ", picture.tobytes()
    return hashlib.sha256(description.encode() + pixels).digest()


def _orientation(image: Image.Image) -> int | None:
    try:
        return image.getexif().get(0x0112)
    except Exception:  # noqa: BLE001  a damaged tag is no reason to lose the photo
        return None


def same_content_of(image: ImageRef, digest: bytes) -> Any:
    """Read an image again, as content_of does; a Failure as well if its sha256 is no longer this one."""
    content = content_of(image)
    if isinstance(content, Failure) or digest_of(content) == digest:
        return content
    return Failure("missing", "it is another photo by now")


def check_same(images: Sequence[ImageRef], digests: Sequence[bytes], new_digests: Sequence[bytes], doing: str) -> None:
    """Raise DataError, naming the first, where the sha256 of images has changed between two readings.

    doing: what happened between them, as in "the training ran".
    """
    changed = [display_name(image) for image, before, now in zip(images, digests, new_digests, strict=True) if before != now]
    if changed:
        more = f" and {len(changed) - 1:,} more" if len(changed) > 1 else ""
        raise DataError(
            f"{changed[0]}{more} changed while {doing}, so labels and codes may be of different photos; leave the photos "
            "alone and start again: what was computed of the others is kept"
        )


class TableRow(NamedTuple):
    """A row of a table, as text; None or empty where a cell is."""

    where: str  # for messages
    image: str | TableImage | None
    label: str | None
    split: str | None


def read_table(table: Path, split: str | None = None) -> list[TableRow]:
    """List a table's rows; `split` is theirs where the table has no column of that name."""
    return _read_parquet(table, split) if table.suffix.lower() == ".parquet" else _read_csv(table)


def _columns(names: Sequence[str], image_columns: Sequence[str], table: Path) -> tuple[str, str, str | None]:
    """Find the columns of images, labels and splits by their names, in upper or lower case."""
    split = _column(names, ("split",), table) if "split" in map(_normalised, names) else None
    return _column(names, image_columns, table), _column(names, LABEL_COLUMNS, table), split


def _column(names: Sequence[str], accepted: Sequence[str], table: Path) -> str:
    for name in accepted:
        matching = [f for f in names if _normalised(f) == name]
        if len(matching) > 1:
            raise DataError(f"{table} has {len(matching)} columns called {name}; which one counts? rename the others")
        if matching:
            return matching[0]
    raise DataError(f"{table} has no column {accepted[0]} or {accepted[1]}; its columns: {', '.join(names) or 'none'}")


def _normalised(name: str) -> str:
    return name.strip().casefold()


def _read_csv(table: Path) -> list[TableRow]:
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            header = file.readline()
            file.seek(0)
            reader = csv.DictReader(file, delimiter=max(",;\t", key=header.count))
            names = [name for name in reader.fieldnames or [] if name]
            image, label, split = _columns(names, IMAGE_COLUMNS, table)
            return [
                TableRow(
                    f"line {reader.line_num}",
                    _resolve_path(table, row[image]),
                    (row[label] or "").strip(),
                    (row[split] or "").strip() if split else None,
                )
                for row in reader
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table} cannot be read: {error}; expected text in UTF-8, with commas between columns") from error


def _resolve_path(table: Path, path: str | None) -> str | None:
    path = (path or "").strip()
    return os.path.join(table.parent, path) if path else None


def _read_parquet(table: Path, split: str | None) -> list[TableRow]:
    images = ParquetImages(table)
    image, label, split_column = _columns(images.schema.names, ("image", *IMAGE_COLUMNS), table)
    labels = _names_of_labels(images.column_values(label), label, images.schema.metadata)
    splits = images.column_values(split_column) if split_column else [split] * len(labels)
    refs: list[str | TableImage | None]
    if images.hold_bytes(image):
        images.column = image
        refs = [TableImage(images, i) for i in range(len(labels))]
    else:
        refs = [_resolve_path(table, path) for path in images.column_values(image)]
    return [
        TableRow(f"row {i}", ref, _stripped(name), _stripped(s))
        for i, (ref, name, s) in enumerate(zip(refs, labels, splits, strict=True), start=1)
    ]


def files_outside(rows: Sequence[TableRow], folder: Path) -> list[str]:
    """List the files outside a folder that rows name, or that rows of Parquet name instead of holding bytes."""
    images = [row.image for row in rows]
    tables = dict.fromkeys(image.table for image in images if isinstance(image, TableImage))
    paths = [
        *(image for image in images if isinstance(image, str)),
        *(path for table in tables for path in table.paths_in_rows()),
    ]
    start, inside = os.path.join(folder, ""), Path(os.path.abspath(folder))
    likely = (path for path in paths if os.pardir in path or not path.startswith(start) or os.path.isabs(path[len(start) :]))
    return [path for path in likely if not Path(os.path.abspath(path)).is_relative_to(inside)]


def _stripped(value: Any) -> str | None:
    return None if value is None else str(value).strip()


def split_of_name(table: Path) -> str | None:
    """Read the split from a file's name, as of `cifar10_test.parquet` or `test-00000-of-00001.parquet`."""
    words = set(re.split(r"[^a-z]+", table.stem.casefold())) & set(SPLIT_NAMES)
    return words.pop() if len(words) == 1 else None


def _names_of_labels(labels: list[Any], column: str, metadata: dict[bytes, bytes] | None) -> list[Any]:
    """Replace whole numbers by their names in Hugging Face's metadata, where the file has it; there, -1 means no label."""
    try:
        names = json.loads((metadata or {})[b"huggingface"])["info"]["features"][column]["names"]
    except (ValueError, KeyError, TypeError):
        return labels
    if not isinstance(names, list) or not all(label is None or isinstance(label, int) for label in labels):
        return labels
    return [None if label is None or not 0 <= label < len(names) else names[label] for label in labels]


class ParquetImages:
    """The image column of a Parquet file, read a row group at a time; any number of threads may read."""

    def __init__(self, path: Path) -> None:
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError as error:
            raise MissingExtra("reading Parquet", "parquet") from error
        self.path = path
        # The last two: text that is no UTF-8, and a row group with fewer rows than the file says, where it is damaged.
        self._errors = (pyarrow.ArrowException, OSError, UnicodeDecodeError, IndexError)
        try:
            self.file = pyarrow.parquet.ParquetFile(path)
            self.schema = self.file.schema_arrow
        except self._errors as error:
            raise DataError(f"{path} is not a valid Parquet file: {_one_line(error)}") from error
        groups = [self.file.metadata.row_group(i).num_rows for i in range(self.file.num_row_groups)]
        self.starts = np.concatenate([[0], np.cumsum(groups)]).astype(int)
        self.column = ""
        self._lock = threading.Lock()
        self._groups: OrderedDict[int, Any] = OrderedDict()

    def column_values(self, column: str) -> list[Any]:
        """Read one column whole."""
        try:
            values = self.file.read([column]).column(0).to_pylist()
        except self._errors as error:
            raise DataError(f"{self.path} cannot be read: {_one_line(error)}") from error
        if len(values) != self.starts[-1]:
            raise DataError(f"{self.path} is damaged: its column {column} has {len(values)} of {self.starts[-1]} rows")
        return values

    def hold_bytes(self, column: str) -> bool:
        """Whether images stand in the column as bytes, or as Hugging Face's struct of bytes and path; else as paths."""
        from pyarrow import types

        kind = self.schema.field(column).type
        if types.is_dictionary(kind):
            kind = kind.value_type
        if types.is_string(kind) or types.is_large_string(kind):
            return False
        if types.is_binary(kind) or types.is_large_binary(kind) or types.is_struct(kind):
            return True
        raise DataError(f"the column {column} of {self.path} holds {kind}; expected paths, or the bytes of image files")

    def holds_all_bytes(self) -> bool:
        """Whether the file is still the one that was opened, and each row holds its image itself.

        A row may name a file instead of holding its bytes: that file may change, and the table stay as it is.
        """
        import pyarrow.parquet

        try:
            metadata = pyarrow.parquet.read_metadata(self.path)
        except self._errors:
            return False
        parts = [
            metadata.row_group(i).column(j) for i in range(metadata.num_row_groups) for j in range(metadata.num_columns)
        ]
        bytes_of = [part.statistics for part in parts if part.path_in_schema == f"{self.column}.bytes"]
        is_whole = all(statistics is not None and statistics.null_count == 0 for statistics in bytes_of)
        return is_whole and bool(metadata.equals(self.file.metadata))

    def paths_in_rows(self) -> Iterator[str]:
        """Yield the files that rows name instead of holding bytes."""
        from pyarrow import types

        if not types.is_struct(self.schema.field(self.column).type):
            return
        metadata = self.file.metadata
        for group in range(metadata.num_row_groups):
            parts = (metadata.row_group(group).column(j) for j in range(metadata.num_columns))
            counted = [part.statistics for part in parts if part.path_in_schema == f"{self.column}.bytes"]
            if all(statistics is not None and statistics.null_count == 0 for statistics in counted) and counted:
                continue
            try:
                values = self.file.read_row_group(group, columns=[self.column]).column(0)
                paths = [value.get("path") for value in values.to_pylist() if value and value.get("bytes") is None]
            except self._errors:  # each of its images is reported
                continue
            yield from (os.path.join(self.path.parent, path) for path in paths if path and isinstance(path, str))

    def read(self, row: int) -> bytes | Failure:
        """Read the bytes of one row's image, or follow the path that stands there instead of bytes."""
        group = int(np.searchsorted(self.starts, row, side="right")) - 1
        try:
            value = self._group(group)[row - int(self.starts[group])].as_py()
        except self._errors as error:
            return Failure("broken", f"the table's row group {group} cannot be read: {_one_line(error)}")
        if isinstance(value, dict):
            path = value.get("path")
            if value.get("bytes") is None and path and isinstance(path, str):
                return read_bytes(os.path.join(self.path.parent, path))
            value = value.get("bytes")
        return value if value else Failure("empty", "the row holds no bytes")

    def _group(self, group: int) -> Any:
        # Readers move through a table in order, a window of rows wide: the groups that it lies in are kept.
        with self._lock:
            if group not in self._groups:
                self._groups[group] = self.file.read_row_group(group, columns=[self.column]).column(0)
                rows_each = max(1, int(self.starts[-1]) // max(1, len(self.starts) - 1))
                while len(self._groups) > 2 + WINDOW_ROWS // rows_each:
                    self._groups.popitem(last=False)
            self._groups.move_to_end(group)
            return self._groups[group]


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
