"""Opens a run folder: reads run.json, findings.npz and issues.json, and finds the photos, wherever they lie by now.

Takes a run folder; gives everything that its report, plots and map are drawn from. It decides which file is the same photo.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TypeVar

from headstart.classifier.classifier import Classifier
from headstart.data import datasets
from headstart.data.labels import are_many
from headstart.data.tables import ImageRef, TableImage
from headstart.engines.hardware import Hardware
from headstart.errors import DataError, HeadstartError
from headstart.record import IssueRecord, RunRecord
from headstart.runs.findings import Findings
from headstart.runs.folder import ISSUES
from headstart.runs.photo_paths import folder_of, is_remote
from headstart.runs.record_file import read_issue_records, read_run_record

Records = TypeVar("Records")
TABLE_ROW = re.compile(r"\.parquet#\d+$", re.IGNORECASE)  # ends the name of a photo whose bytes are in a table


@dataclass(frozen=True)
class SavedRun:
    """A run folder that was read. images: where each of the findings' photos lies, None for those that are gone."""

    folder: Path
    record: RunRecord
    findings: Findings
    issues: Sequence[IssueRecord]
    images: list[ImageRef | None]

    @property
    def n_gone(self) -> int:
        """How many photos are not where they were."""
        return sum(image is None for image in self.images)

    def classifier(self, hardware: Hardware = Hardware()) -> Classifier:
        """Load the run's classifier; raises ClassifierError where it is gone or damaged, DataError where it is another's."""
        return self.own(Classifier.load(self.folder, hardware))

    def own(self, classifier: Classifier) -> Classifier:
        """Check that a classifier is this run's, and give it back; raises DataError for any other."""
        check_own(self.folder, self.record, self.findings, classifier)
        return classifier


def open_run(folder: str | os.PathLike[str], *, photos: str | os.PathLike[str] | None = None) -> SavedRun:
    """Open a run folder; raises DataError where it is not one, or of an earlier release.

    photos: where its photos lie now, if not where they lay.
    """
    folder = Path(folder)
    record, findings = read_run(folder)
    if photos is not None and not os.path.exists(photos):
        raise DataError(f"there is no {os.fspath(photos)}; --photos names the folder or the table that was learnt from")
    where = record["photos"] if photos is None else photos
    images = _find_images(findings, where, record["photos"], is_asked=photos is not None)
    if photos is not None and findings.names and not any(image is not None for image in images):
        raise DataError(f"none of the run's photos lies in {os.fspath(photos)}; --photos names what was learnt from")
    return SavedRun(folder, record, findings, _read_issues(folder / ISSUES), images)


def read_run(folder: Path) -> tuple[RunRecord, Findings]:
    """Read run.json and findings.npz of a run folder; raises DataError where they are damaged, or not of one run.

    They are read nowhere else: whoever draws or computes from a run relies on what is checked here.
    """
    path = folder / "run.json"
    record = _read_json(path, read_run_record)
    findings = Findings.load(folder)
    k, labels = len(record["classes"]), findings.labels
    is_of_one_run = (
        record["images"]["used"] == len(findings.names)
        and are_many(labels) == (record.get("thresholds") is not None)
        and (labels.shape[1] == k if are_many(labels) else labels.max(initial=0) < k)
        and (findings.probabilities.shape[1] == k or not len(findings.held_out))
    )
    if not is_of_one_run:
        raise DataError(f"the files of {folder} are not of one run; train again")
    return record, findings


def check_own(folder: Path, record: RunRecord, findings: Findings, classifier: Classifier) -> None:
    """Raise DataError where a classifier is not the one that a run's files are of."""
    same_classes = list(classifier.classes) == record["classes"]
    same_kind = (classifier.thresholds is not None) == are_many(findings.labels)
    if not (same_classes and same_kind and classifier.about["backbone"]["parts"][0] == len(findings.space_mean)):
        raise DataError(f"the classifier and the other files of {folder} are not of one run; train again")


def _read_issues(path: Path) -> Sequence[IssueRecord]:
    return _read_json(path, read_issue_records) if path.exists() else []


def _read_json(path: Path, read: Callable[[bytes], Records]) -> Records:
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"there is no {path}; name a run folder, as `headstart train` makes it, not a file in it") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    try:
        return read(content)
    except ValueError as error:
        raise DataError(f"{path} is not whole, or not as headstart wrote it: {error}; train again") from error


def _find_images(
    findings: Findings, photos: str | os.PathLike[str], before: str, *, is_asked: bool
) -> list[ImageRef | None]:
    """Find each photo by its place below the folder or beside the table, which may have been moved; else by its name.

    Files are looked for one by one, since a folder that has changed meanwhile may not load as a data set. is_asked: whether
    the user named the folder; no other machine is contacted because a run's own files name it.
    """
    if is_remote(os.fspath(photos)) and not is_asked:
        return [None] * len(findings.names)
    base, base_before = folder_of(os.path.abspath(photos)), folder_of(before)
    rows = _table_rows(photos, base) if any(TABLE_ROW.search(name) for name in findings.names) else {}
    images: list[ImageRef | None] = []
    for name in findings.names:
        places = list(_possible_places(name, base_before))
        files = [
            *(os.path.join(base, place) for place in places),
            *([name] if os.path.isabs(name) and not is_remote(name) else []),
        ]
        in_table = (rows[place] for place in places if place in rows)
        images.append(next(in_table, None) or next((file for file in files if os.path.isfile(file)), None))
    return images


def _table_rows(photos: str | os.PathLike[str], base: str) -> dict[str, TableImage]:
    """Find the photos whose bytes are in tables, by their place below a folder; none where the tables cannot be read."""
    try:
        images = datasets.load_dataset(photos).images
    except HeadstartError:
        return {}
    return {os.path.relpath(str(image), base): image for image in images if isinstance(image, TableImage)}


def _possible_places(name: str, base: str) -> Iterator[str]:
    """Yield where below a folder a photo may have lain, the likeliest first: its name may be relative to the folder that
    was current when the run was made, which is not recorded."""
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
