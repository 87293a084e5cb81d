"""Heat maps add up to the score that they explain, and lie where the evidence is."""

import numpy as np
import onnx
import pytest
from onnx import helper

from headstart.backbones.find import BackboneSpec, find_backbone
from headstart.classifier.classifier import Classifier
from headstart.classifier.explain import Explainer
from headstart.codes.representation import Representation, represent
from headstart.engines.hardware import Hardware
from headstart.heads.head import Head
from headstart.heads.kinds import HEADS
from support.photos import picture

EXACT = Hardware(precision="f32")
COLOURS = [(200, 40, 40), (40, 200, 40), (40, 40, 200)]
PICTURES = [picture(colour, seed, (32, 32)) for seed in range(15) for colour in COLOURS]
LABELS = np.tile(np.arange(3), 15)


def built(look: Representation, kind: str, strength: float = 0.01, *, widths: bool = True) -> Classifier:
    codes = represent(PICTURES, look, None).values
    fitter = HEADS[kind].fitter(codes, LABELS, 3, look.widths if widths else ())
    head = fitter.head(fitter.fit(3 if kind == "nearest" else strength))
    return Classifier.build(look, Head(**{**vars(head), "temperature": 1.3}), ["red", "green", "blue"], hardware=EXACT)


@pytest.mark.parametrize("kind", ["softmax", "class-mean", "hidden"])
@pytest.mark.parametrize("look", [{"n_layers": 1}, {"n_layers": 4}, {"n_layers": 2, "is_mirrored": True}], ids=str)
def test_the_mean_of_the_heat_and_the_constant_are_the_score(kind, look, deep):
    classifier = built(Representation((deep,), **look), kind)
    explainer = Explainer(classifier)
    for square in PICTURES[:3]:
        outputs = explainer.engine.infer(square)
        head = explainer._head
        scores = head.logits(outputs["codes"][None])[0] / head.temperature
        for label in range(3):
            heat = explainer.explain(square, label)
            assert heat.is_exact and heat.label == label
            assert heat.values.mean() + heat.constant == pytest.approx(scores[label] - scores.mean(), abs=2e-3)


def test_the_likeliest_class_is_explained_by_default(deep):
    classifier = built(Representation((deep,)), "softmax")
    (prediction,) = classifier.predict(PICTURES[1])
    heat = Explainer(classifier).explain(PICTURES[1])
    assert classifier.classes[heat.label] == prediction.prediction
    assert heat.shown.min() >= 0 and heat.shown.max() == pytest.approx(1)


@pytest.fixture
def colours(tmp_path):
    """A backbone whose codes are the mean red, green and blue of an 8 x 8 map of the photo."""
    graph = helper.make_graph(
        [
            helper.make_node("AveragePool", ["pixels"], ["small"], kernel_shape=[4, 4], strides=[4, 4]),
            helper.make_node("Relu", ["small"], ["map"]),
            helper.make_node("GlobalAveragePool", ["map"], ["mean"]),
            helper.make_node("Flatten", ["mean"], ["features"], axis=1),
        ],
        "colours",
        [helper.make_tensor_value_info("pixels", onnx.TensorProto.FLOAT, ["n", 3, 32, 32])],
        [helper.make_tensor_value_info("features", onnx.TensorProto.FLOAT, ["n", 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(tmp_path / "colours.onnx"))
    return find_backbone(BackboneSpec(str(tmp_path / "colours.onnx"), mean=(0, 0, 0), std=(1, 1, 1)), tmp_path)


@pytest.mark.parametrize("is_mirrored", [False, True])
def test_the_heat_lies_where_the_class_is(colours, is_mirrored):
    square = np.full((32, 32, 3), 30, np.uint8)
    square[8:20, :12] = COLOURS[0]  # red at the upper left alone
    explainer = Explainer(built(Representation((colours,), is_mirrored=is_mirrored), "softmax"))
    heat = explainer.explain(square, 0)
    hot = np.argwhere(heat.shown > 0.5)
    assert heat.is_exact and heat.shown.shape == (8, 8)
    assert {tuple(place) for place in hot.tolist()} == {(i, j) for i in (2, 3, 4) for j in (0, 1, 2)}
    np.testing.assert_allclose(explainer.explain(square[:, ::-1].copy(), 0).values, heat.values[:, ::-1], atol=1e-3)


def test_what_is_no_mean_of_a_map_is_explained_by_covering(tiny, deep):
    """The tiny backbone's codes are the fields of a grid; nearest neighbours are no linear head."""
    for classifier in (built(Representation((tiny,)), "softmax"), built(Representation((deep,)), "nearest")):
        heat = Explainer(classifier).explain(PICTURES[0])
        assert not heat.is_exact and heat.values.shape == (8, 8) and np.isfinite(heat.values).all()


def test_two_backbones_are_explained_together(deep, tmp_path):
    from support.networks import write_deep_backbone

    other = find_backbone(BackboneSpec(str(write_deep_backbone(tmp_path / "other.onnx", seed=1))), tmp_path)
    look = Representation((deep, other), n_layers=2, is_mirrored=True)
    explainer = Explainer(built(look, "softmax"))
    heat = explainer.explain(PICTURES[0], 0)
    scores = explainer._head.logits(explainer.engine.infer(PICTURES[0])["codes"][None])[0] / 1.3
    assert heat.is_exact and heat.values.mean() + heat.constant == pytest.approx(scores[0] - scores.mean(), abs=2e-3)


@pytest.mark.shared
def test_a_real_photo(shared, tmp_path):
    from headstart.data.images import load_image

    backbone = find_backbone(BackboneSpec("efficientnet-lite0"), tmp_path)
    photos = (
        sorted((shared / "data" / "flowers" / "tulips").iterdir())[:6]
        + sorted((shared / "data" / "flowers" / "daisy").iterdir())[:6]
    )
    look = Representation((backbone,), n_layers=2)
    codes = represent(photos, look, None).values
    fitter = HEADS["softmax"].fitter(codes, np.repeat([0, 1], 6), 2, look.widths)
    classifier = Classifier.build(look, fitter.head(fitter.fit(0.01)), ["tulips", "daisy"])
    heat = Explainer(classifier).explain(load_image(photos[0], classifier.preprocess))
    assert heat.is_exact and heat.label == 0 and heat.values.max() > 1.5 * heat.values.mean() > 0
