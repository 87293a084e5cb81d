"""A network in two parts gives what it gave in one."""

import numpy as np
import pytest

from headstart.backbones.find import BackboneSpec, find_backbone
from headstart.engines import openvino_engine
from headstart.engines.hardware import Hardware
from headstart.engines.openvino_engine import OpenVINOEngine
from headstart.engines.openvino_split import FIRST_SHARE, HEAVY, split_model


@pytest.fixture
def lite(tmp_path):
    return find_backbone(BackboneSpec("efficientnet-lite0"), tmp_path / "backbones")


def opened(network):
    import openvino

    model = openvino.Core().read_model(network)
    model.reshape({"image": [1, 224, 224, 3]})
    return model


def test_both_parts_together_are_the_network(lite):
    import openvino

    core, image = openvino.Core(), np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3), dtype=np.uint8)
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    whole = core.compile_model(opened(lite.network), "CPU", exact)([image])
    n = sum(operation.get_type_name() in HEAVY for operation in opened(lite.network).get_ops())
    first, rest = split_model(opened(lite.network))
    n_first = sum(operation.get_type_name() in HEAVY for operation in first.get_ops())
    assert n_first == int(FIRST_SHARE * n) + 1
    between = core.compile_model(first, "CPU", exact)([image])
    answer = core.compile_model(rest, "CPU", exact)([between[i] for i in range(len(between))])
    assert len(answer) == len(whole)
    for i in range(len(whole)):
        np.testing.assert_allclose(answer[i], whole[i], rtol=1e-4, atol=1e-4)


def test_a_small_network_is_left_whole(tiny):
    import openvino

    model = openvino.Core().read_model(tiny.network)
    model.reshape({"image": [1, *tiny_shape(tiny)]})
    assert split_model(model) == (None, model)


def tiny_shape(backbone):
    return (backbone.preprocess.size, backbone.preprocess.size, 3)


def test_the_engine_splits_where_the_cpu_rounds_and_its_codes_are_nearly_exact(lite, monkeypatch):
    used = []
    monkeypatch.setattr(openvino_engine, "split_model", lambda model: used.append(1) or split_model(model))
    pixels = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    exact = OpenVINOEngine(lite.network, Hardware(precision="f32")).infer(pixels)["codes"]
    assert not used
    codes = OpenVINOEngine(lite.network).infer(pixels)["codes"]
    assert np.linalg.norm(codes - exact) < 0.03 * np.linalg.norm(exact)
