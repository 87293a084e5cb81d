"""Exports a run to another program's format: writes the file, compares it with the original, and publishes both or neither.

The run is only read. What is written stands in a new folder: the file, labels.txt, classifier.json with all that a program
needs to know, parity.json with the comparison, and card.md, which says it in words.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from headstart.classifier.metadata import ClassifierMetadata
from headstart.errors import ExportError, HeadstartError, MissingExtra, OutputError
from headstart.export.card import write_card
from headstart.export.example import check_example, write_example
from headstart.export.formats import FORMATS, Format, format_named
from headstart.export.opened import N_TIMED
from headstart.export.options import Options
from headstart.export.original import JudgingPhotos, Original, judging_photos, open_original
from headstart.export.parity import Parity, compare
from headstart.progress import Progress, underway
from headstart.runs.folder import draft_of, publish, reserve
from headstart.wording import first_line, percent

ALL = "all"
FULL = 1 << 20  # bytes that are free: less is no room for a classifier


@dataclass(frozen=True)
class Export:
    """An exported classifier. folder: where it lies; parity: None where nothing was compared, and why says so.

    n_bytes: of all its files. milliseconds: a photo, of the original and of the export, one after the other, decoding aside.
    """

    format: str
    folder: Path
    file: Path
    n_bytes: int
    seconds: float
    parity: Parity | None
    why: str | None
    milliseconds: tuple[float, float] | None
    runner: str | None

    def to_json(self) -> dict[str, Any]:
        """For --json and parity.json."""
        return {
            "format": self.format,
            "folder": str(self.folder),
            "file": self.file.name,
            "bytes": self.n_bytes,
            "seconds": round(self.seconds, 2),
            "runner": self.runner,
            "milliseconds": dict(zip(("original", "export"), self.milliseconds, strict=True)) if self.milliseconds else None,
            "not_checked": self.why,
            "parity": None if self.parity is None else self.parity.to_json(),
        }


def export_run(
    run: str | os.PathLike[str],
    *,
    format: str = "onnx",
    output: str | os.PathLike[str] | None = None,
    photos: str | os.PathLike[str] | None = None,
    accept_loss: bool = False,
    half: bool = False,
    batch: str | None = None,
    any_size: bool = False,
    slim: bool = False,
    runtime: str | None = None,
    example: str | None = None,
    progress: Progress = lambda *_: None,
) -> Export:
    """Export a run folder's classifier, or a model.onnx, into a new folder, and compare it with the original.

    format: a key of formats.FORMATS. output: the folder to make, by default NAME-FORMAT in the current one. photos:
    labelled photos to compare on, where not the run's held-out ones. accept_loss: export even what keeps fewer labels
    than the format must, or what cannot be compared. half, batch, any_size, slim, runtime: see options.Options. example:
    a language, for a short program beside the file. Raises ExportError where the file answers otherwise, and leaves
    nothing then; MissingExtra where the format's packages are not installed.
    """
    row, options = format_named(format), Options(half, batch, any_size, slim, runtime)
    row.check(options)
    check_installed(row)
    check_example(example, format, any_size=any_size)
    with underway(progress, "open the run"):
        original = open_original(run)
    judge = Judge(original, photos, accept_loss, progress)
    return export_original(judge, row, options, output, example)


def check_installed(row: Format) -> None:
    """Raise MissingExtra where a package of a format is not installed."""
    if row.missing:
        raise MissingExtra(f"the format {row.name} ({row.missing})", row.extra)


class Judge:
    """Compares exports of one original: the photos and the reference are read once, for however many formats."""

    def __init__(
        self, original: Original, photos: str | os.PathLike[str] | None, accept_loss: bool, progress: Progress
    ) -> None:
        self.original, self.accept_loss, self.progress = original, accept_loss, progress
        self.photos: JudgingPhotos | None = None
        self.why: str | None = None
        try:
            self.photos = judging_photos(original, photos)
        except ExportError as error:
            if not accept_loss:
                raise
            self.why = str(error)
            return
        self.reference = original.answers(self.photos, progress)
        pixels = next(iter(original.all_pixels(self.photos)))
        seconds = [_clocked(lambda: original.classifier.engine.infer(pixels)) for _ in range(N_TIMED)]
        self.milliseconds = 1000 * float(np.median(seconds))


def _clocked(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def export_original(
    judge: Judge, row: Format, options: Options, output: str | os.PathLike[str] | None, example: str | None = None
) -> Export:
    """Write, compare and publish one format."""
    original, start = judge.original, time.perf_counter()
    with reserve(output, original.name, row.name) as folder, draft_of(folder) as draft:
        with underway(judge.progress, f"write {row.name}"):
            about = _converted(row, original, draft, options)
        parity, milliseconds, runner, why = None, None, None, judge.why
        if row.open is None:
            why = f"nothing on this machine runs a file of the format {row.name}"
        elif judge.photos is not None:
            exported = row.open(draft, about)
            runner = exported.runner
            try:
                answers, took = exported.answers(original, judge.photos, judge.progress)
            finally:
                exported.close()
            parity = compare(judge.photos, judge.reference, answers, about["classes"], original.classifier.thresholds)
            milliseconds = (judge.milliseconds, took)
            _check(parity, row, judge.accept_loss)
        n_bytes = sum(path.stat().st_size for path in draft.rglob("*") if path.is_file())
        seconds = time.perf_counter() - start
        export = Export(row.name, folder, folder / row.file, n_bytes, seconds, parity, why, milliseconds, runner)
        if example is not None:
            write_example(example, draft, original, row.name, row.file)
        write_card(draft, original, about, row, options, export.to_json(), parity)
        publish(draft, folder)
        return export


def _converted(row: Format, original: Original, draft: Path, options: Options) -> ClassifierMetadata:
    """Let a format's converter write; whatever it raises is told as an error of the export, or of a full disk."""
    try:
        return row.write(original, draft, options)
    except HeadstartError:
        raise
    except Exception as error:  # of another project's converter
        if isinstance(error, OSError) or shutil.disk_usage(draft).free < FULL:
            why = (error.strerror if isinstance(error, OSError) else None) or "no space left on the device"
            raise OutputError(f"{draft.parent} cannot be written to: {why}") from error
        raise ExportError(
            f"the converter of the format {row.name} failed: {first_line(error)}; another format may hold this network "
            "(headstart export --list)"
        ) from error


def _check(parity: Parity, row: Format, accept_loss: bool) -> None:
    """Raise ExportError where too many photos lose their label."""
    if parity.same >= row.least_same or accept_loss:
        return
    path, ours, theirs = parity.differing[0]
    raise ExportError(
        f"the export as {row.name} keeps {parity.n_same:,} of {parity.n:,} labels ({percent(parity.same)}), and "
        f"{percent(row.least_same)} are wanted; the first that differs: {path}, {ours} became {theirs}. Nothing was kept. "
        "Another format may do better (headstart export --list); --accept-loss keeps it all the same"
    )


def export_all(
    run: str | os.PathLike[str],
    *,
    output: str | os.PathLike[str] | None = None,
    photos: str | os.PathLike[str] | None = None,
    accept_loss: bool = False,
    progress: Progress = lambda *_: None,
) -> tuple[list[Export], list[tuple[str, str]]]:
    """Export to each format that is installed, into a folder each below one; gives those, and why others were not."""
    original = open_original(run)
    base = Path(output) if output is not None else Path(f"{original.name}-exports")
    judge = Judge(original, photos, accept_loss, progress)
    exports: list[Export] = []
    failures: list[tuple[str, str]] = []
    for row in FORMATS.values():
        try:
            check_installed(row)
            exports.append(export_original(judge, row, Options(), base / row.name))
        except HeadstartError as error:
            failures.append((row.name, str(error)))
    return exports, failures


def missing_formats() -> Sequence[str]:
    """The formats whose packages are not installed."""
    return [row.name for row in FORMATS.values() if row.missing]
