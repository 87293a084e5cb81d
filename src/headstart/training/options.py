"""What train is asked for: refused before any work where it cannot be done."""

from __future__ import annotations

from headstart.backbones.find import AUTO
from headstart.data import labels
from headstart.data.datasets import Dataset
from headstart.errors import HeadstartError
from headstart.heads.kinds import HEADS, MANY_LABELS
from headstart.heads.nearest import MOST_NEIGHBOURS


def first_head(head: str, dataset: Dataset) -> str:
    """The kind of head to begin with; raises HeadstartError, before any work, for one that cannot learn these labels."""
    is_many, n, n_classes = labels.are_many(dataset.labels), len(dataset.images), len(dataset.classes)
    if is_many and head not in (AUTO, *MANY_LABELS):
        raise HeadstartError(
            f"these images have several labels each; of the heads only {' and '.join(MANY_LABELS)} tell them"
        )
    if head == "sigmoid" and not is_many and n_classes > 2:
        raise HeadstartError(
            f"a sigmoid head tells two classes apart, or several labels an image; here are {n_classes} classes: use softmax"
        )
    if head == "nearest" and n > MOST_NEIGHBOURS:
        raise HeadstartError(
            f"the k-nearest head carries all images' codes along, {MOST_NEIGHBOURS:,} at most; here are {n:,}: use softmax"
        )
    return head if head != AUTO else "sigmoid" if is_many else "softmax"


def check_balance(balance: bool, dataset: Dataset) -> None:
    """Raise HeadstartError, before any work, for a balance that would change nothing."""
    if balance and labels.are_many(dataset.labels):
        raise HeadstartError(
            "these images have several labels each: every label is learnt by itself and has a threshold of its own, however "
            "rare it is, so there is nothing to balance; leave --balance away"
        )


def check_tuning(finetune: bool, options: dict[str, object], balance: bool) -> None:
    """Raise HeadstartError for options of fine-tuning without it, and for what it cannot do."""
    given = [name for name, value in options.items() if value is not None]
    if given and not finetune:
        raise HeadstartError(f"{', '.join(given)} belong to fine-tuning; add --finetune")
    if finetune and balance:
        raise HeadstartError("fine-tuning lets every photo count the same; leave --balance away, or --finetune")


def check_head(head: str) -> None:
    """Raise HeadstartError for a head that there is not."""
    if head != AUTO and head not in HEADS:
        raise HeadstartError(f"there is no head {head!r}; the heads: {AUTO}, {', '.join(HEADS)}")


def check_seed(seed: int) -> None:
    """Raise HeadstartError for a seed that is none."""
    if seed < 0:
        raise HeadstartError(f"the seed is {seed}; expected 0 or more")


def check_share(test: float) -> None:
    """Raise HeadstartError for a share that leaves nothing to learn from, or is none."""
    if not 0 <= test <= 0.9:
        raise HeadstartError(f"the share to test with is {test}; expected 0 to 0.9, as in 0.2 for a fifth of the photos")
