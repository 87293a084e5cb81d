"""Computes codes: a backbone's outputs for each image, those alone that the store does not hold.

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
    """The codes of n images.

    values: (m, d) float16, a row for each usable image. widths: how many of the d codes each layer has, the last layer
    first. index: (m,) int64, the image that each row is of. digests: the sha256 of each row's image. failures: the Failure
    of every other image, by its position. n_computed: how many of the rows were not in the store.
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
    """Compute every image's codes, but for those that the store holds.

    store: None stores nothing. view: how each image is changed before, see data.views.VIEWS; seed: of what is random in it.
    is_deep: give the codes of all layers, not of the last alone; all are computed and stored in any case, at no extra cost.
    Where the store cannot be written (a full disk), the codes are given all the same. Raises BackboneError where the
    backbone gives numbers that are not finite.
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
    stamp_of = _stamp_function(images)
    rows = np.zeros((len(images), sum(widths)), np.float16)
    digests: list[bytes | None] = [None] * len(images)
    failures: dict[int, Failure] = {}
    if shelf:
        _fill_from_store(images, stamp_of, shelf, rows, digests)
    todo = [i for i, digest in enumerate(digests) if digest is None]
    n_computed = 0
    if todo:
        progress("codes", 0, len(todo))
        engine = open_engine(_join_outputs(backbone), hardware)
        draw_view = partial(view_pixels, view=view, seed=seed)
        stream = _stream_results(images, todo, stamp_of, backbone, shelf, engine, draw_view)
        with shelf or contextlib.nullcontext(), contextlib.closing(stream):  # however it ends, the workers end first
            for done, result in enumerate(stream, start=1):
                i = result.position
                if isinstance(result.codes, Failure):
                    failures[i] = result.codes
                else:
                    row = _to_float16(result.codes, images[i], backbone) if result.is_new else result.codes
                    digests[i], rows[i] = result.digest, row[: rows.shape[1]]
                    n_computed += result.is_new
                    if shelf:
                        shelf.put(result.digest, row if result.is_new else None, result.stamp)
                progress("codes", done, len(todo))
    index = np.array([i for i, digest in enumerate(digests) if digest is not None], np.int64)
    usable_digests = [digest for digest in digests if digest is not None]
    return Codes(rows if len(index) == len(images) else rows[index], widths, index, usable_digests, failures, n_computed)


class _ImageResult(NamedTuple):
    """One image's codes, or its Failure; is_new: whether they were computed, and are not from the store."""

    position: int
    digest: bytes
    codes: np.ndarray | Failure
    stamp: Stamp | None
    is_new: bool


def _stamp_function(images: Sequence[ImageRef]) -> Callable[[ImageRef], Stamp | None]:
    """Make the function that stamps these images: a file by its state at the call, a row by its table's state now."""
    tables = {image.table for image in images if isinstance(image, TableImage)}  # each is stamped once
    states = {table: state for table in tables if (state := _stamp_of_file(table.path)) and table.holds_all_bytes()}

    def stamp_of(image: ImageRef) -> Stamp | None:
        if isinstance(image, TableImage):
            state = states.get(image.table)
            return state and state._replace(path=b"%s#%d" % (state.path, image.row))
        return _stamp_of_file(image) if isinstance(image, (str, os.PathLike)) else None

    return stamp_of


def _stamp_of_file(path: str | os.PathLike[str]) -> Stamp | None:
    """A file's stamp; None where there is no file, or where it is so new that it could change and keep its times."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    now = time.time_ns()
    if any(abs(now - change_time) < _clock_step(change_time) for change_time in (status.st_mtime_ns, status.st_ctime_ns)):
        return None
    return Stamp(os.fsencode(os.path.abspath(path)), status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _clock_step(change_time: int) -> int:
    """The least time between two changes of a file whose times differ, by the resolution of its file system.

    A time without a part below a second is one of a file system that has none. A server's clock may be a little ahead.
    """
    return TICK_NANOSECONDS if change_time % 1_000_000_000 else COARSE_NANOSECONDS + TICK_NANOSECONDS


def _fill_from_store(
    images: Sequence[ImageRef],
    stamp_of: Callable[[ImageRef], Stamp | None],
    shelf: Shelf,
    rows: np.ndarray,
    digests: list[bytes | None],
) -> None:
    """Fill in the stored codes of files that have not changed since they were last read."""
    stamps = {i: stamp for i, image in enumerate(images) if (stamp := stamp_of(image))}
    stored_digests = shelf.store.digests_of(stamps.values())
    places: dict[bytes, list[int]] = {}
    for i, stamp in stamps.items():
        if stamp.path in stored_digests:
            places.setdefault(stored_digests[stamp.path], []).append(i)
    for chunk in chunks(list(places)):
        for digest, codes in shelf.get_many(chunk).items():
            for i in places[digest]:
                digests[i], rows[i] = digest, codes
    shelf.store.touch([digest for digest in places if digests[places[digest][0]]])


def _stream_results(
    images: Sequence[ImageRef],
    todo: Sequence[int],
    stamp_of: Callable[[ImageRef], Stamp | None],
    backbone: Backbone,
    shelf: Shelf | None,
    engine: Engine,
    draw_view: Callable[..., np.ndarray],
) -> Generator[_ImageResult, None, None]:
    """Read, look up, decode and infer images; one that was moved or renamed is found in the store by its sha256."""
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
        stored_row = shelf.get(digest) if shelf else None
        if stored_row is not None:
            return stored_row
        pixels = load_image(content, backbone.preprocess) if pixels is None else pixels
        return pixels if isinstance(pixels, Failure) else draw_view(pixels, digest=digest)

    result: Result[int]
    chunk = CHUNK if len(todo) >= MANY_IMAGES else 1
    for result in engine.stream(todo, load, chunk=chunk):
        digest, stamp = notes.pop(result.item, (b"", None))
        if result.outputs is not None:
            yield _ImageResult(result.item, digest, result.outputs["codes"], stamp, True)
        else:
            yield _ImageResult(result.item, digest, result.instead, stamp, False)


def _join_outputs(backbone: Backbone) -> bytes:
    """Build the backbone's network with the codes of all layers in one output: eight outputs cost 7 % of the time."""
    import onnx

    network = assemble([onnx.load_from_string(backbone.network)], len(backbone.widths))
    return network.SerializeToString(deterministic=True)


def _is_finite(row: np.ndarray) -> bool:
    """Whether a stored row can be codes; takes 11 us for 2,000 numbers."""
    return bool(np.isfinite(row).all())


def _to_float16(codes: np.ndarray, image: ImageRef, backbone: Backbone) -> np.ndarray:
    with np.errstate(over="ignore"):
        deeper = np.clip(codes[backbone.n_codes :], -LARGEST, LARGEST)  # some networks' inner layers run high
        row = np.concatenate([codes[: backbone.n_codes], deeper]).astype(np.float16)
    if not np.isfinite(row).all():
        raise BackboneError(
            f"the backbone {backbone.name} gives codes of {display_name(image)} that are not finite in 16 "
            "bits; check its --mean and --std, or try --precision f32"
        )
    return row
