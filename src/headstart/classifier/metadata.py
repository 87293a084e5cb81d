"""The metadata of model.onnx: its types (TypedDicts), and the checks that it passes before any of it is used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, NotRequired, TypedDict

from headstart.data.images import RESAMPLING
from headstart.record import Count, Some
from headstart.safety.json_checks import check_of, each, maybe, number, one_of, share, whole
from headstart.wording import listed

LARGEST_SIDE = 8_192  # pixels of the square that a network sees

Scores = Annotated[Sequence[float], each(number(-1, 2), least=1)]
Channels = Annotated[Sequence[float], each(number(-1e6, 1e6), 3)]


class PreprocessMetadata(TypedDict):
    """data.images.Preprocess."""

    size: Annotated[int, whole(1, LARGEST_SIDE)]
    mean: Channels
    std: Channels
    crop: NotRequired[Annotated[float, share]]
    resample: NotRequired[Annotated[str, one_of(*RESAMPLING)]]


class BackboneMetadata(TypedDict):
    """The backbones side by side. parts: how many codes each has of the last layer, and of each deeper one."""

    name: str
    n_codes: Some
    parts: Annotated[Sequence[int], each(whole(1), least=1)]
    mirrored: bool
    sha256: NotRequired[Sequence[str]]
    n_parameters: NotRequired[Count]
    license: NotRequired[str]


class ConformalMetadata(TypedDict):
    """For prediction sets: the number of held-out photos, and at most 1,000 of their scores of each kind."""

    n: Some
    adaptive: Scores
    smallest: Scores
    is_balanced: NotRequired[bool]


class ClassifierMetadata(TypedDict):
    """The entries that a classifier reads. Those that `train` adds (evaluation, images, versions) are for people."""

    classes: Annotated[Sequence[str], each(check_of(str), least=1)]
    preprocess: PreprocessMetadata
    has_unfamiliarity: bool
    backbone: BackboneMetadata
    format: NotRequired[int]
    labels: NotRequired[Annotated[str, one_of("one", "many")]]
    thresholds: NotRequired[Sequence[float]]
    conformal: NotRequired[ConformalMetadata | None]
    license_notes: NotRequired[Sequence[str]]


CLASSIFIER = check_of(ClassifierMetadata)


def check_classifier(about: Any) -> None:
    """Check the metadata of a model.onnx; raises ValueError."""
    CLASSIFIER(about, "")
    if unknown := about["preprocess"].keys() - PreprocessMetadata.__annotations__.keys():
        raise ValueError(f"its preprocessing has entries that are not understood: {listed(map(repr, sorted(unknown)))}")
    parts, k = about["backbone"]["parts"], len(about["classes"])
    if sum(parts) != about["backbone"]["n_codes"]:
        raise ValueError(f"its {about['backbone']['n_codes']:,} codes are not those of its parts, {sum(parts):,}")
    maybe(each(number(-1e-3, 1.001), k))(about.get("thresholds"), "thresholds")
