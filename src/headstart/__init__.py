"""headstart: a folder of photos in, a classifier you can trust and ship out, in seconds, on the machine you have."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headstart.classifier import Classifier, Prediction, load
    from headstart.errors import HeadstartError
    from headstart.estimator import HeadstartClassifier
    from headstart.evaluate import Evaluation
    from headstart.evidence import Issue
    from headstart.heat import Explainer, Heat
    from headstart.imagenet import imagenet_classifier
    from headstart.likeness import Checked, check_photos
    from headstart.retest import Retest, evaluate_run
    from headstart.training import Run, train

__all__ = [
    "Checked",
    "Classifier",
    "Evaluation",
    "Explainer",
    "HeadstartClassifier",
    "HeadstartError",
    "Heat",
    "Issue",
    "Prediction",
    "Retest",
    "Run",
    "check_photos",
    "evaluate_run",
    "imagenet_classifier",
    "load",
    "train",
]

_HOMES = {
    "Checked": "likeness",
    "Classifier": "classifier",
    "Evaluation": "evaluate",
    "Explainer": "heat",
    "HeadstartClassifier": "estimator",
    "HeadstartError": "errors",
    "Heat": "heat",
    "Issue": "evidence",
    "Prediction": "classifier",
    "Retest": "retest",
    "Run": "training",
    "check_photos": "likeness",
    "evaluate_run": "retest",
    "imagenet_classifier": "imagenet",
    "load": "classifier",
    "train": "training",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `import headstart` costs nothing."""
    if name == "__version__":
        from importlib.metadata import version

        return version("headstart")
    if name not in _HOMES:
        raise AttributeError(f"module 'headstart' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"headstart.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
