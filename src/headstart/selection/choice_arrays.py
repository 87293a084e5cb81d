"""A Choice as arrays and back, for the results of earlier runs: the same photos, labels and options have the same head."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict

import numpy as np

from headstart.heads.head import Head
from headstart.heads.logistic import Member
from headstart.selection.cross_validation import Choice, Trial


def choice_arrays(choice: Choice) -> dict[str, np.ndarray]:
    """All of a choice as arrays; what is no array is JSON."""
    head = choice.head
    facts = {
        "kind": choice.kind,
        "strength": choice.strength,
        "trials": [asdict(trial) for trial in choice.trials],
        "is_balanced": choice.is_balanced,
        "members": [tuple(member) for member in choice.members],
        "n_layers": len(head.layers),
        "widths": head.widths,
        "output": head.output,
        "n_neighbours": head.n_neighbours,
        "temperature": head.temperature,
    }
    arrays = {
        f"{what}{i}": a for i, layer in enumerate(head.layers) for what, a in zip(("weight", "bias"), layer, strict=True)
    }
    if head.votes is not None:
        arrays["votes"] = head.votes
    held_out = {"held_out": choice.held_out, "fold": choice.fold, "logits": choice.logits}
    return {"facts": np.frombuffer(json.dumps(facts).encode(), np.uint8), **arrays, **held_out}


def choice_of_arrays(arrays: Mapping[str, np.ndarray]) -> Choice:
    """The choice that choice_arrays wrote."""
    facts = json.loads(arrays["facts"].tobytes())
    head = Head(
        tuple((arrays[f"weight{i}"], arrays[f"bias{i}"]) for i in range(facts["n_layers"])),
        tuple(facts["widths"]),
        facts["output"],
        arrays.get("votes"),
        facts["n_neighbours"],
        facts["temperature"],
    )
    return Choice(
        head,
        facts["kind"],
        facts["strength"],
        arrays["held_out"],
        arrays["fold"],
        arrays["logits"],
        tuple(Trial(**trial) for trial in facts["trials"]),
        facts["is_balanced"],
        tuple(Member(*member) for member in facts["members"]),
    )
