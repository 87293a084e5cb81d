"""Duplicates: the same photo twice, byte for byte, or resaved, resized, cropped a little, brightened, mirrored, with a logo.

Takes codes, glances and sha256; gives pairs of positions, the same whatever order the photos come in. It decides which
photos are the same one: those whose small pictures, laid one upon the other, agree in detail and in colour. Two photos of
one flower are not. The codes only say which pairs to look at; benchmarks/duplicates.py measures all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from typing import NamedTuple, TypeAlias, TypeVar

import numpy as np

from headstart.codes.image_stats import MIRROR_BITS, ImageStats
from headstart.engines.hardware import available_cores
from headstart.numerics.losses import unit_rows
from headstart.numerics.neighbours import most_similar
from headstart.numerics.pca import first_axes

T = TypeVar("T")

CODES_SHARE = 0.2  # of a similarity: cosine of the codes; the rest is what the pictures agree in
SAME = 0.78  # similarity: 98 % and more of all copies of photos reach it, no two other photos do; of star fields some do
N_NEAREST = 5  # by codes, and as many by hashes: star fields change their codes when they are resaved, not their hashes
N_AXES = 64
FLAT = 0.02  # contrast below which a photo shows nothing that another could share
# Sharpness below which a photo has no detail to tell copies by: digits of 8 x 8 pixels, enlarged, have 0.065 to 0.071, some
# 1,150 real photos 0.081 and more.
SMOOTH = 0.072
COARSE = 12  # pixels a side, where pairs are sifted: the sum of correlation and of the codes' cosine must reach LIKELY
LIKELY = 1.3  # of 2: of photos that are cropped by 10 % 98 in 100 have 1.4 and more
LEAST = 0.4  # the correlation alone
FINE = 48  # pixels a side, where they are compared
MARGIN = FINE // 8  # what one photo may lack of the other on each side
SCALES = (36, 32, 40, 34, 38, 33, 35, 37, 39)  # sides that the middle of one may have in the other: 36, and 11 % around
FIRST = 3  # so many are tried with half the pixels a side before: it costs little, and most pairs prove hopeless there
HOPE, SURE = 0.55, 0.95  # correlation of detail below which a pair is given up, and from which no other scale is tried
GREY_LEVELS = 6.0  # of 255: detail fainter than that is JPEG's
BLOCK = 64  # rows whose closeness to all others is held at once: 15 MB for 60,000 photos
PAIRS = 4096  # sifted at once
PICTURES = 256  # that a thread looks at before it takes the next ones
CHUNK = 64  # pairs that a thread compares before it takes the next ones


class Pair(NamedTuple):
    """Two photos that are one: their positions, first < second, and how alike they are, from SAME to 1."""

    first: int
    second: int
    similarity: float


def exact_groups(digests: Sequence[bytes]) -> list[np.ndarray]:
    """Give the positions, ascending, of the photos of each group of two or more whose bytes are the same."""
    places: dict[bytes, list[int]] = {}
    for i, digest in enumerate(digests):
        places.setdefault(digest, []).append(i)
    return [np.array(same, np.int64) for same in places.values() if len(same) > 1]


class Comparison:
    """Photos made ready to be compared, and what compares them.

    kept: the positions of those photos, each content once, ordered by sha256, so that nothing depends on the order that
    they come in; a photo that is gone, or shows too little (FLAT, SMOOTH), is not among them.
    Everything else counts in places of kept. Memory: 1 KB a photo, 12 KB more where it resembles another.
    """

    def __init__(self, codes: np.ndarray, glances: ImageStats, digests: Sequence[bytes], pool: ThreadPoolExecutor) -> None:
        """codes: (n, d) of the last layer; digests: the photos' sha256; pool: whose threads compare."""
        self.kept = _kept(glances, digests)
        self._codes, self._pool = codes, pool
        self._pictures = [glances.pictures[i] or b"" for i in self.kept]
        self._hashes = glances.hashes[self.kept]

    @cached_property
    def _searched(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows of length 1 whose dot products say which photos could be one."""
        return _projected(self._codes, self.kept), _signs(self._hashes)

    @cached_property
    def _coarse(self) -> np.ndarray:
        return np.stack(_each(_coarse, self._pictures, self._pool))

    def pairs(self, rows: np.ndarray | None = None, group: np.ndarray | None = None) -> np.ndarray:
        """Pair each of some photos with the nearest that are of another group: (m, 2) places, the smaller first, each once.

        rows: whose nearest are looked for, by default all photos'. group: (n,) a number for each photo, by default each is a
        group of its own.
        """
        n = len(self.kept)
        rows = np.arange(n) if rows is None else rows
        nearest = [_nearest_pairs(searched, rows, group, min(N_NEAREST, n - 1), self._pool) for searched in self._searched]
        return np.unique(np.sort(np.concatenate(nearest), axis=1), axis=0)

    def similarity(self, pairs: np.ndarray) -> np.ndarray:
        """How alike the two photos of each pair are: (m, 2) places to (m,) in [0, 1]; they are one from SAME on."""
        similarity = np.zeros(len(pairs), np.float32)
        if len(pairs):
            likely, is_mirrored, cosine = _likely(pairs, self._coarse, self._codes, self.kept, self._pool)
            agreement = _agreement(pairs[likely], is_mirrored, self._pictures, self._pool)
            similarity[likely] = np.minimum(1.0, (1 - CODES_SHARE) * agreement + CODES_SHARE * cosine)
        return similarity


def near_duplicates(
    codes: np.ndarray, glances: ImageStats, digests: Sequence[bytes], *, threads: int | None = None
) -> list[Pair]:
    """Find the pairs of photos that are one photo, though not byte for byte; the most alike first.

    codes: (n, d) of the last layer. Of photos that are the same byte for byte only the first is in any pair; each photo is
    compared with the N_NEAREST nearest alone.
    """
    with comparing(codes, glances, digests, threads=threads) as comparison:
        if len(comparison.kept) < 2:
            return []
        pairs = comparison.pairs()
        return pairs_of(comparison, pairs, comparison.similarity(pairs), digests)


@contextmanager
def comparing(
    codes: np.ndarray, glances: ImageStats, digests: Sequence[bytes], *, threads: int | None = None
) -> Iterator[Comparison]:
    """Compare photos on some threads, each of which computes by itself."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(threads or available_cores()) as pool:
        yield Comparison(codes, glances, digests, pool)


def pairs_of(comparison: Comparison, pairs: np.ndarray, similarity: np.ndarray, digests: Sequence[bytes]) -> list[Pair]:
    """Of pairs that were compared, those that are one photo, by their positions, the most alike first."""
    is_same = similarity >= SAME
    found = zip(np.sort(comparison.kept[pairs[is_same]], axis=1).tolist(), similarity[is_same].tolist(), strict=True)
    pairs_found = [Pair(first, second, score) for (first, second), score in found]
    return sorted(pairs_found, key=lambda p: (-p.similarity, *sorted((digests[p.first], digests[p.second]))))


def _kept(glances: ImageStats, digests: Sequence[bytes]) -> np.ndarray:
    """The positions of the photos to compare, ordered by sha256."""
    place: dict[bytes, int] = {}
    for i, digest in enumerate(digests):
        if glances.pictures[i] is not None and glances.contrast[i] >= FLAT and glances.sharpness[i] >= SMOOTH:
            place.setdefault(digest, i)
    return np.array([place[digest] for digest in sorted(place)], np.int64)


# ---- which pairs to look at


def _projected(codes: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Codes, at length 1, along the N_AXES axes that hold most of up to 2,048 of them: (n, N_AXES) float32, at length 1."""
    axes, _ = first_axes(_unit(codes, kept[:: -(-len(kept) // 2048)]), N_AXES)
    blocks = [_unit(codes, kept[start : start + PAIRS]) @ axes for start in range(0, len(kept), PAIRS)]
    rows = np.concatenate(blocks)
    return unit_rows(rows, (rows.shape[1],))


def _unit(codes: np.ndarray, which: np.ndarray) -> np.ndarray:
    return unit_rows(codes[which].astype(np.float32), (codes.shape[1],))


def _signs(hashes: np.ndarray) -> np.ndarray:
    """Hashes as (n, 64) float32 rows of length 1, a photo and its mirror image alike: the one whose bit 1 is not set."""
    hashes = np.where((hashes >> np.uint64(1)) & np.uint64(1), hashes ^ MIRROR_BITS, hashes)
    bits = np.unpackbits(hashes.astype("<u8")[:, None].view(np.uint8), axis=1, bitorder="little")
    return (bits.astype(np.float32) * 2 - 1) / 8


def _nearest_pairs(
    rows: np.ndarray, queries: np.ndarray, group: np.ndarray | None, n_nearest: int, pool: ThreadPoolExecutor
) -> np.ndarray:
    """Pair each of some rows with the nearest of other groups: (m * n_nearest, 2) positions, or fewer of a large group."""
    nearest, cosines = most_similar(
        rows[queries],
        rows,
        n_nearest,
        own=queries if group is None else None,
        groups=None if group is None else (group[queries], group),
        block=BLOCK,
        run=pool.map,
    )
    pairs = np.stack([np.repeat(queries, n_nearest), nearest.reshape(-1)], axis=1)
    return pairs[np.isfinite(cosines).reshape(-1)]


def _likely(
    pairs: np.ndarray, coarse: np.ndarray, codes: np.ndarray, kept: np.ndarray, pool: ThreadPoolExecutor
) -> list[np.ndarray]:
    """Sift pairs by coarse pictures (n, COARSE, COARSE) and codes: which are left, are mirrored, and the codes' cosine."""

    def sift(start: int) -> tuple[np.ndarray, ...]:
        part = pairs[start : start + PAIRS]
        first, second = coarse[part[:, 0]], coarse[part[:, 1]]
        straight = np.einsum("ijk,ijk->i", first, second)
        turned = np.einsum("ijk,ijk->i", first, second[:, :, ::-1])
        alike = np.maximum(straight, turned)
        left = np.flatnonzero(alike >= LEAST)
        cosine = np.einsum("ij,ij->i", *(_unit(codes, kept[part[left, side]]) for side in (0, 1)))
        is_likely = alike[left] + cosine >= LIKELY
        left = left[is_likely]
        return start + left, (turned > straight)[left], cosine[is_likely]

    return [np.concatenate(arrays) for arrays in zip(*pool.map(sift, range(0, len(pairs), PAIRS)), strict=True)]


def _each(look: Callable[[bytes], T], pictures: Sequence[bytes], pool: ThreadPoolExecutor) -> list[T]:
    """Look at each picture, some hundred at a time: a task for each costs as much as the look."""

    def some(start: int) -> list[T]:
        return [look(picture) for picture in pictures[start : start + PICTURES]]

    return [one for many in pool.map(some, range(0, len(pictures), PICTURES)) for one in many]


def _coarse(picture: bytes) -> np.ndarray:
    """A small JPEG as (COARSE, COARSE) float32 grey of mean 0 and length 1."""
    import cv2
    import simplejpeg

    grey = simplejpeg.decode_jpeg(picture, "GRAY")[:, :, 0]
    small = cv2.resize(grey, (COARSE, COARSE), interpolation=cv2.INTER_AREA).astype(np.float32)
    small -= small.mean()
    return small / max(float(np.linalg.norm(small)), 1e-3)


# ---- whether a pair is one photo

Look: TypeAlias = "tuple[np.ndarray, np.ndarray]"
"""(FINE, FINE) float16 detail and (FINE, FINE, 3) uint8 colour: 12 KB, for there may be many. With half as many pixels a
side for colour only 87 % of the flowers that are cropped by 5 % are found, so 99 %."""


def _agreement(
    pairs: np.ndarray, is_mirrored: np.ndarray, pictures: Sequence[bytes], pool: ThreadPoolExecutor
) -> np.ndarray:
    """How far the pictures of each pair agree, (m,) in [0, 1]."""
    involved = np.unique(pairs).tolist()
    looks = dict(zip(involved, _each(_look, [pictures[i] for i in involved], pool), strict=True))

    def compare(start: int) -> list[float]:
        part = slice(start, start + CHUNK)
        numbered = zip(pairs[part].tolist(), is_mirrored[part].tolist(), strict=True)
        return [_fit(looks[first], looks[second], turned) for (first, second), turned in numbered]

    return np.array([fit for fits in pool.map(compare, range(0, len(pairs), CHUNK)) for fit in fits], np.float32)


def _look(picture: bytes) -> Look:
    """Colour, and detail: what differs from its surroundings, as a share of how much things differ there, so that every part
    counts alike, whatever the light (local contrast normalisation: Jarrett et al. 2009)."""
    import cv2
    import simplejpeg

    colour = cv2.resize(simplejpeg.decode_jpeg(picture, "RGB"), (FINE, FINE), interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(colour, cv2.COLOR_RGB2GRAY).astype(np.float32)
    detail = grey - cv2.GaussianBlur(grey, (0, 0), FINE / 10)
    detail /= np.sqrt(cv2.GaussianBlur(detail * detail, (0, 0), FINE / 10) + np.float32(GREY_LEVELS**2))
    return detail.astype(np.float16), colour


def _fit(first: Look, second: Look, is_mirrored: bool) -> float:
    """Lay the middle of the second upon the first where detail correlates most; the product of the correlations there, of
    detail and of colour: yellow dandelions and brown horses fit white and black ones well in detail alone."""
    import cv2

    detail, other = (look[0].astype(np.float32) for look in (first, second))
    colour, other_colour = first[1], second[1]
    if is_mirrored:
        other, other_colour = np.ascontiguousarray(other[:, ::-1]), other_colour[:, ::-1]
    if _best_fit(_halved(detail), _halved(other), [side // 2 for side in SCALES[:FIRST]])[0] < HOPE:
        return 0.0
    best, side, top, left = _best_fit(detail, other, SCALES)
    window = np.ascontiguousarray(colour[top : top + side, left : left + side])
    laid = cv2.resize(_middle(other_colour), (side, side), interpolation=cv2.INTER_AREA)
    return max(0.0, best) * max(0.0, float(cv2.matchTemplate(window, laid, cv2.TM_CCOEFF_NORMED)[0, 0]))


def _halved(square: np.ndarray) -> np.ndarray:
    import cv2

    return cv2.resize(square, (FINE // 2, FINE // 2), interpolation=cv2.INTER_AREA)


def _best_fit(detail: np.ndarray, other: np.ndarray, scales: Sequence[int]) -> tuple[float, int, int, int]:
    """Where the middle of the other correlates most: how much, its side there, top and left."""
    import cv2

    middle, best = _middle(other), (-1.0, scales[0], 0, 0)
    for side in scales:
        fits = cv2.matchTemplate(detail, cv2.resize(middle, (side, side)), cv2.TM_CCOEFF_NORMED)
        highest = int(fits.argmax())
        if fits.flat[highest] > best[0]:
            best = (float(fits.flat[highest]), side, *divmod(highest, fits.shape[1]))
        if best[0] >= SURE:
            break
    return best


def _middle(square: np.ndarray) -> np.ndarray:
    margin = len(square) * MARGIN // FINE
    return np.ascontiguousarray(square[margin:-margin, margin:-margin])
