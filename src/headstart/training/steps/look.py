"""Looks at a training from all sides: learning curve, loss curve, issues in its photos, and findings about each of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np

from headstart.checks.photo_groups import PhotoGroups
from headstart.engines.hardware import blas_threads
from headstart.numerics.intervals import group_numbers
from headstart.numerics.pca import principal_axes
from headstart.record import IssueRecord, LearningCurveRecord, LossCurveRecord
from headstart.report.maps.layout import place
from headstart.runs.findings import Findings
from headstart.selection.loss_curve import loss_curve
from headstart.training.options import TrainOptions
from headstart.training.steps.run_learning_curve import run_learning_curve
from headstart.training.steps.trust import Trained

MOST_MAPPED = 5_000  # photos on the report's map, evenly drawn: 2 s; `headstart map` places all


@dataclass(frozen=True)
class RunFindings:
    """What was found out about a training, beside how good it is. of_photos: about each photo."""

    learning_curve: LearningCurveRecord | None
    loss_curve: LossCurveRecord | None
    issues: list[IssueRecord]
    of_photos: Findings
    notes: tuple[str, ...]


def look_at_run(trained: Trained, copies: PhotoGroups, options: TrainOptions) -> RunFindings:
    """Draw the curves, find the issues, and gather what is known of each photo."""
    workspace = trained.workspace
    with workspace.stage("curve"):
        learning = run_learning_curve(trained, options)
    with workspace.stage("fitting"):
        loss = _loss_curve(trained)
    with workspace.stage("issues"):
        notes: list[str] = []
        issues = copies.issues(notes, threads=workspace.threads, progress=workspace.progress)
    with workspace.stage("map"):
        findings = _findings(trained, is_mapped=options.has_report)
    return RunFindings(learning, loss, issues, findings, tuple(notes))


def _loss_curve(trained: Trained) -> LossCurveRecord | None:
    choice, workspace, data = trained.choice, trained.workspace, trained.train_codes

    def compute() -> LossCurveRecord | None:
        return loss_curve(
            data, kind=choice.kind, strength=choice.strength, balance=choice.is_balanced, threads=workspace.threads
        )

    inputs = [*data.identity(), choice.kind, choice.strength, choice.is_balanced]
    return cast("LossCurveRecord | None", workspace.results.record("loss curve", inputs, compute))


def _findings(trained: Trained, *, is_mapped: bool) -> Findings:
    """What is known of each photo: what was said of it while it was held out, and where it lies among the others."""
    data, choice = trained.data, trained.choice
    last = np.empty((len(data.labels), trained.representation.widths[0]), np.float16)
    last[data.learn] = trained.train_codes.codes[:, : last.shape[1]]
    last[data.test] = trained.test_codes[:, : last.shape[1]]
    held_out = np.concatenate([data.learn[choice.held_out], data.test])
    order = np.argsort(held_out)

    def axes_of_codes() -> dict[str, np.ndarray]:
        with blas_threads(trained.workspace.threads, last.size):
            return dict(zip(("space", "mean", "axes"), principal_axes(last), strict=True))

    along = trained.workspace.results.arrays("axes", [last], axes_of_codes)
    space = along["space"]
    return Findings(
        names=tuple(data.names),
        labels=data.labels,
        splits=data.splits,
        digests=np.frombuffer(b"".join(data.digests), np.uint8).reshape(-1, 32),
        groups=group_numbers(data.groups),
        held_out=held_out[order],
        probabilities=np.concatenate([choice.probabilities, choice.head.probabilities(trained.test_codes)])[order],
        unfamiliarity=_unfamiliarity(trained),
        space=space.astype(np.float16),
        space_mean=along["mean"],
        space_axes=along["axes"],
        positions=_positions(trained, space) if is_mapped else np.full((len(space), 2), np.nan, np.float32),
    )


def _unfamiliarity(trained: Trained) -> np.ndarray:
    """How unfamiliar each held-out photo is, (n,); NaN where nothing measures it."""
    data, choice, trust = trained.data, trained.choice, trained.trust
    unfamiliarity = np.full(len(data.labels), np.nan, np.float32)
    if trust.unfamiliarity is not None:
        scores = choice.head.logits(trained.test_codes) / np.float32(choice.head.temperature)
        unfamiliarity[data.test] = trust.unfamiliarity(trained.test_codes, scores)
        unfamiliarity[data.learn[choice.held_out]] = trust.held_out_unfamiliarity
    return unfamiliarity


def _positions(trained: Trained, space: np.ndarray) -> np.ndarray:
    """Where photos lie on the map, (n, 2); NaN for those beyond MOST_MAPPED."""
    mapped = np.unique(np.linspace(0, len(space) - 1, min(len(space), MOST_MAPPED)).astype(np.int64))
    positions = np.full((len(space), 2), np.nan, np.float32)
    workspace, rows = trained.workspace, space[mapped]

    def placed() -> dict[str, np.ndarray]:
        return {"positions": place(rows, threads=workspace.threads, progress=workspace.progress)}

    positions[mapped] = workspace.results.arrays("map", [rows], placed)["positions"]
    return positions
