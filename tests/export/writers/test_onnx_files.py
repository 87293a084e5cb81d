"""ONNX files with other weights, batches, sizes and outputs; the resize within a file against OpenCV's."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from headstart.data.images import RESAMPLING, Preprocess, crop_and_resize
from headstart.errors import ExportError
from headstart.export.writers.onnx_files import halve_weights, set_batch, take_any_size


def echo(size, version=17):
    """A network that gives its image back."""
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", size, size, 3])
    same = helper.make_tensor_value_info("same", TensorProto.UINT8, ["n", size, size, 3])
    node = helper.make_node("Identity", ["image"], ["same"])
    graph = helper.make_graph([node], "echo", [image], [same])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)], ir_version=8)


@pytest.mark.parametrize("resample", RESAMPLING)
@pytest.mark.parametrize("size, crop", [(64, 1.0), (64, 0.875), (33, 0.6)])
@pytest.mark.parametrize("shape", [(200, 301), (64, 64), (128, 300), (37, 41), (1, 5), (65, 63)])
def test_it_resizes_as_opencv_does_but_for_a_grey_level(resample, size, crop, shape):
    preprocess, model = Preprocess(size, crop=crop, resample=resample), echo(size)
    set_batch(model, 1)
    take_any_size(model, preprocess)
    onnx.checker.check_model(model)
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (resized,) = session.run(None, {"photo": pixels[None]})
    difference = np.abs(resized[0].astype(int) - crop_and_resize(pixels, preprocess))
    assert difference.max() <= 1 and (difference > 0).mean() < (0.15 if resample == "bilinear" else 0.01)


def test_an_old_network_cannot_resize():
    with pytest.raises(ExportError, match="opset 11 cannot resize"):
        take_any_size(echo(32, 11), Preprocess(32))


def test_weights_that_16_bits_cannot_hold_stay_in_32():
    model = echo(8)
    large, small = np.full(300, 1e6, np.float32), np.full(300, 0.5, np.float32)
    few = np.ones(3, np.float32)
    model.graph.initializer.extend(
        numpy_helper.from_array(array, name) for name, array in (("large", large), ("small", small), ("few", few))
    )
    halve_weights(model)
    kinds = {w.name: w.data_type for w in model.graph.initializer}
    assert kinds == {"large": TensorProto.FLOAT, "small.half": TensorProto.FLOAT16, "few": TensorProto.FLOAT}
    assert [node.op_type for node in model.graph.node] == ["Cast", "Identity"]


def test_a_network_of_one_image_at_a_time_takes_no_batch():
    model = echo(8)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    with pytest.raises(ExportError, match="one image at a time"):
        set_batch(model, None)
