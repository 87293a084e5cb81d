"""Where codes of other depths are read, and how several networks become one."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from headstart.backbones.combine import assemble, part_names
from headstart.backbones.find import BackboneSpec, find_backbone
from headstart.backbones.layers import N_LAYERS, find_layers
from headstart.backbones.onnx_files import with_shapes
from headstart.backbones.standard_form import opset, standard_form
from headstart.data.images import Preprocess
from support.networks import DEPTHWISE_WIDTHS, write_deep_backbone
from support.photos import picture


class Net:
    """A network that is written down value by value; each method gives the name of the value that it makes."""

    def __init__(self, shape=("n", 3, 32, 32), number=TensorProto.FLOAT, opset=17) -> None:
        self.nodes, self.weights, self.shape, self.number, self.opset = [], {}, shape, number, opset
        self.rng = np.random.default_rng(0)

    def __call__(self, operation, *inputs, name=None, **attributes) -> str:
        name = name or f"{operation.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(operation, list(inputs), [name], **attributes))
        return name

    def weight(self, *shape, scale=0.3) -> str:
        name = f"w{len(self.weights)}"
        kind = np.float16 if self.number == TensorProto.FLOAT16 else np.float32
        self.weights[name] = self.rng.normal(0, scale, shape).astype(kind)
        return name

    def constant(self, values) -> str:
        self.weights[name := f"w{len(self.weights)}"] = np.array(values)
        return name

    def conv(self, x, n_in, n_out, *, size=3, stride=1, group=1, name=None) -> str:
        weight = self.weight(n_out, n_in // group, size, size)
        options = {"kernel_shape": [size] * 2, "strides": [stride] * 2, "pads": [size // 2] * 4, "group": group}
        return self("Conv", x, weight, name=name, **options)

    def pooled(self, x) -> str:
        return self("Flatten", self("GlobalAveragePool", x), name="codes", axis=1)

    def model(self, n=None, *, codes="codes") -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info("pixels", self.number, self.shape)],
            [helper.make_tensor_value_info(codes, self.number, ["n", n])],
            [numpy_helper.from_array(w, name) for name, w in self.weights.items()],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)

    def layers(self, *, size=32, channels_last=False, codes="codes") -> tuple[str, ...]:
        model = with_shapes(self.model(codes=codes), size, channels_last, "net.onnx")
        onnx.checker.check_model(model)
        return find_layers(model, codes)


# ---- where codes of other depths are read


def test_after_the_depthwise_convolutions_of_a_mobilenet():
    net = Net()
    x = net("Relu", net.conv("pixels", 3, 8))
    wanted = []
    for i in range(1, 10):
        x = net.conv(x, 8, 8, group=8)
        x = net("Clip", x) if i % 2 else net("HardSwish", x)
        wanted.append(x)
        x = net("Add", net.conv(x, 8, 8, size=1), net.conv(x, 8, 8, size=1))  # its sums are no better
    net.pooled(net("Relu", net.conv(x, 8, 32, size=1)))
    assert net.layers() == tuple(reversed(wanted[-N_LAYERS:]))


def test_normalisation_and_swish_belong_to_their_convolution():
    net, x = Net(), "pixels"
    x = net.conv(x, 3, 8)
    wanted = []
    for _ in range(3):
        x = net.conv(x, 8, 8, group=8)
        scale, shift, mean = (net.weight(8) for _ in range(3))
        variance = net.constant(np.ones(8, np.float32))
        x = net("BatchNormalization", x, scale, shift, mean, variance)
        x = net("Mul", x, net("Sigmoid", x))
        wanted.append(x)
        x = net.conv(net("Mul", x, net("Sigmoid", net("GlobalAveragePool", x))), 8, 8, size=1)  # squeeze and excite
    net.pooled(x)
    assert net.layers() == tuple(reversed(wanted))


def test_where_residual_blocks_end():
    net = Net()
    x = net("Relu", net.conv("pixels", 3, 16))
    wanted = []
    for _ in range(4):
        inner = net.conv(net("Relu", net.conv(x, 16, 16)), 16, 16)
        x = net("Relu", net("Add", net("Add", inner, net.weight(1, 16, 1, 1)), x))  # a bias is no residual
        wanted.append(x)
    net.pooled(x)
    # The last sum is what the codes are the mean of.
    assert net.layers() == tuple(reversed(wanted[:-1]))


def test_the_tokens_of_a_transformer():
    net = Net()
    x = net("Reshape", net.conv("pixels", 3, 24, stride=8), net.constant([0, 24, 16]))
    x = net("Transpose", x, perm=(0, 2, 1))
    wanted = []
    for _ in range(2):
        for _ in ("attention", "perceptron"):
            x = net("Add", x, net("MatMul", x, net.weight(24, 24)))
            wanted.append(x)
    first = net("Gather", net("Tanh", x), net.constant(0), axis=1)
    net("Identity", first, name="codes")
    assert net.layers() == tuple(reversed(wanted))


def test_where_branches_join():
    net = Net()
    x = net("Relu", net.conv("pixels", 3, 16))
    wanted = []
    for _ in range(3):
        x = net("Concat", net("Relu", net.conv(x, 16, 8)), net("Relu", net.conv(x, 16, 8, size=1)), axis=1)
        wanted.append(x)
    net.pooled(net("Relu", net.conv(x, 16, 20)))
    assert net.layers() == tuple(reversed(wanted))


def test_plain_convolutions():
    net, x, n = Net(), "pixels", 3
    wanted = []
    for n_out in (8, 16, 32, 64):
        x, n = net("Relu", net.conv(x, n, n_out, stride=2)), n_out
        wanted.append(x)
    net("Relu", net("Gemm", net("Flatten", x, axis=1), net.weight(64 * 4, 20)), name="codes")
    assert net.layers() == tuple(reversed(wanted))  # the last too: the codes are not its mean


@pytest.mark.parametrize("pool", ["GlobalAveragePool", "ReduceMean", "AveragePool"])
def test_what_the_codes_are_the_mean_of_is_not_said_again(pool):
    net, x, n = Net(), "pixels", 3
    for n_out in (8, 16, 32, 64):
        x, n = net("Relu", net.conv(x, n, n_out, stride=2), name=f"map{n_out}"), n_out
    attributes = {"ReduceMean": {"axes": [2, 3]}, "AveragePool": {"kernel_shape": [2, 2]}}.get(pool, {})
    net("Flatten", net("Identity", net(pool, x, **attributes)), name="codes")
    assert net.layers() == ("map32", "map16", "map8")


def test_a_map_that_is_the_codes_is_no_tap():
    net, x, n = Net(), "pixels", 3
    for n_out in (8, 16, 32):
        x, n = net("Relu", net.conv(x, n, n_out, stride=2), name=f"map{n_out}"), n_out
    assert net.layers(codes="map32") == ("map16", "map8")


def test_nothing_suitable():
    tiny = Net()
    tiny("Flatten", tiny("AveragePool", "pixels", kernel_shape=[8, 8], strides=[8, 8]), name="codes")
    assert tiny.layers() == ()
    narrow = Net()
    narrow.pooled(narrow.conv(narrow.conv(narrow.conv("pixels", 3, 4), 4, 4), 4, 4))  # too few channels to say anything
    assert narrow.layers() == ()
    assert find_layers(with_shapes(narrow.model(), 32, False, "net.onnx"), "no such value") == ()


def test_what_does_not_lead_to_the_codes_is_no_tap():
    net, x, n = Net(), "pixels", 3
    for n_out in (8, 16, 32):
        x, n = net("Relu", net.conv(x, n, n_out, stride=2), name=f"map{n_out}"), n_out
    net.pooled(x)
    net("Relu", net.conv(x, 32, 40), name="beside")
    assert net.layers() == ("map16", "map8")


# ---- what is read there


def standard(net, *, size=32, channels_last=False, n=None) -> onnx.ModelProto:
    model = with_shapes(net.model(n), size, channels_last, "net.onnx")
    layers = find_layers(model, "codes")
    return standard_form(model, Preprocess(size=size), codes="codes", layers=layers, channels_last=channels_last)


def answers(network, pixels) -> dict[str, np.ndarray]:
    model = network if isinstance(network, onnx.ModelProto) else onnx.load_from_string(network)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, {"image": pixels}), strict=True))


def values(net, names, pixels, *, channels_last=False, size=32) -> dict[str, np.ndarray]:
    """Values of a network as it was, of (n, size, size, 3) pixels that are normalised by hand."""
    model = with_shapes(net.model(), size, channels_last, "net.onnx")
    for name in names:
        model.graph.output.append(helper.make_empty_tensor_value_info(name))
    x = pixels / 127.5 - 1
    x = (x if channels_last else x.transpose(0, 3, 1, 2)).astype(np.float16 if net.number == 10 else np.float32)
    return dict(zip(names, onnxruntime.InferenceSession(model.SerializeToString()).run(names, {"pixels": x}), strict=True))


def noise(n=2, size=32) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def plain(**options) -> Net:
    net, x, n = Net(**options), "pixels", 3
    for n_out in (8, 16, 32):
        x, n = net("Relu", net.conv(x, n, n_out, stride=2), name=f"map{n_out}"), n_out
    net.pooled(net.conv(x, 32, 40, size=1))
    return net


@pytest.mark.parametrize("number", [TensorProto.FLOAT, TensorProto.FLOAT16], ids=["fp32", "fp16"])
def test_codes_of_a_depth_are_the_mean_of_its_map(number):
    net = plain(number=number)
    got = answers(standard(net), noise())
    raw = values(net, ["codes", "map32", "map16", "map8"], noise())
    assert list(got) == ["codes", "tap1", "tap2", "tap3"]
    assert {v.dtype for v in got.values()} == {np.dtype(np.float32)}
    for ours, theirs in zip(got.values(), raw.values(), strict=True):
        mean = theirs.astype(np.float32)
        mean = mean.mean(axis=(2, 3)) if mean.ndim == 4 else mean
        np.testing.assert_allclose(ours, mean, atol=1e-5 if number == TensorProto.FLOAT else 5e-3)


def test_a_network_of_any_size_has_the_same_taps():
    net = plain(shape=("n", 3, "h", "w"))
    assert net.layers(size=32) == net.layers(size=48) == ("map32", "map16", "map8")
    assert [v.shape for v in answers(standard(net, size=48), noise(size=48)).values()] == [(2, 40), (2, 32), (2, 16), (2, 8)]


def test_a_network_whose_channels_come_last():
    """As Keras writes them: what surrounds each convolution is (n, h, w, d)."""
    net, x, n = Net(shape=("n", 32, 32, 3)), "pixels", 3
    maps = []
    for n_out in (8, 16, 24):
        x = net("Transpose", net.conv(net("Transpose", x, perm=(0, 3, 1, 2)), n, n_out, stride=2), perm=(0, 2, 3, 1))
        x, n = net("Concat", net("Relu", x), x, axis=3), 2 * n_out
        maps.append(x)
    net("Reshape", net("ReduceMean", net("Abs", x), axes=[1, 2]), net.constant([-1, 48]), name="codes")
    assert net.layers(channels_last=True) == tuple(reversed(maps))
    got = answers(standard(net, channels_last=True), noise())
    raw = values(net, maps, noise(), channels_last=True)
    for i, name in enumerate(reversed(maps), start=1):
        np.testing.assert_allclose(got[f"tap{i}"], raw[name].mean(axis=(1, 2)), atol=1e-5)


def test_tokens_are_averaged():
    net = Net()
    x = net("Reshape", net.conv("pixels", 3, 24, stride=8), net.constant([0, 24, 16]))
    x = net("Transpose", x, perm=(0, 2, 1))
    sums = [x := net("Add", x, net("MatMul", x, net.weight(24, 24))) for _ in range(2)]
    net("Gather", x, net.constant(0), name="codes", axis=1)
    got = answers(standard(net), noise())
    for i, (name, raw) in enumerate(reversed(values(net, sums, noise()).items()), start=1):
        assert name == sums[-i]
        np.testing.assert_allclose(got[f"tap{i}"], raw.mean(axis=1), atol=1e-5)


def test_lite0_is_read_at_its_last_seven_depthwise_stages(tmp_path):
    backbone = find_backbone(BackboneSpec("efficientnet-lite0"), tmp_path)
    model = onnx.load_from_string(backbone.network)
    producers = {out: node for node in model.graph.node for out in node.output}
    kernels = {w.name: list(w.dims) for w in model.graph.initializer}
    stages = [n.output[0] for n in model.graph.node if n.op_type == "Conv" and kernels[n.input[1]][1:2] == [1]]
    read = [producers[f"net/{layer}"] for layer in backbone.layers]
    assert {node.op_type for node in read} == {"Clip"}
    assert [node.input[0] for node in read] == stages[: -N_LAYERS - 1 : -1]
    assert backbone.widths == (1280, 1152, 1152, 1152, 1152, 672, 672, 672)


# ---- several networks become one


def network_of(deep) -> onnx.ModelProto:
    return onnx.load_from_string(deep.network)


@pytest.mark.parametrize("n_outputs", [1, 2, 4, 9])
def test_what_is_not_read_is_left_out(deep, n_outputs):
    whole = assemble([network_of(deep)], n_outputs)
    read = min(n_outputs, 1 + len(DEPTHWISE_WIDTHS))
    names = {name for node in whole.graph.node for name in node.output}
    assert {f"0/tap{i}" for i in range(1, 4)} & names == {f"0/tap{i}" for i in range(1, read)}
    used = {name for node in whole.graph.node for name in node.input}
    assert {w.name for w in whole.graph.initializer} <= used
    assert names - used == {"codes"}
    got = answers(whole, noise())["codes"]
    expected = answers(network_of(deep), noise())
    np.testing.assert_allclose(got, np.hstack(list(expected.values())[:read]), atol=1e-6)


def test_layers_that_come_after_those_that_are_read_are_left_out(deep):
    """A network may be read at a tap alone, as another's last layer."""
    network = network_of(deep)
    del network.graph.output[0]
    names = {w.name for w in assemble([network], 1).graph.initializer}
    assert "0/net/depthwise3.weight" in names and "0/net/pointwise3.weight" not in names


def test_networks_stand_side_by_side(deep, tmp_path):
    path = write_deep_backbone(tmp_path / "other.onnx", seed=1)
    other = find_backbone(BackboneSpec(str(path), mean=(0.1, 0.2, 0.3)), tmp_path)
    whole = assemble([network_of(deep), network_of(other)], 2)
    each = [answers(network_of(b), noise()) for b in (deep, other)]
    expected = np.hstack([a[name] for a in each for name in ("codes", "tap1")])
    np.testing.assert_allclose(answers(whole, noise())["codes"], expected, atol=1e-6)
    assert not np.allclose(each[0]["codes"], each[1]["codes"], atol=0.01)


def test_an_image_and_its_mirror_image_are_averaged(deep):
    whole = assemble([network_of(deep)], 3, is_mirrored=True)
    pixels = noise(3)
    both = [answers(network_of(deep), p) for p in (pixels, pixels[:, :, ::-1].copy())]
    expected = np.hstack([(both[0][name] + both[1][name]) / 2 for name in ("codes", "tap1", "tap2")])
    got = answers(whole, pixels)["codes"]
    np.testing.assert_allclose(got, expected, atol=1e-5)
    for i in range(3):  # one by one as in a batch
        np.testing.assert_allclose(answers(whole, pixels[i : i + 1])["codes"], got[i : i + 1], atol=1e-5)
    np.testing.assert_allclose(answers(whole, pixels[:, :, ::-1].copy())["codes"], got, atol=1e-5)


@pytest.mark.parametrize("is_mirrored", [False, True])
def test_assembled_twice_it_is_the_same(deep, is_mirrored):
    first, second = (
        assemble([network_of(deep), network_of(deep)], 2, is_mirrored=is_mirrored).SerializeToString(deterministic=True)
        for _ in range(2)
    )
    assert first == second


def test_each_part_has_its_name(deep):
    whole = assemble([network_of(deep)], 2)
    whole.graph.output.extend(helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", None]) for n in part_names(2))
    got = answers(whole, np.stack([picture((1, 200, 30), 1, (32, 32))]))
    np.testing.assert_array_equal(np.hstack([got[n] for n in part_names(2)]), got["codes"])
    assert [got[n].shape for n in part_names(2)] == [(1, 24), (1, 16)] and opset(whole) == 17
