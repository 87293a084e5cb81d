"""Every core works, nothing waits that need not, order and answers never depend on it, and all ends when it should."""

import itertools
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from headstart.backbones.find import BackboneSpec, find_backbone
from headstart.engines.hardware import Hardware, available_cores
from headstart.engines.openvino_engine import OpenVINOEngine
from headstart.engines.ordered import Result, in_order
from headstart.errors import BackboneError, HeadstartError
from support.photos import picture
from support.processes import HEAR_CTRL_C

EXACT = Hardware(precision="f32")


def pixels(seed, size=32):
    return picture((120, 90, 200), seed, (size, size))


@pytest.fixture(autouse=True)
def no_thread_is_left():
    """Whatever a test does, the workers that it started end."""
    yield
    deadline = time.monotonic() + 5
    while workers() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not workers()


def workers():
    return [thread for thread in threading.enumerate() if thread.name.startswith("headstart-")]


def echo(index, item):
    return Result(index, item, None, item)


# ---- in_order


def test_order_is_kept_whatever_each_takes():
    random = np.random.default_rng(0)
    seconds = random.uniform(0, 0.004, 300).tolist()

    def work(index, item):
        time.sleep(item)
        return Result(index, item, None, -item)

    results = list(in_order(seconds, work, workers=8))
    assert [r.index for r in results] == list(range(300))
    assert [r.item for r in results] == seconds
    assert [r.instead for r in results] == [-s for s in seconds]


def test_a_straggler_stops_nobody():
    others_are_done, n_done = threading.Event(), itertools.count(1)

    def work(index, item):
        if index == 0:
            assert others_are_done.wait(10), "the others wait for the straggler"
        elif next(n_done) == 50:
            others_are_done.set()
        return Result(index, item, None)

    assert [r.index for r in in_order(range(51), work, workers=2)] == list(range(51))


def test_no_more_is_taken_than_the_window_holds():
    n_taken = 0

    def source():
        nonlocal n_taken
        while n_taken < 10_000:
            n_taken += 1
            yield n_taken

    most_ahead = 0
    for result in in_order(source(), echo, workers=2):
        most_ahead = max(most_ahead, n_taken - result.index)
        if result.index == 0:
            time.sleep(0.2)  # a reader that is slow at once: the workers fill the window, and no more
    assert 10 < most_ahead <= 64 + 1
    assert result.index == 9_999


def test_memory_does_not_grow_with_the_stream():
    alive, most_alive, lock = 0, 0, threading.Lock()

    class Large:
        def __init__(self):
            nonlocal alive, most_alive
            with lock:
                alive += 1
                most_alive = max(alive, most_alive)

        def __del__(self):
            nonlocal alive
            with lock:
                alive -= 1

    for _ in in_order(range(2_000), lambda i, item: Result(i, item, None, Large()), workers=2):
        pass
    assert most_alive <= 64 + 2 + 2  # the window, what is being made, what the reader holds


@pytest.mark.parametrize("workers", [1, 2, 8])
@pytest.mark.parametrize("n", [0, 1, 2, 500])
def test_any_number_of_items_and_workers(n, workers):
    assert [r.item for r in in_order(iter(range(n)), echo, workers=workers)] == list(range(n))


def test_an_error_in_the_work_reaches_the_reader():
    def work(index, item):
        if index == 30:
            raise ZeroDivisionError("thirty")
        return Result(index, item, None)

    seen = []
    with pytest.raises(ZeroDivisionError, match="thirty"):
        for result in in_order(itertools.count(), work, workers=4):
            seen.append(result.index)
    assert seen == list(range(len(seen)))
    assert len(seen) <= 30
    assert not workers()


def test_an_error_in_the_source_reaches_the_reader():
    def source():
        yield from range(10)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        list(in_order(source(), echo, workers=4))
    assert not workers()


def test_closing_early_ends_the_workers():
    stream = in_order(itertools.count(), echo, workers=4)
    assert [next(stream).index for _ in range(5)] == list(range(5))
    stream.close()
    assert not workers()


def test_leaving_the_loop_ends_the_workers():
    for result in in_order(itertools.count(), echo, workers=4):
        if result.index == 100:
            break
    del result
    deadline = time.monotonic() + 5
    while workers() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not workers()


def test_a_source_that_waits_for_ever_holds_up_no_end():
    """As a terminal's stdin does, at which nobody types."""
    typed, stream_ended = threading.Event(), threading.Event()

    def source():
        yield from range(3)
        typed.wait(30)

    stream = in_order(source(), echo, workers=2)
    assert [next(stream).index for _ in range(3)] == [0, 1, 2]  # what has come is answered, without waiting for more
    closing = threading.Thread(target=lambda: (stream.close(), stream_ended.set()))
    closing.start()
    is_ended = stream_ended.wait(5)
    typed.set()
    closing.join()
    assert is_ended


INTERRUPTED = """
import itertools, os, signal, threading, time
from headstart.engines.openvino_engine import Result, in_order
threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
def work(index, item):
    time.sleep(0.01)
    return Result(index, item, None)
try:
    for result in in_order(itertools.count(), work, workers=4):
        pass
except KeyboardInterrupt:
    left = [t.name for t in threading.enumerate() if t.name.startswith("headstart-")]
    print("interrupted, left:", left)
"""


@pytest.mark.skipif(os.name != "posix", reason="signals are sent as POSIX does")
def test_an_interrupt_ends_the_stream_and_its_workers():
    done = subprocess.run([sys.executable, "-c", HEAR_CTRL_C + INTERRUPTED], capture_output=True, text=True, timeout=30)
    assert (done.stdout, done.stderr, done.returncode) == ("interrupted, left: []\n", "", 0)


# ---- OpenVINOEngine


def test_many_answer_as_one_does(tiny):
    engine = OpenVINOEngine(tiny.network)
    many = [pixels(seed) for seed in range(100)]
    results = list(engine.stream(range(100), lambda _, i: many[i]))
    assert [r.item for r in results] == list(range(100))
    for image, result in zip(many, results, strict=True):
        assert (result.outputs["codes"] == engine.infer(image)["codes"]).all()
        assert result.outputs["codes"].dtype == np.float32
    again = [r.outputs["codes"] for r in engine.stream(range(100), lambda _, i: many[i])]
    assert (np.array(again) == [r.outputs["codes"] for r in results]).all()


def test_what_is_no_picture_is_passed_through(tiny):
    known = np.arange(48, dtype=np.float16)
    loaded = [pixels(0), "a failure", known, pixels(1), None]
    results = list(OpenVINOEngine(tiny.network).stream(loaded, lambda _, item: item))
    assert [r.outputs is not None for r in results] == [True, False, False, True, False]
    assert results[1].instead == "a failure"
    assert results[2].instead is known


def test_f32_is_exact(tmp_path):
    network = find_backbone(BackboneSpec("efficientnet-lite0"), tmp_path).network
    image = pixels(3, 224)
    (expected,) = onnxruntime.InferenceSession(network).run(["codes"], {"image": image[None]})
    assert expected.max() > 1
    assert OpenVINOEngine(network, EXACT).infer(image)["codes"] == pytest.approx(expected[0], abs=1e-5, rel=1e-5)
    # `auto` may be bfloat16, with 8 bits of precision: the same picture, if not the same numbers.
    about = OpenVINOEngine(network).infer(image)["codes"]
    assert np.corrcoef(about, expected[0])[0, 1] > 0.99


def test_outputs_are_called_as_the_file_calls_them(tiny, tiny_onnx, tmp_path):
    assert OpenVINOEngine(tiny.network).outputs == ["codes"]
    a_map = find_backbone(BackboneSpec(str(tiny_onnx), output="grid"), tmp_path)
    assert OpenVINOEngine(a_map.network).outputs == ["codes"]


@pytest.mark.parametrize("threads", [1, 3])
def test_any_number_of_threads(threads, tiny):
    engine = OpenVINOEngine(tiny.network, Hardware(threads=threads))
    assert engine.threads == threads
    seen = set()

    def load(_, item):
        seen.add(threading.get_ident())
        time.sleep(0.002)
        return pixels(item)

    assert [r.item for r in engine.stream(range(20), load)] == list(range(20))
    assert len(seen) <= 2 * threads


def test_many_threads_may_infer_at_once(tiny):
    engine, wrong = OpenVINOEngine(tiny.network, EXACT), []
    images = [pixels(seed) for seed in range(16)]
    expected = [engine.infer(image)["codes"] for image in images]
    together = threading.Barrier(16)

    def ask(i):
        together.wait()
        for _ in range(50):
            if (engine.infer(images[i])["codes"] != expected[i]).any():
                wrong.append(i)

    threads = [threading.Thread(target=ask, args=[i]) for i in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_two_engines_at_once(tiny, tiny_onnx, tmp_path):
    other = find_backbone(BackboneSpec(str(tiny_onnx), mean=(0, 0, 0), std=(1, 1, 1)), tmp_path)
    one, two = (OpenVINOEngine(backbone.network, EXACT) for backbone in (tiny, other))
    for a, b in zip(
        one.stream(range(50), lambda _, i: pixels(i)), two.stream(range(50), lambda _, i: pixels(i)), strict=True
    ):
        assert a.outputs["codes"] == pytest.approx((b.outputs["codes"] - 0.5) / 0.5, abs=1e-5)


def test_a_load_that_fails_ends_the_stream(tiny):
    def load(_, item):
        raise HeadstartError("no")

    with pytest.raises(HeadstartError, match="^no$"):
        list(OpenVINOEngine(tiny.network).stream(range(10), load))


@pytest.mark.parametrize(
    "options, reason",
    [
        ({"precision": "f8"}, "unknown precision 'f8'; it is one of: auto, f32"),
        ({"threads": 0}, "threads must be at least 1, not 0"),
        ({"threads": -2}, "threads must be at least 1, not -2"),
    ],
)
def test_impossible_hardware_is_refused_at_once(options, reason):
    with pytest.raises(HeadstartError, match=reason):
        Hardware(**options)


@pytest.mark.parametrize("device", ["TOASTER", "", "GPU.99"])
def test_a_missing_device_lists_those_that_are_there(device, tiny):
    with pytest.raises(BackboneError, match=f"there is no device '{device}' here; OpenVINO finds: .*CPU|cannot run"):
        OpenVINOEngine(tiny.network, Hardware(device=device))


def test_a_device_may_be_written_in_any_case(tiny):
    assert OpenVINOEngine(tiny.network, Hardware(device="cpu")).device == "CPU"


@pytest.mark.parametrize("network", [b"", b"garbage", b"\x08\x08\x12\x00"])
def test_what_is_no_network_cannot_be_run(network):
    with pytest.raises(BackboneError, match="OpenVINO cannot run this network on CPU: ."):
        OpenVINOEngine(network)


# ---- the machine's other users


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_affinity_is_respected():
    command = (
        "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]);"
        "from headstart.engines.openvino_engine import available_cores; print(available_cores())"
    )
    assert subprocess.run([sys.executable, "-c", command], capture_output=True, text=True).stdout == "1\n"


@pytest.mark.parametrize(
    "files, cores",
    [
        ({}, 8),
        ({"/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/cpu.max": "max 100000\n"}, 8),
        ({"/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2),
        ({"/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/cpu.max": "150000 100000\n"}, 2),
        ({"/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/cpu.max": "5000 100000\n"}, 1),
        ({"/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/cpu.max": "9900000 100000\n"}, 8),
        ({"/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/cpu.max": "garbage\n"}, 8),
        # A service of systemd's: the limit is further in, or on the way there.
        ({"/proc/self/cgroup": "0::/user.slice/a b.service\n", "/sys/fs/cgroup/user.slice/a b.service/cpu.max": "3 1\n"}, 3),
        ({"/proc/self/cgroup": "0::/user.slice/a b.service\n", "/sys/fs/cgroup/user.slice/cpu.max": "4 1\n"}, 4),
        # A container that is told the group's name on the outside.
        ({"/proc/self/cgroup": "0::/docker/0123\n", "/sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2),
        # The first version of control groups.
        (
            {
                "/proc/self/cgroup": "5:memory:/x\n4:cpu,cpuacct:/docker/0123\n0::/\n",
                "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "250000\n",
                "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            3,
        ),
        (
            {
                "/proc/self/cgroup": "4:cpu:/\n",
                "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            8,
        ),
    ],
)
def test_a_control_groups_quota_is_respected(files, cores, monkeypatch):
    def read_text(path):
        if path.as_posix() not in files:
            raise FileNotFoundError(2, "No such file or directory", str(path))
        return files[path.as_posix()]

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(Path, "read_text", read_text)
    assert available_cores() == cores


# ---- nothing leaves the machine

WATCHED = """
import os, socket, sys
from pathlib import Path

def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto", "socket.gethostbyname", "subprocess.Popen"):
        print("LEAK", event, arguments, flush=True)
        os._exit(1)

sys.addaudithook(refuse)
import numpy as np
from headstart.backbones.find import BackboneSpec, find_backbone
from headstart.engines.openvino_engine import OpenVINOEngine
backbone = find_backbone(BackboneSpec({network!r}), Path({cache!r}))
codes = OpenVINOEngine(backbone.network).infer(np.zeros((32, 32, 3), np.uint8))["codes"]
assert not any(name.startswith("openvino_telemetry") for name in sys.modules)
print("codes", len(codes))
"""


def test_nothing_leaves_the_machine(tiny_onnx, tmp_path):
    """OpenVINO's import tells Google Analytics, where there is a home folder, unless it is kept from it or sees CI."""
    home = tmp_path / "home"
    home.mkdir()
    unlike_ci = {k: v for k, v in os.environ.items() if k not in ("CI", "TF_BUILD", "JENKINS_URL")}
    done = subprocess.run(
        [sys.executable, "-c", WATCHED.format(network=str(tiny_onnx), cache=str(tmp_path / "cache"))],
        env={**unlike_ci, "HOME": str(home), "LOCALAPPDATA": str(home)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("codes 48\n", "")
    assert list(home.rglob("*")) == []
