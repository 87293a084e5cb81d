"""Recognises a run's training photos, and near duplicates of them, among other photos.

Takes a run and photos with their codes; gives which of them are copies of training photos (those not of the test split),
and which are copies of each other. It decides what a run stores for that: the image statistics of its training photos.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg

from headstart.checks.copies import Chain, find_copies
from headstart.checks.photo_groups import MAX_COMPARED
from headstart.codes.image_stats import PICTURE_LONGEST, ImageStats, compute_image_stats
from headstart.codes.store import Store
from headstart.data.splits import TEST
from headstart.data.tables import ImageRef
from headstart.errors import DataError
from headstart.files import write_output
from headstart.numerics.pca import along_axes
from headstart.runs.open import SavedRun
from headstart.safety.npz_arrays import DAMAGE, Expected, read_arrays
from headstart.wording import counted

FILE_NAME = "learnt.npz"


@dataclass(frozen=True)
class TrainingPhotos:
    """Which of n photos a run was trained on.

    is_training: (n,) bool, copies of training photos, and copies of those. groups: the same for copies of a photo, as
    copies.Copies has them. notes: what could not be compared, for the user.
    """

    is_training: np.ndarray
    groups: list[bytes]
    notes: tuple[str, ...]


def find_training_photos(
    saved: SavedRun,
    images: Sequence[ImageRef],
    digests: Sequence[bytes],
    codes: np.ndarray,
    store: Store | None,
    *,
    threads: int | None = None,
) -> TrainingPhotos:
    """Compare photos with a run's training photos, and with each other.

    digests: each image's sha256; codes: (n, d) as the run's classifier gives them. The image statistics of the training
    photos come from the run, else from the store or from the photos themselves.
    """
    findings = saved.findings
    training = np.flatnonzero(findings.splits != TEST)
    n_training = len(training)
    all_digests = [digest.tobytes() for digest in findings.digests[training]] + list(digests)
    if len(all_digests) > MAX_COMPARED:
        note = (
            f"{len(all_digests):,} photos, those that were learnt from among them, are too many to compare each with each: "
            "photos that were learnt from are recognised byte for byte only"
        )
        return TrainingPhotos(np.zeros(len(digests), bool), list(digests), (note,))
    training_stats = _training_stats(saved, training, store, threads)
    image_stats = _concatenate(training_stats, compute_image_stats(images, digests, store, threads=threads))
    n_gone = sum(picture is None for picture in training_stats.pictures)
    last = along_axes(codes[:, : len(findings.space_mean)], findings.space_mean, findings.space_axes)
    space = np.concatenate([findings.space[training].astype(np.float32), last])
    rows = (space @ findings.space_axes.T + findings.space_mean).astype(np.float16)
    copies = find_copies(rows, image_stats, all_digests, threads=threads)
    # Where a chain was cut into groups, a photo that is paired with a training photo is a copy in whichever group it is.
    paired = {all_digests[second] for first, second, _ in copies.pairs if first < n_training <= second}
    groups, training_groups = copies.groups[n_training:], set(copies.groups[:n_training])
    is_training = [digest in paired or group in training_groups for digest, group in zip(digests, groups, strict=True)]
    notes = [_missing_note(saved, n_gone, n_training)] if n_gone else []
    if copies.chains:
        notes.append(_chain_note(copies.chains))
    return TrainingPhotos(np.array(is_training, bool), groups, tuple(notes))


def write_training_photos(folder: Path, image_stats: ImageStats) -> None:
    """Write the image statistics of the training photos into a run folder; raises OutputError where that fails."""
    arrays = {f.name: getattr(image_stats, f.name) for f in fields(ImageStats) if f.name != "pictures"}
    pictures = [picture or b"" for picture in image_stats.pictures]
    content, lengths = io.BytesIO(), np.array([len(picture) for picture in pictures], np.int32)
    np.savez_compressed(content, lengths=lengths, pictures=np.frombuffer(b"".join(pictures), np.uint8), **arrays)
    write_output(folder / FILE_NAME, content.getvalue())


def _training_stats(saved: SavedRun, training: np.ndarray, store: Store | None, threads: int | None) -> ImageStats:
    """Give the image statistics of the training photos, by their rows in the findings."""
    if (saved.folder / FILE_NAME).exists():
        return _read_training_stats(saved.folder / FILE_NAME, len(training))
    images: list[Any] = [b"" if saved.images[i] is None else saved.images[i] for i in training]
    return compute_image_stats(images, [saved.findings.digests[i].tobytes() for i in training], store, threads=threads)


def _read_training_stats(path: Path, n: int) -> ImageStats:
    """Read the image statistics of n photos; raises DataError for a damaged file."""
    empty = compute_image_stats([], [], None)
    dtypes = {f.name: getattr(empty, f.name).dtype for f in fields(ImageStats) if f.name != "pictures"}
    expected: dict[str, tuple[Expected, ...]] = {name: ((kind.kind, ("n",)),) for name, kind in dtypes.items()}
    try:
        arrays = read_arrays(path.read_bytes(), {**expected, "lengths": (("iu", ("n",)),), "pictures": (("u", ("bytes",)),)})
        ends = np.cumsum(arrays.pop("lengths"), dtype=np.int64).tolist()
        content = arrays.pop("pictures").tobytes()
        starts = [0, *ends][: len(ends)]
        pictures = tuple(content[start:end] or None for start, end in zip(starts, ends, strict=True))
        is_whole = (
            len(ends) == n and ends == sorted(ends) and sum(ends[-1:]) == len(content) and all(map(_is_small, pictures))
        )
    except DAMAGE as error:
        raise DataError(f"{path} is not whole, or not headstart's ({error or type(error).__name__}); remove it") from error
    if not is_whole:
        raise DataError(f"{path} is not of this run, or not headstart's; remove it")
    return ImageStats(**{name: arrays[name].astype(kind) for name, kind in dtypes.items()}, pictures=pictures)


def _is_small(picture: bytes | None) -> bool:
    """Whether a picture is none, or a small JPEG that can be read; raises ValueError for what is no JPEG."""
    if picture is None:
        return True
    return max(simplejpeg.decode_jpeg_header(picture)[:2]) <= PICTURE_LONGEST and len(simplejpeg.decode_jpeg(picture)) > 0


def _concatenate(first: ImageStats, second: ImageStats) -> ImageStats:
    names = [f.name for f in fields(ImageStats) if f.name != "pictures"]
    arrays = {name: np.concatenate([getattr(first, name), getattr(second, name)]) for name in names}
    return ImageStats(**arrays, pictures=first.pictures + second.pictures)


def _chain_note(chains: Sequence[Chain]) -> str:
    n_photos, n_groups = sum(chain.n_photos for chain in chains), sum(chain.n_groups for chain in chains)
    return (
        f"{n_photos:,} photos, those that were learnt from among them, form chains in which each looks like the next, as in "
        f"the frames of a film. They count as {n_groups:,} groups; what is in a group without a photo that was learnt from "
        "may judge, and the result may be too good"
    )


def _missing_note(saved: SavedRun, n_gone: int, n: int) -> str:
    return (
        f"{n_gone:,} of the {counted(n, 'photo')} that it learnt from cannot be compared with these: neither the run nor "
        f"the cache has their small pictures, and they are not where they were ({saved.record['photos']}). Copies of them "
        "may judge, and the result may be too good; put them back, or train again"
    )
