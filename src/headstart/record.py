"""The record of a run: the types of run.json and issues.json, which runs/record_file.py reads and writes.

The types are what the reader checks: a file that says something else raises ValueError. It decides what a run may lack.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, NotRequired, TypedDict

from headstart.safety.json_checks import Path, check_of, each, interval, number, share, whole

Share = Annotated[float, share]
Rounded = Annotated[float, number(-1e-3, 1.001)]  # a probability, or a mean of some, in 32 bits
Count = Annotated[int, whole()]
Some = Annotated[int, whole(1)]
Effective = Annotated[float, number(1e-9, 1e12)]  # a number of different photos, copies counted once
Interval = Annotated[Sequence[float], interval]


class ImageCounts(TypedDict):
    """How many images were used, of each split; left out; and computed anew."""

    used: Some
    train: NotRequired[Count]
    validation: NotRequired[Count]
    test: NotRequired[Count]
    skipped: NotRequired[Count]
    computed: NotRequired[Count]


class ClassRecord(TypedDict):
    """How well one class is told; average_precision and threshold where an image may have several labels."""

    label: str
    precision: Share | None
    recall: Share | None
    f1: Share | None
    support: Count
    average_precision: NotRequired[Rounded | None]
    threshold: NotRequired[Rounded | None]


class EvaluationRecord(TypedDict):
    """Evaluation or MultiLabelEvaluation."""

    split: str
    n_images: Some
    n_correct: Count
    accuracy: Share
    interval: Interval
    classes: Sequence[ClassRecord]
    n_different: NotRequired[Some]
    cross_entropy: NotRequired[float]
    confusion: NotRequired[Any]  # (k, k) counts, checked against the classes
    balanced_accuracy: NotRequired[Share | None]
    balanced_interval: NotRequired[Interval | None]
    top5: NotRequired[Rounded | None]
    mean_average_precision: NotRequired[Rounded | None]
    f1_micro: NotRequired[Rounded | None]
    f1_macro: NotRequired[Rounded | None]


class CrossValidationRecord(TypedDict):
    """What was chosen, on the images that were held out of each fold; or (`by`: validation) on the data's own split."""

    by: NotRequired[str]
    n_images: Count
    n_correct: Count
    accuracy: Share | None
    interval: Interval | None
    balanced_accuracy: NotRequired[Share | None]
    balanced_interval: NotRequired[Interval | None]


class TrialRecord(TypedDict):
    """A strength of regularisation that was tried."""

    strength: float
    cross_entropy: float
    accuracy: float


class MemberRecord(TypedDict):
    """A member of a mean of heads: how many codes it reads, from which on, and its share."""

    codes: Count
    share: Share
    start: NotRequired[Count]


class ChoiceRecord(TypedDict, total=False):
    """What was chosen on held-out images."""

    backbone: str
    pixels: Count
    layers: Count
    mirrored: bool
    views: Sequence[str]
    head: str
    strength: float | None
    members: Sequence[MemberRecord]
    trials: Sequence[TrialRecord]


class EffortRecord(TypedDict):
    """How much was tried. is_cut: whether a clock made it less, so that another machine may choose otherwise."""

    name: str
    is_cut: bool


class RungRecord(TypedDict):
    """A rung of the ladder."""

    name: str
    accuracy: Share | None
    is_taken: bool
    look: NotRequired[str]
    interval: NotRequired[Interval | None]
    cross_entropy: NotRequired[float | None]
    seconds: NotRequired[float]
    n_images: NotRequired[Count]
    why: NotRequired[str]
    is_balanced: NotRequired[bool]
    is_cut: NotRequired[bool]


class BinRecord(TypedDict):
    """A bin of the calibration diagram."""

    n: Some
    probability: Rounded
    accuracy: Share
    interval: Interval
    share: NotRequired[Share]
    n_effective: NotRequired[Effective]


class CalibrationRecord(TypedDict):
    """How far probabilities hold, before and after the temperature."""

    n_images: Count
    error_after: Rounded
    bins: Sequence[BinRecord]
    temperature: NotRequired[Effective]
    error_before: NotRequired[Rounded | None]
    bias: NotRequired[Rounded | None]
    bins_before: NotRequired[Sequence[BinRecord] | None]
    is_balanced: NotRequired[bool]


class EpochRecord(TypedDict):
    """An epoch of a fine-tuning."""

    epoch: Count
    train_loss: NotRequired[float | None]
    validation_loss: NotRequired[float | None]
    validation_accuracy: NotRequired[Share | None]
    lr: NotRequired[float]
    seconds: NotRequired[float]
    images_per_second: NotRequired[float]


class ComparisonRecord(TypedDict, total=False):
    """Two classifiers on the same images (evaluation.comparison.Comparison)."""

    n: int
    only_a: int
    only_b: int
    difference: float
    interval: Sequence[float]
    p: float
    verdict: str
    sentence: str


class FineTuningRecord(TypedDict):
    """What became of a fine-tuning."""

    is_taken: bool
    epochs: Count
    history: NotRequired[Sequence[EpochRecord]]
    comparison: NotRequired[ComparisonRecord]
    unfrozen: NotRequired[str]
    n_trained: NotRequired[int]
    best_epoch: NotRequired[int]
    blend: NotRequired[float]
    seconds: NotRequired[float]
    resumed_from: NotRequired[Any]
    notes: NotRequired[Sequence[str]]


class PointRecord(TypedDict):
    """A point of the learning curve."""

    n_per_class: Some
    n_images: Some
    accuracy: Share
    interval: Interval
    cross_entropy: NotRequired[float]
    n_draws: NotRequired[int]


class ForecastRecord(TypedDict):
    """What so many more photos a class would probably bring."""

    n_more: Some
    accuracy: Share
    interval: Interval


class LearningCurveRecord(TypedDict):
    """Accuracy against the number of photos, up to the result that is published."""

    points: Sequence[PointRecord]
    forecast: NotRequired[ForecastRecord | None]
    sentence: NotRequired[str]
    n_held_out: NotRequired[Count]
    split: NotRequired[str]
    fitted: NotRequired[Any]
    reason: NotRequired[str | None]


class StepRecord(TypedDict):
    """A step of the head's fit."""

    step: Count
    train_accuracy: NotRequired[Share | None]
    train_cross_entropy: NotRequired[float | None]
    validation_accuracy: NotRequired[Share | None]
    validation_cross_entropy: NotRequired[float | None]


class LossCurveRecord(TypedDict):
    """How the head learnt, step by step, with a fifth of the images held out."""

    n_train: Count
    n_validation: Count
    steps: NotRequired[Sequence[StepRecord]]
    n_effective: NotRequired[Effective]


class LeftOutRecord(TypedDict):
    """A class that was left out for a trial, and how its photos were noticed."""

    label: str
    n: Count
    flagged: NotRequired[Share | None]
    auroc: NotRequired[Share | None]
    auroc_max_probability: NotRequired[Share | None]


class ProbeRecord(TypedDict):
    """What the classifier says of a picture of something else."""

    name: str
    prediction: NotRequired[str]
    probability: NotRequired[Rounded]
    unfamiliarity: NotRequired[float | None]


class FlaggedRecord(TypedDict):
    """How many of n images are called unfamiliar."""

    n: Count
    flagged: Count


class UnfamiliarRecord(TypedDict, total=False):
    """How the classifier notices photos that look like nothing that it has learnt from."""

    method: str
    threshold: float
    familiar_share: float
    test: FlaggedRecord
    left_out: Sequence[LeftOutRecord]
    probes: Sequence[ProbeRecord]


class ModelRecord(TypedDict, total=False):
    """The classifier's file."""

    file: str
    bytes: Count
    sha256: str


class ArgumentsRecord(TypedDict, total=False):
    """What `train` was called with, as far as anybody reads it again; the other arguments stand beside these."""

    seed: Count
    test: Share
    balance: bool
    backbone: str
    learn_from_val: bool
    report: str


class RunRecord(TypedDict):
    """run.json: of a training, or of an evaluation (`run` says of which run, `comparison` with which other)."""

    classes: Annotated[Sequence[str], each(check_of(str), least=1)]
    photos: Path
    images: ImageCounts
    evaluation: EvaluationRecord
    format: NotRequired[Count]
    headstart: NotRequired[str]
    created: NotRequired[str]
    run: NotRequired[Path | None]
    arguments: NotRequired[ArgumentsRecord]
    images_of_class: NotRequired[dict[str, Count]]
    splits_sha256: NotRequired[str]
    notes: NotRequired[list[str]]
    choice: NotRequired[ChoiceRecord]
    effort: NotRequired[EffortRecord]
    ladder: NotRequired[Sequence[RungRecord]]
    cross_validation: NotRequired[CrossValidationRecord]
    thresholds: NotRequired[Sequence[float] | None]
    calibration: NotRequired[CalibrationRecord | None]
    comparison: NotRequired[ComparisonRecord | None]
    fine_tuning: NotRequired[FineTuningRecord | None]
    learning_curve: NotRequired[LearningCurveRecord | None]
    fitting: NotRequired[LossCurveRecord | None]
    unfamiliar: NotRequired[UnfamiliarRecord | None]
    issues: NotRequired[dict[str, Count]]
    precision: NotRequired[dict[str, float]]  # training.steps.precision
    model: NotRequired[ModelRecord]
    seconds: NotRequired[dict[str, float]]
    versions: NotRequired[dict[str, Any]]


class IssueRecord(TypedDict):
    """Something found in the photos (checks.issue.Issue)."""

    kind: str
    path: NotRequired[str | None]
    paths: NotRequired[Sequence[str]]
    label: NotRequired[str | None]
    labels: NotRequired[Sequence[str | None]]
    suggested_label: NotRequired[str | None]
    score: NotRequired[float | None]
    sentence: NotRequired[str | None]
    suggestion: NotRequired[str | None]


class IssuesRecord(TypedDict):
    """issues.json."""

    issues: Sequence[IssueRecord]
