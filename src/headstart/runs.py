"""The run folder: where it is, what is in it, and that nothing of the user's is ever overwritten."""

from __future__ import annotations

import csv
import io
import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from headstart.classifier import FILE_NAME
from headstart.errors import OutputError
from headstart.files import write_output

RUN_FILES = (FILE_NAME, "labels.txt", "predictions.csv", "skipped.csv", "run.json")
TOLD_VERSIONS = ("numpy", "openvino", "onnx", "opencv-python-headless", "simplejpeg", "pillow")


class HeldOut(NamedTuple):
    """A row of predictions.csv: an image, and what was said of it by a fit that had not seen it."""

    path: str
    split: str
    label: str
    prediction: str
    probability: float


def check_free(folder: Path) -> None:
    """Refuse a folder that holds anything but the leavings of a run that was cut short."""
    if folder.is_dir():
        found = {p.name for p in folder.iterdir() if not p.name.endswith(".tmp")}
        if "run.json" in found or found - set(RUN_FILES):
            raise OutputError(f"{folder} is there already and is never overwritten; name another with -o, or remove it")
    elif folder.exists():
        raise OutputError(f"{folder} is a file; name a new folder with -o")


def claim(run: str | os.PathLike[str] | None, photos: str | os.PathLike[str]) -> Path:
    """Make the run folder: the one asked for, or the first free NAME-run, NAME-run-2, ... in the current folder."""
    try:
        if run is not None:
            check_free(Path(run))
            Path(run).mkdir(parents=True, exist_ok=True)
            return Path(run)
        name = Path(os.path.abspath(photos)).stem or "photos"
        for n in range(1, 10_000):
            folder = Path(f"{name}-run" if n == 1 else f"{name}-run-{n}")
            try:
                folder.mkdir()
                return folder
            except FileExistsError:
                continue
    except OSError as error:
        raise OutputError(f"the run folder cannot be made: {error}; name another place with -o") from error
    raise OutputError(f"there are 10,000 runs named {name}-run already; name a new folder with -o")


def write_tables(
    folder: Path, classes: Sequence[str], held_out: Sequence[HeldOut], skipped: Sequence[tuple[str, str]]
) -> None:
    """Write labels.txt, predictions.csv and skipped.csv."""
    write_output(folder / "labels.txt", "".join(f"{' '.join(name.splitlines())}\n" for name in classes))
    rows = [(*row[:-1], f"{row.probability:.6f}") for row in held_out]
    write_output(folder / "predictions.csv", _csv(HeldOut._fields, rows))
    write_output(folder / "skipped.csv", _csv(("path", "reason"), skipped))


def _csv(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def versions() -> dict[str, str | None]:
    """What a run was made with; None for a package that is not there."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        **{name: _version(name) for name in TOLD_VERSIONS},
    }


def own_version() -> str:
    """The release of headstart that runs."""
    return _version("headstart") or "0 (not installed)"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
