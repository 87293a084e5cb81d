"""No image is computed twice, nothing stale is ever given, and no accident costs more than a second's work."""

import contextlib
import hashlib
import io
import json
import logging
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from PIL import Image

from headstart import cache_folder
from headstart.backbones.find import BackboneSpec, find_backbone
from headstart.cache_folder import check_owner, default_cache_dir, is_usable
from headstart.codes import compute as module
from headstart.codes import database
from headstart.codes.compute import compute_codes
from headstart.codes.image_stats import compute_image_stats
from headstart.codes.store import Store, checksum
from headstart.data.datasets import load_dataset
from headstart.data.decoding import read_bytes
from headstart.data.images import load_image
from headstart.data.views import DrawnViews
from headstart.engines.hardware import Hardware
from headstart.errors import BackboneError, CacheError
from support.disk import fill
from support.networks import write_deep_backbone, write_tiny_backbone
from support.photos import picture
from support.processes import HEAR_CTRL_C

on_posix = pytest.mark.skipif(os.name != "posix", reason="signals and mounts are sent and made as POSIX does")


def files_of(folder) -> list[str]:
    return sorted(str(p) for p in Path(folder).rglob("*") if p.is_file())


def many_pictures(n) -> list[np.ndarray]:
    return [picture((i % 256, i // 256, 99), i, (8, 8)) for i in range(n)]


@pytest.fixture
def opened(monkeypatch):
    """The paths that are opened to be read, as they are."""
    paths = []
    monkeypatch.setattr("headstart.data.tables.read_bytes", lambda path: (paths.append(path), read_bytes(path))[1])
    return paths


@pytest.fixture
def work(photos):
    """The photos, all older than a tick of the file system's clock."""
    time.sleep(module.TICK_NANOSECONDS / 1e9)
    return files_of(photos)


# ---- what is computed


def test_codes_are_those_of_the_network(photos, tiny, store):
    image = np.full((32, 32, 3), (0, 128, 255), np.uint8)
    done = compute_codes([image], tiny, store, hardware=Hardware(precision="f32"))
    expected = np.repeat((np.array([0, 128, 255]) / 255 - 0.5) / 0.5, 16)
    assert done.values[0] == pytest.approx(expected, abs=1e-3)
    assert (done.values.dtype, done.values.shape) == (np.float16, (1, 48))
    assert done.index.tolist() == [0]


def test_nothing_is_computed_twice(work, tiny, store, opened):
    first = compute_codes(work, tiny, store)
    assert (first.n_computed, len(opened)) == (60, 60)
    again = compute_codes(work, tiny, store)
    assert (again.n_computed, len(opened)) == (0, 60)  # and no file is opened
    assert (again.values == first.values).all()
    assert again.digests == first.digests
    assert again.index.tolist() == list(range(60))


def test_without_a_store_all_is_computed_each_time(work, tiny):
    once, again = (compute_codes(work, tiny, None) for _ in range(2))
    assert once.n_computed == again.n_computed == 60
    assert (once.values == again.values).all()
    assert once.digests == again.digests


def test_moving_renaming_and_copying_compute_nothing(work, photos, tiny, store):
    before = compute_codes(work, tiny, store)
    by_digest = dict(zip(before.digests, before.values, strict=True))
    (photos / "red").rename(photos / "crimson")
    (photos / "blue" / "blue 0.png").rename(photos / "green" / "moved.jpeg")
    shutil.copy(photos / "green" / "green 1.png", photos / "green" / "copy.png")
    after = compute_codes(files_of(photos), tiny, store)
    assert (after.n_computed, len(after.index)) == (0, 61)
    assert all((by_digest[d] == row).all() for d, row in zip(after.digests, after.values, strict=True))


def test_a_new_photo_alone_is_computed(work, photos, tiny, store):
    compute_codes(work, tiny, store)
    Image.fromarray(picture((9, 9, 9), 77)).save(photos / "red" / "new.png")
    assert compute_codes(files_of(photos), tiny, store).n_computed == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda b: ({"views": DrawnViews(("mirrored",))}, b),
        lambda b: ({"hardware": Hardware(precision="f32")}, b),
        lambda b: ({}, replace(b, preprocess=replace(b.preprocess, crop=1.0))),
        lambda b: ({}, replace(b, preprocess=replace(b.preprocess, resample="bicubic"))),
    ],
    ids=["view", "precision", "crop", "resample"],
)
def test_everything_that_changes_the_answer_computes_anew(change, work, tiny, store):
    compute_codes(work, tiny, store)
    options, backbone = change(tiny)
    assert compute_codes(work, backbone, store, **options).n_computed == 60
    assert compute_codes(work, backbone, store, **options).n_computed == 0
    assert compute_codes(work, tiny, store).n_computed == 0


def test_another_backbone_computes_anew(work, tiny, tiny_onnx, store, tmp_path):
    first = compute_codes(work, tiny, store)
    other = find_backbone(BackboneSpec(str(tiny_onnx), mean=(0.1, 0.2, 0.3)), tmp_path)
    assert other.sha256 != tiny.sha256
    second = compute_codes(work, other, store)
    assert second.n_computed == 60
    assert (second.values != first.values).any()


def test_changed_bytes_are_noticed(work, tiny, store):
    first = compute_codes(work, tiny, store)
    Image.fromarray(picture((1, 2, 3), 99)).save(work[0])
    second = compute_codes(work, tiny, store)
    assert second.n_computed == 1
    assert (second.values[0] != first.values[0]).any()
    assert second.digests[0] != first.digests[0]


def test_changed_bytes_of_the_same_size_and_time_are_noticed(tiny, store, tmp_path):
    path = tmp_path / "photo.bmp"
    Image.fromarray(picture((200, 0, 0), 1)).save(path)
    time.sleep(0.05)
    first = compute_codes([path], tiny, store)
    before = path.stat()
    Image.fromarray(picture((0, 0, 200), 2)).save(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    time.sleep(0.05)
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    second = compute_codes([path], tiny, store)
    assert second.n_computed == 1
    assert (second.values != first.values).any()


def test_a_file_that_may_yet_change_within_the_same_tick_is_read_again(tiny, store, tmp_path, opened, monkeypatch):
    path = tmp_path / "photo.bmp"
    Image.fromarray(picture((200, 0, 0), 1)).save(path)
    now = path.stat().st_ctime_ns
    monkeypatch.setattr(time, "time_ns", lambda: now + 1_000_000)
    for _ in range(2):
        compute_codes([path], tiny, store)
    assert len(opened) == 2
    monkeypatch.setattr(time, "time_ns", lambda: now + 10**9)
    for _ in range(2):
        compute_codes([path], tiny, store)
    assert len(opened) == 3


@pytest.mark.parametrize("ahead", [0, 0.3, -0.9])
def test_a_file_system_of_whole_seconds_hides_no_change(tiny, store, tmp_path, monkeypatch, ahead):
    """As on FAT and old NFS: what is written twice within a second has the same size and the same times."""
    path, second = tmp_path / "photo.bmp", 1_700_000_000 * 10**9
    real, now = os.stat, [second + 10**9]

    def coarse(which, *arguments, **options):
        status = real(which, *arguments, **options)
        if os.fspath(which) != str(path):
            return status
        return SimpleNamespace(st_size=status.st_size, st_mtime_ns=second, st_ctime_ns=second)

    monkeypatch.setattr(module.os, "stat", coarse)
    monkeypatch.setattr(module.time, "time_ns", lambda: now[0] - int(ahead * 10**9))
    Image.fromarray(picture((200, 0, 0), 1)).save(path)
    first = compute_codes([str(path)], tiny, store)
    Image.fromarray(picture((0, 0, 200), 2)).save(path)
    again = compute_codes([str(path)], tiny, store)
    assert again.digests != first.digests and (again.values != first.values).any()
    now[0] += 3 * 10**9  # no change can hide there any more
    for n_new in (0, 0):
        assert compute_codes([str(path)], tiny, store).n_computed == n_new
    monkeypatch.setattr("headstart.data.tables.read_bytes", lambda path: pytest.fail("it is known"))
    assert compute_codes([str(path)], tiny, store).digests == again.digests


def test_failures_are_told_by_position_and_never_kept(work, tiny, store, opened, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(Path(work[0]).read_bytes()[:100])
    images = [str(tmp_path / "none.png"), work[0], str(broken), work[1], b"", b"text"]
    for n_computed in (2, 0):
        done = compute_codes(images, tiny, store)
        assert done.n_computed == n_computed
        assert {i: failure.status for i, failure in done.failures.items()} == {
            0: "missing",
            2: "broken",
            4: "empty",
            5: "not an image",
        }
        assert done.index.tolist() == [1, 3]
        assert (done.values.shape, len(done.digests)) == ((2, 48), 2)
    broken.write_bytes(Path(work[2]).read_bytes())  # mended
    done = compute_codes(images, tiny, store)
    assert (done.index.tolist(), done.n_computed) == ([1, 2, 3], 1)


def test_no_images_are_no_codes(tiny, store):
    done = compute_codes([], tiny, store)
    assert (done.values.shape, done.index.shape, done.digests, done.failures) == ((0, 48), (0,), [], {})


def test_duplicates_share_their_codes(work, tiny, store):
    images = [work[0], work[1]] * 20
    done = compute_codes(images, tiny, store)
    assert (done.values[0::2] == done.values[0]).all()
    assert (done.values[1::2] == done.values[1]).all()
    assert store.summary()["images"] == 2


def test_progress_counts_what_is_to_be_done(work, tiny, store):
    told = []
    compute_codes(work[:20], tiny, store, progress=lambda *words: told.append(words))
    assert told == [("codes", i, 20) for i in range(21)]
    told.clear()
    compute_codes(work[:25], tiny, store, progress=lambda *words: told.append(words))
    assert told[-1] == ("codes", 5, 5)


# ---- of several depths


def parts_of(store) -> dict[int, bytes]:
    """The recipe of each part that is kept: 0 is the last layer, 1 what is deeper."""
    rows = store.read(lambda connection: connection.execute("SELECT recipe, about FROM recipes").fetchall())
    return {json.loads(about)["part"]: recipe for recipe, about in rows}


def forget_part(store, part, digest=None) -> int:
    query, values = "DELETE FROM codes WHERE recipe = ?", [parts_of(store)[part]]
    if digest is not None:
        query, values = f"{query} AND digest = ?", [*values, digest]
    return store.write(lambda connection: connection.execute(query, values).rowcount)


def test_codes_of_all_depths_are_those_of_the_network(deep, store):
    images = many_pictures(3)
    done = compute_codes(images, deep, store, is_deep=True, hardware=Hardware(precision="f32"))
    session = pytest.importorskip("onnxruntime").InferenceSession(deep.network)
    pixels = np.stack([load_image(image, deep.preprocess) for image in images])
    np.testing.assert_allclose(done.values, np.hstack(session.run(None, {"image": pixels})), rtol=1e-3, atol=1e-4)
    assert done.widths == deep.widths == (24, 16, 12, 8)


def test_the_last_layer_and_the_deeper_ones_share_one_computation(work, deep, store, opened):
    shallow = compute_codes(work, deep, store)
    assert (shallow.n_computed, shallow.widths, shallow.values.shape) == (60, (24,), (60, 24))
    all_depths = compute_codes(work, deep, store, is_deep=True)
    assert (all_depths.n_computed, len(opened)) == (0, 60)
    np.testing.assert_array_equal(all_depths.values[:, :24], shallow.values)
    assert (all_depths.values[:, 24:] != 0).any(axis=1).all()
    other = Store(store.path.parent / "other")
    assert (compute_codes(work, deep, other, is_deep=True).values == all_depths.values).all()
    assert compute_codes(work, deep, other).n_computed == 0
    other.close()


def test_reading_the_last_layer_reads_nothing_deeper(work, deep, store):
    expected = compute_codes(work, deep, store, is_deep=True)
    assert forget_part(store, 1) == 60
    shallow = compute_codes(work, deep, store)
    assert shallow.n_computed == 0
    np.testing.assert_array_equal(shallow.values, expected.values[:, :24])
    again = compute_codes(work, deep, store, is_deep=True)
    assert again.n_computed == 60
    np.testing.assert_array_equal(again.values, expected.values)
    assert compute_codes(work, deep, store, is_deep=True).n_computed == 0


@pytest.mark.parametrize("part", [0, 1])
def test_a_row_of_which_a_part_is_lost_is_computed_whole(part, work, deep, store):
    expected = compute_codes(work, deep, store, is_deep=True)
    assert forget_part(store, part, expected.digests[7]) == 1
    again = compute_codes(work, deep, store, is_deep=True)
    assert again.n_computed == 1
    np.testing.assert_array_equal(again.values, expected.values)
    assert compute_codes(work, deep, store, is_deep=True).n_computed == 0


def test_a_damaged_deeper_part_is_noticed_by_those_who_read_it(work, deep, store):
    expected = compute_codes(work, deep, store, is_deep=True)
    key = parts_of(store)[1]

    def damage(connection):
        query = "UPDATE codes SET codes = CAST(? || substr(codes, 3) AS BLOB) WHERE recipe = ? AND digest = ?"
        return connection.execute(query, [b"\x7f\x7f", key, expected.digests[3]]).rowcount

    assert store.write(damage) == 1
    assert compute_codes(work, deep, store).n_computed == 0
    again = compute_codes(work, deep, store, is_deep=True)
    assert again.n_computed == 1
    np.testing.assert_array_equal(again.values, expected.values)


def test_duplicates_within_one_run_have_all_their_depths(work, deep, store):
    images = [work[0], work[1]] * 20
    for is_deep in (False, True):
        done = compute_codes(images, deep, store, is_deep=is_deep)
        assert (done.values[0::2] == done.values[0]).all() and (done.values[1::2] == done.values[1]).all()
        assert done.values.shape[1] == (60 if is_deep else 24)


def deep_with(path, operations=(), **changes):
    """A deep backbone that was tampered with.

    operations: {value: which operation makes it}. changes: {weight: function of its values}, `_` standing for the dot.
    """
    network = onnx.load(write_deep_backbone(path))
    for node in network.graph.node:
        node.op_type = dict(operations).get(node.output[0], node.op_type)
    for weight in network.graph.initializer:
        if change := changes.get(weight.name.replace(".", "_")):
            values = np.asarray(change(onnx.numpy_helper.to_array(weight)), np.float32)
            weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    onnx.save(network, path)
    return find_backbone(BackboneSpec(str(path)), path.parent)


def test_a_deeper_layer_that_runs_too_high_for_16_bits_is_clipped(work, store, tmp_path):
    louder = {"depthwise2_weight": lambda w: w * 1e6, "depthwise2_bias": lambda w: w * 1e6}
    loud = deep_with(tmp_path / "loud.onnx", **louder, pointwise2_weight=lambda w: w * 1e-6)
    quiet = deep_with(tmp_path / "quiet.onnx")
    exact = Hardware(precision="f32")
    done, expected = (compute_codes(work[:5], b, store, is_deep=True, hardware=exact).values for b in (loud, quiet))
    middle = slice(24 + 16, 24 + 16 + 12)
    assert np.isfinite(done).all()
    assert (done[:, middle] == module.LARGEST).any()
    np.testing.assert_array_equal(
        done[:, middle] == module.LARGEST, expected[:, middle].astype(float) * 1e6 > module.LARGEST
    )
    np.testing.assert_allclose(done[:, :24], expected[:, :24], rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize("is_deep", [False, True])
def test_a_deeper_layer_of_no_numbers_names_the_image(is_deep, work, store, tmp_path):
    # The ReLUs behind it make 0 of what is no number, so that the last layer does not tell.
    backbone = deep_with(tmp_path / "odd.onnx", {"depthwise1": "Elu"}, depthwise1_bias=lambda w: w * np.nan)
    with pytest.raises(BackboneError, match=r"odd gives codes of .*\.png that are not finite in 16 bits; check its --mean"):
        compute_codes(work, backbone, store, is_deep=is_deep)


# ---- of views


def test_views_are_kept_apart_and_are_the_same_each_time(work, tiny, store):
    ways = [("original", 0), ("mirrored", 0), ("rotation=15", 0), ("rotation=15", 1), ("rotation=20", 0)]
    first = {way: compute_codes(work, tiny, store, views=DrawnViews((way[0],), way[1])) for way in ways}
    assert {done.n_computed for done in first.values()} == {60}
    for i, way in enumerate(ways):
        again = compute_codes(work, tiny, store, views=DrawnViews((way[0],), way[1]))
        assert again.n_computed == 0
        np.testing.assert_array_equal(again.values, first[way].values)
        fresh = compute_codes(work, tiny, None, views=DrawnViews((way[0],), way[1]))
        np.testing.assert_array_equal(fresh.values, first[way].values)
        assert all((again.values != first[other].values).any() for other in ways[:i])


def test_a_view_without_chance_is_the_same_for_every_seed(work, tiny, store):
    compute_codes(work, tiny, store, views=DrawnViews(("mirrored",), 0))
    assert compute_codes(work, tiny, store, views=DrawnViews(("mirrored",), 5)).n_computed == 0
    compute_codes(work, tiny, store, views=DrawnViews(("original",), 0))
    assert compute_codes(work, tiny, store, views=DrawnViews(("original",), 5)).n_computed == 0


def test_a_view_is_of_the_image_and_not_of_its_name(work, photos, tiny, store):
    first = compute_codes(work, tiny, None, views=DrawnViews(("crop=20",), 1))
    (photos / "red").rename(photos / "crimson")
    moved = compute_codes(files_of(photos), tiny, None, views=DrawnViews(("crop=20",), 1))
    rows = dict(zip(first.digests, first.values, strict=True))
    assert all((rows[digest] == row).all() for digest, row in zip(moved.digests, moved.values, strict=True))


def test_the_mirrored_codes_are_those_of_the_mirror_image(tiny):
    whole = replace(tiny, preprocess=replace(tiny.preprocess, crop=1.0))
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    (plain,), (mirrored,) = (
        compute_codes([image], whole, None, views=DrawnViews((v,))).values for v in ("original", "mirrored")
    )
    np.testing.assert_array_equal(mirrored.reshape(3, 4, 4), plain.reshape(3, 4, 4)[:, :, ::-1])
    symmetric = np.concatenate([image[:, :16], image[:, 15::-1]], axis=1)
    (plain,), (mirrored,) = (
        compute_codes([symmetric], whole, None, views=DrawnViews((v,))).values for v in ("original", "mirrored")
    )
    np.testing.assert_array_equal(mirrored, plain)


# ---- every kind of image


def test_every_kind_of_image_is_known_again(work, tiny, store):
    content, pixels = Path(work[0]).read_bytes(), np.asarray(Image.open(work[0]))
    kinds = [work[0], Path(work[0]), content, bytearray(content), memoryview(content), pixels, Image.fromarray(pixels)]
    done = compute_codes(kinds, tiny, store)
    assert len(done.index) == len(kinds)
    assert np.abs(done.values.astype(float) - done.values[0]).max() < 1e-3
    assert len(set(done.digests[:5])) == 1
    assert compute_codes(kinds, tiny, store).n_computed == 0
    changed = [pixels[::-1], pixels.reshape(48, 40, 3), Image.fromarray(pixels[:, ::-1])]
    assert compute_codes(changed, tiny, store).n_computed == 3


def test_a_picture_is_known_by_all_that_is_seen_of_it(tiny, store):
    """Palette, transparency and orientation stand beside a Pillow image's pixels."""
    indices = (np.arange(48 * 40) % 256).astype(np.uint8).reshape(40, 48)
    plain = Image.fromarray(indices).convert("P")
    plain.putpalette([i // 3 for i in range(768)])
    other_palette, transparent, turned = plain.copy(), plain.copy(), Image.fromarray(picture((9, 99, 199), 1, (40, 40)))
    other_palette.putpalette([255 - i // 3 for i in range(768)])
    transparent.info["transparency"] = 3
    upside_down = turned.copy()
    upside_down.getexif()[0x0112] = 3
    grey, deep = Image.fromarray(indices), Image.fromarray(indices.astype(np.uint16) * 256)
    pictures = [plain, other_palette, transparent, turned, upside_down, grey, deep]
    done = compute_codes(pictures, tiny, store)
    assert len(set(done.digests)) == len(pictures)
    alone = [compute_codes([p], tiny, None).values[0] for p in pictures]
    assert (done.values == alone).all()
    assert (alone[0] != alone[1]).any()
    assert (alone[3] != alone[4]).any()
    assert compute_codes([p.copy() for p in pictures], tiny, store).n_computed == 0


def test_a_broken_picture_ends_nothing(tiny, store, work):
    broken = Image.open(io.BytesIO(Path(work[0]).read_bytes()[:500]))
    odd_tag = Image.fromarray(picture((9, 9, 9), 1))
    odd_tag.info["exif"] = b"Exif\0\0garbage"
    done = compute_codes([broken, np.zeros((2, 2)), work[1], odd_tag], tiny, store)
    assert {i: f.status for i, f in done.failures.items()} == {0: "broken", 1: "unsupported"}
    assert done.index.tolist() == [2, 3]


def write_table(path, images, *, row_group_size=4, by_path=()):
    import pyarrow
    import pyarrow.parquet

    rows = [{"bytes": None, "path": c} if i in by_path else {"bytes": c, "path": None} for i, c in enumerate(images)]
    table = pyarrow.table({"image": rows, "label": [str(i % 2) for i in range(len(rows))]})
    pyarrow.parquet.write_table(table, path, row_group_size=row_group_size)
    time.sleep(0.03)


@pytest.fixture
def tables_read(monkeypatch):
    """The rows that are read, one by one."""
    pytest.importorskip("pyarrow")
    from headstart.data.tables import ParquetImages

    rows, real = [], ParquetImages.read
    monkeypatch.setattr(ParquetImages, "read", lambda self, row: (rows.append(row), real(self, row))[1])
    return rows


def test_the_rows_of_an_unchanged_table_are_not_read_again(tables_read, tiny, store, work, tmp_path):
    contents = [Path(p).read_bytes() for p in work[:10]]
    write_table(tmp_path / "a.parquet", contents)
    first = compute_codes(load_dataset(tmp_path / "a.parquet").images, tiny, store)
    assert (first.n_computed, len(tables_read)) == (10, 10)
    again = compute_codes(load_dataset(tmp_path / "a.parquet").images, tiny, store)
    assert (again.n_computed, len(tables_read)) == (0, 10)
    assert (again.values == first.values).all()
    assert again.digests == first.digests
    # The same bytes in files are the same images, and so are they in a table of another name and order.
    assert compute_codes(work[:10], tiny, store).n_computed == 0
    write_table(tmp_path / "b.parquet", contents[::-1])
    assert compute_codes(load_dataset(tmp_path / "b.parquet").images, tiny, store).n_computed == 0


def test_a_table_that_is_written_anew_is_read_anew(tables_read, tiny, store, work, tmp_path):
    contents = [Path(p).read_bytes() for p in work[:10]]
    table = tmp_path / "a.parquet"
    write_table(table, contents[:6])
    old = load_dataset(table).images
    compute_codes(old, tiny, store)
    table.unlink()
    write_table(table, contents[4:])
    tables_read.clear()
    done = compute_codes(load_dataset(table).images, tiny, store)
    assert (done.n_computed, len(tables_read)) == (4, 6)
    expected = compute_codes(work[4:10], tiny, store)
    assert (done.values == expected.values).all()


@on_posix
def test_a_table_that_was_replaced_under_an_open_one_is_not_taken_for_it(tables_read, tiny, store, work, tmp_path):
    contents = [Path(p).read_bytes() for p in work[:10]]
    table = tmp_path / "a.parquet"
    write_table(table, contents[:5])
    old = load_dataset(table).images
    table.unlink()
    write_table(table, contents[5:])
    compute_codes(old, tiny, store)  # still gives the old rows, and must not note them as the new file's
    new = compute_codes(load_dataset(table).images, tiny, store)
    assert (new.values == compute_codes(work[5:10], tiny, store).values).all()


def test_rows_that_name_files_are_looked_up_each_time(tables_read, tiny, store, work, tmp_path):
    shutil.copy(work[0], tmp_path / "beside.png")
    contents = [Path(p).read_bytes() for p in work[:3]]
    write_table(tmp_path / "a.parquet", [*contents, "beside.png"], by_path=[3])
    images = load_dataset(tmp_path / "a.parquet").images
    first = compute_codes(images, tiny, store)
    shutil.copy(work[40], tmp_path / "beside.png")
    second = compute_codes(images, tiny, store)
    assert (first.values[3] == first.values[0]).all()
    assert (second.values[3] == compute_codes([work[40]], tiny, store).values[0]).all()


def test_a_row_is_named_where_its_codes_are_no_numbers(tiny, store, work, tmp_path):
    pytest.importorskip("pyarrow")
    write_table(tmp_path / "a.parquet", [Path(p).read_bytes() for p in work[:4]])
    backbone = find_backbone(BackboneSpec(str(write_tiny_backbone(tmp_path / "t.onnx")), std=(1e-6, 1e-6, 1e-6)), tmp_path)
    with pytest.raises(BackboneError, match=r"codes of .*a\.parquet#\d that are not finite"):
        compute_codes(load_dataset(tmp_path / "a.parquet").images, backbone, store)


@pytest.mark.parametrize("std, operation", [(1e-6, "Identity"), (0.5, "Log")], ids=["too large", "NaN"])
def test_codes_that_are_no_numbers_name_their_image(std, operation, work, store, tmp_path):
    path = write_tiny_backbone(tmp_path / "odd.onnx")
    network = onnx.load(path)
    network.graph.node[-1].output[0] = "row"
    network.graph.node.append(onnx.helper.make_node(operation, ["row"], ["features"]))  # of numbers below 0, too
    onnx.save(network, path)
    backbone = find_backbone(BackboneSpec(str(path), std=(std, std, std)), tmp_path)
    with pytest.raises(BackboneError, match=r"odd gives codes of .*\.png that are not finite in 16 bits; check its --mean"):
        compute_codes(work, backbone, store)


# ---- several at once

SCRIPT = """
import json, sys, time
from pathlib import Path
from types import SimpleNamespace
from headstart.codes import compute, shelf
from headstart.codes.store import Store
from headstart.backbones.find import BackboneSpec, find_backbone

network, cache, seconds, commit_seconds, *photos = sys.argv[1:]
shelf.COMMIT_SECONDS, crop = float(commit_seconds), compute.crop_and_resize
compute.crop_and_resize = lambda *arguments: (time.sleep(float(seconds)), crop(*arguments))[1]
kept = Store(Path(cache))
told = lambda stage, done, total: print(done, flush=True)
done = compute.compute_codes(photos, find_backbone(BackboneSpec(network), Path(cache)), kept, progress=told)
print(json.dumps({"n": len(done.index), "failures": len(done.failures)}))
"""


@pytest.fixture
def start(tiny_onnx, tmp_path):
    """Starts a process that computes codes into the cache, and prints how many are done."""
    started = []

    def start(photos, *, seconds=0.0, commit_seconds=1.0, cache=tmp_path / "cache") -> subprocess.Popen:
        arguments = [str(a) for a in (tiny_onnx, cache, seconds, commit_seconds, *photos)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen([sys.executable, "-c", HEAR_CTRL_C + SCRIPT, *arguments], **pipes))
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def answer_of(process) -> dict:
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    return json.loads(out.splitlines()[-1])


def is_sound(store) -> bool:
    return store.read(lambda connection: connection.execute("PRAGMA integrity_check").fetchall()) == [("ok",)]


def n_rows(store) -> int:
    return store.read(lambda connection: connection.execute("SELECT COUNT(*) FROM codes").fetchone()[0])


def test_processes_that_write_at_once_lose_nothing(work, start, tiny, tmp_path):
    shares = [work[:30], work[15:45], work[30:], work[::2]]
    processes = [start(share, commit_seconds=0.0) for share in shares]  # all begin the store at once, too
    assert [answer_of(p)["n"] for p in processes] == [len(share) for share in shares]
    store = Store(tmp_path / "cache")
    assert compute_codes(work, tiny, store).n_computed == 0
    assert (n_rows(store), store.summary()["images"], store.summary()["files"]) == (60, 60, 60)
    assert is_sound(store)
    assert [p.name for p in store.path.parent.iterdir() if "damaged" in p.name] == []
    store.close()


def test_threads_may_share_a_store(work, tiny, store):
    results = {}

    def compute(i):
        results[i] = compute_codes(work[i * 10 :], tiny, store)

    threads = [threading.Thread(target=compute, args=[i]) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [0, 1, 2, 3]
    for i, result in results.items():
        assert (result.values == results[0].values[i * 10 :]).all()
    assert n_rows(store) == 60


# ---- accidents


def wait_for_rows(store, n, seconds=30):
    deadline = time.monotonic() + seconds
    while n_rows(store) < n:
        assert time.monotonic() < deadline, "nothing was computed"
        time.sleep(0.01)


def test_a_kill_loses_what_was_not_yet_written_and_no_more(work, start, tiny, store):
    process = start(work, seconds=0.05, commit_seconds=0.02)
    wait_for_rows(store, 8)
    process.kill()
    process.wait()
    n_kept = n_rows(store)
    assert 8 <= n_kept < 60
    done = compute_codes(work, tiny, store)
    assert (done.n_computed, len(done.index)) == (60 - n_kept, 60)
    assert is_sound(store)


@on_posix
def test_an_interrupt_keeps_all_that_was_computed(work, start, tiny, store):
    process = start(work, seconds=0.05, commit_seconds=1000)  # written at the end alone
    while process.stdout.readline() != "10\n":
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert errors.strip().endswith("KeyboardInterrupt")
    n_kept = n_rows(store)
    assert 10 <= n_kept < 60
    assert compute_codes(work, tiny, store).n_computed == 60 - n_kept


def test_an_error_keeps_all_that_was_computed_and_ends_the_work(tiny, store):
    pictures = many_pictures(600)

    def stop(_, done, total):
        if done == 20:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        compute_codes(pictures, tiny, store, progress=stop)
    assert caught.tb  # which keeps alive whatever was not closed
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("headstart-")]
    assert n_rows(store) == 20
    assert compute_codes(pictures, tiny, store).n_computed == 580


@pytest.fixture
def full_store(work, tiny, tmp_path) -> Path:
    """The file of a store that holds 60 rows, closed."""
    store = Store(tmp_path / "cache")
    compute_codes(work, tiny, store)
    store.close()
    return store.path


def damage_header(path):
    content = path.read_bytes()
    path.write_bytes(b"\xde\xad" * 50 + content[100:])


def damage_pages(path):
    content = path.read_bytes()
    path.write_bytes(content[:16384] + b"\xa5" * (len(content) - 16384))


def cut_in_two(path):
    path.write_bytes(path.read_bytes()[:20_000])


def cut_to_a_header(path):
    path.write_bytes(path.read_bytes()[:60])


def replace_by_text(path):
    path.write_text("my notes, which I would hate to lose\n" * 1000)


def replace_by_folder(path):
    path.unlink()
    path.mkdir()
    (path / "thesis.txt").write_text("chapter 1")


def replace_by_database(path, application=0):
    path.unlink()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE letters (text TEXT)")
        connection.execute("INSERT INTO letters VALUES ('Dear Anna')")
        connection.execute(f"PRAGMA application_id = {application}")
        connection.commit()


def replace_by_named_database(path):
    replace_by_database(path, application=1234)


def contents(path) -> dict[str, bytes]:
    return {str(p.relative_to(path)): p.read_bytes() for p in ([path] if path.is_file() else path.rglob("*"))}


@pytest.mark.parametrize(
    "accident",
    [
        damage_header,
        damage_pages,
        cut_in_two,
        cut_to_a_header,
        replace_by_text,
        replace_by_folder,
        replace_by_database,
        replace_by_named_database,
    ],
)
def test_a_damaged_or_foreign_file_is_moved_aside(accident, full_store, work, tiny, caplog):
    accident(full_store)
    found = contents(full_store)
    with caplog.at_level(logging.WARNING):
        store = Store(full_store.parent)
        done = compute_codes(work, tiny, store)
    assert (done.n_computed, len(done.index)) == (60, 60)
    (aside,) = [p for p in full_store.parent.iterdir() if ".damaged-" in p.name]
    assert list(contents(aside).values()) == list(found.values())
    (message,) = caplog.messages
    assert str(full_store) in message
    assert f"is kept as {aside.name}, and a new one is begun" in message
    assert compute_codes(work, tiny, store).n_computed == 0
    assert is_sound(store)
    store.close()


def test_an_empty_file_is_begun(full_store, work, tiny, caplog):
    full_store.write_bytes(b"")
    with contextlib.closing(Store(full_store.parent)) as store:
        assert compute_codes(work, tiny, store).n_computed == 60
    assert not caplog.messages


def test_damage_within_a_row_computes_that_row_anew(full_store, work, tiny):
    expected = compute_codes(work, tiny, None)
    content = full_store.read_bytes()
    row = expected.values[7].tobytes()
    assert content.count(row) == 1
    full_store.write_bytes(content.replace(row, row[:50] + bytes([row[50] ^ 1]) + row[51:]))
    with contextlib.closing(Store(full_store.parent)) as store:
        done = compute_codes(work, tiny, store)
        assert done.n_computed == 1
        assert (done.values == expected.values).all()
        assert compute_codes(work, tiny, store).n_computed == 0


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_kept_rows_that_are_no_numbers_are_computed_anew(full_store, work, tiny, odd):
    """Their check is right: whoever wrote them meant it, or had a network that gave nothing better."""
    expected = compute_codes(work, tiny, None)
    with contextlib.closing(sqlite3.connect(full_store)) as connection, connection:
        for digest in expected.digests[:3]:
            row = expected.values[0].copy()
            row[7] = odd
            content = row.tobytes() + checksum(digest, row.tobytes())
            connection.execute("UPDATE codes SET codes = ? WHERE digest = ?", (content, digest))
    with contextlib.closing(Store(full_store.parent)) as store:
        done = compute_codes(work, tiny, store)
        assert done.n_computed == 3 and (done.values == expected.values).all()
        assert compute_codes(work, tiny, store).n_computed == 0  # and are kept as they should be


@on_posix
@pytest.mark.parametrize("whose", ["the folder", "the file"])
def test_a_cache_of_another_user_is_not_used(full_store, work, tiny, tmp_path, monkeypatch, capsys, whose):
    from headstart.cli import main

    folder, real = full_store.parent, os.stat
    (folder / "backbones").mkdir()
    planted = folder / "backbones" / "efficientnet-lite0.onnx"
    planted.write_bytes(b"")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def stat(path, *arguments, **options):
        status = real(path, *arguments, **options)
        strange = os.fspath(path) == str(folder if whose == "the folder" else full_store)
        return os.stat_result((*status[:4], os.geteuid() + 1, *status[5:])) if strange else status

    monkeypatch.setattr(os, "stat", stat)
    with pytest.raises(
        CacheError, match=r"belongs to another user \(id \d+, and this is \d+\).*--cache DIR or HEADSTART_CACHE"
    ):
        Store(folder, is_needed=True)
    with contextlib.closing(Store(folder)) as store:
        assert "belongs to another user" in store.notes[0] and compute_codes(work, tiny, store).n_computed == len(work)
    assert is_usable(folder) is (whose == "the file")
    assert main.main(["cache", "--cache", str(folder)]) == 1
    assert "belongs to another user" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    for owner in (0, os.geteuid()):  # what root has is as safe as the system is
        monkeypatch.setattr(os, "stat", lambda path, *a, o=owner, **k: os.stat_result((*real(path)[:4], o, *real(path)[5:])))
        check_owner(folder)
    monkeypatch.undo()
    monkeypatch.delattr(os, "geteuid")  # as on Windows, where nobody can tell
    Store(folder).close()


@on_posix
def test_a_cache_is_made_for_its_user_alone(tmp_path):
    before = os.umask(0o002)
    try:
        with contextlib.closing(Store(tmp_path / "a" / "cache")) as store:
            assert store.path.parent.stat().st_mode & 0o777 == 0o700
        assert (tmp_path / "a").stat().st_mode & 0o777 == 0o775  # which is not ours
        find_backbone(BackboneSpec("efficientnet-lite0"), tmp_path / "b")
        assert (tmp_path / "b").stat().st_mode & 0o777 == 0o700 and list((tmp_path / "b" / "backbones").iterdir())
        shared = tmp_path / "c"
        shared.mkdir()
        Store(shared).close()
        assert shared.stat().st_mode & 0o777 == 0o775  # as whoever made it wanted it
    finally:
        os.umask(before)


@on_posix
def test_a_network_in_another_users_cache_is_not_loaded(tmp_path, monkeypatch):
    own = find_backbone(BackboneSpec("efficientnet-lite0"), tmp_path)
    (built,) = (tmp_path / "backbones").iterdir()
    planted = own.network + b"\x72\x00"  # another file, whose name carries its hash all the same
    name = f"{built.stem[:-16]}{hashlib.sha256(planted).hexdigest()[:16]}.onnx"
    built.unlink()
    (tmp_path / "backbones" / name).write_bytes(planted)
    assert find_backbone(BackboneSpec("efficientnet-lite0"), tmp_path).network == planted
    monkeypatch.setattr(os, "geteuid", lambda: os.stat(tmp_path).st_uid + 1)
    monkeypatch.setattr(cache_folder, "ROOT", -1)  # the tests may be root's
    assert find_backbone(BackboneSpec("efficientnet-lite0"), tmp_path).network == own.network
    assert [path.name for path in (tmp_path / "backbones").iterdir()] == [name]


def test_damage_while_it_is_open_is_mended(work, tiny, store, caplog):
    compute_codes(work[:30], tiny, store)
    store.read(lambda connection: connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())
    store.read(lambda connection: connection.execute("PRAGMA shrink_memory"))  # or it would go on with the pages it has read
    damage_pages(store.path)
    done = compute_codes(work, tiny, store)
    assert len(done.index) == 60
    assert len(caplog.messages) == 1
    assert compute_codes(work, tiny, store).n_computed == 0


def test_a_store_that_another_has_mended_is_left_alone(full_store, work, tiny, caplog):
    """Two that find the same damage must not move one another's new store aside."""
    damage_pages(full_store)
    first, second = Store(full_store.parent), Store(full_store.parent)
    compute_codes(work, tiny, first)
    assert compute_codes(work, tiny, second).n_computed == 0
    assert len(caplog.messages) == 1
    first.close()
    second.close()


def only_warning(caplog, store, reason):
    """The one thing that is said of a store that keeps nothing."""
    (message,) = caplog.messages
    assert store.notes == [message]
    assert message.startswith("what is computed from here on is not kept in the cache: ")
    assert reason in message and "--cache DIR" in message


def test_a_full_disk_loses_no_codes_and_leaves_the_cache_intact(work, tiny, store, caplog):
    compute_codes(work[:10], tiny, store)
    pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
    store._connection.execute(f"PRAGMA max_page_count = {pages}")
    images = many_pictures(600)  # more than the last page has room for
    expected = compute_codes(images, tiny, None)
    done = compute_codes(images, tiny, store)
    assert done.digests == expected.digests and (done.values == expected.values).all()
    assert is_sound(store)
    assert compute_codes(work[:10], tiny, store).n_computed == 0
    assert len(compute_codes(images, tiny, store).index) == 600
    only_warning(caplog, store, "no room is left for the cache")
    with contextlib.closing(Store(store.path.parent)) as roomy:
        assert len(compute_codes(images, tiny, roomy).index) == 600
        assert compute_codes(images, tiny, roomy).n_computed == 0 and not roomy.notes


@on_posix
@pytest.mark.parametrize("keep", [0, 20_000, 80_000, 160_000])
def test_a_disk_that_really_is_full(keep, work, tiny, mounted, caplog):
    disk = mounted("size=2m")
    store = Store(disk)
    kept = compute_codes(work[:10], tiny, store).values
    fill(disk / "holiday.mp4", keep)
    images = many_pictures(1500)
    expected = compute_codes(images, tiny, None)
    assert (compute_codes(images, tiny, store).values == expected.values).all()
    only_warning(caplog, store, "no room is left for the cache")
    store.close()
    (disk / "holiday.mp4").unlink()
    store = Store(disk)
    again = compute_codes(work[:10], tiny, store)
    assert again.n_computed == 0
    assert (again.values == kept).all()
    assert is_sound(store)
    assert len(compute_codes(images, tiny, store).index) == 1500
    assert compute_codes(images, tiny, store).n_computed == 0
    store.close()


@on_posix
def test_a_cache_that_cannot_be_begun_on_a_full_disk_keeps_nothing(tiny, work, mounted, caplog):
    disk = mounted("size=1m")
    fill(disk / "holiday.mp4")
    with contextlib.closing(Store(disk)) as store:
        assert compute_codes(work, tiny, store).n_computed == 60
        only_warning(caplog, store, "no room is left for the cache")
    with pytest.raises(CacheError, match="no room is left for the cache"):
        Store(disk, is_needed=True)


@on_posix
def test_a_read_only_folder_keeps_nothing_and_says_what_to_do(full_store, work, tiny, mounted, tmp_path, caplog):
    if os.geteuid() == 0:
        disk = mounted("size=2m")
        shutil.copy(full_store, disk / "full.sqlite")
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    else:
        disk = tmp_path / "locked"
        disk.mkdir()
        disk.chmod(0o555)
    with pytest.raises(CacheError, match="cannot be used: .*; choose another with --cache DIR or HEADSTART_CACHE"):
        Store(disk, is_needed=True)
    with pytest.raises(CacheError, match="cannot be made: .*; choose another with --cache DIR or HEADSTART_CACHE"):
        Store(disk / "below", is_needed=True)
    for folder, reason in ((disk, "cannot be used"), (disk / "below", "cannot be made")):
        caplog.clear()
        with contextlib.closing(Store(folder)) as store:
            assert compute_codes(work, tiny, store).n_computed == 60
            only_warning(caplog, store, reason)


def test_a_folder_that_is_a_file_says_what_to_do(tmp_path, caplog):
    (tmp_path / "cache").write_text("")
    with pytest.raises(CacheError, match="the cache folder .*cache cannot be made: File exists; choose another"):
        Store(tmp_path / "cache", is_needed=True)
    with contextlib.closing(Store(tmp_path / "cache")) as store:
        only_warning(caplog, store, "cannot be made: File exists")


def test_a_store_that_another_program_holds_can_be_read_and_says_so(work, tiny, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.2)
    with contextlib.closing(Store(tmp_path)) as store:
        compute_codes(work[:10], tiny, store)
        with contextlib.closing(sqlite3.connect(store.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            assert compute_codes(work[:10], tiny, store).n_computed == 0
            assert compute_codes(work, tiny, store).n_computed == 50
            only_warning(caplog, store, "another program holds the cache")
            other.execute("ROLLBACK")
        assert compute_codes(work, tiny, store).n_computed == 50


def test_a_new_store_that_another_program_holds_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.2)
    with contextlib.closing(sqlite3.connect(tmp_path / database.FILE_NAME, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(CacheError, match="another program holds the cache .*; try again when it is done"):
            Store(tmp_path, is_needed=True)


# ---- looking after it


def test_the_summary_counts(work, tiny, store):
    compute_codes(work, tiny, store)
    compute_codes(work[:20], tiny, store, views=DrawnViews(("mirrored",)))
    summary = store.summary()
    assert (summary["images"], summary["files"]) == (60, 60)
    assert summary["path"] == str(store.path)
    assert summary["size_bytes"] == sum(p.stat().st_size for p in store.path.parent.glob("codes-1.sqlite*"))
    assert [(r["name"], r["view"], r["images"]) for r in summary["recipes"]] == [
        ("tiny", "original", 60),
        ("tiny", "mirrored version 1", 20),
    ]


def test_a_summary_that_cannot_be_read_is_mended(work, tiny, store, caplog):
    compute_codes(work[:5], tiny, store)
    store.write(lambda connection: connection.execute("UPDATE recipes SET about = '{'"))
    assert store.summary()["images"] == 0
    assert len(caplog.messages) == 1


def age(store, n, days):
    def set_back(connection):
        connection.execute(f"UPDATE images SET used = used - {days} WHERE digest IN (SELECT digest FROM images LIMIT {n})")

    store.write(set_back)


def test_pruning_forgets_what_was_not_used_for_long(work, tiny, store):
    compute_codes(work, tiny, store)
    age(store, 25, days=91)
    assert store.prune(90) == 25
    assert store.prune(90) == 0
    summary = store.summary()
    assert (summary["images"], summary["files"], summary["recipes"][0]["images"]) == (35, 35, 35)
    assert compute_codes(work, tiny, store).n_computed == 25


def test_what_is_used_is_spared(work, tiny, store):
    compute_codes(work, tiny, store)
    age(store, 60, days=91)
    compute_codes(work[:40], tiny, store)
    assert store.prune(90) == 20
    assert compute_codes(work[:40], tiny, store).n_computed == 0


def test_clearing_forgets_everything_and_gives_the_space_back(tiny, store):
    compute_codes(many_pictures(2000), tiny, store)
    before = store.size_bytes()
    assert store.clear() == 2000
    assert store.size_bytes() < before / 2
    summary = store.summary()
    assert (summary["images"], summary["files"], summary["recipes"]) == (0, 0, [])


def test_looking_after_a_store_in_use_harms_nobody(work, start, tiny, store):
    processes = [start(work, seconds=0.02, commit_seconds=0.0) for _ in range(2)]
    wait_for_rows(store, 1)
    while any(p.poll() is None for p in processes):
        store.summary()
        store.prune(90)
        store.clear()
        time.sleep(0.02)
    assert [answer_of(p) for p in processes] == [{"n": 60, "failures": 0}] * 2
    assert is_sound(store)
    compute_codes(work, tiny, store)
    assert compute_codes(work, tiny, store).n_computed == 0


def test_the_cache_is_where_it_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "mine"))
    assert default_cache_dir() == tmp_path / "mine"
    monkeypatch.delenv("HEADSTART_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_cache_dir().name == "headstart"
    assert not default_cache_dir().exists()


# ---- one visit for several views and the statistics


def test_views_are_averaged_in_one_visit_of_each_file(work, tiny, store, opened):
    both = compute_codes(work, tiny, store, views=DrawnViews(("original", "mirrored")))
    assert len(opened) == 60 and both.n_computed == 60
    one, other = (compute_codes(work, tiny, store, views=DrawnViews((view,))) for view in ("original", "mirrored"))
    assert one.n_computed == other.n_computed == 0 and len(opened) == 60
    mean = (one.values.astype(np.float32) + other.values) / 2
    np.testing.assert_array_equal(both.values, mean.astype(np.float16))


def test_a_view_that_is_stored_is_not_computed_again_beside_one_that_is_not(work, tiny, store):
    compute_codes(work, tiny, store, views=DrawnViews(("mirrored",)))
    fresh = compute_codes(work, tiny, None, views=DrawnViews(("original", "mirrored")))
    np.testing.assert_array_equal(
        compute_codes(work, tiny, store, views=DrawnViews(("original", "mirrored"))).values, fresh.values
    )


def test_statistics_of_the_same_visit_are_those_of_a_visit_of_their_own(work, tiny, store, opened):
    codes = compute_codes(work, tiny, store, with_stats=True)
    with_codes = compute_image_stats(work, codes.digests, store)
    assert len(opened) == 60
    alone = compute_image_stats(work, codes.digests, None)
    assert with_codes.pictures == alone.pictures and None not in alone.pictures
    np.testing.assert_array_equal(with_codes.hashes, alone.hashes)
    np.testing.assert_array_equal(with_codes.sharpness, alone.sharpness)
