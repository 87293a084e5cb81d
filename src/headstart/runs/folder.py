"""Makes run folders: finds a free name, locks it, writes a draft beside it and renames that; nothing is overwritten."""

from __future__ import annotations

import csv
import io
import itertools
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from headstart.errors import OutputError
from headstart.files import check_folder, locked, write_output, writing
from headstart.safety.csv_cells import to_cells

ELSEWHERE = "; name another place with -o"
LONGEST_NAME = 200  # bytes, of the 255 that systems allow, so that a lock's name has room


class PredictionRow(NamedTuple):
    """A row of predictions.csv: a held-out image, its label, and the prediction of a fit that had not seen it."""

    path: str
    split: str
    label: str
    prediction: str
    probability: float


def check_free(folder: Path) -> None:
    """Raise OutputError unless a path can become a run folder: nothing is there, or an empty folder."""
    try:
        entries = os.listdir(folder)
    except FileNotFoundError:
        entries = [] if not os.path.islink(folder) else ["a link to nothing"]
    except NotADirectoryError:
        raise OutputError(f"{folder} is a file, or lies below one; name a new folder with -o") from None
    except (OSError, ValueError) as error:
        raise OutputError(f"{folder} cannot be a run folder: {error}; name another with -o") from error
    if entries:
        raise OutputError(f"{folder} is there already and is never overwritten; name another with -o, or remove it")


def _check_place(folder: Path) -> None:
    """Raise OutputError where the finished draft could not be renamed to a path: a link, a mounted disk, no permission."""
    check_free(folder)
    if folder.name in ("", "..") or os.path.islink(folder) or os.path.ismount(folder):
        kind = "a link" if os.path.islink(folder) else "a mounted disk" if folder.name not in ("", "..") else "no new name"
        raise OutputError(f"{folder} is {kind}, whose place no run folder can take; name a folder in it with -o")
    if folder.exists() and not os.access(folder, os.W_OK):
        raise OutputError(f"{folder} is there already, and you may not write into it; name another with -o")
    check_folder(folder.absolute().parent, folder, ELSEWHERE)


@contextmanager
def reserve(run: str | os.PathLike[str] | None, photos: str | os.PathLike[str], kind: str = "run") -> Iterator[Path]:
    """Reserve a path for a run's folder, which no other run gets meanwhile; nothing is created at the path yet.

    run: the path asked for; None: the first free of NAME-run, NAME-run-2, ... in the current folder, after the photos'
    name, with kind in place of `run`. A hidden file beside it is locked until the end: a kill leaves that file, and the next
    run takes it. Raises OutputError where the folder exists already, cannot be made, or is another run's.
    """
    if run is not None:
        _check_place(Path(run))
    for folder in [Path(run)] if run is not None else _default_folders(photos, kind):
        missing = [parent for parent in folder.parents if not os.path.lexists(parent)]
        with ExitStack() as stack:
            stack.callback(_remove_empty, missing)
            with writing(folder, ELSEWHERE):
                folder.parent.mkdir(parents=True, exist_ok=True)
                is_ours = stack.enter_context(locked(_lock_path(folder)))
            if not is_ours and run is not None:
                raise OutputError(f"another run writes {folder} at this moment; name another with -o, or wait for it")
            if is_ours and (run is not None or not os.path.lexists(folder)):
                check_free(folder)
                yield folder
                return


def _lock_path(folder: Path) -> Path:
    name = os.fsencode(folder.name)
    return folder.parent / f".headstart-{sha256(name).hexdigest() if len(name) > LONGEST_NAME else folder.name}.lock"


def _default_folders(photos: str | os.PathLike[str], kind: str) -> Iterator[Path]:
    whole = Path(os.path.abspath(photos))
    name = whole.name if whole.is_dir() else whole.stem
    numbered = (Path(f"{name}-{kind}" if n == 1 else f"{name}-{kind}-{n}") for n in itertools.count(1))
    return (folder for folder in numbered if not os.path.lexists(folder))


def _remove_empty(folders: Sequence[Path]) -> None:
    with suppress(OSError):
        for folder in folders:
            folder.rmdir()


@contextmanager
def draft_of(run: Path) -> Iterator[Path]:
    """Make a hidden folder beside a run's path; it is removed at the end unless it was published.

    An OutputError that names a file in the draft names it as it would be in the run.
    """
    draft = run.parent / f".headstart-{secrets.token_hex(8)}.tmp"
    with writing(run, ELSEWHERE):
        draft.mkdir()
    try:
        yield draft
    except OutputError as error:
        raise OutputError(str(error).replace(f"{draft}{os.sep}", f"{run}{os.sep}")) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def publish(draft: Path, run: Path) -> Path:
    """Rename a finished draft to its run's path."""
    check_free(run)
    with writing(run, ELSEWHERE):
        if run.is_dir():
            run.rmdir()
        draft.rename(run)
    return run


def write_tables(
    folder: Path, classes: Sequence[str], held_out: Sequence[PredictionRow], skipped: Sequence[tuple[str, str]]
) -> None:
    """Write labels.txt, predictions.csv and skipped.csv."""
    write_output(folder / "labels.txt", "".join(f"{' '.join(name.splitlines())}\n" for name in classes))
    rows = [(*row[:-1], f"{row.probability:.6f}") for row in held_out]
    write_output(folder / "predictions.csv", _csv(PredictionRow._fields, rows))
    write_output(folder / "skipped.csv", _csv(("path", "reason"), skipped))


def _csv(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(map(to_cells, rows))
    return text.getvalue()


REPORT, ISSUES = "report.html", "issues.json"
