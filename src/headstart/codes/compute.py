"""Codes: computed once for each image, then kept.

Takes image references and a backbone; gives an (n, d) array with a Failure for each image that could not be used. It
decides what is known already: a row is keyed by the image's sha256 and by everything else that changes the answer (the
backbone's sha256, the preprocessing, the view, the precision).
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from headstart.backbones.backbone import Backbone
from headstart.backbones.combine import assemble
from headstart.codes.shelf import Shelf
from headstart.codes.store import Stamp, Store, chunks
from headstart.data.decoding import Failure
from headstart.data.images import display_name, load_image
from headstart.data.tables import ImageRef, TableImage, content_of, digest_of
from headstart.data.views import view_key, view_pixels
from headstart.engines.engine import Engine, open_engine
from headstart.engines.hardware import Hardware
from headstart.engines.ordered import Result
from headstart.errors import BackboneError
from headstart.progress import Progress

CHUNK = 8  # of many images, a worker decodes so many, then infers them: 0.93 of the bound, one by one 0.84 (docs/LOG.md)
MANY_IMAGES = 500
PIXELS_VERSION = 1  # raise it when images.py gives other pixels than before: all codes are then computed anew
LARGEST = float(np.finfo(np.float16).max)
TICK_NANOSECONDS = 20_000_000  # two changes of a file within a tick of the kernel's clock (10 ms at most) share their times
COARSE_NANOSECONDS = 2_000_000_000  # and those within two seconds where times are whole seconds, as on FAT and old NFS


@dataclass(frozen=True)
class Codes:
    """What became of n images.

    values: (m, d) float16, a row for each usable image. widths: how many of its numbers are of each depth, the last layer
    first. index: (m,) int64, which image each row is of. digests: the sha256 of each row's image. failures: the Failure of
    every other image, by its position. n_computed: how many of the rows were not known before.
    """

    values: np.ndarray
    widths: tuple[int, ...]
    index: np.ndarray
    digests: list[bytes]
    failures: dict[int, Failure]
    n_computed: int


def compute_codes(
    images: Sequence[ImageRef],
    backbone: Backbone,
    store: Store | None,
    *,
    view: str = "original",
    seed: int = 0,
    is_deep: bool = False,
    hardware: Hardware = Hardware(),
    progress: Progress = lambda *_: None,
) -> Codes:
    """Give every image's codes, computing only those that the store does not hold.

    store: None keeps nothing. view: how each image is changed before, see augment.VIEWS; seed: of what is random in that.
    is_deep: of all depths, not of the last layer alone; all are computed and kept in any case, for they cost nothing extra.
    A store that cannot be written (a full disk) loses nothing that is given here. Raises BackboneError when the backbone
    gives numbers that are no numbers.
    """
    images = list(images)  # a pandas Series is indexed by its labels, not by position
    shelf = None
    if store:
        device = hardware.device.upper()
        recipe = {
            "backbone": backbone.sha256,
            "preprocess": asdict(backbone.preprocess),
            "view": view_key(view, seed),
            "precision": hardware.precision,
            "device": device.split(":")[0] if hardware.torch_device else device,
            "pixels": PIXELS_VERSION,
        }
        lengths = (backbone.n_codes, *([sum(backbone.widths[1:])] if backbone.widths[1:] else []))
        n_parts = None if is_deep else 1
        shelf = Shelf(store, recipe, backbone.name, lengths, n_parts=n_parts, is_whole=_is_finite)
    widths = backbone.widths if is_deep else backbone.widths[:1]
    stamp_of = _stamps(images)
    rows = np.zeros((len(images), sum(widths)), np.float16)
    digests: list[bytes | None] = [None] * len(images)
    failures: dict[int, Failure] = {}
    if shelf:
        _fill_from_files(images, stamp_of, shelf, rows, digests)
    todo = [i for i, digest in enumerate(digests) if digest is None]
    n_computed = 0
    if todo:
        progress("codes", 0, len(todo))
        engine = open_engine(_in_one_row(backbone), hardware)
        look = partial(view_pixels, view=view, seed=seed)
        stream = _stream(images, todo, stamp_of, backbone, shelf, engine, look)
        with shelf or contextlib.nullcontext(), contextlib.closing(stream):  # however it ends, the workers end first
            for done, fresh in enumerate(stream, start=1):
                i = fresh.position
                if isinstance(fresh.codes, Failure):
                    failures[i] = fresh.codes
                else:
                    row = _finite(fresh.codes, images[i], backbone) if fresh.is_new else fresh.codes
                    digests[i], rows[i] = fresh.digest, row[: rows.shape[1]]
                    n_computed += fresh.is_new
                    if shelf:
                        shelf.put(fresh.digest, row if fresh.is_new else None, fresh.stamp)
                progress("codes", done, len(todo))
    index = np.array([i for i, digest in enumerate(digests) if digest is not None], np.int64)
    known = [digest for digest in digests if digest is not None]
    return Codes(rows if len(index) == len(images) else rows[index], widths, index, known, failures, n_computed)


class _Fresh(NamedTuple):
    position: int
    digest: bytes
    codes: np.ndarray | Failure
    stamp: Stamp | None
    is_new: bool


def _stamps(images: Sequence[ImageRef]) -> Callable[[ImageRef], Stamp | None]:
    """Give the function that stamps these images: a file by its state when asked, a table's row by its table's state now."""
    tables = {image.table for image in images if isinstance(image, TableImage)}  # each is looked at once
    states = {table: state for table in tables if (state := _state(table.path)) and table.holds_all_bytes()}

    def stamp_of(image: ImageRef) -> Stamp | None:
        if isinstance(image, TableImage):
            state = states.get(image.table)
            return state and state._replace(path=b"%s#%d" % (state.path, image.row))
        return _state(image) if isinstance(image, (str, os.PathLike)) else None

    return stamp_of


def _state(path: str | os.PathLike[str]) -> Stamp | None:
    """A file's stamp; None where there is no file, or where it is so new that it could change and keep its times."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    now = time.time_ns()
    if any(abs(now - changed) < _step(changed) for changed in (status.st_mtime_ns, status.st_ctime_ns)):
        return None
    return Stamp(os.fsencode(os.path.abspath(path)), status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _step(changed: int) -> int:
    """How far apart two changes are at least whose times differ, as far as one of them tells: a server's clock may be a
    little ahead of ours, and a time without a part below a second is one of a file system that has none."""
    return TICK_NANOSECONDS if changed % 1_000_000_000 else COARSE_NANOSECONDS + TICK_NANOSECONDS


def _fill_from_files(
    images: Sequence[ImageRef],
    stamp_of: Callable[[ImageRef], Stamp | None],
    shelf: Shelf,
    rows: np.ndarray,
    digests: list[bytes | None],
) -> None:
    """Fill in what is known of files that have not changed since they were last read."""
    stamps = {i: stamp for i, image in enumerate(images) if (stamp := stamp_of(image))}
    read_before = shelf.store.digests_of(stamps.values())
    places: dict[bytes, list[int]] = {}
    for i, stamp in stamps.items():
        if stamp.path in read_before:
            places.setdefault(read_before[stamp.path], []).append(i)
    for chunk in chunks(list(places)):
        for digest, codes in shelf.get_many(chunk).items():
            for i in places[digest]:
                digests[i], rows[i] = digest, codes
    shelf.store.touch([digest for digest in places if digests[places[digest][0]]])


def _stream(
    images: Sequence[ImageRef],
    todo: Sequence[int],
    stamp_of: Callable[[ImageRef], Stamp | None],
    backbone: Backbone,
    shelf: Shelf | None,
    engine: Engine,
    look: Callable[..., np.ndarray],
) -> Generator[_Fresh, None, None]:
    """Read, look up, decode and infer; the bytes of an image that was moved or renamed are met again by their hash."""
    notes: dict[int, tuple[bytes, Stamp | None]] = {}

    def load(_: int, position: int) -> Any:
        image = images[position]
        stamp = stamp_of(image)  # before it is read, so that a change meanwhile shows
        content = content_of(image)
        if isinstance(content, Failure):
            return content
        # An image without bytes of its own is hashed once it has proved to be one.
        pixels = None if isinstance(content, bytes) else load_image(content, backbone.preprocess)
        if isinstance(pixels, Failure):
            return pixels
        digest = digest_of(content)
        notes[position] = digest, stamp
        known = shelf.get(digest) if shelf else None
        if known is not None:
            return known
        pixels = load_image(content, backbone.preprocess) if pixels is None else pixels
        return pixels if isinstance(pixels, Failure) else look(pixels, digest=digest)

    result: Result[int]
    chunk = CHUNK if len(todo) >= MANY_IMAGES else 1
    for result in engine.stream(todo, load, chunk=chunk):
        digest, stamp = notes.pop(result.item, (b"", None))
        if result.outputs is not None:
            yield _Fresh(result.item, digest, result.outputs["codes"], stamp, True)
        else:
            yield _Fresh(result.item, digest, result.instead, stamp, False)


def _in_one_row(backbone: Backbone) -> bytes:
    """The backbone's network with the codes of all layers in one output: eight cost 7 % of the time, in Python alone."""
    import onnx

    network = assemble([onnx.load_from_string(backbone.network)], len(backbone.widths))
    return network.SerializeToString(deterministic=True)


def _is_finite(row: np.ndarray) -> bool:
    """Whether a row that was kept can be codes; 11 us of 2,000 numbers."""
    return bool(np.isfinite(row).all())


def _finite(codes: np.ndarray, image: ImageRef, backbone: Backbone) -> np.ndarray:
    with np.errstate(over="ignore"):
        deeper = np.clip(codes[backbone.n_codes :], -LARGEST, LARGEST)  # some networks' inner layers run high
        row = np.concatenate([codes[: backbone.n_codes], deeper]).astype(np.float16)
    if not np.isfinite(row).all():
        raise BackboneError(
            f"the backbone {backbone.name} gives codes of {display_name(image)} that are not finite in 16 "
            "bits; check its --mean and --std, or try --precision f32"
        )
    return row
