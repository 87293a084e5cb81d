"""Computes codes: a backbone's outputs for each image, those alone that the store does not hold.

Takes image references and a backbone; gives an (n, d) array with a Failure for each image that could not be used. It
decides what is known already: a row is keyed by the image's sha256 and by everything else that changes the answer (the
backbone's sha256, the preprocessing, the view, the precision).
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple, cast

import numpy as np

from headstart.backbones.backbone import Backbone
from headstart.backbones.combine import assemble
from headstart.codes.image_stats import StatsWriter, measure
from headstart.codes.shelf import Shelf
from headstart.codes.store import Stamp, Store, chunks
from headstart.data.decoding import Failure, decode_and_apply
from headstart.data.images import crop_and_resize, display_name
from headstart.data.tables import ImageRef, TableImage, content_of, digest_of
from headstart.data.views import DrawnViews, view_pixels
from headstart.engines.engine import open_engine
from headstart.engines.hardware import Hardware
from headstart.errors import BackboneError
from headstart.progress import Progress

CHUNK = 8  # of many images, a worker decodes so many, then infers them: 0.93 of the bound, one by one 0.84 (docs/LOG.md)
MANY_IMAGES = 500
PIXELS_VERSION = 2  # raise it when images.py gives other pixels than before: all codes are then computed anew
COLUMNS_MOVED = 512  # at a time, where rows are put into another order: of all at once there would be two copies
MIXED_PRECISION = "auto, first part f32"  # raise it when the engine computes in another way
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

    def by_content(self) -> Codes:
        """The same in the order of the sha256, which no renaming changes; the values are moved in their place."""
        order = np.array(sorted(range(len(self.digests)), key=lambda i: (self.digests[i], self.index[i])), np.int64)
        for start in range(0, self.values.shape[-1], COLUMNS_MOVED):
            some = self.values[..., start : start + COLUMNS_MOVED]
            some[:] = some[order]
        return replace(self, index=self.index[order], digests=[self.digests[i] for i in order])


def compute_codes(
    images: Sequence[ImageRef],
    backbone: Backbone,
    store: Store | None,
    *,
    views: DrawnViews = DrawnViews(),
    is_deep: bool = False,
    with_stats: bool = False,
    hardware: Hardware = Hardware(),
    progress: Progress = lambda *_: None,
) -> Codes:
    """Compute every image's codes, averaged over views, but for those that the store holds; each file is read once.

    store: None stores nothing. views: what is made of each image. is_deep:
    give the codes of all layers, not of the last alone; all are computed and stored in any case, at no extra cost.
    with_stats: measure each image's statistics on the way, for the store. Where the store cannot be written (a full disk),
    the codes are given all the same. Raises BackboneError where the backbone gives numbers that are not finite.
    """
    images = list(images)  # a pandas Series is indexed by its labels, not by position
    stamp_of = _stamp_function(images)
    widths = backbone.widths if is_deep else backbone.widths[:1]
    rows = np.zeros((len(images), sum(widths)), np.float16)
    digests: list[bytes | None] = [None] * len(images)
    failures: dict[int, Failure] = {}
    shelves = [_shelf(store, backbone, key, is_deep, hardware) for key in views.keys()] if store else []
    writer = StatsWriter(store) if store and with_stats else None
    if shelves:
        _fill_from_store(images, stamp_of, shelves, rows, digests)
    todo = [i for i, digest in enumerate(digests) if digest is None]
    n_computed = 0
    if todo:
        progress("codes", 0, len(todo))
        engine = open_engine(_join_outputs(backbone), hardware)
        visit = _Visit(images, stamp_of, backbone, views, shelves, writer)
        results: Iterator[Any] = engine.stream(todo, visit.load, chunk=CHUNK if len(todo) >= MANY_IMAGES else 1)
        with visit, contextlib.closing(cast(Any, results)):  # however it ends, the workers end first
            for done, result in enumerate(results, start=1):
                i, note = result.item, visit.notes.pop(result.item, None)
                if note is None:
                    failures[i] = result.instead
                else:
                    row = visit.keep(i, note, result.outputs["codes"] if result.outputs else ())
                    digests[i], rows[i] = note.digest, row[: rows.shape[1]]
                    n_computed += any(stored is None for stored in note.stored)
                progress("codes", done, len(todo))
    index = np.array([i for i, digest in enumerate(digests) if digest is not None], np.int64)
    usable_digests = [digest for digest in digests if digest is not None]
    return Codes(rows if len(index) == len(images) else rows[index], widths, index, usable_digests, failures, n_computed)


def _shelf(store: Store, backbone: Backbone, view: str, is_deep: bool, hardware: Hardware) -> Shelf:
    """The rows of the store that a view's codes are in, keyed by everything that changes them; view: its key."""
    device = hardware.device.upper()
    recipe = {
        "backbone": backbone.sha256,
        "preprocess": asdict(backbone.preprocess),
        "view": view,
        "precision": hardware.precision if hardware.precision == "f32" else MIXED_PRECISION,
        "device": device.split(":")[0] if hardware.torch_device else device,
        "pixels": PIXELS_VERSION,
    }
    lengths = (backbone.n_codes, *([sum(backbone.widths[1:])] if backbone.widths[1:] else []))
    return Shelf(store, recipe, backbone.name, lengths, n_parts=None if is_deep else 1, is_whole=_is_finite)


class _Note(NamedTuple):
    """What was found at an image: its sha256, each view's stored codes (None: to be computed), and its statistics."""

    digest: bytes
    stamp: Stamp | None
    stored: list[np.ndarray | None]
    stats: bytes | None


@dataclass
class _Visit:
    """Reads an image once, for everything that is not stored of it: its codes under each view, and its statistics.

    notes: by position, of the images that have been loaded and not yet been taken.
    """

    images: Sequence[ImageRef]
    stamp_of: Callable[[ImageRef], Stamp | None]
    backbone: Backbone
    views: DrawnViews
    shelves: Sequence[Shelf]
    writer: StatsWriter | None
    notes: dict[int, _Note] = field(default_factory=dict)

    def __enter__(self) -> _Visit:
        with contextlib.ExitStack() as stack:
            for shelf in [*self.shelves, *([self.writer.shelf] if self.writer else [])]:
                stack.enter_context(shelf)
            self._open = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._open.__exit__(*error)

    def keep(self, position: int, note: _Note, computed: Sequence[np.ndarray]) -> np.ndarray:
        """Store what is new of an image, and average its codes over views; computed: of the views that were not stored."""
        fresh = iter(computed)
        rows = [
            _to_float16(next(fresh), self.images[position], self.backbone) if stored is None else stored
            for stored in note.stored
        ]
        for shelf, row, stored in zip(self.shelves, rows, note.stored, strict=False):
            shelf.put(note.digest, row if stored is None else None, note.stamp)
        if self.writer and note.stats is not None:
            self.writer.put(note.digest, note.stats)
        width = min(map(len, rows))
        return _mean([row[:width] for row in rows])

    def load(self, _: int, position: int) -> np.ndarray | Failure | None:
        """The pixels to infer, (v, size, size, 3) uint8, for the views that are not stored; None for none; or a Failure."""
        image = self.images[position]
        stamp = self.stamp_of(image)  # before it is read, so that a change meanwhile shows
        content = content_of(image)
        if isinstance(content, Failure):
            return content
        # An image without bytes of its own is hashed once it has proved to be one.
        loaded = None if isinstance(content, bytes) else self._decode(content, None)
        if isinstance(loaded, Failure):
            return loaded
        digest = digest_of(content)
        stored = [shelf.get(digest) for shelf in self.shelves] or [None] * len(self.views.names)
        is_stored = all(row is not None for row in stored)
        if is_stored and not (self.writer and self.writer.wants(digest)):
            self.notes[position] = _Note(digest, stamp, stored, None)
            return None
        if loaded is None or self.writer:
            loaded = self._decode(content, digest)
        if isinstance(loaded, Failure):
            return loaded
        square, stats = loaded
        self.notes[position] = _Note(digest, stamp, stored, stats)
        to_infer = [view for view, row in zip(self.views.names, stored, strict=True) if row is None]
        if not to_infer:
            return None
        return np.stack([view_pixels(square, view=view, seed=self.views.seed, digest=digest) for view in to_infer])

    def _decode(self, content: Any, digest: bytes | None) -> tuple[np.ndarray, bytes | None] | Failure:
        """The square that the backbone sees, and the statistics where they are wanted; digest: None leaves them out."""
        wants_stats = self.writer is not None and digest is not None and self.writer.wants(digest)

        def look(pixels: np.ndarray) -> tuple[np.ndarray, bytes | None]:
            square = crop_and_resize(pixels, self.backbone.preprocess)
            return square, measure(pixels) if wants_stats else None

        return decode_and_apply(content, look)


def _mean(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Average float16 rows in float32."""
    if len(rows) == 1:
        return rows[0]
    total = rows[0].astype(np.float32)
    for row in rows[1:]:
        total = total + row
    return (total / len(rows)).astype(np.float16)


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
    shelves: Sequence[Shelf],
    rows: np.ndarray,
    digests: list[bytes | None],
) -> None:
    """Fill in the stored codes of files that have not changed since they were last read."""
    stamps = {i: stamp for i, image in enumerate(images) if (stamp := stamp_of(image))}
    store = shelves[0].store
    stored_digests = store.digests_of(stamps.values())
    places: dict[bytes, list[int]] = {}
    for i, stamp in stamps.items():
        if stamp.path in stored_digests:
            places.setdefault(stored_digests[stamp.path], []).append(i)
    for chunk in chunks(list(places)):
        of_views = [shelf.get_many(chunk) for shelf in shelves]
        stored = [digest for digest in chunk if all(digest in of_view for of_view in of_views)]
        if stored:
            mean = _mean([np.stack([of_view[digest] for digest in stored]) for of_view in of_views])
            for digest, row in zip(stored, mean, strict=True):
                for i in places[digest]:
                    digests[i], rows[i] = digest, row
    store.touch([digest for digest in places if digests[places[digest][0]]])


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
