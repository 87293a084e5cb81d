"""Image statistics: every number says what it claims, is computed once, and outlives photos that go or change."""

import io
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import cv2
import numpy as np
import pytest
import simplejpeg
from PIL import Image

from headstart.codes import image_stats
from headstart.codes.compute import compute_codes
from headstart.codes.image_stats import MIRROR_BITS, ROW, compute_image_stats, picture_of
from headstart.codes.store import Store
from headstart.data.tables import digest_of, read_table

ARRAYS = ("widths", "heights", "brightness", "contrast", "sharpness", "hashes")


def scene(seed: int, width: int = 320, height: int = 240) -> np.ndarray:
    """A picture with edges at every size, another one for each seed: dead leaves, a model of photos (Lee et al. 2001)."""
    rng = np.random.default_rng(seed)
    pixels = np.full((height, width, 3), rng.integers(90, 160, 3), np.uint8)
    for radius in np.sort(rng.pareto(1.5, 300) * 4 + 2)[::-1]:
        centre = (int(rng.integers(0, width)), int(rng.integers(0, height)))
        cv2.circle(pixels, centre, int(min(radius, 80)), (rng.integers(20, 236) + rng.integers(-20, 20, 3)).tolist(), -1)
    return pixels


def jpeg(pixels: np.ndarray, quality: int = 90) -> bytes:
    return simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality=quality, colorspace="RGB", colorsubsampling="444")


def look(*contents: bytes) -> image_stats.ImageStats:
    return compute_image_stats(contents, [sha256(content).digest() for content in contents], None)


def n_bits(a: int, b: int) -> int:
    return int(a ^ b).bit_count()


@pytest.fixture
def files(tmp_path):
    paths = []
    for i in range(6):
        paths.append(str(tmp_path / f"{i}.jpg"))
        with open(paths[-1], "wb") as file:
            file.write(jpeg(scene(i)))
    return paths


def digests_of(paths):
    return [sha256(Path(path).read_bytes()).digest() for path in paths]


def same(a, b):
    return a.pictures == b.pictures and all((getattr(a, name) == getattr(b, name)).all() for name in ARRAYS)


def test_a_glance_says_what_a_photo_looks_like():
    pixels = scene(0)
    seen = look(jpeg(pixels, 100))
    luma = pixels @ np.array([0.299, 0.587, 0.114]) / 255
    assert (seen.widths[0], seen.heights[0]) == (320, 240)
    assert seen.brightness[0] == pytest.approx(luma.mean(), abs=0.01)
    assert seen.contrast[0] == pytest.approx(luma.std(), abs=0.03)
    small = simplejpeg.decode_jpeg(seen.pictures[0], "RGB")
    assert small.shape == (64, 85, 3)
    assert np.abs(small.astype(int) - cv2.resize(pixels, (85, 64), interpolation=cv2.INTER_AREA)).mean() < 12
    assert [getattr(seen, name).dtype.str[1:] for name in ARRAYS] == ["i4", "i4", "f4", "f4", "f4", "u8"]


def test_the_size_is_that_of_the_file_though_it_is_decoded_at_a_fraction():
    seen = look(jpeg(scene(1, 1999, 1501)))
    assert (seen.widths[0], seen.heights[0]) == (1999, 1501)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("size", [(1000, 700), (701, 700), (320, 240)])
def test_photos_are_upright(orientation, size):
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(scene(2, *size)).save(file, "JPEG", exif=exif)
    seen = look(file.getvalue())
    assert (seen.widths[0], seen.heights[0]) == (size if orientation in (1, 3) else size[::-1])
    height, width = simplejpeg.decode_jpeg(seen.pictures[0], "RGB").shape[:2]
    assert size == (701, 700) or (width > height) == (orientation in (1, 3))


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP", "GIF"])
def test_other_formats(kind):
    file = io.BytesIO()
    Image.fromarray(scene(3)).save(file, kind)
    seen = look(file.getvalue())
    assert (seen.widths[0], seen.heights[0]) == (320, 240) and seen.pictures[0]


def test_arrays_and_pillow_images_are_photos_as_well():
    pixels = scene(4)
    grey, clear = pixels[:, :, 0], np.dstack([pixels, np.full((240, 320), 255, np.uint8)])
    images = [pixels, grey, clear, Image.fromarray(pixels)]
    digests = [digest_of(image) for image in images]
    seen = compute_image_stats(images, digests, None)
    assert None not in seen.pictures and (seen.widths == 320).all()
    assert seen.hashes[0] == seen.hashes[2] == seen.hashes[3]
    pixels[:] = 0  # another photo by now, of which nothing is said
    assert compute_image_stats(images, digests, None).pictures[0] is None


def test_blurred_photos_are_less_sharp_than_sharp_ones_at_any_size():
    for seed in range(8):
        pixels = scene(seed, 640, 480)
        shaken = cv2.blur(pixels, (24, 1))
        sizes = [look(jpeg(cv2.resize(pixels, (w, w * 3 // 4), interpolation=cv2.INTER_AREA))) for w in (640, 320, 213)]
        sharp = [float(seen.sharpness[0]) for seen in sizes]
        blurred = [float(look(jpeg(cv2.GaussianBlur(pixels, (0, 0), 2 * sigma))).sharpness[0]) for sigma in (3, 4, 6)]
        assert min(sharp) > 0.12 and max(sharp) < 1.3 * min(sharp)
        assert max(blurred) < 0.09
        assert look(jpeg(shaken)).sharpness[0] < 0.09


def test_small_photos_do_not_count_as_blurred_nor_do_blank_ones():
    thumbnails = [cv2.resize(scene(seed), (32, 32), interpolation=cv2.INTER_AREA) for seed in range(8)]
    assert look(*(jpeg(pixels) for pixels in thumbnails)).sharpness.min() > 0.12
    assert look(jpeg(np.full((240, 320, 3), 128, np.uint8))).sharpness[0] > 0.5


def test_a_hash_survives_resaving_and_tells_photos_apart():
    originals = [scene(seed) for seed in range(12)]
    hashes = [int(look(jpeg(pixels)).hashes[0]) for pixels in originals]
    for pixels, own in zip(originals, hashes, strict=True):
        half = cv2.resize(pixels, (160, 120), interpolation=cv2.INTER_AREA)
        brighter = np.clip(pixels * 1.2, 0, 255).astype(np.uint8)
        changed = [jpeg(pixels, 30), jpeg(half), jpeg(brighter), jpeg(pixels[2:-2, 3:-3])]
        assert max(n_bits(own, int(h)) for h in look(*changed).hashes) <= 12
        assert n_bits(own ^ int(MIRROR_BITS), int(look(jpeg(pixels[:, ::-1])).hashes[0])) <= 3
    assert min(n_bits(a, b) for i, a in enumerate(hashes) for b in hashes[:i]) > 12


def test_what_the_store_knows_is_not_read_again(files, store):
    digests = digests_of(files)
    told = []
    first = compute_image_stats(files, digests, store, progress=lambda *said: told.append(said))
    assert told == [("glance", i, 6) for i in range(1, 7)]
    for path in files:
        os.remove(path)
    again = compute_image_stats(files[::-1], digests[::-1], store, progress=lambda *_: pytest.fail("nothing is left to do"))
    assert same(first, compute_image_stats(files, digests, store)) and again.pictures == first.pictures[::-1]
    assert first.pictures[0] and same(first, compute_image_stats(["moved"] * 6, digests, store))


def test_photos_that_are_gone_or_others_by_now_show_nothing_and_are_not_kept(files, store, tmp_path):
    digests = digests_of(files)
    os.remove(files[0])
    for path, content in ((files[1], b"\xff\xd8\xff no photo"), (files[2], b""), (files[3], jpeg(scene(99)))):
        with open(path, "wb") as file:
            file.write(content)
    os.remove(files[4])
    os.mkdir(files[4])
    seen = compute_image_stats(files, digests, store)
    assert [picture is None for picture in seen.pictures] == [True] * 5 + [False]
    assert not any(getattr(seen, name)[:5].any() for name in ARRAYS)
    with open(files[3], "wb") as file:
        file.write(jpeg(scene(3)))
    assert compute_image_stats(files, digests, store).pictures[3]


def test_bytes_that_are_no_photo_show_nothing():
    broken = [b"\xff\xd8\xff\xe0 broken", b"\x89PNG\r\n\x1a\n", b"", b"text", jpeg(scene(0))[:400]]
    assert len(look(*broken).pictures) == 5 and look(*broken).pictures[:4] == (None,) * 4


def test_of_copies_one_is_read_and_any_will_do(tmp_path):
    content = jpeg(scene(5))
    path = tmp_path / "photo \udcff <script>.jpg"
    path.write_bytes(content)
    seen = compute_image_stats([str(tmp_path / "gone.jpg"), path, path], [sha256(content).digest()] * 3, None)
    assert seen.pictures[0] == seen.pictures[1] == seen.pictures[2] is not None


def test_rows_of_a_table(tmp_path, store):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    contents = [jpeg(scene(i)) for i in range(3)]
    table = pyarrow.table({"image": [{"bytes": c, "path": None} for c in contents], "label": ["a", "b", "a"]})
    parquet.write_table(table, tmp_path / "t.parquet")
    images = [row.image for row in read_table(tmp_path / "t.parquet")]
    assert same(compute_image_stats(images, [sha256(c).digest() for c in contents], store), look(*contents))


def test_nothing_at_all(store):
    seen = compute_image_stats([], [], store)
    assert seen.pictures == () and len(seen.hashes) == 0


def test_a_damaged_row_is_computed_again(files, store):
    digests = digests_of(files)
    first = compute_image_stats(files, digests, store)
    store.write(lambda connection: connection.execute("UPDATE codes SET codes = substr(codes, 1, 100)"))
    assert same(first, compute_image_stats(files, digests, store))


def test_another_version_is_computed_again(files, store, monkeypatch):
    digests = digests_of(files)
    compute_image_stats(files, digests, store)
    monkeypatch.setattr(image_stats, "VERSION", image_stats.VERSION + 1)
    told = []
    compute_image_stats(files, digests, store, progress=lambda *said: told.append(said))
    assert len(told) == 6


def test_what_was_done_before_a_stop_is_kept(files, store):
    digests = digests_of(files)

    def stop(stage, done, total):
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compute_image_stats(files, digests, store, threads=2, progress=stop)
    told = []
    compute_image_stats(files, digests, store, progress=lambda *said: told.append(said))
    assert len(told) <= 3
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("headstart-")]


def test_many_at_once_agree(files, tmp_path):
    digests = digests_of(files)

    def one(_):
        with Store(tmp_path / "one cache") as own:
            return compute_image_stats(files, digests, own, threads=3)

    with ThreadPoolExecutor(4) as pool:
        seen = list(pool.map(one, range(4)))
    assert all(same(seen[0], other) for other in seen) and None not in seen[0].pictures


def test_glances_and_codes_share_a_store(photos, tiny, store):
    paths = sorted(str(path) for path in photos.rglob("*.png"))
    codes = compute_codes(paths, tiny, store)
    compute_image_stats(paths, codes.digests, store)
    assert compute_codes(paths, tiny, store).n_computed == 0
    assert {recipe["name"] for recipe in store.summary()["recipes"]} == {tiny.name, "glance"}
    for recipe in store.summary()["recipes"]:  # what `headstart cache` shows of each
        assert recipe["preprocess"]["size"] and recipe["view"] and recipe["precision"]


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (2000, 1), (7, 3), (64, 64), (3000, 90)])
def test_pictures_of_any_shape_fit(size):
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    picture = picture_of(noise)
    height, width = simplejpeg.decode_jpeg(picture, "RGB").shape[:2]
    assert len(picture) <= ROW["jpeg"].itemsize and min(height, width) <= 64 and max(height, width) <= 128
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG")
    seen = look(file.getvalue())
    assert seen.pictures[0] and (seen.widths[0], seen.heights[0]) == size and np.isfinite(seen.sharpness).all()


def test_rows_are_as_wide_as_codes_so_that_they_fill_the_pages_of_the_store():
    assert ROW.itemsize == 2 * 1280


@pytest.mark.shared
def test_real_photos_are_sharper_than_the_same_blurred(shared):
    paths = sorted((shared / "data" / "flowers").rglob("*.jpg"))[::20]
    contents = [path.read_bytes() for path in paths]
    sharp = look(*contents).sharpness
    blurred = []
    for content in contents:
        pixels = simplejpeg.decode_jpeg(content, "RGB")
        blurred.append(jpeg(cv2.GaussianBlur(pixels, (0, 0), 3 * max(pixels.shape) / 320)))
    assert np.mean(look(*blurred).sharpness < 0.09) > 0.95 > 0.05 > np.mean(sharp < 0.09)
