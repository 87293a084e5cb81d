"""Licences of weights: their SPDX names, and the warning about one that forbids commercial use or sets other conditions."""

from __future__ import annotations

from typing import Any

# The hub's names of licences to SPDX's: those that allow any use, and ask for no more than attribution.
PERMISSIVE = {
    "apache-2.0": "Apache-2.0",
    "mit": "MIT",
    "bsd": "BSD-3-Clause",
    "bsd-2-clause": "BSD-2-Clause",
    "bsd-3-clause": "BSD-3-Clause",
    "bsl-1.0": "BSL-1.0",
    "cc-by-4.0": "CC-BY-4.0",
    "cc0-1.0": "CC0-1.0",
    "isc": "ISC",
    "unlicense": "Unlicense",
    "wtfpl": "WTFPL",
}
# Words in a licence's name, and the condition that they stand for; the first that fits counts.
CONDITIONS = {
    "-nc": "forbids commercial use",
    "noncommercial": "forbids commercial use",
    "non-commercial": "forbids commercial use",
    "research": "allows research only",
    "amlr": "allows research only",
    "-nd": "forbids passing on what you make of it",
    "-sa": "asks that what you make of it has the same licence",
    "gpl": "asks that programs which contain it have the same licence",
    "rail": "forbids some uses",
    "llama": "forbids some uses and asks for a notice",
    "gemma": "forbids some uses and asks for a notice",
}


def license_note(license: str, *, is_gated: bool = False) -> str | None:
    """Write what a user must know of a licence; None where it allows any use."""
    text = license.lower()
    notes = []
    if text in ("", "unknown", "none"):
        notes.append("its repository states no licence; ask its owner before you use it or pass it on")
    elif text not in PERMISSIVE and text not in (spdx.lower() for spdx in PERMISSIVE.values()):
        condition = next((what for word, what in CONDITIONS.items() if word in text), None)
        notes.append(f"its licence ({license}) {condition or 'is not one that headstart knows'}; read it before you use it")
    if is_gated:
        notes.append("its owner gives it only to those who accept terms of their own (it is gated)")
    return "; ".join(notes) or None


def license_of_card(card: Any) -> str:
    """Read the licence from a model card's metadata, as an SPDX name where there is one."""
    stated = card.get("license") if card else None
    first = (stated[0] if isinstance(stated, list) and stated else stated) or "unknown"
    if first == "other" and card.get("license_name"):
        return f"other: {card.get('license_name')}"
    return PERMISSIVE.get(str(first), str(first))


def license_id(license: str) -> str | None:
    """The hub's name of a licence, given SPDX's or the hub's own; `other` for one that it has no name for, None for none."""
    names = {spdx.lower(): name for name, spdx in PERMISSIVE.items()}
    stated = list(dict.fromkeys(part.strip().lower() for part in license.split(",") if part.strip()))
    if not stated or set(stated) & {"unknown", "none"}:
        return None
    ids = {names.get(text, text if text in PERMISSIVE else "other") for text in stated}
    return ids.pop() if len(ids) == 1 else "other"
