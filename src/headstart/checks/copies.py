"""Copies: groups of photos that are one photo, so that a group shares a split and a fold.

Takes codes, glances and sha256; gives a group for each photo. It decides what becomes of chains, where each photo looks like
the next and the ends do not look alike: a film's frames, or things that all look alike. They are cut, and that is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from headstart.checks.duplicates import N_NEAREST, SAME, Comparison, Pair, comparing, pairs_of
from headstart.codes.image_stats import ImageStats

CHAIN = 20  # photos, and 2 % of all: a group may grow so large by links alone
CHAIN_SHARE = 0.02
N_ASKED = 3  # photos of a group whose nearest outside of it are looked for
N_CROSSED = 12  # pairs between two parts of a chain that are compared
MOSTLY = (
    0.5  # share of them that are one photo, from which on the two parts are; of a film's neighbouring parts a quarter is
)


@dataclass(frozen=True)
class Chain:
    """Photos each of which looks like the next: how many, and how many groups they were cut into."""

    n_photos: int
    n_groups: int


@dataclass(frozen=True)
class Copies:
    """Which of n photos are one photo.

    pairs: near duplicates, the most alike first, as duplicates.near_duplicates gives them. groups: for each photo the
    smallest sha256 of its group, its own where it has none. chains: what was cut.
    """

    pairs: list[Pair]
    groups: list[bytes]
    chains: tuple[Chain, ...] = ()


def find_copies(codes: np.ndarray, glances: ImageStats, digests: Sequence[bytes], *, threads: int | None = None) -> Copies:
    """Find the photos that are one, and group them; the same groups whatever order the photos come in.

    codes: (n, d) of the last layer. digests: of the photos; those of the same bytes are one in any case. A copy's copy is of
    the group. A group of more than CHAIN photos stays whole where its photos look alike themselves, however many they are;
    else it is cut into parts that do.
    """
    with comparing(codes, glances, digests, threads=threads) as comparison:
        n = len(comparison.kept)
        if n < 2:
            return Copies([], list(digests))
        pairs, similarity = _compared(comparison)
        links = pairs[similarity >= SAME]
        largest, smallest = max(CHAIN, CHAIN_SHARE * len(set(digests))), np.arange(n)
        chains: list[Chain] = []
        for members in _linked(links):
            parts = [members] if len(members) <= largest else _parts(members, links, comparison)
            for part in parts:
                smallest[part] = min(part)  # places are in the order of sha256
            if len(parts) > 1:
                chains.append(Chain(len(members), len(parts)))
        of_digest = {digests[i]: digests[comparison.kept[smallest[place]]] for place, i in enumerate(comparison.kept)}
        return Copies(
            pairs_of(comparison, pairs, similarity, digests), [of_digest.get(d, d) for d in digests], tuple(chains)
        )


def _compared(comparison: Comparison) -> tuple[np.ndarray, np.ndarray]:
    """All pairs that could be one photo, and their similarity.

    Each photo is compared with its N_NEAREST nearest. Of more copies than that, these may all be of one kind, those of the
    same size, say: so some of each such group look for their nearest outside of it, until no group finds another.
    """
    n = len(comparison.kept)
    pairs = comparison.pairs()
    similarity = comparison.similarity(pairs)
    asked: set[int] = set()
    while True:
        groups = [members for members in _linked(pairs[similarity >= SAME]) if len(members) > N_NEAREST]
        rows = [place for members in groups for place in members[:N_ASKED]]
        if asked.issuperset(rows):
            return pairs, similarity
        group = np.arange(n)
        for members in groups:
            group[members] = members[0]
        more = comparison.pairs(np.array(sorted(set(rows) - asked)), group)
        asked.update(rows)
        pairs, similarity = np.concatenate([pairs, more]), np.concatenate([similarity, comparison.similarity(more)])
        pairs, first = np.unique(pairs, axis=0, return_index=True)
        similarity = similarity[first]


def _linked(links: np.ndarray) -> list[list[int]]:
    """The connected parts of the places that links (m, 2) join, each ascending, the smallest place's part first."""
    leader: dict[int, int] = {}  # SciPy's connected_components costs 0.4 s to import

    def first_of(place: int) -> int:
        while (before := leader.setdefault(place, place)) != place:
            leader[place] = place = leader[before]
        return place

    for one, other in links.tolist():
        one, other = first_of(one), first_of(other)
        leader[max(one, other)] = min(one, other)
    parts: dict[int, list[int]] = {}
    for place in sorted(leader):
        parts.setdefault(first_of(place), []).append(place)
    return list(parts.values())


# ---- chains


def _parts(members: list[int], links: np.ndarray, comparison: Comparison) -> list[list[int]]:
    """Cut photos that are linked into parts that look alike: one part where all do."""
    neighbours: dict[int, set[int]] = {place: set() for place in members}
    for first, second in links[np.isin(links[:, 0], members)].tolist():
        neighbours[first].add(second)
        neighbours[second].add(first)

    def is_same(pairs: Sequence[tuple[int, int]]) -> np.ndarray:
        is_alike: np.ndarray = comparison.similarity(np.array(pairs, np.int64)) >= SAME
        return is_alike

    parts = list(_like_the_first(members, neighbours, is_same))
    return _joined(parts, neighbours, is_same) if len(parts) > 1 else parts


def _like_the_first(
    members: list[int], neighbours: dict[int, set[int]], is_same: Callable[[Sequence[tuple[int, int]]], np.ndarray]
) -> Iterator[list[int]]:
    """Parts that are each the smallest sha256 that is left and what looks like it, found along the links."""
    left = set(members)
    for first in members:
        if first not in left:
            continue
        part, seen, front = [first], {first}, sorted(neighbours[first] & left)
        while front:
            alike = [place for place, same in zip(front, is_same([(first, place) for place in front]), strict=True) if same]
            seen.update(front)
            part += alike
            front = sorted((set().union(*(neighbours[place] for place in alike)) & left) - seen)
        left.difference_update(part)
        yield sorted(part)


def _joined(
    parts: list[list[int]], neighbours: dict[int, set[int]], is_same: Callable[[Sequence[tuple[int, int]]], np.ndarray]
) -> list[list[int]]:
    """Join parts most of whose photos look alike across: one photo may be cropped too far for the first to look like it."""
    part_of = {place: i for i, part in enumerate(parts) for place in part}
    touching = sorted({(i, j) for place, i in part_of.items() for other in neighbours[place] if i < (j := part_of[other])})
    crossed = [_across(parts[i], parts[j]) for i, j in touching]
    same = is_same([pair for pairs in crossed for pair in pairs])
    shares = [float(some.mean()) for some in np.split(same, np.cumsum([len(pairs) for pairs in crossed])[:-1])]
    links = np.array([link for link, share in zip(touching, shares, strict=True) if share >= MOSTLY], np.int64).reshape(
        -1, 2
    )
    joined = [sorted(place for i in some for place in parts[i]) for some in _linked(links)]
    alone = set(range(len(parts))) - set(links.ravel().tolist())
    return [*joined, *(parts[i] for i in sorted(alone))]


def _across(one: list[int], other: list[int]) -> list[tuple[int, int]]:
    """Some of the pairs between two parts, evenly spread."""
    n = len(one) * len(other)
    some = np.unique(np.linspace(0, n - 1, min(n, N_CROSSED)).astype(np.int64))
    return [(one[i % len(one)], other[i // len(one)]) for i in some.tolist()]
