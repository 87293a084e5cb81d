"""headstart goes where scikit-learn's estimators go."""

import inspect
import io

import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from headstart import HeadstartClassifier, train
from headstart.codes import compute
from headstart.errors import DataError, HeadstartError
from headstart.numerics.losses import is_right
from support.photos import COLOURS, picture, scene


@pytest.fixture
def data(photos):
    paths = sorted(str(p) for p in photos.rglob("*.png"))
    return np.array(paths), np.array([p.split("/")[-2] for p in paths])


@pytest.fixture
def estimator(tiny_onnx):
    return HeadstartClassifier(str(tiny_onnx))


def test_cross_val_score_over_paths(estimator, data):
    scores = cross_val_score(estimator, *data, cv=3)
    assert scores.min() > 0.95


def test_a_pipeline_over_arrays(estimator):
    arrays = np.stack([picture(c, seed) for c in COLOURS.values() for seed in range(8)])
    labels = np.repeat([10, 20, 30], 8)
    darker = FunctionTransformer(lambda images: (images // 2 * 2).astype(np.uint8))
    pipeline = Pipeline([("darker", darker), ("headstart", estimator)])
    assert cross_val_score(pipeline, arrays, labels, cv=2).min() > 0.9
    assert set(pipeline.fit(arrays, labels).predict(arrays)) == {10, 20, 30}


def test_a_grid_search_sets_its_parameters(estimator, data):
    search = GridSearchCV(estimator, {"balance": [False, True]}, cv=2).fit(*data)
    assert set(search.best_params_) == {"balance"} and search.best_score_ > 0.9


def test_folds_compute_each_image_once(estimator, data, monkeypatch):
    computed = []
    original = compute.compute_codes
    monkeypatch.setattr(
        "headstart.codes.representation.compute_codes", lambda *a, **k: computed.append(original(*a, **k)) or computed[-1]
    )
    cross_val_score(estimator, *data, cv=3)
    # However many folds ask for them.
    assert sum(c.n_computed for c in computed) == len(data[0]) and len(computed) == 6


def test_probabilities_and_classes_have_one_order(estimator, data):
    images, labels = data
    fitted = estimator.fit(images, labels)
    assert fitted.classes_.tolist() == ["blue", "green", "red"]
    probabilities = fitted.predict_proba(images)
    assert probabilities.shape == (60, 3)
    np.testing.assert_array_equal(fitted.classes_[probabilities.argmax(axis=1)], fitted.predict(images))


def test_it_clones_and_says_what_it_is(estimator):
    assert clone(estimator).get_params() == estimator.get_params()
    assert "HeadstartClassifier" in repr(estimator)


def test_pictures_and_bytes_are_images_too(estimator):
    images = [Image.fromarray(picture(c, seed)) for c in COLOURS.values() for seed in range(5)]
    assert estimator.fit(images, list("aaaaabbbbbccccc")).score(images, list("aaaaabbbbbccccc")) == 1


def test_it_becomes_a_classifier_that_says_the_same(estimator, data, tmp_path):
    images, labels = data
    estimator.set_params(precision="f32").fit(images, labels).to_classifier().save(tmp_path / "model.onnx")
    from headstart import load

    predictions = load(tmp_path / "model.onnx", precision="f32").predict(images.tolist(), top=3)
    ours = [[dict(p.top)[name] for name in estimator.classes_] for p in predictions]
    np.testing.assert_allclose(ours, estimator.predict_proba(images), atol=1e-3)


def as_they_are(pixels, _):
    return pixels


def as_pictures(pixels, _):
    return Image.fromarray(pixels)


def as_bytes(pixels, i):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=60 + 5 * i)
    return file.getvalue()


@pytest.mark.parametrize("made", [as_they_are, as_pictures, as_bytes])
def test_copies_with_labels_that_mean_nothing_are_not_learnt(estimator, made):
    """Six copies of each photo: were they dealt into folds one by one, each could be told by the others."""
    labels = np.random.default_rng(0).permutation(np.arange(16) % 2)
    scenes = [scene(seed, 128, 96) for seed in range(16)]
    images = [made(pixels[i:], i) for pixels in scenes for i in range(6)]
    fitted = estimator.set_params(budget=0).fit(images, np.repeat(labels, 6))
    assert len(fitted.groups_) == 96 and len(set(fitted.groups_.tolist())) == 16
    choice = fitted.learned_.choice
    assert is_right(choice.logits, np.repeat(labels, 6)[choice.held_out]).mean() < 0.8
    scores = cross_val_score(fitted, images, np.repeat(labels, 6), groups=fitted.groups_, cv=GroupKFold(4))
    assert scores.mean() < 0.8 and fitted.notes_ == ()


def test_images_that_change_while_it_fits_stop_it(estimator, photos, data, monkeypatch):
    from headstart.training import estimator as module

    def exchange(*arguments, real=module.group_photos, **options):
        alike = real(*arguments, **options)
        first, second = photos / "blue" / "blue 0.png", photos / "red" / "red 0.png"
        contents = first.read_bytes(), second.read_bytes()
        first.write_bytes(contents[1])
        second.write_bytes(contents[0])
        return alike

    monkeypatch.setattr(module, "group_photos", exchange)
    with pytest.raises(DataError, match=r"blue 0\.png and 1 more changed while the training ran"):
        estimator.set_params(views="rotation=15").fit(*data)


def test_it_knows_what_train_knows_of_learning(tiny_onnx):
    shared = set(inspect.signature(train).parameters) & set(HeadstartClassifier().get_params())
    assert shared == {
        *("backbone", "size", "mean", "std", "output", "head", "views", "effort", "budget", "balance", "seed"),
        *("cache", "device", "threads", "precision"),
    }
    assert set(HeadstartClassifier().get_params()) == shared
    defaults = inspect.signature(train).parameters
    assert all(value == defaults[name].default for name, value in HeadstartClassifier().get_params().items())
    options = {
        "head": "nearest",
        "views": "rotation=10",
        "seed": 3,
        "size": 32,
        "mean": (0.4, 0.4, 0.4),
        "output": "features",
    }
    estimator = HeadstartClassifier(str(tiny_onnx), **options)
    assert clone(estimator).get_params() == estimator.get_params() and "nearest" in repr(estimator)


@pytest.mark.parametrize("head", ["softmax", "hidden", "class-mean", "nearest"])
def test_the_head_that_is_asked_for_is_learnt(estimator, data, head):
    fitted = estimator.set_params(head=head, budget=0).fit(*data)
    assert fitted.learned_.choice.kind == head and fitted.score(*data) > 0.9


def test_a_grid_search_over_heads_views_and_seeds(estimator, data):
    grid = {"head": ["softmax", "class-mean"], "views": ["none", "rotation=10"], "seed": [1], "budget": [5]}
    search = GridSearchCV(estimator, grid, cv=2, error_score="raise").fit(*data)
    assert set(search.best_params_) == set(grid) and search.best_score_ > 0.9


def test_views_are_learnt_from_and_not_predicted_by(estimator, data, tmp_path, monkeypatch):
    from headstart.selection import ladder

    monkeypatch.setattr(ladder, "compare_attempts", lambda *_, **__: (True, "it is taken"))
    images, labels = data
    fitted = estimator.set_params(views="rotation=20", precision="f32").fit(images, labels)
    assert fitted.learned_.representation.views == ("rotation=20",) and fitted.predict_proba(images).shape == (60, 3)
    fitted.to_classifier().save(tmp_path / "model.onnx")
    predictions = [p.prediction for p in fitted.to_classifier().predict(images.tolist())]
    assert predictions == fitted.predict(images).tolist()


@pytest.mark.parametrize(
    ("parameter", "told"),
    [
        ({"head": "forest"}, "there is no head 'forest'"),
        ({"head": "sigmoid"}, "here are 3 classes"),
        ({"views": "sideways"}, "sideways"),
        ({"seed": -1}, "the seed is -1"),
        ({"size": 64}, "64"),
    ],
)
def test_a_parameter_that_cannot_be_is_refused(estimator, data, parameter, told):
    with pytest.raises(HeadstartError, match=told):
        estimator.set_params(**parameter).fit(*data)


def test_misuse_is_told(estimator, data, tmp_path):
    images, labels = data
    with pytest.raises(NotFittedError):
        estimator.predict(images)
    with pytest.raises(DataError, match="one class only"):
        estimator.fit(images[:3], labels[:3])
    with pytest.raises(DataError, match="60 images and 59 labels"):
        estimator.fit(images, labels[1:])
    with pytest.raises(DataError, match="1 of 60 images.*none.png.*position 59: no such file"):
        estimator.fit([*images[:-1], str(tmp_path / "none.png")], labels)


class Series:
    """What matters of a pandas Series: it is indexed by its own labels, and iterated in order."""

    def __init__(self, values, index):
        self.values, self.index = values, index

    def __getitem__(self, label):
        return self.values[self.index.index(label)]

    def __iter__(self):
        return iter(self.values)

    def __len__(self):
        return len(self.values)


def test_a_shuffled_series_is_read_in_its_order(estimator, data):
    images, labels = data
    order = np.random.default_rng(0).permutation(len(images))
    shuffled = Series(images[order].tolist(), order.tolist())
    fitted = estimator.fit(shuffled, labels[order])
    assert (fitted.predict(images) == labels).mean() > 0.95


def test_a_fit_that_fails_leaves_the_last_one_as_it_was(estimator, data, tmp_path):
    images, labels = data
    before = estimator.fit(images, labels).predict(images)
    with pytest.raises(DataError):
        estimator.fit([*images[:3], str(tmp_path / "none.png")], ["x", "x", "y", "y"])
    np.testing.assert_array_equal(estimator.predict(images), before)
