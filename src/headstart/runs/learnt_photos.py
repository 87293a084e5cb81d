"""Recognition: which of some photos a run has learnt from, byte for byte or nearly so, wherever those lie by now.

Takes a run and photos with their codes; gives which of them are copies of photos that were learnt from, and which are copies
of each other. It decides what a run keeps for that: the small picture of each photo that was learnt from.
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
class LearntPhotos:
    """n photos as a run knows them.

    is_learnt: (n,) bool, copies of photos that were learnt from, and copies of those. groups: the same for photos that are
    one, as copies.Copies has them. notes: of what could not be compared, for the user.
    """

    is_learnt: np.ndarray
    groups: list[bytes]
    notes: tuple[str, ...]


def find_learnt_photos(
    saved: SavedRun,
    images: Sequence[ImageRef],
    digests: Sequence[bytes],
    codes: np.ndarray,
    store: Store | None,
    *,
    threads: int | None = None,
) -> LearntPhotos:
    """Compare photos with those that a run has learnt from, and with each other.

    digests: each image's sha256; codes: (n, d) as the run's classifier gives them. Photos that were learnt from are known by
    the small pictures that the run keeps, else looked at where they lie or in the store.
    """
    known = saved.findings
    learnt = np.flatnonzero(known.splits != TEST)
    everything = [digest.tobytes() for digest in known.digests[learnt]] + list(digests)
    if len(everything) > MAX_COMPARED:
        note = (
            f"{len(everything):,} photos, those that were learnt from among them, are too many to compare each with each: "
            "photos that were learnt from are recognised byte for byte only"
        )
        return LearntPhotos(np.zeros(len(digests), bool), list(digests), (note,))
    seen = compute_image_stats(images, digests, store, threads=threads)
    before = _learnt_glances(saved, learnt, store, threads)
    n_gone = sum(picture is None for picture in before.pictures)
    last = along_axes(codes[:, : len(known.space_mean)], known.space_mean, known.space_axes)
    space = np.concatenate([known.space[learnt].astype(np.float32), last])
    rows = (space @ known.space_axes.T + known.space_mean).astype(np.float16)
    copies = find_copies(rows, _joined(before, seen), everything, threads=threads)
    # Of a chain that was cut into groups, what is like a photo that was learnt from is a copy in whichever group it is.
    alike = {everything[second] for first, second, _ in copies.pairs if first < len(learnt) <= second}
    groups, of_learnt = copies.groups[len(learnt) :], set(copies.groups[: len(learnt)])
    is_learnt = [digest in alike or group in of_learnt for digest, group in zip(digests, groups, strict=True)]
    notes = [_of_gone(saved, n_gone, len(learnt))] if n_gone else []
    if copies.chains:
        notes.append(_of_chains(copies.chains))
    return LearntPhotos(np.array(is_learnt, bool), groups, tuple(notes))


def write_learnt_photos(folder: Path, glances: ImageStats) -> None:
    """Write the glances of the photos that were learnt from into a run folder; raises OutputError where that cannot be."""
    arrays = {f.name: getattr(glances, f.name) for f in fields(ImageStats) if f.name != "pictures"}
    pictures = [picture or b"" for picture in glances.pictures]
    content = io.BytesIO()
    lengths, joined = np.array([len(picture) for picture in pictures], np.int32), np.frombuffer(b"".join(pictures), np.uint8)
    np.savez_compressed(content, lengths=lengths, pictures=joined, **arrays)
    write_output(folder / FILE_NAME, content.getvalue())


def _learnt_glances(saved: SavedRun, learnt: np.ndarray, store: Store | None, threads: int | None) -> ImageStats:
    if (saved.folder / FILE_NAME).exists():
        return _read_learnt(saved.folder / FILE_NAME, len(learnt))
    images: list[Any] = [b"" if saved.images[i] is None else saved.images[i] for i in learnt]
    return compute_image_stats(images, [saved.findings.digests[i].tobytes() for i in learnt], store, threads=threads)


def _read_learnt(path: Path, n: int) -> ImageStats:
    """Read the image statistics of n photos; raises DataError for a file that write_learnt_photos has not written whole."""
    empty = compute_image_stats([], [], None)
    of_photos = {f.name: getattr(empty, f.name).dtype for f in fields(ImageStats) if f.name != "pictures"}
    expected: dict[str, tuple[Expected, ...]] = {name: ((kind.kind, ("n",)),) for name, kind in of_photos.items()}
    try:
        found = read_arrays(path.read_bytes(), {**expected, "lengths": (("iu", ("n",)),), "pictures": (("u", ("bytes",)),)})
        ends = np.cumsum(found.pop("lengths"), dtype=np.int64).tolist()
        content = found.pop("pictures").tobytes()
        starts = [0, *ends][: len(ends)]
        pictures = tuple(content[start:end] or None for start, end in zip(starts, ends, strict=True))
        is_whole = (
            len(ends) == n and ends == sorted(ends) and sum(ends[-1:]) == len(content) and all(map(_is_small, pictures))
        )
    except DAMAGE as error:
        raise DataError(f"{path} is not whole, or not headstart's ({error or type(error).__name__}); remove it") from error
    if not is_whole:
        raise DataError(f"{path} is not of this run, or not headstart's; remove it")
    return ImageStats(**{name: found[name].astype(kind) for name, kind in of_photos.items()}, pictures=pictures)


def _is_small(picture: bytes | None) -> bool:
    """Whether a picture is none, or a small JPEG that can be read; raises ValueError for what is no JPEG."""
    if picture is None:
        return True
    return max(simplejpeg.decode_jpeg_header(picture)[:2]) <= PICTURE_LONGEST and len(simplejpeg.decode_jpeg(picture)) > 0


def _joined(first: ImageStats, second: ImageStats) -> ImageStats:
    names = [f.name for f in fields(ImageStats) if f.name != "pictures"]
    arrays = {name: np.concatenate([getattr(first, name), getattr(second, name)]) for name in names}
    return ImageStats(**arrays, pictures=first.pictures + second.pictures)


def _of_chains(chains: Sequence[Chain]) -> str:
    n_photos, n_groups = sum(chain.n_photos for chain in chains), sum(chain.n_groups for chain in chains)
    return (
        f"{n_photos:,} photos, those that were learnt from among them, form chains in which each looks like the next, as in "
        f"the frames of a film. They count as {n_groups:,} groups; what is in a group without a photo that was learnt from "
        "may judge, and the result may be too good"
    )


def _of_gone(saved: SavedRun, n_gone: int, n: int) -> str:
    return (
        f"{n_gone:,} of the {counted(n, 'photo')} that it learnt from cannot be compared with these: neither the run nor "
        f"the cache has their small pictures, and they are not where they were ({saved.about['photos']}). Copies of them "
        "may judge, and the result may be too good; put them back, or train again"
    )
