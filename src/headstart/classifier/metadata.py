"""The metadata of model.onnx: what it must say about a classifier before any of it is used.

Takes JSON as json_checks.read_json gives it; raises ValueError where it is not as headstart writes it.
"""

from __future__ import annotations

from typing import Any

from headstart.data.images import RESAMPLING
from headstart.safety.json_checks import each, fields, flag, maybe, number, one_of, share, text, whole
from headstart.trust.conformal import SCORES

LARGEST_SIDE = 8_192  # pixels of the square that a network sees
ROUNDED = number(-1e-3, 1.001)  # a probability, or a mean of some, in 32 bits
count = whole()
some = whole(1)

PREPROCESS = fields(
    {"size": whole(1, LARGEST_SIDE), "mean": each(number(-1e6, 1e6), 3), "std": each(number(-1e6, 1e6), 3)},
    {"crop": share, "resample": one_of(*RESAMPLING)},
)
SCORES_KEPT = {name: each(number(-1, 2), least=1) for name in SCORES}
CLASSIFIER = fields(
    {
        "classes": each(text, least=1),
        "preprocess": PREPROCESS,
        "has_unfamiliarity": flag,
        "backbone": fields({"name": text, "n_codes": some, "parts": each(some, least=1), "mirrored": flag}),
    },
    {
        "labels": one_of("one", "many"),
        "conformal": maybe(fields({"n": some, **SCORES_KEPT}, {"is_balanced": flag})),
        "license_notes": each(text),
    },
)


def check_classifier(about: Any) -> None:
    """Check the metadata of a model.onnx; raises ValueError."""
    CLASSIFIER(about, "")
    parts, k = about["backbone"]["parts"], len(about["classes"])
    if sum(parts) != about["backbone"]["n_codes"]:
        raise ValueError(f"its {about['backbone']['n_codes']:,} codes are not those of its parts, {sum(parts):,}")
    maybe(each(ROUNDED, k))(about.get("thresholds"), "thresholds")
