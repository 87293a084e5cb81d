"""Duplicates: copies of a photo are found whatever was done to them, other photos are not, and no group swallows a class."""

import cv2
import numpy as np
import pytest
import simplejpeg

from headstart.checks.copies import find_copies
from headstart.checks.duplicates import exact_groups, near_duplicates
from support.photos import jpeg, looked_at, scene


def with_text(pixels: np.ndarray) -> np.ndarray:
    return cv2.putText(pixels.copy(), "(c) a photo", (8, 180), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (255, 255, 255), 1)


CHANGES = {
    "recompressed": lambda p: jpeg(p, 30),
    "half its size": lambda p: jpeg(cv2.resize(p, (128, 96), interpolation=cv2.INTER_AREA)),
    "cropped on one side": lambda p: jpeg(p[:, 20:]),
    "cropped all around": lambda p: jpeg(p[8:-8, 12:-12]),
    "darker": lambda p: jpeg((p * 0.8).astype(np.uint8)),
    "brighter": lambda p: jpeg(np.clip(p * 1.2, 0, 255).astype(np.uint8)),
    "mirrored": lambda p: jpeg(p[:, ::-1]),
    "with text": lambda p: jpeg(with_text(p)),
    "all of it": lambda p: jpeg(cv2.resize(with_text(p)[4:-4, 6:-6][:, ::-1], (180, 135), interpolation=cv2.INTER_AREA), 50),
}


def found(contents):
    return near_duplicates(*looked_at(contents))


@pytest.fixture(scope="module")
def originals():
    return [jpeg(scene(seed)) for seed in range(60)]


@pytest.mark.parametrize("change", CHANGES)
def test_every_copy_of_a_photo_is_found_and_nothing_else(originals, change):
    copies = [CHANGES[change](scene(seed)) for seed in range(0, 60, 3)]
    pairs = found(originals + copies)
    assert {(p.first, p.second) for p in pairs} == {(3 * i, 60 + i) for i in range(20)}
    assert all(0.78 <= p.similarity <= 1 for p in pairs)
    assert [p.similarity for p in pairs] == sorted((p.similarity for p in pairs), reverse=True)


def test_what_changes_less_is_more_alike(originals):
    pairs = found([originals[0], jpeg(scene(0), 70), CHANGES["all of it"](scene(0)), originals[1]])
    of = {(p.first, p.second): p.similarity for p in pairs}
    assert of[0, 1] > 0.97 > of[0, 2]


def test_the_order_of_photos_changes_nothing(originals):
    contents = originals[:30] + [CHANGES["cropped all around"](scene(seed)) for seed in range(10)]
    order = np.random.default_rng(0).permutation(len(contents))
    _, _, digests = looked_at(contents)

    def label_text(pairs, digests):
        return [(frozenset((digests[p.first], digests[p.second])), p.similarity) for p in pairs]

    shuffled = [contents[i] for i in order]
    pairs, again = found(contents), found(shuffled)
    assert len(pairs) == 10 and label_text(pairs, digests) == label_text(again, [digests[i] for i in order])


def test_exact_groups():
    a, b, c = b"a" * 32, b"b" * 32, b"c" * 32
    assert [group.tolist() for group in exact_groups([a, b, a, c, b, a])] == [[0, 2, 5], [1, 4]]
    assert exact_groups([]) == exact_groups([a]) == exact_groups([a, b]) == []


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_few_photos(originals, n):
    assert found(originals[:n]) == []
    assert find_copies(*looked_at(originals[:n])).groups == looked_at(originals[:n])[2]


def test_two_photos_that_are_one(originals):
    assert [(p.first, p.second) for p in found([originals[0], jpeg(scene(0), 60)])] == [(0, 1)]


def test_ten_thousand_identical_photos_are_one_group_and_no_pair(originals):
    codes, image_stats, digests = looked_at(originals[:3] + originals[:1] * 10_000)
    pairs = near_duplicates(codes, image_stats, digests)
    assert pairs == [] and [len(group) for group in exact_groups(digests)] == [10_001]
    assert find_copies(codes, image_stats, digests).groups == digests


def test_photos_that_show_nothing_are_in_no_pair():
    rng = np.random.default_rng(0)
    blank = [np.full((40 + i, 60, 3), grey, np.uint8) for i, grey in enumerate((0, 0, 128, 128, 255, 255, 200, 200))]
    nearly = [np.clip(p + rng.normal(0, 2, p.shape), 0, 255).astype(np.uint8) for p in blank]
    assert found([jpeg(pixels) for pixels in blank + nearly]) == []


def test_pictures_of_a_few_enlarged_pixels_are_no_copies_of_each_other():
    """Handwritten digits of 8 x 8 pixels: so smooth that those of one kind look alike, and are different all the same."""
    from sklearn.datasets import load_digits

    enlarged = [
        cv2.resize((255 - 15 * digit).astype(np.uint8), (64, 64), interpolation=cv2.INTER_CUBIC)
        for digit in load_digits().images[:120]
    ]
    contents = [jpeg(np.repeat(grey[:, :, None], 3, axis=2), 95) for grey in enlarged]
    copies = find_copies(*looked_at(contents))
    assert len(set(copies.groups)) == 120 and copies.chains == ()


def test_noise_is_not_like_other_noise():
    rng = np.random.default_rng(0)
    assert found([jpeg(rng.integers(0, 256, (96, 128, 3), np.uint8)) for _ in range(20)]) == []


def test_stars_in_the_dark_are_told_apart():
    def field(seed):
        rng = np.random.default_rng(seed)
        pixels = np.zeros((192, 256, 3), np.uint8)
        y, x = np.mgrid[:192, :256]
        pixels += (200 * np.exp(-((y - 96) ** 2 + (x - 128) ** 2) / 800))[:, :, None].astype(
            np.uint8
        )  # all have one cluster
        for _ in range(60):
            cv2.circle(
                pixels, (int(rng.integers(256)), int(rng.integers(192))), int(rng.integers(1, 4)), (255, 255, 255), -1
            )
        return pixels

    pairs = found([jpeg(field(seed)) for seed in range(20)] + [CHANGES["half its size"](field(3))])
    assert [(p.first, p.second) for p in pairs] == [(3, 20)]


def test_missing_photos_are_in_no_pair(originals):
    contents = originals[:4] + [jpeg(scene(seed), 50) for seed in range(4)]
    codes, image_stats, digests = looked_at([*contents[:4], b"gone", *contents[5:]])
    assert {(p.first, p.second) for p in near_duplicates(codes, image_stats, digests)} == {(1, 5), (2, 6), (3, 7)}


def test_copies_share_the_smallest_sha256_of_their_group(originals):
    contents = [originals[0], jpeg(scene(0), 60), originals[1], jpeg(scene(0)[:, ::-1]), originals[0]]
    codes, image_stats, digests = looked_at(contents)
    grouped = find_copies(codes, image_stats, digests).groups
    assert set(grouped[:2] + grouped[3:]) == {min(digests[:2] + digests[3:])} and grouped[2] == digests[2]


def test_degenerate_codes_leave_it_to_the_pictures(originals):
    contents = originals[:20] + [jpeg(scene(3), 50)]
    _, image_stats, digests = looked_at(contents)
    for codes in (np.ones((21, 8), np.float16), np.ones((21, 1), np.float16)):
        assert [(p.first, p.second) for p in near_duplicates(codes, image_stats, digests)] == [(3, 20)]
    assert np.isfinite([p.similarity for p in near_duplicates(np.zeros((21, 8), np.float16), image_stats, digests)]).all()


@pytest.mark.shared
def test_real_flowers_hold_no_pair_and_their_copies_are_found(shared):
    paths = sorted((shared / "data" / "flowers").rglob("*.jpg"))[::5]
    contents = [path.read_bytes() for path in paths]
    copies = [jpeg(cv2.resize(simplejpeg.decode_jpeg(c, "RGB"), (200, 150), interpolation=cv2.INTER_AREA)) for c in contents]
    codes, image_stats, digests = looked_at(contents + copies)
    assert {(p.first, p.second) for p in near_duplicates(codes, image_stats, digests)} == {
        (i, len(paths) + i) for i in range(len(paths))
    }
