"""The run folder: where it is, what is in it, and that nothing of the user's is ever overwritten."""

from __future__ import annotations

import csv
import io
import itertools
import os
import platform
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from headstart.cells import to_cell
from headstart.errors import OutputError
from headstart.files import write_output

TOLD_VERSIONS = ("numpy", "openvino", "onnx", "opencv-python-headless", "simplejpeg", "pillow")


class HeldOut(NamedTuple):
    """A row of predictions.csv: an image, and what was said of it by a fit that had not seen it."""

    path: str
    split: str
    label: str
    prediction: str
    probability: float


def check_free(folder: Path) -> None:
    """Raise OutputError unless a folder can become a run: nothing is there, or an empty folder."""
    try:
        found = os.listdir(folder)
    except FileNotFoundError:
        return
    except NotADirectoryError:
        raise OutputError(f"{folder} is a file, or lies below one; name a new folder with -o") from None
    except (OSError, ValueError) as error:
        raise OutputError(f"{folder} cannot be a run folder: {error}; name another with -o") from error
    if found:
        raise OutputError(f"{folder} is there already and is never overwritten; name another with -o, or remove it")


@contextmanager
def draft_of(run: Path | None) -> Iterator[Path]:
    """Make a hidden folder beside where the run will be; what is not published from there by the end is removed.

    An OutputError that names a file in it names it as it would be in the run.
    """
    draft = (run.parent if run else Path()) / f".headstart-{secrets.token_hex(8)}.tmp"
    try:
        draft.mkdir(parents=True)
    except OSError as error:
        where = f" in {run.parent}" if run else ""
        raise OutputError(f"the run folder cannot be made{where}: {error.strerror}; name another place with -o") from error
    try:
        yield draft
    except OutputError as error:
        raise OutputError(str(error).replace(f"{draft}{os.sep}", f"{run}{os.sep}" if run else "")) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def publish(draft: Path, run: Path | None, photos: str | os.PathLike[str], kind: str = "run") -> Path:
    """Give a whole run its name: the one asked for, or the first free NAME-run, NAME-run-2, ... in the current folder.

    kind: what stands instead of `run` there.
    """
    try:
        if run is not None:
            check_free(run)
            if run.is_dir():
                run.rmdir()
            draft.rename(run)
            return run
        whole = Path(os.path.abspath(photos))
        name = whole.name if whole.is_dir() else whole.stem
        for n in itertools.count(1):
            folder = Path(f"{name}-{kind}" if n == 1 else f"{name}-{kind}-{n}")
            try:
                folder.mkdir()  # ours now, whoever else is looking for a name
            except FileExistsError:
                continue
            if os.name == "nt":  # Windows renames onto nothing only
                folder.rmdir()
            draft.rename(folder)
            return folder
        raise AssertionError("counting has no end")
    except OSError as error:
        raise OutputError(f"the run folder cannot be named: {error.strerror}; name another place with -o") from error


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
    writer.writerows([to_cell(text) for text in row] for row in rows)
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
