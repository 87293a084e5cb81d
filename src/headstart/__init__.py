"""headstart: a folder of photos in, a classifier you can trust and ship out, in seconds, on the machine you have."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headstart.checks.check_photos import Checked, check_photos
    from headstart.checks.issue import Issue
    from headstart.classifier.classifier import Classifier, load
    from headstart.classifier.explain import Explainer, Heat
    from headstart.classifier.imagenet import imagenet_classifier
    from headstart.classifier.prediction import Prediction
    from headstart.errors import HeadstartError
    from headstart.evaluation.metrics import Evaluation
    from headstart.export.export_run import Export, export_run
    from headstart.training.estimator import HeadstartClassifier
    from headstart.training.evaluate_run import RunEvaluation, evaluate_run
    from headstart.training.steps.write_run import Run
    from headstart.training.train import train

__all__ = [
    "Checked",
    "Classifier",
    "Evaluation",
    "Explainer",
    "Export",
    "HeadstartClassifier",
    "HeadstartError",
    "Heat",
    "Issue",
    "Prediction",
    "RunEvaluation",
    "Run",
    "check_photos",
    "evaluate_run",
    "export_run",
    "imagenet_classifier",
    "load",
    "train",
]

_HOMES = {
    "Checked": "checks.check_photos",
    "Classifier": "classifier.classifier",
    "Evaluation": "evaluation.metrics",
    "Explainer": "classifier.explain",
    "Export": "export.export_run",
    "HeadstartClassifier": "training.estimator",
    "HeadstartError": "errors",
    "Heat": "classifier.explain",
    "Issue": "checks.issue",
    "Prediction": "classifier.prediction",
    "RunEvaluation": "training.evaluate_run",
    "Run": "training.steps.write_run",
    "check_photos": "checks.check_photos",
    "evaluate_run": "training.evaluate_run",
    "export_run": "export.export_run",
    "imagenet_classifier": "classifier.imagenet",
    "load": "classifier.classifier",
    "train": "training.train",
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
