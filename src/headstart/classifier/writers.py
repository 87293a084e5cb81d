"""Predictions as rows of CSV, JSON lines, JSON and Parquet, each written as it comes, in constant memory.

A row is {path, status, reason, prediction, probability, top, unfamiliar, unfamiliarity, set} in every format; `top` and
`set` are JSON text in CSV, and `top` is a list of (label, probability) structures in Parquet, which knows no lists of mixed
type.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Any, TypeAlias

from headstart.classifier.prediction import Prediction
from headstart.errors import MissingExtra
from headstart.safety.csv_cells import to_cells

Write: TypeAlias = Callable[[Prediction], None]
COLUMNS = ("path", "status", "reason", "prediction", "probability", "top", "unfamiliar", "unfamiliarity", "set")
AS_JSON = ("top", "set")  # lists, as text in CSV
ROWS_AT_A_TIME = 1024


@contextmanager
def csv_rows(file: IO[bytes]) -> Iterator[Write]:
    """Comma-separated values, a header first."""
    with _text(file) as text:
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)

        def write(prediction: Prediction) -> None:
            row = prediction.to_json()
            for name in AS_JSON:
                row[name] = None if row[name] is None else json.dumps(row[name], ensure_ascii=False)
            writer.writerow(to_cells(row[name] for name in COLUMNS))

        yield write


@contextmanager
def jsonl_rows(file: IO[bytes]) -> Iterator[Write]:
    """An object a line."""
    yield lambda prediction: _put(file, json.dumps(prediction.to_json()) + "\n")


@contextmanager
def json_rows(file: IO[bytes]) -> Iterator[Write]:
    """One array of objects."""
    separators = iter(("[\n",))
    yield lambda prediction: _put(file, next(separators, ",\n") + json.dumps(prediction.to_json()))
    _put(file, next(separators, "") + "\n]\n")


@contextmanager
def parquet_rows(file: IO[bytes]) -> Iterator[Write]:
    """A Parquet file; needs the extra [parquet]."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtra("writing Parquet", "parquet") from error
    pair = pyarrow.struct([("label", pyarrow.string()), ("probability", pyarrow.float32())])
    text = [(name, pyarrow.string()) for name in COLUMNS[:4]]
    numbers = [("unfamiliar", pyarrow.bool_()), ("unfamiliarity", pyarrow.float32())]
    lists = [("top", pyarrow.list_(pair)), *numbers, ("set", pyarrow.list_(pyarrow.string()))]
    schema = pyarrow.schema([*text, ("probability", pyarrow.float32()), *lists])
    waiting: list[dict[str, Any]] = []
    with pyarrow.parquet.ParquetWriter(file, schema) as writer:

        def flush() -> None:
            writer.write_table(pyarrow.Table.from_pylist(waiting, schema))
            waiting.clear()

        def write(prediction: Prediction) -> None:
            row = prediction.to_json()
            for name in ("path", "reason", "prediction"):
                row[name] = _utf8(row[name])
            row["top"] = [{"label": _utf8(label), "probability": p} for label, p in row["top"]]
            row["set"] = None if row["set"] is None else [_utf8(label) for label in row["set"]]
            waiting.append(row)
            if len(waiting) >= ROWS_AT_A_TIME:
                flush()

        try:
            yield write
        finally:  # those of a stop, too
            flush()


FORMATS: dict[str, Callable[[IO[bytes]], AbstractContextManager[Write]]] = {
    "csv": csv_rows,
    "jsonl": jsonl_rows,
    "json": json_rows,
    "parquet": parquet_rows,
}


def format_of(path: Path) -> str | None:
    """The format that a file's name asks for."""
    name = path.suffix.lower().removeprefix(".")
    return name if name in FORMATS else None


def _utf8(text: str | None) -> str | None:
    """Parquet's text is UTF-8; what names have beside that is written as escapes."""
    return None if text is None else text.encode("utf-8", "backslashreplace").decode()


def _put(file: IO[bytes], text: str) -> None:
    file.write(text.encode("utf-8", "surrogateescape"))


@contextmanager
def _text(file: IO[bytes]) -> Iterator[IO[str]]:
    import io

    wrapper = io.TextIOWrapper(file, encoding="utf-8", errors="surrogateescape", newline="", write_through=True)
    try:
        yield wrapper
    finally:
        wrapper.detach()
