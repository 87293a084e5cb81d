"""Finds duplicates and near duplicates: copies that were resaved, resized, cropped, brightened, mirrored, given a logo.

Takes codes, image statistics and sha256; gives pairs of positions, the same whatever order the photos come in. It decides
which photos are copies: those whose small pictures, laid one upon the other, agree in detail and in colour. Two photos of
one flower are not. The codes only say which pairs to compare; benchmarks/duplicates.py measures all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from typing import NamedTuple, TypeVar

import numpy as np

from headstart.codes.image_stats import MIRROR_BITS, ImageStats
from headstart.engines.hardware import available_cores
from headstart.numerics.losses import unit_rows
from headstart.numerics.neighbours import most_similar
from headstart.numerics.pca import first_axes

FromPicture = TypeVar("FromPicture")

CODES_WEIGHT = 0.2  # of the codes' cosine in a similarity; the rest is the agreement of the pictures
MIN_SIMILARITY = 0.78  # of copies: 98 % and more of them reach it, no two other photos do; of star fields some do
N_NEAREST = 5  # by codes, and as many by hashes: star fields change their codes when they are resaved, not their hashes
N_AXES = 64
MIN_CONTRAST = 0.02  # below, a photo shows nothing that another could share
# Sharpness below which a photo has no detail to tell copies by: digits of 8 x 8 pixels, enlarged, have 0.065 to 0.071, some
# 1,150 real photos 0.081 and more.
MIN_SHARPNESS = 0.072
COARSE_SIDE = 12  # pixels a side of the pictures that pairs are sifted by
MIN_COARSE_SCORE = 1.3  # correlation plus cosine, of 2: of photos that are cropped by 10 % 98 in 100 have 1.4 and more
MIN_COARSE_CORRELATION = 0.4  # the correlation alone
FINE_SIDE = 48  # pixels a side of the pictures that likely pairs are compared by
EDGE = FINE_SIDE // 8  # what one photo may lack of the other on each side
OVERLAY_SIDES = (36, 32, 40, 34, 38, 33, 35, 37, 39)  # of one photo's middle within the other: 36, and 11 % around
N_FIRST_SIDES = 3  # tried at half the resolution first: that costs little, and rules most pairs out
MIN_CORRELATION = 0.55  # of detail; below, a pair is given up
ENOUGH_CORRELATION = 0.95  # of detail; from here on no other side is tried
JPEG_NOISE = 6.0  # grey levels of 255: detail fainter than that is JPEG's
BLOCK_ROWS = 64  # rows whose products with all others are held at once: 15 MB for 60,000 photos
PAIRS_AT_ONCE = 4096  # sifted by a thread before it takes the next ones
PICTURES_AT_ONCE = 256  # decoded by a thread before it takes the next ones
PAIRS_A_TASK = 64  # compared by a thread before it takes the next ones


class Pair(NamedTuple):
    """Two copies of one photo: their positions, first < second, and their similarity, from MIN_SIMILARITY to 1."""

    first: int
    second: int
    similarity: float


def exact_groups(digests: Sequence[bytes]) -> list[np.ndarray]:
    """Group the photos whose bytes are the same: the positions, ascending, of each group of two or more."""
    places: dict[bytes, list[int]] = {}
    for i, digest in enumerate(digests):
        places.setdefault(digest, []).append(i)
    return [np.array(same, np.int64) for same in places.values() if len(same) > 1]


class CopySearch:
    """Searches photos for near duplicates: pairs each with its nearest, and measures how similar a pair is.

    candidates: the positions of the photos to compare, each content once, ordered by sha256, so that nothing depends on the
    order that they come in; a photo that is gone, or shows too little (MIN_CONTRAST, MIN_SHARPNESS), is not among them.
    The methods count in places among the candidates. Memory: 1 KB a photo, 12 KB more where it resembles another.
    """

    def __init__(
        self, codes: np.ndarray, image_stats: ImageStats, digests: Sequence[bytes], pool: ThreadPoolExecutor
    ) -> None:
        """codes: (n, d) of the last layer; digests: the photos' sha256; pool: the threads that compare."""
        self.candidates = _comparable(image_stats, digests)
        self._codes, self._pool = codes, pool
        self._pictures = [image_stats.pictures[i] or b"" for i in self.candidates]
        self._hashes = image_stats.hashes[self.candidates]

    @cached_property
    def _search_rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows of length 1, of codes and of hashes, whose dot products are highest for copies."""
        return _project_codes(self._codes, self.candidates), _hash_rows(self._hashes)

    @cached_property
    def _coarse_pictures(self) -> np.ndarray:
        return np.stack(_map_pictures(_coarse_picture, self._pictures, self._pool))

    def pairs(self, rows: np.ndarray | None = None, group: np.ndarray | None = None) -> np.ndarray:
        """Pair photos with their nearest of other groups: (m, 2) places, the smaller first, each pair once.

        rows: the photos to pair, by default all. group: (n,) a number for each photo; by default each is a group of its
        own.
        """
        n = len(self.candidates)
        rows = np.arange(n) if rows is None else rows
        nearest = [_pair_nearest(space, rows, group, min(N_NEAREST, n - 1), self._pool) for space in self._search_rows]
        return np.unique(np.sort(np.concatenate(nearest), axis=1), axis=0)

    def similarity(self, pairs: np.ndarray) -> np.ndarray:
        """Measure the similarity of each pair: (m, 2) places to (m,) in [0, 1]; copies have MIN_SIMILARITY or more."""
        similarity = np.zeros(len(pairs), np.float32)
        if len(pairs):
            likely, is_mirrored, cosine = _sift_pairs(pairs, self._coarse_pictures, self._codes, self.candidates, self._pool)
            agreement = _agreements(pairs[likely], is_mirrored, self._pictures, self._pool)
            similarity[likely] = np.minimum(1.0, (1 - CODES_WEIGHT) * agreement + CODES_WEIGHT * cosine)
        return similarity


def near_duplicates(
    codes: np.ndarray, image_stats: ImageStats, digests: Sequence[bytes], *, threads: int | None = None
) -> list[Pair]:
    """Find the pairs of photos that are copies, though not byte for byte; the most similar first.

    codes: (n, d) of the last layer. Of photos that are the same byte for byte only the first is in any pair; each photo is
    compared with the N_NEAREST nearest only.
    """
    with copy_search(codes, image_stats, digests, threads=threads) as search:
        if len(search.candidates) < 2:
            return []
        pairs = search.pairs()
        return pairs_of(search, pairs, search.similarity(pairs), digests)


@contextmanager
def copy_search(
    codes: np.ndarray, image_stats: ImageStats, digests: Sequence[bytes], *, threads: int | None = None
) -> Iterator[CopySearch]:
    """Open a search of photos on some threads, each of which computes with one core."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(threads or available_cores()) as pool:
        yield CopySearch(codes, image_stats, digests, pool)


def pairs_of(search: CopySearch, pairs: np.ndarray, similarity: np.ndarray, digests: Sequence[bytes]) -> list[Pair]:
    """Keep the compared pairs that are copies, by the photos' positions, the most similar first."""
    is_copy = similarity >= MIN_SIMILARITY
    positions = np.sort(search.candidates[pairs[is_copy]], axis=1).tolist()
    copies = [
        Pair(first, second, score) for (first, second), score in zip(positions, similarity[is_copy].tolist(), strict=True)
    ]
    return sorted(copies, key=lambda p: (-p.similarity, *sorted((digests[p.first], digests[p.second]))))


def _comparable(image_stats: ImageStats, digests: Sequence[bytes]) -> np.ndarray:
    """Give the positions of the photos to compare, each content once, ordered by sha256."""
    place: dict[bytes, int] = {}
    for i, digest in enumerate(digests):
        if (
            image_stats.pictures[i] is not None
            and image_stats.contrast[i] >= MIN_CONTRAST
            and image_stats.sharpness[i] >= MIN_SHARPNESS
        ):
            place.setdefault(digest, i)
    return np.array([place[digest] for digest in sorted(place)], np.int64)


def _project_codes(codes: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Project codes of length 1 onto the N_AXES first principal axes of up to 2,048 of them: (n, N_AXES) of length 1."""
    axes, _ = first_axes(_unit_codes(codes, candidates[:: -(-len(candidates) // 2048)]), N_AXES)
    blocks = [
        _unit_codes(codes, candidates[start : start + PAIRS_AT_ONCE]) @ axes
        for start in range(0, len(candidates), PAIRS_AT_ONCE)
    ]
    rows = np.concatenate(blocks)
    return unit_rows(rows, (rows.shape[1],))


def _unit_codes(codes: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return unit_rows(codes[rows].astype(np.float32), (codes.shape[1],))


def _hash_rows(hashes: np.ndarray) -> np.ndarray:
    """Turn hashes into (n, 64) float32 rows of length 1; a mirror image has the same row: that whose bit 1 is not set."""
    hashes = np.where((hashes >> np.uint64(1)) & np.uint64(1), hashes ^ MIRROR_BITS, hashes)
    bits = np.unpackbits(hashes.astype("<u8")[:, None].view(np.uint8), axis=1, bitorder="little")
    return (bits.astype(np.float32) * 2 - 1) / 8


def _pair_nearest(
    rows: np.ndarray, queries: np.ndarray, group: np.ndarray | None, n_nearest: int, pool: ThreadPoolExecutor
) -> np.ndarray:
    """Pair each queried row with the nearest of other groups: (m * n_nearest, 2) positions, or fewer of a large group."""
    nearest, cosines = most_similar(
        rows[queries],
        rows,
        n_nearest,
        own=queries if group is None else None,
        groups=None if group is None else (group[queries], group),
        block=BLOCK_ROWS,
        run=pool.map,
    )
    pairs = np.stack([np.repeat(queries, n_nearest), nearest.reshape(-1)], axis=1)
    return pairs[np.isfinite(cosines).reshape(-1)]


def _sift_pairs(
    pairs: np.ndarray, coarse: np.ndarray, codes: np.ndarray, candidates: np.ndarray, pool: ThreadPoolExecutor
) -> list[np.ndarray]:
    """Sift pairs by coarse pictures, (n, COARSE_SIDE, COARSE_SIDE), and codes: which are likely copies, which of these are
    mirrored, and their codes' cosine."""

    def sift(start: int) -> tuple[np.ndarray, ...]:
        part = pairs[start : start + PAIRS_AT_ONCE]
        first, second = coarse[part[:, 0]], coarse[part[:, 1]]
        straight = np.einsum("ijk,ijk->i", first, second)
        turned = np.einsum("ijk,ijk->i", first, second[:, :, ::-1])
        correlation = np.maximum(straight, turned)
        left = np.flatnonzero(correlation >= MIN_COARSE_CORRELATION)
        cosine = np.einsum("ij,ij->i", *(_unit_codes(codes, candidates[part[left, side]]) for side in (0, 1)))
        is_likely = correlation[left] + cosine >= MIN_COARSE_SCORE
        left = left[is_likely]
        return start + left, (turned > straight)[left], cosine[is_likely]

    return [np.concatenate(arrays) for arrays in zip(*pool.map(sift, range(0, len(pairs), PAIRS_AT_ONCE)), strict=True)]


def _map_pictures(
    function: Callable[[bytes], FromPicture], pictures: Sequence[bytes], pool: ThreadPoolExecutor
) -> list[FromPicture]:
    """Apply a function to each picture in threads, some hundred at a time: a task for each would cost as much again."""

    def block(start: int) -> list[FromPicture]:
        return [function(picture) for picture in pictures[start : start + PICTURES_AT_ONCE]]

    return [result for results in pool.map(block, range(0, len(pictures), PICTURES_AT_ONCE)) for result in results]


def _coarse_picture(picture: bytes) -> np.ndarray:
    """Turn a small JPEG into (COARSE_SIDE, COARSE_SIDE) float32 grey of mean 0 and length 1."""
    import cv2
    import simplejpeg

    grey = simplejpeg.decode_jpeg(picture, "GRAY")[:, :, 0]
    small = cv2.resize(grey, (COARSE_SIDE, COARSE_SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    small -= small.mean()
    return small / max(float(np.linalg.norm(small)), 1e-3)


class FinePicture(NamedTuple):
    """A picture to compare: detail (FINE_SIDE, FINE_SIDE) float16, colour (FINE_SIDE, FINE_SIDE, 3) uint8; 12 KB.

    With half as many pixels a side for colour only 87 % of the flowers that are cropped by 5 % are found, so 99 %.
    """

    detail: np.ndarray
    colour: np.ndarray


def _agreements(
    pairs: np.ndarray, is_mirrored: np.ndarray, pictures: Sequence[bytes], pool: ThreadPoolExecutor
) -> np.ndarray:
    """Measure how far the pictures of each pair agree, (m,) in [0, 1]."""
    places = np.unique(pairs).tolist()
    fine = dict(zip(places, _map_pictures(_fine_picture, [pictures[i] for i in places], pool), strict=True))

    def compare(start: int) -> list[float]:
        part = slice(start, start + PAIRS_A_TASK)
        numbered = zip(pairs[part].tolist(), is_mirrored[part].tolist(), strict=True)
        return [_overlay_correlation(fine[first], fine[second], turned) for (first, second), turned in numbered]

    blocks = pool.map(compare, range(0, len(pairs), PAIRS_A_TASK))
    return np.array([agreement for block in blocks for agreement in block], np.float32)


def _fine_picture(picture: bytes) -> FinePicture:
    """Decode colour and detail: differences from the surroundings relative to how much these differ, so that every part
    counts the same whatever the light (local contrast normalisation: Jarrett et al. 2009)."""
    import cv2
    import simplejpeg

    colour = cv2.resize(simplejpeg.decode_jpeg(picture, "RGB"), (FINE_SIDE, FINE_SIDE), interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(colour, cv2.COLOR_RGB2GRAY).astype(np.float32)
    detail = grey - cv2.GaussianBlur(grey, (0, 0), FINE_SIDE / 10)
    detail /= np.sqrt(cv2.GaussianBlur(detail * detail, (0, 0), FINE_SIDE / 10) + np.float32(JPEG_NOISE**2))
    return FinePicture(detail.astype(np.float16), colour)


def _overlay_correlation(first: FinePicture, second: FinePicture, is_mirrored: bool) -> float:
    """Lay the middle of the second picture where it correlates most with the first: the product of the correlations of
    detail and of colour there. In detail alone, yellow dandelions and brown horses match white and black ones well."""
    import cv2

    detail, other = (picture.detail.astype(np.float32) for picture in (first, second))
    colour, other_colour = first.colour, second.colour
    if is_mirrored:
        other, other_colour = np.ascontiguousarray(other[:, ::-1]), other_colour[:, ::-1]
    if (
        _best_overlay(_halve(detail), _halve(other), [side // 2 for side in OVERLAY_SIDES[:N_FIRST_SIDES]])[0]
        < MIN_CORRELATION
    ):
        return 0.0
    best, side, top, left = _best_overlay(detail, other, OVERLAY_SIDES)
    window = np.ascontiguousarray(colour[top : top + side, left : left + side])
    overlay = cv2.resize(_without_edges(other_colour), (side, side), interpolation=cv2.INTER_AREA)
    return max(0.0, best) * max(0.0, float(cv2.matchTemplate(window, overlay, cv2.TM_CCOEFF_NORMED)[0, 0]))


def _halve(square: np.ndarray) -> np.ndarray:
    import cv2

    return cv2.resize(square, (FINE_SIDE // 2, FINE_SIDE // 2), interpolation=cv2.INTER_AREA)


def _best_overlay(detail: np.ndarray, other: np.ndarray, scales: Sequence[int]) -> tuple[float, int, int, int]:
    """Find where the middle of the other correlates most: the correlation, the middle's side there, its top and left."""
    import cv2

    middle, best = _without_edges(other), (-1.0, scales[0], 0, 0)
    for side in scales:
        fits = cv2.matchTemplate(detail, cv2.resize(middle, (side, side)), cv2.TM_CCOEFF_NORMED)
        highest = int(fits.argmax())
        if fits.flat[highest] > best[0]:
            best = (float(fits.flat[highest]), side, *divmod(highest, fits.shape[1]))
        if best[0] >= ENOUGH_CORRELATION:
            break
    return best


def _without_edges(square: np.ndarray) -> np.ndarray:
    edge = len(square) * EDGE // FINE_SIDE
    return np.ascontiguousarray(square[edge:-edge, edge:-edge])
