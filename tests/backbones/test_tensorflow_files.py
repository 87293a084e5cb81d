"""Files of TensorFlow's become backbones that give what they gave before, or are refused with the reason.

Those of TensorFlow's own kinds are made here by TensorFlow, in a process of its own, and skipped where it is not installed.
"""

import importlib.util
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from headstart.backbones.find import BackboneSpec, find_backbone
from headstart.backbones.onnx_files import preprocess_of
from headstart.backbones.tensorflow_files import import_file as module
from headstart.backbones.tensorflow_files.import_file import import_file, recognise_kind
from headstart.backbones.tensorflow_files.rounding import without_rounding
from headstart.engines.hardware import Hardware
from headstart.engines.openvino_engine import OpenVINOEngine
from headstart.errors import BackboneError, MissingExtra

HAS_TENSORFLOW = all(importlib.util.find_spec(package) for package in ("tensorflow", "tf2onnx"))
needs_tensorflow = pytest.mark.skipif(not HAS_TENSORFLOW, reason="needs the extra tensorflow")

MAKE = """
import sys
import numpy as np
import tensorflow as tf
keras, layers, folder = tf.keras, tf.keras.layers, sys.argv[1]
keras.utils.set_random_seed(0)

def network(*first, size=32):
    return keras.Sequential([
        keras.Input((size, size, 3)), *first, layers.Conv2D(8, 3, strides=2, padding="same"), layers.BatchNormalization(),
        layers.ReLU(6.0), layers.DepthwiseConv2D(3, padding="same", name="deep"), layers.GlobalAveragePooling2D(),
    ])

plain, scaled, any_size = network(), network(layers.Rescaling(1 / 127.5, offset=-1)), network(size=None)
plain.save(f"{folder}/plain.keras")
scaled.save(f"{folder}/scaled.keras")
any_size.save(f"{folder}/any size.keras")
vgg = keras.Sequential([keras.Input((32, 32, 3)), network()], name="vgg_small")
vgg.save(f"{folder}/vgg.keras")
keras.Sequential([keras.Input((8, 8, 3)), layers.Lambda(lambda x: x * 2)]).save(f"{folder}/lambda.keras")
plain.save(f"{folder}/old.h5")

class Module(tf.Module):
    def __init__(self, function, shape=(None, 32, 32, 3), dtype=tf.float32):
        super().__init__()
        self.network = plain
        self.answer = tf.function(function, input_signature=[tf.TensorSpec(shape, dtype, name="inputs")])
    def save(self, name):
        tf.saved_model.save(self, f"{folder}/{name}", signatures={"serving_default": self.answer})

Module(lambda inputs: {"default": plain(inputs), "squares": plain(inputs) ** 2}).save("feature vector")
Module(lambda inputs: plain(tf.cast(inputs, tf.float32) / 255), dtype=tf.uint8).save("of uint8")
def reading(inputs):
    return plain(inputs) + tf.cast(tf.strings.length(tf.io.read_file("/etc/passwd")), tf.float32)
Module(reading).save("reads files")
Module(lambda inputs: tf.math.bessel_i0e(plain(inputs))).save("unsupported")
Module(lambda inputs: inputs, shape=(None, 10)).save("of rows")

class Called(tf.Module):
    def __init__(self):
        super().__init__()
        self.network = network()
    @tf.function(input_signature=[tf.TensorSpec((None, 32, 32, 3), tf.float32), tf.TensorSpec((), tf.bool)])
    def __call__(self, images, training=False):
        return self.network(images) * tf.where(training, 2.0, 1.0)
tf.saved_model.save(Called(), f"{folder}/without signature")

from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2
def freeze(function, name, *specs):
    frozen = convert_variables_to_constants_v2(tf.function(function).get_concrete_function(*specs))
    tf.io.write_graph(frozen.graph.as_graph_def(), folder, name, as_text=False)
image = tf.TensorSpec((None, 32, 32, 3), tf.float32, name="input")
freeze(lambda x: tf.nn.softmax(tf.identity(plain(x), name="features")), "frozen.pb", image)
freeze(lambda x, y: plain(x) + plain(y), "two.pb", image, tf.TensorSpec((None, 32, 32, 3), tf.float32, name="other"))
def retrain(jpeg):
    pixels = tf.expand_dims(tf.cast(tf.io.decode_jpeg(jpeg, 3), tf.float32), 0)
    resized = tf.compat.v1.image.resize_bilinear(pixels, (32, 32), name="ResizeBilinear")
    return plain((tf.ensure_shape(resized, (1, 32, 32, 3)) - 128.0) / 128.0)
freeze(retrain, "retrain.pb", tf.TensorSpec((), tf.string, name="DecodeJpeg/contents"))

random = np.random.default_rng(0)
photos = [random.integers(0, 256, (1, 32, 32, 3)).astype(np.float32) for _ in range(20)]
for name, number in {"float": None, "uint8": tf.uint8, "int8": tf.int8}.items():
    converter = tf.lite.TFLiteConverter.from_keras_model(scaled)
    if number:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([photo] for photo in photos)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = number
    open(f"{folder}/{name}.tflite", "wb").write(converter.convert())

pixels = random.integers(0, 256, (32, 32, 3)).astype(np.uint8)
x = (pixels / 255).astype(np.float32)[None]
minus_one_to_one = x * 2 - 1
called = tf.saved_model.load(f"{folder}/without signature")
np.savez(f"{folder}/expected.npz", pixels=pixels, **{
    "plain.keras": plain(minus_one_to_one), "scaled.keras": scaled(x * 255), "any size.keras": any_size(minus_one_to_one),
    "vgg.keras": vgg((x * 255)[..., ::-1] - (103.939, 116.779, 123.68)), "feature vector": plain(x), "of uint8": plain(x),
    "without signature": called(x, False), "frozen.pb": tf.nn.softmax(plain(minus_one_to_one)),
    "features": plain(minus_one_to_one), "retrain.pb": plain((x * 255 - 128) / 128), "squares": plain(x) ** 2,
    "float.tflite": scaled(x * 255), "uint8.tflite": scaled(x * 255), "int8.tflite": scaled(x * 255),
})
"""


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """A folder of every kind of file, and what each makes of one image."""
    folder = tmp_path_factory.mktemp("tensorflow")
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run([sys.executable, "-c", MAKE, str(folder)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def codes(model: onnx.ModelProto, pixels: np.ndarray, folder: Path, **options) -> np.ndarray:
    """As a backbone of headstart's, told what the model says of itself."""
    onnx.save(model, str(folder / "imported.onnx"))
    preprocess = preprocess_of(model)
    about = {"size": preprocess.size, "mean": preprocess.mean, "std": preprocess.std}
    backbone = find_backbone(BackboneSpec(str(folder / "imported.onnx"), **about, **options), folder)
    assert backbone.preprocess == preprocess
    return OpenVINOEngine(backbone.network, Hardware(precision="f32")).infer(pixels)["codes"]


# ---- every kind


@needs_tensorflow
@pytest.mark.parametrize(
    "name, options, mean, size",
    [
        ("plain.keras", {}, 0.5, 32),
        ("scaled.keras", {}, 0.0, 32),
        ("vgg.keras", {}, 123.68 / 255, 32),
        ("any size.keras", {"size": 32}, 0.5, 32),
        ("feature vector", {}, 0.0, 32),
        ("feature vector/saved_model.pb", {}, 0.0, 32),
        ("of uint8", {}, 0.0, 32),
        ("without signature", {}, 0.0, 32),
        ("frozen.pb", {}, 0.5, 32),
        ("retrain.pb", {"size": 32}, 0.0, 32),
        ("float.tflite", {"mean": (0.0,) * 3, "std": (1 / 255,) * 3}, 0.0, 32),
        ("uint8.tflite", {}, 0.0, 32),
        ("int8.tflite", {}, 0.0, 32),
    ],
)
def test_it_gives_what_it_gave_before(name, options, mean, size, made, tmp_path):
    model = import_file(made / name, **options)
    onnx.checker.check_model(model, full_check=True)
    preprocess = preprocess_of(model)
    assert (preprocess.size, preprocess.mean[0]) == (size, pytest.approx(mean))
    expected = np.load(made / "expected.npz")
    found = codes(model, expected["pixels"], tmp_path)
    wanted = expected[name.removesuffix("/saved_model.pb")][0]
    if "int8" in name:
        assert np.corrcoef(found, wanted)[0, 1] > 0.99
        assert np.abs(found - wanted).max() < 0.05 * np.abs(wanted).max()
    else:
        assert found == pytest.approx(wanted, rel=1e-3, abs=1e-4)


@needs_tensorflow
@pytest.mark.parametrize(
    "name, output, key", [("frozen.pb", "features", "features"), ("feature vector", "squares", "squares")]
)
def test_another_output_may_be_chosen(name, output, key, made, tmp_path):
    expected = np.load(made / "expected.npz")
    found = codes(import_file(made / name, output=output), expected["pixels"], tmp_path)
    assert found == pytest.approx(expected[key][0], rel=1e-3, abs=1e-4)


@needs_tensorflow
def test_a_layer_of_keras_may_be_chosen(made, tmp_path):
    model = import_file(made / "plain.keras", output="deep")
    assert codes(model, np.zeros((32, 32, 3), np.uint8), tmp_path).shape == (8,)


@needs_tensorflow
def test_what_is_said_of_a_file_is_kept(made):
    model = import_file(made / "vgg.keras", mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 3.0))
    preprocess = preprocess_of(model)
    assert (preprocess.mean, preprocess.std) == ((0.1, 0.2, 0.3), (1.0, 2.0, 3.0))
    said = {entry.key: json.loads(entry.value) for entry in model.metadata_props}["headstart.import"]
    assert (said["from"], said["kind"], said["scale"]) == ("vgg.keras", "keras", "as told")
    assert said["difference"] < 1e-3 and said["tensorflow"] and said["tf2onnx"]


@needs_tensorflow
@pytest.mark.parametrize(
    "name, options, reason",
    [
        ("lambda.keras", {}, r"lambda\.keras has a Lambda layer .*headstart executes no code from a model file"),
        ("any size.keras", {}, "does not say how large its images are; tell it with --size"),
        ("plain.keras", {"size": 64}, "takes images of 32 pixels; leave --size 64 away"),
        ("plain.keras", {"output": "deeper"}, "has no layer 'deeper'; its last layers: .*deep"),
        ("feature vector", {"output": "cubes"}, "has no output 'cubes'; its outputs: default, squares"),
        ("frozen.pb", {"output": "nothing"}, "has no tensor 'nothing'; it ends in: Identity"),
        ("reads files", {}, r"operations that reach outside the network \(ReadFile\), which headstart never runs"),
        ("unsupported", {}, "cannot be converted: ONNX has no equivalent of its operations BesselI0e"),
        ("of rows", {}, r"takes an input of shape \(None, 10\); expected images"),
        ("two.pb", {}, r"has no single input of float images; its inputs: input .*other"),
        ("float.tflite", {"output": "x"}, r"is a \.tflite file, of which every output is kept"),
    ],
)
def test_what_cannot_be_imported_is_told(name, options, reason, made):
    with pytest.raises(BackboneError, match=reason):
        import_file(made / name, **options)


@needs_tensorflow
@pytest.mark.parametrize("name", ["plain.keras", "float.tflite", "frozen.pb", "feature vector"])
def test_half_a_file_is_refused(name, made, tmp_path):
    original = made / name
    half = tmp_path / name
    if original.is_dir():
        half.mkdir()
        original, half = original / "saved_model.pb", half / "saved_model.pb"
    content = original.read_bytes()
    half.write_bytes(content[: len(content) // 2])
    with pytest.raises(BackboneError, match=name):
        import_file(tmp_path / name)


@needs_tensorflow
def test_a_conversion_that_changes_the_answer_is_refused(made, monkeypatch):
    monkeypatch.setattr(module, "TOLERANCE", -1.0)
    with pytest.raises(BackboneError, match="gives something else than before .* so it is not used"):
        import_file(made / "plain.keras")


@needs_tensorflow
@pytest.mark.shared
def test_the_quantised_mobilenet(shared, tmp_path):
    model = import_file(shared / "weights" / "mobilenet_v1_1.0_224_quant_embedding_extractor.tflite")
    preprocess = preprocess_of(model)
    assert (preprocess.size, preprocess.mean, preprocess.std) == (224, (0.0,) * 3, pytest.approx((1 / 255,) * 3))
    photo = next((shared / "data" / "alpaca").rglob("*.jpg"), None) or next((shared / "data" / "alpaca").rglob("*.png"))
    from headstart.data.images import load_image

    row = codes(model, load_image(photo, preprocess), tmp_path)
    assert row.shape == (1024,) and row.min() == 0 and row.max() > 1


# ---- without TensorFlow


@pytest.mark.parametrize(
    "name, content, reason",
    [
        ("net.onnx", b"\x08\x07", "is no file of TensorFlow's that headstart knows"),
        ("net.h5", b"\x89HDF\r\n\x1a\n", r"is one of Keras' old \.h5 files, which may run code"),
        ("net.tar.gz", b"\x1f\x8b\x08\0", "is packed; unpack it with"),
        ("empty.keras", b"", "is no file of TensorFlow's"),
    ],
)
def test_other_files_are_refused_at_once(name, content, reason, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BackboneError, match=reason):
        import_file(tmp_path / name)


def test_what_is_not_there_is_told(tmp_path):
    with pytest.raises(BackboneError, match="none.pb cannot be read: No such file"):
        import_file(tmp_path / "none.pb")
    with pytest.raises(BackboneError, match="is no SavedModel: there is no saved_model.pb in it"):
        import_file(tmp_path)


def test_a_kind_is_known_by_its_content(tmp_path):
    for name, content, kind in (("a", b"\x1c\0\0\0TFL3", "tflite"), ("b", b"PK\3\4", "keras"), ("c.pb", b"\n\1", "frozen")):
        (tmp_path / name).write_bytes(content)
        assert recognise_kind(tmp_path / name) == (tmp_path / name, kind)


def test_a_missing_tensorflow_is_an_extra(tmp_path, monkeypatch):
    (tmp_path / "a.tflite").write_bytes(b"\x1c\0\0\0TFL3")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"pip install 'headstart\[tensorflow\]'"):
        import_file(tmp_path / "a.tflite")


def keras_file(path: Path, *layers: dict) -> Path:
    config = {"class_name": "Sequential", "module": "keras", "config": {"layers": list(layers)}}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps(config))
    return path


@pytest.mark.parametrize(
    "layer",
    [
        {"class_name": "Lambda", "module": "keras.layers", "config": {}},
        {"class_name": "Mine", "module": "my_layers", "config": {}},
        {"class_name": "function", "module": "builtins", "config": "eval"},
        {"class_name": "get_file", "module": "keras.utils", "config": {}},
        {"class_name": "get_file", "module": "keras.src.utils.file_utils", "config": {}},
        {"class_name": "TorchModuleWrapper", "module": "keras.layers", "config": {}},
        {"class_name": "Dense", "module": "keras.layers", "config": {"activation": {"class_name": "x", "module": "os"}}},
    ],
)
def test_code_in_a_keras_file_is_refused_before_keras_sees_it(layer, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(module, "_run_worker", lambda *_: pytest.fail("it was loaded"))
    with pytest.raises(BackboneError, match="headstart executes no code from a model file"):
        import_file(keras_file(tmp_path / "net.keras", layer))


def test_a_damaged_keras_file_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    (tmp_path / "net.keras").write_bytes(b"PK\3\4 and no more")
    with pytest.raises(BackboneError, match="is no whole .keras file"):
        import_file(tmp_path / "net.keras")


@pytest.mark.parametrize("number, dtype", [(TensorProto.UINT8, np.uint8), (TensorProto.INT8, np.int8)])
@pytest.mark.parametrize("is_turned", [False, True])
def test_eight_bits_become_floats_that_saturate_as_before(number, dtype, is_turned):
    """Against ONNX Runtime on the 8-bit network itself, pixels in, numbers out."""
    random = np.random.default_rng(0)
    zero = {"uint8": 128, "int8": 0}[np.dtype(dtype).name]
    constants = {
        "input_step": np.float32(1 / 127.5),
        "zero": dtype(zero),
        "kernel": random.integers(-127, 128, (4, 3, 1, 1)).astype(np.int8),
        "kernel_step": np.array([0.01, 0.02, 0.015, 0.005], np.float32),
        "kernel_zero": np.zeros(4, np.int8),
        "step": np.float32(0.01),
        "low": dtype(np.iinfo(dtype).min),
    }
    node = helper.make_node
    first = [node("Transpose", ["image"], ["turned"], perm=[0, 3, 1, 2])] if is_turned else []
    x = "turned" if is_turned else "image"
    nodes = [
        *first,
        node("DequantizeLinear", [x, "input_step", "zero"], ["x"]),
        node("DequantizeLinear", ["kernel", "kernel_step", "kernel_zero"], ["w"], axis=0),
        *([] if is_turned else [node("Transpose", ["x"], ["x1"], perm=[0, 3, 1, 2])]),
        node("Conv", ["x" if is_turned else "x1", "w"], ["y"]),
        node("QuantizeLinear", ["y", "step", "low"], ["q"]),  # cuts off at 0 and at 2.55
        node("DequantizeLinear", ["q", "step", "low"], ["d"]),
        node("GlobalAveragePool", ["d"], ["p"]),
        node("Flatten", ["p"], ["codes"]),
    ]
    graph = helper.make_graph(
        nodes,
        "eight bits",
        [helper.make_tensor_value_info("image", number, ["n", 8, 8, 3])],
        [helper.make_tensor_value_info("codes", TensorProto.FLOAT, ["n", 4])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    pixels = random.integers(0, 256, (2, 8, 8, 3))
    given = (pixels - (128 if dtype is np.int8 else 0)).astype(dtype)
    (expected,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"image": given})
    model = without_rounding(model)
    onnx.checker.check_model(model, full_check=True)
    assert not [node for node in model.graph.node if "Quantize" in node.op_type]
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (found,) = session.run(None, {"image": pixels.astype(np.float32)})
    assert found == pytest.approx(expected, abs=0.005)
    assert expected.min() >= 0


def test_what_a_model_does_not_say_is_none(tiny_onnx, tmp_path):
    model = onnx.load(str(tiny_onnx))
    assert preprocess_of(model) is None
    for content in ("", "[]", '{"size": 3}', '{"size": 0, "mean": [0, 0, 0], "std": [1, 1, 1]}'):
        del model.metadata_props[:]
        model.metadata_props.add(key="headstart.preprocess", value=content)
        with pytest.raises(BackboneError, match=r"headstart\.preprocess cannot be read"):
            preprocess_of(model)


def test_tensorflow_is_not_imported_by_the_module():
    module = "headstart.backbones.tensorflow_files.import_file"
    code = f"import sys, {module}\nprint({{'tensorflow', 'keras', 'tf2onnx'}} & {{*sys.modules}})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"
