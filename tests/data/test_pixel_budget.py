"""However many threads decode, only so many pixels are in flight; nobody waits for ever, and no image looks otherwise."""

import io
import multiprocessing
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from headstart.data import decoding
from headstart.data.decoding import Failure, decode, decode_and_apply
from headstart.data.images import Preprocess, load_image
from headstart.data.pixel_budget import PixelBudget


class Watched(PixelBudget):
    """A budget that remembers the most that was in flight."""

    def __init__(self, most):
        super().__init__(most)
        self.most_seen, self.taken = 0, []

    def take(self, n_pixels):
        super().take(n_pixels)
        with self._changed:
            self.most_seen = max(self.most_seen, self._n_in_flight)
            self.taken.append(n_pixels)


def png(side, mode="RGBA", seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (side // 8, side // 8, 4), np.uint8).repeat(8, 0).repeat(8, 1)
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def budget(monkeypatch):
    watched = Watched(2 * 400 * 400)
    monkeypatch.setattr(decoding, "IN_FLIGHT", watched)
    return watched


def test_eight_threads_have_no_more_pixels_in_flight_than_the_budget_allows(budget):
    contents = [png(400, seed=i) for i in range(12)]
    alone = [load_image(content, Preprocess(32)) for content in contents]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda content: load_image(content, Preprocess(32)), contents))
    np.testing.assert_array_equal(together, alone)
    assert budget.most_seen <= 2 * 400 * 400 and budget._n_in_flight == 0 and len(budget.taken) == 24


def test_what_looks_at_the_whole_photo_counts_until_it_is_done(budget):
    held = threading.Event()

    def look(pixels):
        held.set()
        time.sleep(0.2)
        return budget._n_in_flight

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(decode_and_apply, png(400), look)
        held.wait()
        assert budget._n_in_flight == 400 * 400
        assert first.result() == 400 * 400
    assert budget._n_in_flight == 0


def test_a_larger_image_than_the_budget_is_decoded_alone(budget):
    assert isinstance(load_image(png(800), Preprocess(32)), np.ndarray)
    assert budget.most_seen == 800 * 800


def test_whatever_goes_wrong_the_pixels_are_given_back(budget):
    def fail(_):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        decode_and_apply(png(400), fail)
    assert isinstance(decode(png(400)[:-200]), Failure)
    assert budget._n_in_flight == 0 and not budget._waiting


def test_a_jpeg_counts_at_the_size_that_it_is_decoded_at(budget):
    file = io.BytesIO()
    Image.new("RGB", (1600, 1600), "red").save(file, "JPEG")
    decode(file.getvalue(), shorter_side=100)
    decode(file.getvalue())
    small, whole = budget.taken
    assert whole == 1600 * 1600 and small <= 400 * 400


@pytest.mark.parametrize(("form", "times"), [("PNG", 1), ("BMP", 1), ("WEBP", 2), ("AVIF", 2), ("TIFF", 2)])
def test_formats_whose_decoders_take_twice_the_memory_count_twice(budget, form, times):
    file = io.BytesIO()
    Image.new("RGB", (100, 60), "red").save(file, form)
    assert decode(file.getvalue()).shape == (60, 100, 3)
    assert budget.taken == [times * 6000]


def test_a_jpeg_that_pillow_has_to_decode_counts_at_its_full_size(budget, monkeypatch):
    file = io.BytesIO()
    Image.new("RGB", (1600, 1600), "red").save(file, "JPEG")

    def refuse(*_, **__):
        raise ValueError("it ends early")

    monkeypatch.setattr("simplejpeg.decode_jpeg", refuse)
    assert isinstance(load_image(file.getvalue(), Preprocess(32, crop=1.0)), np.ndarray)
    assert budget.taken[-1] == 1600 * 1600 and budget._n_in_flight == 0


def test_who_comes_first_is_served_first():
    """A large image is not kept waiting for ever by small ones that would still fit."""
    budget, order = PixelBudget(100), []
    budget.take(60)

    def wait(name, n_pixels):
        budget.take(n_pixels)
        order.append(name)
        budget.give_back(n_pixels)

    threads = []
    for name, n_pixels in (("large", 90), ("small", 10)):
        threads.append(threading.Thread(target=wait, args=(name, n_pixels)))
        threads[-1].start()
        while len(budget._waiting) < len(threads):
            time.sleep(0.001)
    budget.give_back(60)
    for thread in threads:
        thread.join(5)
    assert order == ["large", "small"]


def _decode_in_a_child(queue):
    queue.put(isinstance(load_image(png(64), Preprocess(32)), np.ndarray))


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_waits_for_nobody(budget):
    """What another thread has in flight at the fork is in flight in the parent alone."""
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    with budget.of_one_image() as lease:
        lease.take(10**9)
        child = context.Process(target=_decode_in_a_child, args=(queue,))
        child.start()
        child.join(30)
        assert child.exitcode == 0 and queue.get()


def in_mode(mode):
    """A picture of 90 x 70 in one of Pillow's modes, with what each knows of transparency."""
    rng = np.random.default_rng(0)
    rgba = Image.fromarray(rng.integers(0, 256, (70, 90, 4), np.uint8))
    if mode == "P with transparency":
        image = rgba.convert("RGB").quantize(16)
        image.info["transparency"] = bytes(range(0, 256, 16))
        return image
    if mode == "RGB with a transparent colour":
        image = rgba.convert("RGB")
        image.putpixel((3, 60), (1, 2, 3))
        image.info["transparency"] = (1, 2, 3)
        return image
    if mode == "I;16":
        return Image.fromarray(rng.integers(0, 65_536, (70, 90), np.uint16))
    if mode == "I":
        return Image.fromarray(rng.integers(0, 100_000, (70, 90), np.int32))
    if mode == "F":
        values = rng.random((70, 90), np.float32) * 300
        values[0, 0], values[69, 89] = np.nan, np.inf
        return Image.fromarray(values)
    return rgba.convert(mode)


MODES = ("RGBA", "LA", "L", "1", "P", "CMYK", "I;16", "I", "F", "P with transparency", "RGB with a transparent colour")


@pytest.mark.parametrize("mode", MODES)
def test_an_image_that_is_converted_some_rows_at_a_time_looks_the_same(mode, monkeypatch):
    def seen():
        return decode_and_apply(in_mode(mode), lambda pixels: pixels)

    whole = seen()
    monkeypatch.setattr(decoding, "BAND_PIXELS", 90 * 9)
    np.testing.assert_array_equal(seen(), whole)
    assert whole.shape == (70, 90, 3) and len(np.unique(whole)) > 1
