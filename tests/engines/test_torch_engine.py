"""On a GPU the codes are those of the CPU. Here torch runs on the CPU, which is the same path but for the transfers."""

import itertools
import logging
import os
import subprocess
import sys
import threading

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from headstart.backbones.find import BackboneSpec, find_backbone
from headstart.engines.engine import open_engine
from headstart.engines.hardware import Hardware
from headstart.engines.openvino_engine import OpenVINOEngine
from headstart.engines.torch_engine import TorchEngine
from headstart.errors import BackboneError, HeadstartError, MissingExtra
from support.networks import write_tiny_backbone
from support.photos import picture

torch = pytest.importorskip("torch")
HERE = Hardware(device="torch-cpu", threads=2)


def to_torch(network, batch, dtype=None):
    from headstart.engines.torch_graph import to_torch

    return to_torch(network, batch, dtype or torch.float32)


# ---- one operation after the other, against ONNX Runtime


def network(nodes, weights=None, opset=17, size=8) -> onnx.ModelProto:
    """Standard form around nodes that make `y` of `x`, (n, 3, size, size) in about [-1, 1]."""
    front = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["pixels", "scale"], ["scaled"]),
        helper.make_node("Sub", ["scaled", "one"], ["centred"]),
        helper.make_node("Transpose", ["centred"], ["x"], perm=[0, 3, 1, 2]),
    ]
    weights = {"scale": np.float32(1 / 127.5), "one": np.float32(1), **(weights or {})}
    graph = helper.make_graph(
        [*front, *nodes, helper.make_node("Flatten", ["y"], ["codes"], axis=1)],
        "standard",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", size, size, 3])],
        [helper.make_tensor_value_info("codes", TensorProto.FLOAT, ["n", "d"])],
        [numpy_helper.from_array(np.asarray(w), name) for name, w in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def weight(*shape):
    return np.random.default_rng(sum(shape)).normal(0, 0.5, shape).astype(np.float32)


def ints(*values):
    return np.array(values, np.int64)


def n(operation, *inputs, out="y", **attributes):
    return helper.make_node(operation, list(inputs), out if isinstance(out, list) else [out], **attributes)


K, DEPTHWISE = {"k": weight(4, 3, 3, 3), "b": weight(4)}, {"k": weight(6, 1, 3, 3)}
ROW = n("GlobalAveragePool", "x", out="p"), n("Flatten", "p", out="row")
CASES = {
    "Conv": ([n("Conv", "x", "k", "b", pads=[1, 1, 1, 1])], K),
    "Conv stride, uneven pads": ([n("Conv", "x", "k", pads=[0, 0, 1, 1], strides=[2, 2])], K),
    "Conv SAME_UPPER": ([n("Conv", "x", "k", auto_pad="SAME_UPPER", strides=[2, 2])], K),
    "Conv SAME_LOWER": ([n("Conv", "x", "k", auto_pad="SAME_LOWER", strides=[2, 2])], K),
    "Conv VALID dilated": ([n("Conv", "x", "k", auto_pad="VALID", dilations=[2, 2])], K),
    "Conv groups": ([n("Conv", "x", "k", group=3)], DEPTHWISE),
    "MaxPool": ([n("MaxPool", "x", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])],),
    "MaxPool uneven": ([n("MaxPool", "x", kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1])],),
    "MaxPool SAME_UPPER": ([n("MaxPool", "x", kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER")],),
    "MaxPool ceil": ([n("MaxPool", "x", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)],),
    "AveragePool": ([n("AveragePool", "x", kernel_shape=[2, 2], strides=[2, 2])],),
    "AveragePool padded": ([n("AveragePool", "x", kernel_shape=[3, 3], pads=[1, 1, 1, 1])],),
    "AveragePool uneven": ([n("AveragePool", "x", kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER")],),
    "AveragePool counting pads": ([n("AveragePool", "x", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1)],),
    "GlobalAveragePool": ([n("GlobalAveragePool", "x")],),
    "GlobalMaxPool": ([n("GlobalMaxPool", "x")],),
    "BatchNormalization": (
        [n("BatchNormalization", "x", "g", "b", "m", "v", epsilon=1e-3)],
        {"g": weight(3), "b": weight(3), "m": weight(3), "v": weight(3) ** 2},
    ),
    "InstanceNormalization": ([n("InstanceNormalization", "x", "g", "b")], {"g": weight(3), "b": weight(3)}),
    "LayerNormalization": ([n("LayerNormalization", "x", "g", "b", axis=-1)], {"g": weight(8), "b": weight(8)}),
    "LayerNormalization of two axes": ([n("LayerNormalization", "x", "g", axis=2)], {"g": weight(8, 8)}),
    "LRN": ([n("LRN", "x", size=3, alpha=0.1, beta=0.7, bias=2.0)],),
    "Clip": ([n("Clip", "x", "low", "high")], {"low": np.float32(-0.2), "high": np.float32(0.4)}),
    "Clip below": ([n("Clip", "x", "low")], {"low": np.float32(-0.2)}),
    "Clip by attributes": ([n("Clip", "x", min=-0.5, max=0.1)], None, 7),
    "Pow": ([n("Pow", "x", "two")], {"two": np.float32(2)}),
    "Sqrt, Abs, Log, Exp": ([n("Exp", "x", out="e"), n("Log", "e", out="l"), n("Abs", "l", out="a"), n("Sqrt", "a")],),
    "Erf": ([n("Erf", "x")],),
    "Gelu": ([n("Gelu", "x")], None, 20),
    "Gelu tanh": ([n("Gelu", "x", approximate="tanh")], None, 20),
    "HardSwish": ([n("HardSwish", "x")],),
    "HardSigmoid": ([n("HardSigmoid", "x", alpha=0.3, beta=0.4)],),
    "LeakyRelu": ([n("LeakyRelu", "x", alpha=0.3)],),
    "Elu": ([n("Elu", "x", alpha=0.5)],),
    "PRelu": ([n("PRelu", "x", "slope")], {"slope": weight(3, 1, 1)}),
    **{name: ([n(name, "x")],) for name in ("Relu", "Sigmoid", "Tanh", "Neg", "Selu", "Softplus", "Identity", "Round")},
    "Mish": ([n("Mish", "x")], None, 18),
    "Reciprocal": ([n("Exp", "x", out="e"), n("Reciprocal", "e")],),
    "Add, Sub, Mul, Div": (
        [n("Add", "x", "c", out="a"), n("Mul", "a", "c", out="m"), n("Sub", "m", "x", out="s"), n("Div", "s", "two")],
        {"c": weight(3, 1, 1), "two": np.float32(2)},
    ),
    "Min, Max, Sum": (
        [n("Max", "x", "c", out="a"), n("Min", "a", "c", "x", out="b"), n("Sum", "a", "b")],
        {"c": weight(3, 1, 1)},
    ),
    "Where": (
        [
            n("Greater", "x", "c", out="g"),
            n("Less", "x", "c", out="l"),
            n("Where", "g", "x", "c", out="w"),
            n("Where", "l", "c", "w"),
        ],
        {"c": np.float32(0)},
    ),
    "Softmax": ([n("Softmax", "x", axis=1)],),
    "Softmax of old": ([n("Softmax", "x", axis=2)], None, 11),
    "MatMul": ([n("MatMul", "x", "w")], {"w": weight(8, 5)}),
    "MatMul of two": ([n("Transpose", "x", out="t", perm=[0, 1, 3, 2]), n("MatMul", "x", "t")],),
    "Gemm": ([*ROW, n("Gemm", "row", "w", "b", alpha=0.5, beta=2.0, transB=1)], {"w": weight(5, 3), "b": weight(5)}),
    "Einsum": ([n("Einsum", "x", "w", equation="nchw,cd->ndhw")], {"w": weight(3, 5)}),
    "ReduceMean by attribute": ([n("ReduceMean", "x", axes=[2, 3], keepdims=0)],),
    "ReduceMean by input": ([n("ReduceMean", "x", "axes")], {"axes": ints(-1)}, 18),
    "ReduceSum": ([n("ReduceSum", "x", "axes", keepdims=0)], {"axes": ints(1)}),
    "LpNormalization": ([*ROW, n("LpNormalization", "row", axis=1, p=2)],),
    "ReduceSumSquare": ([n("ReduceSumSquare", "x", axes=[1], keepdims=1)],),
    "ReduceLogSumExp": ([n("ReduceLogSumExp", "x", axes=[1], keepdims=1)],),
    "TopK": ([n("TopK", "x", "k", axis=1, out=["y", "places"])], {"k": ints(2)}),
    "ReduceMax, ReduceMin": ([n("ReduceMax", "x", axes=[1], out="m"), n("ReduceMin", "m", axes=[2])],),
    "ReduceL2": ([n("ReduceL2", "x", axes=[1])],),
    "Reshape": ([n("Reshape", "x", "shape")], {"shape": ints(0, -1, 4)}),
    "Reshape by shape": (
        [
            n("Shape", "x", out="all"),
            n("Gather", "all", "first", out="count"),
            n("Concat", "count", "rest", out="shape", axis=0),
            n("Reshape", "x", "shape"),
        ],
        {"first": ints(0), "rest": ints(-1)},
    ),
    "Squeeze, Unsqueeze": (
        [n("Unsqueeze", "x", "axes", out="u"), n("Squeeze", "u", "axes")],
        {"axes": ints(1, -1)},
    ),
    "Squeeze, Unsqueeze of old": ([n("Unsqueeze", "x", axes=[1], out="u"), n("Squeeze", "u", axes=[1])], None, 11),
    "Concat": ([n("Concat", "x", "x", axis=-3)],),
    "Split": ([n("Split", "x", "sizes", out=["a", "b"], axis=1), n("Concat", "b", "a", axis=1)], {"sizes": ints(1, 2)}),
    "Split evenly": ([n("Split", "x", out=["a", "b", "c"], axis=1), n("Concat", "c", "b", "a", axis=1)],),
    "Slice": (
        [n("Slice", "x", "from", "to", "axes", "steps")],
        {"from": ints(1, -1), "to": ints(100, -9), "axes": ints(2, 3), "steps": ints(2, -1)},
    ),
    "Slice of old": ([n("Slice", "x", starts=[1], ends=[3], axes=[1])], None, 9),
    "Gather": ([n("Gather", "x", "i", axis=1)], {"i": ints(2, -3, 2)}),
    "Gather one": ([n("Gather", "x", "i", axis=2)], {"i": np.int64(-1)}),
    "Pad": ([n("Pad", "x", "pads", "value")], {"pads": ints(0, 0, 1, 2, 0, 0, 3, 0), "value": np.float32(0.5)}),
    "Pad edge": ([n("Pad", "x", "pads", mode="edge")], {"pads": ints(0, 0, 1, 2, 0, 0, 3, 0)}),
    "Pad reflect": ([n("Pad", "x", "pads", mode="reflect")], {"pads": ints(0, 0, 1, 2, 0, 0, 3, 0)}),
    "Pad of old": ([n("Pad", "x", pads=[0, 0, 1, 1, 0, 0, 0, 2], value=0.1)], None, 10),
    "Expand": ([*ROW, n("Unsqueeze", "row", "a", out="u"), n("Expand", "u", "s")], {"a": ints(2), "s": ints(1, 1, 4)}),
    "Flatten": ([n("Flatten", "x", axis=1)],),
    "Transpose": ([n("Transpose", "x", perm=[0, 2, 3, 1])],),
    "Dropout": ([n("Dropout", "x")],),
    "Cast to half and back": ([n("Cast", "x", out="h", to=10), n("Cast", "h", to=1)],),
    "Cast to whole numbers": (
        [n("Mul", "x", "c", out="m"), n("Cast", "m", out="i", to=6), n("Cast", "i", to=1)],
        {"c": np.float32(9)},
    ),
    "Equal": ([n("Round", "x", out="r"), n("Equal", "r", "c", out="e"), n("Cast", "e", to=1)], {"c": np.float32(0)}),
    "Constant": ([helper.make_node("Constant", [], ["c"], value_float=0.25), n("Mul", "x", "c")],),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_an_operation_gives_what_onnx_runtime_gives(case):
    nodes, weights, opset = (*case, *(None, 17)[len(case) - 1 :])
    model = network(nodes, weights, opset)
    images = np.random.default_rng(3).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    (expected,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"image": images})
    with torch.inference_mode():
        (codes,) = to_torch(model, 2)(torch.from_numpy(images))
        (about,) = to_torch(model, 2, torch.bfloat16)(torch.from_numpy(images))
    assert codes.dtype == about.dtype == torch.float32
    tolerance = 1e-3 if nodes[0].op_type == "Cast" else 1e-5  # half: we keep what the file would round
    assert codes.numpy() == pytest.approx(expected, rel=tolerance, abs=tolerance)
    assert np.abs(about.numpy() - expected).max() <= 0.04 * max(1, np.abs(expected).max())


def test_every_operation_is_tested():
    from headstart.engines.torch_operations import OPERATIONS

    tested = {node.op_type for case in CASES.values() for node in case[0]} | {"Cast", "Mul", "Sub", "Transpose"}
    assert not set(OPERATIONS) - tested


@pytest.mark.parametrize(
    "nodes, reason",
    [
        ([n("Sin", "x")], "^Sin$"),
        ([n("AveragePool", "x", kernel_shape=[3, 3], ceil_mode=1)], r"^AveragePool \(ceil_mode\)"),
        ([n("Pad", "x", "pads", mode="wrap")], "^Pad"),
    ],
)
def test_an_operation_that_torch_is_not_trusted_with_is_named(nodes, reason):
    from headstart.engines.torch_graph import UnknownOperation

    with pytest.raises(UnknownOperation, match=reason):
        to_torch(network(nodes, {"pads": ints(0, 0, 1, 0, 0, 0, 0, 0)}), 2)


# ---- whole networks


def pixels(seed, size=32):
    return picture((120, 90, 200), seed, (size, size))


@pytest.fixture(scope="module")
def lite0(tmp_path_factory):
    return find_backbone(BackboneSpec("efficientnet-lite0"), tmp_path_factory.mktemp("lite0"))


def test_the_codes_are_those_of_the_cpu(lite0):
    images = [pixels(seed, 224) for seed in range(5)]
    cpu = OpenVINOEngine(lite0.network, Hardware(precision="f32"))
    engine = TorchEngine(lite0.network, HERE, batch=2)
    assert (engine.outputs, engine.batch, engine.device, engine.threads) == (cpu.outputs, 2, "TORCH-CPU", 2)
    for result in engine.stream(range(5), lambda _, i: images[i]):
        expected, alone = cpu.infer(images[result.item]), engine.infer(images[result.item])
        assert list(result.outputs) == cpu.outputs
        for name, row in result.outputs.items():
            assert row.dtype == np.float32
            assert np.abs(row - expected[name]).max() <= 1e-3 * np.abs(expected[name]).max()
            assert alone[name] == pytest.approx(row, abs=1e-4)


def test_sixteen_bits_are_the_same_picture(lite0):
    images = np.stack([pixels(seed, 224) for seed in range(2)])
    model = onnx.load_from_string(lite0.network)
    with torch.inference_mode():
        exact, about = (to_torch(model, 2, dtype)(torch.from_numpy(images))[0] for dtype in (torch.float32, torch.bfloat16))
    assert np.corrcoef(exact.numpy().ravel(), about.numpy().ravel())[0, 1] > 0.99


@pytest.mark.shared
def test_a_network_that_computes_its_shapes(shared, tmp_path):
    backbone = find_backbone(BackboneSpec(str(shared / "weights" / "mobilenet_v2_1.0_224.onnx")), tmp_path)
    expected = OpenVINOEngine(backbone.network, Hardware(precision="f32")).infer(pixels(1, 224))["codes"]
    codes = TorchEngine(backbone.network, HERE).infer(pixels(1, 224))["codes"]
    assert np.abs(codes - expected).max() <= 1e-3 * np.abs(expected).max()


def test_a_network_for_one_image_only_is_run_one_by_one(tmp_path):
    fixed = find_backbone(BackboneSpec(str(write_tiny_backbone(tmp_path / "fixed.onnx", batch=1))), tmp_path)
    written_in = network([n("Reshape", "x", "shape")], {"shape": ints(1, -1)}).SerializeToString()
    for model, size in ((fixed.network, 32), (written_in, 8)):
        engine = TorchEngine(model, HERE)
        assert engine.batch == 1
        results = list(engine.stream(range(5), lambda _, i, size=size: pixels(i, size)))
        for result in results:
            assert result.outputs["codes"] == pytest.approx(engine.infer(pixels(result.item, size))["codes"])


def test_every_output_is_given(tiny):
    model = onnx.load_from_string(tiny.network)
    model.graph.node.append(helper.make_node("Relu", ["codes"], ["more"]))
    model.graph.output.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, ["n", 48]))
    engine = TorchEngine(model.SerializeToString(), HERE)
    assert engine.outputs == ["codes", "more"]
    outputs = engine.infer(pixels(0))
    assert (outputs["more"] == np.maximum(outputs["codes"], 0)).all()


# ---- the stream


@pytest.fixture
def engine(tiny):
    return TorchEngine(tiny.network, HERE, batch=4)


@pytest.mark.parametrize("n_images", [0, 1, 3, 4, 5, 8, 50])
@pytest.mark.parametrize("chunk", [1, 8])
def test_order_and_answers_are_those_of_one_by_one(n_images, chunk, engine):
    results = list(engine.stream(range(n_images), lambda _, i: pixels(i), chunk=chunk))
    assert [(r.index, r.item) for r in results] == [(i, i) for i in range(n_images)]
    for result in results:
        assert result.outputs["codes"] == pytest.approx(engine.infer(pixels(result.item))["codes"], abs=1e-6)
        assert result.instead is None


@pytest.mark.parametrize("seed", range(5))
def test_what_is_no_picture_is_passed_through_in_its_place(seed, engine):
    random = np.random.default_rng(seed)
    known = np.arange(48, dtype=np.float16)
    items = [("failure", known, None)[random.integers(3)] if random.random() < 0.6 else pixels(i) for i in range(60)]
    results = list(engine.stream(items, lambda _, item: item))
    assert [r.index for r in results] == list(range(60))
    for item, result in zip(items, results, strict=True):
        is_picture = isinstance(item, np.ndarray) and item.dtype == np.uint8
        assert (result.outputs is not None) == is_picture
        assert is_picture or result.instead is item


def test_items_without_an_end_are_answered_as_they_come(engine):
    stream = engine.stream(itertools.count(), lambda _, i: pixels(i))
    assert [next(stream).index for _ in range(30)] == list(range(30))
    stream.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("headstart-")]


def test_a_load_that_fails_ends_the_stream(engine):
    def load(_, item):
        raise HeadstartError("no")

    with pytest.raises(HeadstartError, match="^no$"):
        list(engine.stream(range(10), load))


def test_the_network_alone_is_measured(engine):
    assert engine.images_per_second() > 100


def test_a_compiler_that_fails_costs_nothing_but_speed(engine, monkeypatch, caplog):
    def fails(module):
        raise RuntimeError("no compiler")

    before = engine.infer(pixels(0))["codes"]
    monkeypatch.setattr(torch, "compile", lambda module: lambda images: fails(module))
    assert not engine.compile()
    assert "it runs uncompiled" in caplog.text
    assert (engine.infer(pixels(0))["codes"] == before).all()
    assert len(list(engine.stream(range(9), lambda _, i: pixels(i)))) == 9


def test_long_jobs_are_compiled_and_short_ones_not(engine, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda module: compiled.append(module) or module)
    list(engine.stream(range(9), lambda _, i: pixels(i)))
    assert not compiled
    monkeypatch.setattr("headstart.engines.torch_engine.COMPILE_FROM", 9)
    assert len(list(engine.stream(range(9), lambda _, i: pixels(i)))) == 9
    assert len(compiled) == 1


# ---- out of memory


def short_of_memory(engine, monkeypatch, n_fit):
    """Make a device on which batches of more than n_fit images do not fit."""
    ask = engine._module

    def module(batch):
        run = ask(batch)

        def refuse(images):
            if batch > n_fit:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
            return run(images)

        return refuse

    monkeypatch.setattr(engine, "_module", module)


def test_out_of_memory_halves_the_batch_and_goes_on(tiny, monkeypatch, caplog):
    engine = TorchEngine(tiny.network, HERE, batch=16)
    expected = [engine.infer(pixels(i))["codes"] for i in range(40)]
    short_of_memory(engine, monkeypatch, n_fit=3)
    with caplog.at_level(logging.WARNING):
        results = list(engine.stream(range(40), lambda _, i: pixels(i)))
    assert engine.batch == 2
    assert [r.item for r in results] == list(range(40))
    assert np.array([r.outputs["codes"] for r in results]) == pytest.approx(np.array(expected), abs=1e-6)
    assert [r.getMessage().split("for ")[1] for r in caplog.records] == [
        "16 images at a time; going on with 8",
        "8 images at a time; going on with 4",
        "4 images at a time; going on with 2",
    ]


def test_no_memory_for_one_image_says_what_to_lower(tiny, monkeypatch):
    engine = TorchEngine(tiny.network, HERE, batch=4)
    short_of_memory(engine, monkeypatch, n_fit=0)
    with pytest.raises(
        BackboneError, match="not enough memory for a single image of this backbone; .* smaller backbone or --size"
    ):
        list(engine.stream(range(40), lambda _, i: pixels(i)))
    with pytest.raises(BackboneError, match="not enough memory for a single image"):
        engine.infer(pixels(0))


def test_other_errors_are_not_taken_for_a_lack_of_memory(tiny, monkeypatch):
    engine = TorchEngine(tiny.network, HERE)
    with pytest.raises((RuntimeError, ValueError)):
        engine.infer(pixels(0, 30))
    assert engine.batch == 8


# ---- which engine


@pytest.mark.parametrize(
    ("device", "torchs_name"),
    [
        ("cuda", "cuda"),
        ("CUDA", "cuda"),
        ("cuda:0", "cuda:0"),
        ("cuda:1", "cuda:1"),
        ("torch-cpu", "cpu"),
        ("Torch-CPU", "cpu"),
    ],
)
def test_torchs_devices(device, torchs_name):
    assert Hardware(device).torch_device == torchs_name


@pytest.mark.parametrize("device", ["CPU", "cpu", "GPU", "GPU.1", "NPU", "AUTO", "MULTI:GPU,CPU", "", "cudaa", "torch"])
def test_other_devices_are_openvinos(device, tiny):
    assert Hardware(device).torch_device is None


def test_the_engine_is_chosen_by_the_device(tiny):
    assert isinstance(open_engine(tiny.network), OpenVINOEngine)
    engine = open_engine(tiny.network, HERE)
    assert isinstance(engine, TorchEngine)
    assert engine.infer(pixels(0))["codes"] == pytest.approx(
        OpenVINOEngine(tiny.network, Hardware(precision="f32")).infer(pixels(0))["codes"], abs=1e-5
    )


def test_a_network_that_torch_cannot_run_runs_on_the_cpu_and_says_so(caplog):
    engine = open_engine(network([n("Sin", "x")]).SerializeToString(), HERE)
    assert isinstance(engine, OpenVINOEngine)
    assert engine.device == "CPU"
    assert "cannot run on torch-cpu, for lack of Sin; it runs on the CPU" in caplog.text


@pytest.mark.parametrize("device", ["cuda:99", "cuda:x"])
def test_a_missing_gpu_is_told(device, tiny):
    with pytest.raises(BackboneError, match=f"there is no device '{device}'"):
        open_engine(tiny.network, Hardware(device=device))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_way_out_is_told(tiny):
    with pytest.raises(BackboneError, match="there is no device 'cuda' here: torch .* leave --device away to use the CPU"):
        open_engine(tiny.network, Hardware(device="cuda"))


FORKED = """
import os, sys
from pathlib import Path
import numpy as np
from headstart.backbones.find import BackboneSpec, find_backbone
from headstart.engines.openvino_engine import Hardware
from headstart.errors import BackboneError
from headstart.engines.torch_engine import TorchEngine

network = find_backbone(BackboneSpec(sys.argv[1]), Path(sys.argv[2])).network
engine = TorchEngine(network, Hardware(device="torch-cpu"))
uses = [lambda: engine.infer(np.zeros((32, 32, 3), np.uint8)), lambda: TorchEngine(network, Hardware(device="torch-cpu"))]
child = os.fork()
if child == 0:
    for use in uses:
        try:
            use()
        except BackboneError as error:
            sys.stdout.write(f"{error}\\n")
    sys.exit(0)
os.waitpid(child, 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_is_told_that_torch_does_not_work_there(tiny_onnx, tmp_path):
    command = [sys.executable, "-W", "ignore", "-c", FORKED, str(tiny_onnx), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    lines = done.stdout.splitlines()
    assert len(lines) == 2 and all("method spawn" in line for line in lines) and done.stderr == ""


def test_a_missing_torch_is_an_extra(tiny, monkeypatch):
    for name in ("torch", "headstart.engines.torch_graph", "headstart.engines.torch_operations"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtra, match=r"the device cuda .*pip install 'headstart\[torch\]'"):
        open_engine(tiny.network, Hardware(device="cuda"))
    assert isinstance(open_engine(tiny.network), OpenVINOEngine)


def test_torch_is_not_imported_by_the_module():
    code = "import sys, headstart.engines.torch_engine; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("precision, least", [("auto", 0.99), ("f32", 0.99999)])
def test_on_a_gpu_the_codes_are_those_of_the_cpu(precision, least, lite0):
    cpu = OpenVINOEngine(lite0.network, Hardware(precision="f32"))
    engine = TorchEngine(lite0.network, Hardware(device="cuda", precision=precision))
    for result in engine.stream(range(20), lambda _, i: pixels(i, 224)):
        assert np.corrcoef(result.outputs["codes"], cpu.infer(pixels(result.item, 224))["codes"])[0, 1] > least
