"""A backbone by any of its names, and what is said of its licence before it is used."""

import logging
from dataclasses import replace

import numpy as np
import pytest

from headstart.backbones import find
from headstart.backbones.backbone import MORE, WHOLE
from headstart.backbones.builtin import BACKBONES, is_installed
from headstart.backbones.find import AUTO, BackboneSpec, find_backbone, notes_on, others_like, wider_backbone
from headstart.backbones.huggingface.download import HubFile
from headstart.engines.hardware import Hardware
from headstart.engines.openvino_engine import OpenVINOEngine
from headstart.errors import BackboneError


def test_a_tutorials_name_is_the_same_backbone(tmp_path):
    assert find_backbone(BackboneSpec("efficientnet_lite0"), tmp_path) == find_backbone(BackboneSpec(), tmp_path)


@pytest.mark.parametrize("name", ["eficientnet-lite0", "mobilenet_v4", "photos/"])
def test_an_unknown_name_lists_the_near_ones_and_the_ways_to_name_one(name, tmp_path):
    with pytest.raises(BackboneError, match=r"unknown backbone .* timm:NAME .* hf:owner/repo/file\.onnx"):
        find_backbone(BackboneSpec(name), tmp_path)


def test_auto_is_the_default_and_all_that_is_installed_at_the_same_pixels(tmp_path):
    installed = {name for name, row in BACKBONES.items() if is_installed(row)}
    if len(installed) == 1:
        pytest.skip("the extra backbones is not installed, so that auto is the default alone")
    first = wider_backbone(find_backbone(BackboneSpec(AUTO), tmp_path), BackboneSpec(AUTO), tmp_path)
    others = others_like(first, tmp_path)
    assert first.name == "efficientnet-lite0" and {b.name for b in others} == installed - {"efficientnet-lite0"}
    assert {b.preprocess for b in others} == {first.preprocess}


def test_a_wider_look_sees_the_whole_photo(tmp_path):
    spec = BackboneSpec()
    usual = find_backbone(spec, tmp_path)
    more, whole = wider_backbone(usual, spec, tmp_path), wider_backbone(usual, spec, tmp_path, WHOLE)
    assert (more.preprocess.size, more.preprocess.crop) == (288, 1.0)
    assert (whole.preprocess.size, whole.preprocess.crop) == (224, 1.0)
    assert usual.widths == more.widths == whole.widths


def test_a_network_of_one_size_cannot_see_more_and_can_see_the_whole(tiny_onnx, tmp_path):
    spec = BackboneSpec(str(tiny_onnx))
    usual = find_backbone(spec, tmp_path)
    for pixels in (MORE, WHOLE):
        assert wider_backbone(usual, spec, tmp_path, pixels).preprocess == replace(usual.preprocess, crop=1.0)


def test_what_a_hubs_licence_asks_for_is_told_once_and_kept(tiny_onnx, tmp_path, monkeypatch, caplog):
    fetched = HubFile(tiny_onnx, "0" * 64, "0" * 40, "CC-BY-NC-4.0", "forbids commercial use", None)
    monkeypatch.setattr(find.download, "fetch", lambda name, cache_dir: fetched)
    with caplog.at_level(logging.WARNING):
        found = find_backbone(BackboneSpec("hf:somebody/network/model.onnx"), tmp_path)
    assert "forbids commercial use" in caplog.text and found.license == "CC-BY-NC-4.0"
    (note,) = notes_on((found,))
    assert note.startswith("hf:somebody/network/model.onnx") and "commercial" in note


def test_timms_network_is_exported_once_and_then_needs_no_torch(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    timm = pytest.importorskip("timm")
    from headstart.backbones.torch_modules import TorchNetwork

    torch.manual_seed(0)
    module = timm.create_model("mobilenetv3_small_050", pretrained=False, num_classes=0).eval()
    made = []

    def network(name):
        made.append(name)
        preprocess = find_backbone(BackboneSpec(), tmp_path).preprocess
        return TorchNetwork(name, module, replace(preprocess, size=64), 1024, "Apache-2.0", "test")

    monkeypatch.setattr(find, "torch_network", network)
    first = find_backbone(BackboneSpec("timm:mobilenetv3_small_050"), tmp_path)
    again = find_backbone(BackboneSpec("timm:mobilenetv3_small_050"), tmp_path)
    assert made == ["timm:mobilenetv3_small_050"] and first == again
    assert first.preprocess.size == 64 and first.license == "Apache-2.0" and len(first.widths) > 1
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    with torch.no_grad():
        image = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (first.preprocess.mean, first.preprocess.std))
        expected = module((image - mean) / std).numpy()[0]
    codes = OpenVINOEngine(first.network, Hardware(precision="f32")).infer(pixels)["codes"]
    assert np.abs(codes - expected).max() < 1e-3 * np.abs(expected).max()
    with pytest.raises(BackboneError, match="carries its own"):
        find_backbone(BackboneSpec("timm:mobilenetv3_small_050", size=224), tmp_path)
