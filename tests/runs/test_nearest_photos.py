"""The photos of a training that are most similar to a new one, whoever asks."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headstart.classifier.classifier import Classifier
from headstart.classifier.explain import Explainer
from headstart.data.splits import TEST
from headstart.errors import DataError
from headstart.runs.findings import Findings
from headstart.runs.nearest_photos import nearest_training_photos
from support.photos import COLOURS, picture


@pytest.fixture(scope="module")
def classifier(finished):
    return Classifier.load(finished)


def codes_of(classifier, photo):
    explainer = Explainer(classifier)
    return explainer.outputs(explainer.square_of(photo))["codes"]


def test_a_new_photo_is_most_similar_to_those_of_its_colour(finished, classifier):
    photo = picture(COLOURS["red"], 777)
    nearest = nearest_training_photos(finished, classifier, codes_of(classifier, photo), photo=photo, n=2)
    assert [near.label for near in nearest] == ["red", "red"] and all("red" in near.path for near in nearest)


def test_a_photo_of_the_training_is_not_its_own_neighbour(finished, classifier):
    findings = Findings.load(finished)
    row = int(np.flatnonzero(findings.splits != TEST)[0])
    path, n = findings.names[row], len(findings.names)
    codes = codes_of(classifier, path)
    for photo in (path, Path(path).read_bytes()):  # the same photo, as a file and as its bytes
        paths = [near.path for near in nearest_training_photos(finished, classifier, codes, photo=photo, n=n)]
        assert path not in paths and len(paths) == int((findings.splits != TEST).sum()) - 1
    with Image.open(path) as image:  # pixels without the file are another photo, as the cache of codes has it
        assert nearest_training_photos(finished, classifier, codes, photo=image.copy())[0].path == path


def test_of_a_classifier_alone_nothing_is_known(finished, classifier):
    codes = np.zeros(classifier.about["backbone"]["n_codes"], np.float32)
    assert nearest_training_photos(finished / "model.onnx", classifier, codes, photo=b"") == ()


def test_files_of_another_run_are_refused(finished, classifier, tmp_path):
    copy = shutil.copytree(finished, tmp_path / "copy")
    (copy / "run.json").write_text((copy / "run.json").read_text().replace('"red"', '"rot"'))
    codes = np.zeros(classifier.about["backbone"]["n_codes"], np.float32)
    with pytest.raises(DataError, match="not of one run"):
        nearest_training_photos(copy, classifier, codes, photo=b"")
