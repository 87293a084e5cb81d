"""The default backbone's weights: read without torch and without trusting them, and the network is the right one."""

import os
import pickle
import struct
import sys
import types
from collections import OrderedDict
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from headstart.backbones.builtin import BACKBONES, is_installed, lite_weights
from headstart.backbones.efficientnet_lite import MAGIC, build_network, imagenet_layer, read_weights
from headstart.backbones.find import BackboneSpec, find_backbone
from headstart.classifier.imagenet import imagenet_classes
from headstart.data.images import load_image
from headstart.errors import BackboneError

EVERY_LITE = [
    pytest.param(row, id=row.name, marks=pytest.mark.skipif(not is_installed(row), reason=f"{row.package} is not installed"))
    for row in BACKBONES.values()
]
# The three highest codes of synthetic(), and the mean of all, at f32.
GOLDEN = {
    "efficientnet-lite0": ({113: 4.6751, 468: 3.8676, 897: 3.2485}, 0.06447),
    "efficientnet-lite1": ({404: 4.2880, 1200: 4.1396, 667: 3.4768}, 0.14603),
    "efficientnet-lite2": ({302: 4.6470, 942: 3.3681, 749: 3.0617}, 0.08272),
}


def synthetic(size):
    """Two ramps and a chessboard."""
    down, across = np.mgrid[:size, :size]
    board = (down // 16 + across // 16) % 2 * 255
    return np.stack([down * 255 // (size - 1), across * 255 // (size - 1), board], axis=2).astype(np.uint8)


@pytest.fixture(scope="module")
def codes_of(tmp_path_factory):
    """A Lite row's codes of one (size, size, 3) picture, computed by ONNX Runtime."""
    folder, sessions = tmp_path_factory.mktemp("lite"), {}

    def run(row, pixels):
        if row.name not in sessions:
            network = find_backbone(BackboneSpec(row.name), folder).network
            sessions[row.name] = onnxruntime.InferenceSession(network)
        return sessions[row.name].run(None, {"image": pixels[None]})[0][0]

    return run


@pytest.mark.parametrize("row", EVERY_LITE)
def test_codes_are_those_that_were_recorded(row, codes_of):
    values, mean = GOLDEN[row.name]
    codes = codes_of(row, synthetic(row.size))
    assert codes.shape == (row.n_codes,)
    assert codes[list(values)] == pytest.approx(np.array(list(values.values())), abs=1e-3)
    assert codes.mean() == pytest.approx(mean, abs=1e-4)


@pytest.mark.parametrize("row", EVERY_LITE)
@pytest.mark.parametrize(
    "picture, answers",
    [("chelsea", {"tabby", "tiger cat", "Egyptian cat"}), ("coffee", {"espresso"})],
)
def test_real_photos_are_what_they_show(row, picture, answers, codes_of, tmp_path):
    photo = getattr(pytest.importorskip("skimage.data"), picture)()
    weight, bias = imagenet_layer(lite_weights(row))
    pixels = load_image(photo, find_backbone(BackboneSpec(row.name), tmp_path).preprocess)
    logits = codes_of(row, pixels) @ weight + bias
    classes = imagenet_classes()
    assert len(classes) == len(logits) == 1000
    assert {classes[i] for i in np.argsort(-logits)[: len(answers)]} == answers


def test_weights_of_another_network_are_refused():
    weights = lite_weights(BACKBONES["efficientnet-lite0"])
    with pytest.raises(BackboneError, match="lack '_blocks.16"):
        build_network(weights, depth=1.1)
    with pytest.raises(BackboneError, match="more blocks"):
        build_network(weights, depth=0.5)


# ---- the file format


class Stored:
    """A storage as torch's pickles name it: by key, type and length, its numbers elsewhere in the file."""

    def __init__(self, key, numbers):
        self.key, self.numbers = key, numbers


class Tensor:
    def __init__(self, stored, offset, shape, strides):
        self.arguments = (stored, offset, shape, strides, False, OrderedDict())

    def __reduce__(self):
        return _rebuild_tensor_v2, self.arguments


def _rebuild_tensor_v2(*_): ...


_rebuild_tensor_v2.__module__ = "torch._utils"


class Pickler(pickle.Pickler):
    def persistent_id(self, value):
        if not isinstance(value, Stored):
            return None
        kind = {"<f4": "FloatStorage", "<i8": "LongStorage", "<f8": "DoubleStorage"}[value.numbers.dtype.str]
        return ("storage", getattr(sys.modules["torch"], kind), value.key, "cpu", value.numbers.size, None)


@pytest.fixture
def write_pth(tmp_path, monkeypatch):
    """Writes a file as torch.save did before 1.6, by a torch that has nothing but the names in it."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in ("FloatStorage", "LongStorage", "DoubleStorage"):
        setattr(torch, name, type(name, (), {"__module__": "torch"}))
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)

    def write(tensors, *stored, magic=MAGIC) -> Path:
        path = tmp_path / "weights.pth"
        with path.open("wb") as file:
            for part in (magic, 1001, {"little_endian": True}, tensors, [s.key for s in stored]):
                Pickler(file, protocol=2).dump(part)
            for s in stored:
                file.write(struct.pack("<q", s.numbers.size) + s.numbers.tobytes())
        return path

    return write


def small_file(write_pth):
    numbers, counts = Stored("a", np.arange(10, dtype="<f4")), Stored("b", np.array([7], "<i8"))
    tensors = OrderedDict(
        plain=Tensor(numbers, 0, (2, 3), (3, 1)),
        transposed=Tensor(numbers, 0, (3, 2), (1, 3)),
        part=Tensor(numbers, 6, (4,), (1,)),
        count=Tensor(counts, 0, (), ()),
    )
    return write_pth(tensors, numbers, counts)


def test_a_tensor_is_read_by_its_strides(write_pth):
    weights = read_weights(small_file(write_pth))
    assert weights["plain"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert weights["transposed"].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert weights["part"].tolist() == [6, 7, 8, 9]
    assert weights["count"] == 7
    assert weights["plain"].dtype == np.float32


def test_a_tensor_outside_its_storage_is_refused(write_pth):
    numbers = Stored("a", np.arange(10, dtype="<f4"))
    for offset, shape, strides in [
        (0, (11,), (1,)),
        (8, (4,), (1,)),
        (0, (2,), (-1,)),
        (-1, (2,), (1,)),
        (0, (10**12,), (0,)),
        (0, (2, 2), (1,)),
        (0, (-3,), (1,)),
    ]:
        with pytest.raises(BackboneError, match="not a whole torch weights file"):
            read_weights(write_pth({"w": Tensor(numbers, offset, shape, strides)}, numbers))


class Command:
    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


@pytest.mark.parametrize(
    "harmful, name",
    [
        (lambda marker: Command(os.system, f"touch '{marker}'"), "system"),
        (lambda marker: Command(eval, f"open({str(marker)!r}, 'w')"), "eval"),
        (lambda marker: Command(getattr, "text", "upper"), "getattr"),
        (lambda marker: np.ones(3), "numpy"),
        (lambda marker: Path(marker), "pathlib"),
    ],
    ids=["os.system", "eval", "getattr", "numpy", "Path"],
)
def test_nothing_but_tensors_is_unpickled(harmful, name, write_pth, tmp_path):
    marker = tmp_path / "executed"
    value = harmful(marker)
    for path in (write_pth({"w": value}), write_pth({}, magic=value)):
        with pytest.raises(BackboneError, match=f"asks for .*{name}.*, which headstart never loads"):
            read_weights(path)
    assert not marker.exists()


def test_a_storage_of_another_type_is_refused(write_pth):
    numbers = Stored("a", np.arange(3, dtype="<f8"))
    with pytest.raises(BackboneError, match="torch.DoubleStorage"):
        read_weights(write_pth({"w": Tensor(numbers, 0, (3,), (1,))}, numbers))


def test_a_file_cut_short_anywhere_is_refused(write_pth, tmp_path):
    whole = small_file(write_pth).read_bytes()
    path = tmp_path / "cut.pth"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(BackboneError, match=r"cut\.pth"):
            read_weights(path)


def test_a_damaged_file_is_read_or_refused_but_nothing_else(write_pth, tmp_path):
    whole = small_file(write_pth).read_bytes()
    path, random, n_refused = tmp_path / "damaged.pth", np.random.default_rng(0), 0
    for position in range(len(whole)):
        content = bytearray(whole)
        content[position] ^= int(random.integers(1, 256))
        if content[position : position + 1] == pickle.LONG_BINPUT:
            continue  # Python's own unpickler would make a list of billions, which is slow, though it ends well
        path.write_bytes(content)
        try:
            read_weights(path)
        except BackboneError:
            n_refused += 1
    assert n_refused > len(whole) // 4


@pytest.mark.parametrize(
    "content", [b"", b"garbage", b"PK\x03\x04 a zip file, as newer torch writes", pickle.dumps({"a": 1})]
)
def test_a_file_of_another_kind_is_refused(content, tmp_path):
    path = tmp_path / "other.pth"
    path.write_bytes(content)
    with pytest.raises(BackboneError, match=r"other\.pth"):
        read_weights(path)
