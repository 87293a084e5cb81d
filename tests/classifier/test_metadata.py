"""The metadata of model.onnx and the code that reads it say the same."""

from headstart.classifier.metadata import ConformalMetadata
from headstart.trust.conformal import SCORES


def test_prediction_sets_of_every_kind_have_their_scores():
    assert set(SCORES) <= ConformalMetadata.__annotations__.keys()
