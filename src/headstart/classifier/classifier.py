"""The Classifier: backbone, preprocessing, head and classes in one ONNX file, which it loads, predicts with, and saves.

Takes image sources; gives Predictions, in order. A file is loaded only if model_file.py finds it whole, unchanged,
self-contained and ours, and nothing in it is ever executed but the network.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from headstart.backbones.backbone import Backbone
from headstart.backbones.huggingface.download import PREFIX, fetch
from headstart.cache_folder import default_cache_dir
from headstart.classifier.metadata import ClassifierMetadata
from headstart.classifier.model_file import FILE_NAME, FORMAT, check_content, preprocess_from, read_content, seal
from headstart.classifier.network import check_together, join
from headstart.classifier.prediction import Prediction
from headstart.codes.representation import Representation
from headstart.data.decoding import Failure, ImageSource
from headstart.data.images import display_name, load_image
from headstart.data.labels import label_text
from headstart.engines.engine import Engine, open_engine
from headstart.engines.forks import CompilesOnce
from headstart.engines.hardware import Hardware
from headstart.errors import ClassifierError, HeadstartError
from headstart.files import write_output
from headstart.heads.head import Head
from headstart.trust.conformal import SCORES, prediction_sets, score_threshold
from headstart.trust.unfamiliarity import Unfamiliarity

DEFAULT_TOP = 3
DEFAULT_SETS = "smallest"


class Classifier(CompilesOnce[Engine]):
    """A finished classifier. Make one with `headstart.train`, or load one with `headstart.load`."""

    def __init__(self, content: bytes, about: ClassifierMetadata, hardware: Hardware = Hardware()) -> None:
        """Take the bytes and the metadata of a checked model.onnx; callers use load() or build() instead."""
        self.content = content
        self.about = about
        self.classes: tuple[str, ...] = tuple(about["classes"])
        self.preprocess = preprocess_from(about["preprocess"])
        self.hardware = hardware
        self.thresholds: np.ndarray | None = None
        if about.get("labels") == "many":
            self.thresholds = np.array(about.get("thresholds") or [0.5] * len(self.classes), np.float32)

    @classmethod
    def build(
        cls,
        backbone: Backbone | Representation,
        head: Head,
        classes: Sequence[str],
        about: Mapping[str, Any] | None = None,
        hardware: Hardware = Hardware(),
        *,
        unfamiliarity: Unfamiliarity | None = None,
    ) -> Classifier:
        """Join backbones and a head into one network.

        backbone: one, of whose last layer's codes the head is, or a Representation. about: more metadata for the file, as
        JSON; `thresholds` are those of several labels an image, `conformal` is for prediction sets. unfamiliarity:
        recognises photos that look like nothing in the training images.
        """
        representation = backbone if isinstance(backbone, Representation) else Representation((backbone,))
        check_together(representation)
        fields = {
            "format": FORMAT,
            "classes": list(classes),
            "labels": "many" if head.output == "sigmoid" else "one",
            "preprocess": asdict(representation.backbones[0].preprocess),
            "has_unfamiliarity": unfamiliarity is not None,
            "backbone": {
                "name": representation.name,
                "sha256": [b.sha256 for b in representation.backbones],
                "n_codes": sum(representation.widths),
                "parts": list(representation.widths),
                "mirrored": representation.is_mirrored,
                "n_parameters": sum(b.n_parameters for b in representation.backbones),
                "license": ", ".join(dict.fromkeys(b.license for b in representation.backbones)),
            },
            **(about or {}),
        }
        metadata: ClassifierMetadata = json.loads(json.dumps(fields))  # as it will be when it is loaded
        return cls(seal(join(representation, head, unfamiliarity), metadata), metadata, hardware)

    @classmethod
    def load(cls, path: str | os.PathLike[str], hardware: Hardware = Hardware()) -> Classifier:
        """Load a run folder or its model.onnx; raises ClassifierError for anything that is not a whole one of ours."""
        file = Path(path)
        if os.path.isdir(file):
            file = file / FILE_NAME
            if not os.path.exists(file) and os.access(path, os.X_OK):
                raise ClassifierError(f"{path} holds no {FILE_NAME}; a run folder is what `headstart train` makes")
        content = read_content(file)
        return cls(content, check_content(content, file), hardware)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the one file that is the classifier, whole or not at all; raises OutputError where it cannot be."""
        write_output(Path(path), self.content)

    def predict(
        self,
        images: ImageSource | Iterable[ImageSource],
        *,
        top: int = DEFAULT_TOP,
        coverage: float | None = None,
        sets: str = DEFAULT_SETS,
    ) -> list[Prediction]:
        """Classify images: paths, encoded bytes, Pillow images or (h, w, 3) uint8 RGB arrays, one or many.

        Gives a Prediction for each, in order; an image that cannot be used is a Prediction whose status says why. top: how
        many of the likeliest classes each lists. coverage: in (0, 1), how often the right class shall be in each
        Prediction's `set`; sets: how those are made, a key of conformal.SCORES. Raises HeadstartError for sets that cannot
        be had.
        """
        many = [images] if _is_one(images) else images
        return list(self.stream(many, top=top, coverage=coverage, sets=sets))  # type: ignore[arg-type]

    def stream(
        self,
        images: Iterable[ImageSource],
        *,
        top: int = DEFAULT_TOP,
        coverage: float | None = None,
        sets: str = DEFAULT_SETS,
    ) -> Iterator[Prediction]:
        """Classify images one after the other as they come, in order, in constant memory."""
        threshold = None if coverage is None else self._score_threshold(coverage, sets)
        return self._predictions(images, top, threshold, sets)

    def _predictions(
        self, images: Iterable[ImageSource], top: int, threshold: float | None, sets: str
    ) -> Iterator[Prediction]:
        for result in self.engine.stream(images, lambda _, image: load_image(image, self.preprocess)):
            name = display_name(result.item)
            if result.outputs is None:
                failure: Failure = result.instead
                yield Prediction(name, *failure)
                continue
            self.check_outputs(result.outputs)
            prediction = self._prediction(name, result.outputs["probabilities"], result.outputs.get("unfamiliarity"), top)
            if threshold is not None:
                p = result.outputs["probabilities"]
                is_in = prediction_sets(p[None], threshold, sets)[0]
                likeliest = np.argsort(-p, kind="stable")
                prediction = replace(prediction, set=tuple(self.classes[i] for i in likeliest if is_in[i]))
            yield prediction

    def _score_threshold(self, coverage: float, sets: str) -> float:
        """The score up to which a class is in a set (trust.conformal); raises HeadstartError for a coverage out of reach."""
        if not 0 < coverage < 1:
            raise HeadstartError(f"the coverage is {coverage}; expected a share between 0 and 1, as in 0.95")
        if sets not in SCORES:
            raise HeadstartError(f"there are no sets {sets!r}; expected one of {', '.join(SCORES)}")
        conformal = self.about.get("conformal")
        if not conformal:
            why = "tells several labels an image" if self.thresholds is not None else "has been chosen by all its photos"
            raise HeadstartError(f"this classifier {why}, and so can promise no coverage")
        scores = conformal["smallest"] if sets == "smallest" else conformal["adaptive"]
        if score_threshold(scores, conformal["n"], coverage) == float("inf"):
            most = conformal["n"] / (conformal["n"] + 1)
            by = (
                "so few held-out photos of the rarest class"
                if conformal.get("is_balanced")
                else f"{conformal['n']:,} held-out photos"
            )
            raise HeadstartError(f"a coverage of {coverage} cannot be promised by {by}; at most {most:.3f} can")
        return score_threshold(scores, conformal["n"], coverage)

    def check_outputs(self, outputs: Mapping[str, np.ndarray]) -> None:
        """Raise ClassifierError where a row of the network's outputs is not as long as its file says."""
        n, n_classes = len(outputs["probabilities"]), len(self.classes)
        n_codes, n_codes_expected = len(outputs["codes"]), self.about["backbone"]["n_codes"]
        if (n, n_codes) != (n_classes, n_codes_expected):
            raise ClassifierError(
                f"this classifier gives {n:,} probabilities and {n_codes:,} codes, and says that it has {n_classes:,} and "
                f"{n_codes_expected:,}; train again"
            )

    def _compile(self) -> Engine:
        return open_engine(self.content, self.hardware)

    def _prediction(self, name: str, probabilities: np.ndarray, unfamiliarity: np.ndarray | None, top: int) -> Prediction:
        likeliest = np.argsort(-probabilities, kind="stable")[: max(1, top)]
        pairs = tuple((self.classes[i], float(probabilities[i])) for i in likeliest)
        prediction = pairs[0][0]
        if self.thresholds is not None:
            prediction = label_text(probabilities >= self.thresholds, self.classes)
        fields: dict[str, Any] = {}
        if unfamiliarity is not None:
            fields = {"unfamiliarity": float(unfamiliarity[0]), "unfamiliar": bool(unfamiliarity[0] > 1)}
        return Prediction(name, "ok", None, prediction, pairs[0][1], pairs[: max(0, top)], **fields)

    def __repr__(self) -> str:
        return f"<Classifier of {len(self.classes)} classes on {self.about['backbone']['name']}>"


def load(
    path: str | os.PathLike[str],
    *,
    device: str = "CPU",
    threads: int | None = None,
    precision: str = "auto",
    cache: str | os.PathLike[str] | None = None,
) -> Classifier:
    """Load the classifier of a run folder, of a model.onnx, or of hf:owner/name[@revision] on the Hugging Face hub.

    One from the hub is fetched once and pinned by its commit and its hash: it is read from the cache from then on, also
    where there is no network, and never swapped. cache: the folder for it, by default the user's cache folder. Raises
    ClassifierError for what is no classifier, BackboneError where the hub does not give it.
    """
    hardware = Hardware(device, threads, precision)
    if os.fspath(path).startswith(PREFIX):
        return Classifier.load(fetch_classifier(os.fspath(path), Path(cache or default_cache_dir())), hardware)
    return Classifier.load(path, hardware)


def fetch_classifier(name: str, cache_dir: Path) -> Path:
    """Fetch the model.onnx of hf:owner/name[@revision], or another file that is named below it; raises BackboneError."""
    return fetch(name if name.endswith(".onnx") else f"{name}/{FILE_NAME}", cache_dir).path


def _is_one(images: Any) -> bool:
    if isinstance(images, np.ndarray):
        return images.ndim <= 3 and images.dtype.kind not in "OUS"
    return isinstance(images, (str, os.PathLike, bytes, bytearray, memoryview)) or hasattr(images, "getexif")
