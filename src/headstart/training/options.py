"""The options of a training: one frozen value, which refuses what cannot be done before any work."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.backbones.builtin import BACKBONES
from headstart.backbones.find import AUTO, BackboneSpec
from headstart.backbones.torch_modules import TIMM
from headstart.backbones.tutorial_names import resolve_alias
from headstart.data import labels
from headstart.data.datasets import Dataset
from headstart.data.views import parse_views
from headstart.engines.hardware import Hardware
from headstart.errors import HeadstartError
from headstart.heads.kinds import HEADS, MANY_LABELS
from headstart.heads.nearest import MOST_NEIGHBOURS
from headstart.selection.effort import EFFORTS, Effort

if TYPE_CHECKING:
    from headstart.finetune.recipe import FineTuning


@dataclass(frozen=True)
class TuningOptions:
    """How the backbone is fine-tuned; is_wanted: whether it is. The others are None unless the user named them."""

    is_wanted: bool
    unfreeze: str | None
    epochs: int | None
    batch: int | None
    force: bool

    def __post_init__(self) -> None:
        options = {"unfreeze": self.unfreeze, "epochs": self.epochs, "batch": self.batch, "force": self.force or None}
        named = [name for name, value in options.items() if value is not None]
        if named and not self.is_wanted:
            raise HeadstartError(f"{', '.join(named)} belong to fine-tuning; add --finetune")


REPORTS = FULL, NONE = "full", "none"
NO_TUNING = TuningOptions(False, None, None, None, False)


@dataclass(frozen=True)
class TrainOptions:
    """What `train` is asked for; it has no defaults, which train's signature declares.

    effort: a key of EFFORTS. budget: seconds that it may take, or None. views: what views.parse_views reads, or `auto`.
    arguments: all of this as the user gave it, for run.json. Raises HeadstartError for values that no training can have.
    """

    backbone: BackboneSpec
    head: str
    views: str
    effort: str
    budget: float | None
    balance: bool
    tuning: TuningOptions
    learning_curve: bool
    report: str
    fixes: str | os.PathLike[str] | None
    test: float
    learn_from_validation: bool
    seed: int
    cache_dir: Path
    hardware: Hardware
    arguments: Mapping[str, Any]

    def __post_init__(self) -> None:
        if not 0 <= self.test <= 0.9:
            raise HeadstartError(
                f"the share to test with is {self.test}; expected 0 to 0.9, as in 0.2 for a fifth of the photos"
            )
        if self.head != AUTO and self.head not in HEADS:
            raise HeadstartError(f"there is no head {self.head!r}; the heads: {AUTO}, {', '.join(HEADS)}")
        if self.effort not in EFFORTS:
            raise HeadstartError(f"there is no effort {self.effort!r}; the efforts: {', '.join(EFFORTS)}")
        if self.report not in REPORTS:
            raise HeadstartError(f"there is no report {self.report!r}; the reports: {', '.join(REPORTS)}")
        if self.budget is not None and not self.budget >= 0:
            raise HeadstartError(f"the budget is {self.budget} seconds; expected 0 or more")
        if self.tuning.is_wanted and self.balance:
            raise HeadstartError("fine-tuning lets every photo count the same; leave --balance away, or --finetune")
        if self.seed < 0:
            raise HeadstartError(f"the seed is {self.seed}; expected 0 or more")
        self.views_to_try()
        self.fine_tuning()

    def views_to_try(self) -> list[str]:
        """The views to learn from as well."""
        return [] if self.views == AUTO else [str(view) for view in parse_views(self.views)]

    def efforts(self) -> list[Effort]:
        """The efforts that the budget may be spent on, the one that was asked for first; without a budget that one alone."""
        rows = list(EFFORTS.values())
        at = rows.index(EFFORTS[self.effort])
        return rows[:1] if self.budget == 0 else rows[at::-1] if self.budget else [rows[at]]

    @property
    def has_report(self) -> bool:
        """Whether report.html, TensorBoard's files and the map are made."""
        return self.report == FULL

    def fine_tuning(self) -> FineTuning | None:
        """How to fine-tune; raises HeadstartError for a backbone that torch does not have."""
        if not self.tuning.is_wanted:
            return None
        from headstart.finetune.recipe import FineTuning

        name = self.backbone.name
        if (resolve_alias(name) or name) not in BACKBONES and not name.startswith(TIMM):
            raise HeadstartError(f"fine-tuning needs a backbone that torch has, a Lite one or {TIMM}NAME, not {name}")
        return FineTuning(
            self.tuning.unfreeze,
            self.tuning.epochs,
            self.tuning.batch,
            seed=self.seed,
            checkpoint_dir=self.cache_dir / "checkpoints",
            device=self.hardware.torch_device,
            threads=self.hardware.threads,
            precision=self.hardware.precision,
        )

    def first_head(self, dataset: Dataset) -> str:
        """The kind of head to begin with; raises HeadstartError for options that these labels do not go with."""
        is_many, n, n_classes = labels.are_many(dataset.labels), len(dataset.images), len(dataset.classes)
        if self.balance and is_many:
            raise HeadstartError(
                "these images have several labels each: every label is learnt by itself and has a threshold of its own, "
                "however rare it is, so there is nothing to balance; leave --balance away"
            )
        if is_many and self.head not in (AUTO, *MANY_LABELS):
            raise HeadstartError(
                f"these images have several labels each; of the heads only {' and '.join(MANY_LABELS)} tell them"
            )
        if self.head == "sigmoid" and not is_many and n_classes > 2:
            raise HeadstartError(
                f"a sigmoid head tells two classes apart, or several labels an image; here are {n_classes} classes: use "
                "softmax"
            )
        if self.head == "nearest" and n > MOST_NEIGHBOURS:
            raise HeadstartError(
                f"the k-nearest head carries all images' codes along, {MOST_NEIGHBOURS:,} at most; here are {n:,}: use "
                "softmax"
            )
        return self.head if self.head != AUTO else "sigmoid" if is_many else "softmax"
