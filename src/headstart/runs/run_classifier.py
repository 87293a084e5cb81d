"""The classifier that a run folder's files are of: its own model.onnx or, of an evaluation, that of the run evaluated."""

from __future__ import annotations

from headstart.classifier.classifier import Classifier
from headstart.classifier.model_file import FILE_NAME
from headstart.engines.hardware import Hardware
from headstart.errors import DataError
from headstart.runs.open import SavedRun
from headstart.runs.photo_paths import is_remote


def classifier_of_run(saved: SavedRun, hardware: Hardware = Hardware()) -> Classifier:
    """Load the classifier that a training or an evaluation is of.

    Raises ClassifierError where it is damaged, DataError where it is gone, another run's, or on another machine: no machine
    is asked for a file because a run names it.
    """
    if (saved.folder / FILE_NAME).exists():
        return saved.classifier(hardware)
    evaluated = saved.record.get("run")
    if not evaluated:
        raise DataError(f"{saved.folder} holds no {FILE_NAME}; its report cannot be made again")
    if is_remote(evaluated):
        raise DataError(f"{saved.folder} is an evaluation of {evaluated}, on another machine; copy that run here first")
    return saved.own(Classifier.load(evaluated, hardware))
