"""Groups of copies: they stay whole however many there are, a chain whose ends differ is cut, and that is told."""

from collections import Counter
from hashlib import sha256

import cv2
import numpy as np
import pytest

from headstart.checks.copies import MAX_GROUP, _connected_parts, _cut_chain, find_copies
from headstart.checks.duplicates import N_NEAREST, near_duplicates
from headstart.codes.image_stats import compute_image_stats
from support.photos import codes_of, jpeg, looked_at, resaved, scene


def film(n: int, step: int = 6) -> list[bytes]:
    """Frames of a camera that turns along a landscape."""
    landscape = np.hstack([scene(seed) for seed in range(900, 900 + 1 + n * step // 256 + 1)])
    return [jpeg(landscape[:, step * i : step * i + 256]) for i in range(n)]


def copies_among(contents):
    return find_copies(*looked_at(contents))


@pytest.mark.parametrize("n", [MAX_GROUP - 1, MAX_GROUP + 1, 24, 30, 60])
def test_copies_are_one_group_however_many_there_are(n):
    contents = [copy for seed in range(8) for copy in resaved(scene(seed), n, seed)]
    contents += [jpeg(scene(seed)) for seed in range(100, 140)]
    copies = copies_among(contents)
    of_photo = [set(copies.groups[i * n : (i + 1) * n]) for i in range(8)]
    assert all(len(groups) == 1 for groups in of_photo) and len(set.union(*of_photo)) == 8
    assert copies.chains == () and len(set(copies.groups)) == 48


def test_copies_of_several_kinds_are_one_group_though_each_kind_has_only_its_own_near_it():
    """Each photo is compared with its N_NEAREST nearest: of 12 of the same kind, none of these is of another kind."""
    kinds = [scene(0), cv2.convertScaleAbs(scene(0), alpha=0.8), scene(0)[8:-8, 12:-12], scene(0)[:, ::-1]]
    contents = [copy for pixels in kinds for copy in (jpeg(pixels, q) for q in range(84, 96))]
    codes, image_stats, digests = looked_at(contents + [jpeg(scene(seed)) for seed in range(100, 130)])
    apart = np.repeat(np.eye(5), [12, 12, 12, 12, 30], axis=0)[:, :4]  # codes that tell the kinds apart
    codes = np.concatenate([codes.astype(np.float32) / 255, apart * 0.2], axis=1).astype(np.float16)
    assert len(kinds) * N_NEAREST < 48
    copies = find_copies(codes, image_stats, digests)
    assert len(set(copies.groups[:48])) == 1 and len(set(copies.groups)) == 31


def test_a_film_is_cut_where_its_frames_no_longer_look_alike_and_that_is_told():
    others = [jpeg(scene(seed)) for seed in range(100, 130)]
    copies = copies_among(film(60) + others)
    [chain] = copies.chains
    frames = copies.groups[:60]
    assert chain.n_photos == 60 and 5 <= chain.n_groups <= 20 and chain.n_groups == len(set(frames))
    assert max(Counter(frames).values()) < 20
    assert sum(a == b for a, b in zip(frames, frames[1:], strict=False)) > 40  # most neighbours are together
    assert len(set(copies.groups[60:])) == 30


def test_a_short_chain_stays_whole():
    copies = copies_among(film(MAX_GROUP) + [jpeg(scene(seed)) for seed in range(100, 130)])
    assert len(set(copies.groups[:MAX_GROUP])) == 1 and copies.chains == ()


class Alike:
    """A comparison of places by a rule."""

    def __init__(self, rule):
        self.rule, self.n_asked = rule, 0

    def similarity(self, pairs):
        self.n_asked += len(pairs)
        return np.array([float(self.rule(*pair)) for pair in pairs.tolist()])


def test_two_large_groups_that_one_pair_links_are_cut_between_them():
    links = np.array([(i, i + 1) for i in range(79)])  # 39 and 40 are linked
    assert _cut_chain(list(range(80)), links, Alike(lambda i, j: (i < 40) == (j < 40))) == [
        list(range(40)),
        list(range(40, 80)),
    ]


def test_copies_that_differ_too_much_from_one_of_them_stay_with_the_others():
    """Two thirds of all pairs look alike, as of strongly cropped copies: no photo looks like all others."""
    links = np.array([(i, j) for i in range(60) for j in (i + 1, i + 2) if j < 60])
    assert _cut_chain(list(range(60)), links, Alike(lambda i, j: (i + j) % 3 != 1)) == [list(range(60))]


def test_a_long_chain_is_cut_without_comparing_each_with_each():
    n = 2_000
    film = Alike(lambda i, j: abs(i - j) <= 5)
    parts = _cut_chain(list(range(n)), np.array([(i, i + 1) for i in range(n - 1)]), film)
    assert sorted(place for part in parts for place in part) == list(range(n))
    assert 6 <= n / len(parts) <= 12 and film.n_asked < 15 * n


def test_the_order_of_photos_changes_no_group():
    contents = film(40) + resaved(scene(0), 30) + [jpeg(scene(seed)) for seed in range(100, 120)]
    order = np.random.default_rng(0).permutation(len(contents))
    copies, again = copies_among(contents), copies_among([contents[i] for i in order])
    assert again.groups == [copies.groups[i] for i in order] and again.chains == copies.chains


def test_every_group_bears_its_smallest_sha256():
    contents = film(40) + resaved(scene(0), 30) + [jpeg(scene(0))] * 3
    codes, image_stats, digests = looked_at(contents)
    groups = find_copies(codes, image_stats, digests).groups
    for group in set(groups):
        assert group == min(digest for digest, own in zip(digests, groups, strict=True) if own == group)


def test_copies_of_nothing_and_of_one_photo():
    assert copies_among([]).groups == []
    alone = [jpeg(scene(0))] * 3
    assert copies_among(alone).groups == [sha256(alone[0]).digest()] * 3


def test_photos_that_are_gone_are_alone():
    contents = resaved(scene(0), 25)
    digests = [sha256(content).digest() for content in contents]
    image_stats = compute_image_stats([*contents[:24], b"gone"], digests, None)
    copies = find_copies(codes_of(image_stats), image_stats, digests)
    assert len(set(copies.groups[:24])) == 1 and copies.groups[24] == digests[24]


def test_a_copy_of_a_copy_is_of_the_group():
    assert _connected_parts(np.array([(3, 4), (0, 1), (1, 2)])) == [[0, 1, 2], [3, 4]]
    assert (
        len(_connected_parts(np.arange(2_000).reshape(-1, 2))) == 1_000
        and _connected_parts(np.zeros((0, 2), np.int64)) == []
    )


def test_pairs_are_those_that_duplicates_finds():
    contents = resaved(scene(0), 4) + [jpeg(scene(seed)) for seed in range(100, 120)]
    looked = looked_at(contents)
    assert find_copies(*looked).pairs == near_duplicates(*looked)
