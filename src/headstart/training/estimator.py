"""headstart as a scikit-learn estimator: it goes where scikit-learn's own go (Pipeline, cross_val_score, GridSearchCV)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from headstart.backbones.builtin import DEFAULT
from headstart.backbones.find import AUTO, BackboneSpec
from headstart.cache_folder import default_cache_dir
from headstart.checks.photo_groups import PhotoGroups, group_photos
from headstart.classifier.classifier import Classifier
from headstart.codes.compute import Codes
from headstart.codes.representation import Representation
from headstart.codes.workspace import Workspace
from headstart.data.datasets import Dataset
from headstart.data.images import display_name
from headstart.data.splits import TRAIN, UNASSIGNED
from headstart.engines.hardware import Hardware
from headstart.errors import DataError
from headstart.selection.effort import DEFAULT as DEFAULT_EFFORT
from headstart.training.options import NO_TUNING, NONE, TrainOptions
from headstart.training.steps.choose import climb_ladder
from headstart.training.steps.load import LabelledPhotos, find_candidates
from headstart.training.steps.training_codes import TrainingCodes
from headstart.training.steps.training_set import TrainingSet


class HeadstartClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A head on a pretrained backbone's codes; depth, pixels, mirroring and regularisation chosen by cross-validation.

    Copies of a photo, resaved or not, share a fold of that cross-validation. The folds of cross_val_score are scikit-learn's
    own: where there are copies, give it groups_ of a fit as groups, with GroupKFold.

    X is a sequence of n images (paths, encoded bytes, Pillow images) or an array (n, h, w, 3) of uint8 RGB; y holds their
    n labels, of any type that sorts. Codes are cached, so that the folds of cross_val_score compute each image once.

    Parameters are those of headstart.train; seed: of views that are drawn, for nothing is kept away to test with here.
    Attributes after fit: classes_ (k,), learned_ (a rungs.Selection), groups_ (n,) int64, the same for images that are
    copies of one photo, notes_, what the user should know; n_features_in_ is not set, for images have none.
    """

    def __init__(
        self,
        backbone: str = DEFAULT,
        *,
        size: int | None = None,
        mean: tuple[float, float, float] | None = None,
        std: tuple[float, float, float] | None = None,
        output: str | None = None,
        head: str = AUTO,
        views: str = "auto",
        effort: str = DEFAULT_EFFORT,
        budget: float | None = None,
        balance: bool = False,
        seed: int = 0,
        cache: str | None = None,
        device: str = "CPU",
        threads: int | None = None,
        precision: str = "auto",
    ) -> None:
        self.backbone = backbone
        self.size = size
        self.mean = mean
        self.std = std
        self.output = output
        self.head = head
        self.views = views
        self.effort = effort
        self.budget = budget
        self.balance = balance
        self.seed = seed
        self.cache = cache
        self.device = device
        self.threads = threads
        self.precision = precision

    def fit(self, X: Any, y: Any) -> HeadstartClassifier:  # noqa: N803  scikit-learn's own name
        """Learn from images and labels; raises DataError where an image cannot be used, or where there is one class.

        Raises HeadstartError, before any work, for a parameter that cannot be.
        """
        options = self._options()
        X, y = list(X), np.asarray(y)  # noqa: N806  by position: a pandas Series has labels of its own
        if len(y) != len(X):
            raise DataError(f"there are {len(X)} images and {len(y)} labels")
        classes, labels = np.unique(y, return_inverse=True)
        if len(classes) < 2:
            raise DataError(f"there is one class only, {classes.tolist()}; a classifier needs at least two")
        dataset = Dataset(X, labels, tuple(map(str, classes)), np.full(len(X), UNASSIGNED, np.int8))
        head = options.first_head(dataset)
        with self._workspace() as workspace:
            backbones = find_candidates(LabelledPhotos("the images", dataset, dataset, head), options, workspace)
            codes = _codes_of_all(X, backbones.first, workspace, with_stats=True)
            copies = group_photos(dataset, codes, workspace)
            learned = climb_ladder(
                TrainingCodes(_training_set(dataset, codes, copies), backbones.first, workspace), head, backbones, options
            )
        groups = np.unique(np.array(copies.groups, object), return_inverse=True)[1].astype(np.int64)
        # All or none: a fit that fails leaves the last one as it was.
        self.classes_, self.learned_, self.groups_, self.notes_ = classes, learned, groups, copies.notes
        return self

    def predict_proba(self, X: Any) -> np.ndarray:  # noqa: N803
        """Probabilities (n, k), columns in the order of classes_."""
        check_is_fitted(self)
        with self._workspace() as workspace:
            codes = _codes_of_all(X, replace(self.learned_.representation, views=()), workspace).values
        return self.learned_.choice.head.probabilities(codes)

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """The likeliest class of each image, (n,), of the type of y."""
        probabilities = self.predict_proba(X)
        best: np.ndarray = self.classes_[probabilities.argmax(axis=1)]
        return best

    def to_classifier(self) -> Classifier:
        """The same answers as one ONNX file, which `save` writes and every other part of headstart takes."""
        check_is_fitted(self)
        names = [str(name) for name in self.classes_]
        return Classifier.build(self.learned_.representation, self.learned_.choice.head, names, hardware=self._hardware())

    def _options(self) -> TrainOptions:
        """The same options as train's, without fine-tuning and without a test split."""
        return TrainOptions(
            backbone=BackboneSpec(self.backbone, self.size, self.mean, self.std, self.output),
            head=self.head,
            views=self.views,
            effort=self.effort,
            budget=self.budget,
            balance=self.balance,
            tuning=NO_TUNING,
            learning_curve=False,
            report=NONE,
            fixes=None,
            test=0.0,
            learn_from_validation=False,
            seed=self.seed,
            cache_dir=self._cache_dir(),
            hardware=self._hardware(),
            arguments=self.get_params(),
        )

    def _workspace(self) -> Workspace:
        return Workspace(self._cache_dir(), self._hardware(), seed=self.seed)

    def _cache_dir(self) -> Path:
        return Path(os.fspath(self.cache)) if self.cache else default_cache_dir()

    def _hardware(self) -> Hardware:
        return Hardware(self.device, self.threads, self.precision)


def _codes_of_all(
    images: Sequence[Any], representation: Representation, workspace: Workspace, *, with_stats: bool = False
) -> Codes:
    """Compute the codes of all images; raises DataError where one cannot be used."""
    codes = workspace.represent(images, representation, with_stats=with_stats)
    if codes.failures:
        i, failure = next(iter(codes.failures.items()))
        raise DataError(
            f"{len(codes.failures)} of {len(images)} images cannot be used; the first, {display_name(images[i])} at "
            f"position {i}: {failure.reason}"
        )
    return codes


def _training_set(dataset: Dataset, codes: Codes, copies: PhotoGroups) -> TrainingSet:
    """All images, to be learnt from."""
    return TrainingSet(
        np.arange(len(dataset.images)),
        np.arange(len(dataset.images)),
        list(dataset.images),
        [display_name(image) for image in dataset.images],
        codes.values,
        dataset.labels,
        dataset.classes,
        codes.digests,
        copies.groups,
        np.full(len(dataset.images), TRAIN, np.int8),
    )
