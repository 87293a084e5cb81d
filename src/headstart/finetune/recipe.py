"""The recipe of a fine-tuning: its options, and defaults by the amount of data (layers, epochs, batch, learning rate).

Takes options and how much there is to learn from; gives a Recipe with nothing left open. It decides how much is unfrozen,
for how long, how fast, and whether the frozen layers run but once.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headstart.errors import HeadstartError, MissingExtra

try:  # before our own modules that need it
    import torch
except ImportError as error:
    raise MissingExtra("fine-tuning", "torch") from error

from headstart.finetune.device import has_bfloat16
from headstart.finetune.partial import PartlyFrozen

UNFREEZE = {"head": 0.0, "last": 0.25, "half": 0.5, "all": 1.0}  # the share of a network's layers, from the codes down
FEW_IMAGES, SOME_IMAGES, MANY_IMAGES = 50, 2_000, 10_000  # to learn from: below them head, last, half; from the last on, all
MIXED_FROM = 5_000  # images from which on strong views, mixup and cutmix pay; fewer are learnt in too few epochs for them
FEW_TO_JUDGE = 200  # validation images, below which no epoch is picked: all are run
EPOCHS = {"head": 10, "last": 10, "half": 10, "all": 10}
RATES = {"head": 1e-3, "last": 3e-4, "half": 3e-4, "all": 5e-4}
TRUNK_BYTES = 2 << 30  # activations of the frozen layers that stay in memory
MOST_VIEWS = 8  # of each image, where the frozen layers' activations are stored


@dataclass(frozen=True)
class FineTuning:
    """The options of a fine-tuning; None means: from the amount of data.

    unfreeze: a key of UNFREEZE. batch: images a step and process. accumulate: parts that a batch is worked off in, where
    memory is short. lr: of the head, lower layers have less. device: `cpu`, `cuda`, by default the GPU if there is one.
    precision: `auto` is bfloat16 where the hardware has it, else `f32`. budget_seconds: no epoch is begun that would end
    later. keep: an epoch and a blend to end with, whatever validation says: so what was chosen on some images is learnt
    again from all. compile: let torch compile the network first, a minute that pays on a GPU for long trainings.
    """

    unfreeze: str | None = None
    epochs: int | None = None
    batch: int | None = None
    accumulate: int = 1
    lr: float | None = None
    seed: int = 0
    checkpoint_dir: Path | None = None
    device: str | None = None
    threads: int | None = None
    precision: str = "auto"
    budget_seconds: float | None = None
    keep: tuple[int, float] | None = None
    compile: bool = False

    def __post_init__(self) -> None:
        if self.unfreeze not in (None, *UNFREEZE):
            raise HeadstartError(f"unknown --unfreeze {self.unfreeze!r}; it is one of: {', '.join(UNFREEZE)}")
        if self.precision not in ("auto", "f32"):
            raise HeadstartError(f"unknown precision {self.precision!r}; it is one of: auto, f32")
        for name in ("epochs", "batch", "accumulate", "threads"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise HeadstartError(f"{name} must be at least 1, not {number}")
        if self.seed < 0:
            raise HeadstartError(f"the seed is {self.seed}; expected 0 or more")
        if self.lr is not None and not 0 < self.lr <= 1:
            raise HeadstartError(f"the learning rate is {self.lr}; expected more than 0, at most 1 (often 0.001)")


@dataclass(frozen=True)
class Recipe:
    """A fine-tuning with nothing left open.

    is_large: whether labels are smoothed, is_mixed: whether images are mixed and seen in strong views. is_judged: whether
    validation picks the epoch. n_views: the number stored of each image, where the frozen layers run but once; 0 where each
    epoch draws new ones.
    """

    unfreeze: str
    epochs: int
    batch: int
    accumulate: int
    lr: float
    seed: int
    precision: str
    is_large: bool
    is_mixed: bool
    is_judged: bool
    n_views: int
    budget_seconds: float | None
    keep: tuple[int, float] | None


def default_unfreeze(n: int) -> str:
    """How much is unfrozen by default: more where there is more to learn from."""
    if n < SOME_IMAGES:
        return "head" if n < FEW_IMAGES else "last"
    return "half" if n < MANY_IMAGES else "all"


def recipe_for(
    options: FineTuning, unfreeze: str, n: int, n_validation: int, net: PartlyFrozen, size: int, device: Any
) -> Recipe:
    """Fill in what the options leave open."""
    epochs = options.epochs or EPOCHS[unfreeze]
    is_large = n >= MIXED_FROM
    n_views = 0
    if net.trunk is not None and not (is_large and device.type == "cuda"):
        with torch.no_grad():
            n_bytes = 2 * net.trunk(torch.zeros(1, 3, size, size)).numel()
        n_views = min(MOST_VIEWS, epochs, (TRUNK_BYTES // n_bytes - n_validation) // n)
    return Recipe(
        unfreeze=unfreeze,
        epochs=epochs,
        batch=min(n, options.batch or (32 if n < SOME_IMAGES else 128)),
        accumulate=options.accumulate,
        lr=options.lr or RATES[unfreeze],
        seed=options.seed,
        precision="bf16" if options.precision == "auto" and has_bfloat16(device) else "f32",
        is_large=is_large,
        is_mixed=is_large and n_views <= 0,
        is_judged=n_validation >= FEW_TO_JUDGE and options.keep is None,
        n_views=max(0, n_views),
        budget_seconds=options.budget_seconds,
        keep=options.keep,
    )
