"""Groups the copies of a photo (exact and near duplicates), so that a group shares a split and a fold.

Takes codes, image statistics and sha256; gives a group for each photo. It decides what becomes of chains, where each photo
looks like the next and the ends do not look alike: a film's frames, or things that all look alike. They are cut into
groups, and the cut is reported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from headstart.checks.duplicates import MIN_SIMILARITY, N_NEAREST, CopySearch, Pair, copy_search, pairs_of
from headstart.codes.image_stats import ImageStats

MAX_GROUP = 20  # photos, or 2 % of all where that is more: a group may grow so large by links alone
MAX_GROUP_SHARE = 0.02
N_SEARCHED = 3  # photos of a large group whose nearest outside of it are looked for
N_COMPARED = 12  # pairs between two parts of a chain that are compared
MIN_SAME_SHARE = 0.5  # of them, from which on two parts are joined; of a film's neighbouring parts a quarter is the same


@dataclass(frozen=True)
class Chain:
    """Photos each of which looks like the next: how many, and how many groups they were cut into."""

    n_photos: int
    n_groups: int


@dataclass(frozen=True)
class Copies:
    """Which of n photos are copies of one another.

    pairs: near duplicates, the most similar first, as duplicates.near_duplicates gives them. groups: for each photo the
    smallest sha256 of its group, its own where it has no copy. chains: those that were cut.
    """

    pairs: list[Pair]
    groups: list[bytes]
    chains: tuple[Chain, ...] = ()


def find_copies(
    codes: np.ndarray, image_stats: ImageStats, digests: Sequence[bytes], *, threads: int | None = None
) -> Copies:
    """Group the copies of each photo; the groups do not depend on the order of the photos.

    codes: (n, d) of the last layer. digests: the photos' sha256; photos of the same bytes are always in one group. A copy
    of a copy belongs to the group. A group of more than MAX_GROUP photos stays whole where all its photos look alike,
    however many they are; otherwise it is cut into parts that do.
    """
    with copy_search(codes, image_stats, digests, threads=threads) as search:
        n = len(search.candidates)
        if n < 2:
            return Copies([], list(digests))
        pairs, similarity = _similar_pairs(search)
        links = pairs[similarity >= MIN_SIMILARITY]
        largest, smallest = max(MAX_GROUP, MAX_GROUP_SHARE * len(set(digests))), np.arange(n)
        chains: list[Chain] = []
        for members in _connected_parts(links):
            parts = [members] if len(members) <= largest else _cut_chain(members, links, search)
            for part in parts:
                smallest[part] = min(part)  # places are in the order of sha256
            if len(parts) > 1:
                chains.append(Chain(len(members), len(parts)))
        of_digest = {digests[i]: digests[search.candidates[smallest[place]]] for place, i in enumerate(search.candidates)}
        return Copies(pairs_of(search, pairs, similarity, digests), [of_digest.get(d, d) for d in digests], tuple(chains))


def _similar_pairs(search: CopySearch) -> tuple[np.ndarray, np.ndarray]:
    """Find all pairs that could be copies, (m, 2), and their similarity, (m,).

    Each photo is compared with its N_NEAREST nearest. Of more copies than that, these may all be of one kind, of the same
    size, say: so some photos of each such group search for their nearest outside of it, until no group finds another.
    """
    n = len(search.candidates)
    pairs = search.pairs()
    similarity = search.similarity(pairs)
    searched: set[int] = set()
    while True:
        groups = [members for members in _connected_parts(pairs[similarity >= MIN_SIMILARITY]) if len(members) > N_NEAREST]
        rows = [place for members in groups for place in members[:N_SEARCHED]]
        if searched.issuperset(rows):
            return pairs, similarity
        group = np.arange(n)
        for members in groups:
            group[members] = members[0]
        more = search.pairs(np.array(sorted(set(rows) - searched)), group)
        searched.update(rows)
        pairs, similarity = np.concatenate([pairs, more]), np.concatenate([similarity, search.similarity(more)])
        pairs, first = np.unique(pairs, axis=0, return_index=True)
        similarity = similarity[first]


def _connected_parts(links: np.ndarray) -> list[list[int]]:
    """Find the connected components of links (m, 2) between places, each ascending, the one of the smallest place first."""
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


def _cut_chain(members: list[int], links: np.ndarray, search: CopySearch) -> list[list[int]]:
    """Cut the linked photos of a chain into parts of photos that all look alike: one part where all do."""
    neighbours: dict[int, set[int]] = {place: set() for place in members}
    for first, second in links[np.isin(links[:, 0], members)].tolist():
        neighbours[first].add(second)
        neighbours[second].add(first)

    def is_same(pairs: Sequence[tuple[int, int]]) -> np.ndarray:
        is_copy: np.ndarray = search.similarity(np.array(pairs, np.int64)) >= MIN_SIMILARITY
        return is_copy

    parts = list(_parts_around_first(members, neighbours, is_same))
    return _join_parts(parts, neighbours, is_same) if len(parts) > 1 else parts


def _parts_around_first(
    members: list[int], neighbours: dict[int, set[int]], is_same: Callable[[Sequence[tuple[int, int]]], np.ndarray]
) -> Iterator[list[int]]:
    """Yield parts: the remaining photo of the smallest sha256 and what looks like it, found along the links, and so on."""
    left = set(members)
    for first in members:
        if first not in left:
            continue
        part, visited, front = [first], {first}, sorted(neighbours[first] & left)
        while front:
            is_copy = is_same([(first, place) for place in front])
            matches = [place for place, same in zip(front, is_copy, strict=True) if same]
            visited.update(front)
            part += matches
            front = sorted((set().union(*(neighbours[place] for place in matches)) & left) - visited)
        left.difference_update(part)
        yield sorted(part)


def _join_parts(
    parts: list[list[int]], neighbours: dict[int, set[int]], is_same: Callable[[Sequence[tuple[int, int]]], np.ndarray]
) -> list[list[int]]:
    """Join parts whose photos mostly match across: a copy may be cropped so far that it does not match the first photo."""
    part_of = {place: i for i, part in enumerate(parts) for place in part}
    touching = sorted({(i, j) for place, i in part_of.items() for other in neighbours[place] if i < (j := part_of[other])})
    pairs_of_two = [_pairs_across(parts[i], parts[j]) for i, j in touching]
    same = is_same([pair for pairs in pairs_of_two for pair in pairs])
    shares = [float(part.mean()) for part in np.split(same, np.cumsum([len(pairs) for pairs in pairs_of_two])[:-1])]
    links = np.array(
        [link for link, share in zip(touching, shares, strict=True) if share >= MIN_SAME_SHARE], np.int64
    ).reshape(-1, 2)
    unions = [sorted(place for i in component for place in parts[i]) for component in _connected_parts(links)]
    alone = set(range(len(parts))) - set(links.ravel().tolist())
    return [*unions, *(parts[i] for i in sorted(alone))]


def _pairs_across(one: list[int], other: list[int]) -> list[tuple[int, int]]:
    """Choose N_COMPARED pairs between two parts, evenly spread."""
    n = len(one) * len(other)
    choice = np.unique(np.linspace(0, n - 1, min(n, N_COMPARED)).astype(np.int64))
    return [(one[i % len(one)], other[i // len(one)]) for i in choice.tolist()]
