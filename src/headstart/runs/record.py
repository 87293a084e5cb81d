"""Manifests: what model.onnx's metadata, run.json and issues.json must say before anything of them is used.

Takes JSON as shapes.read_json gives it; raises ValueError where it is not as headstart writes it. It decides what a run may
leave out: what an earlier release did not write, and nothing that a page, a plot or a prediction is made of.
"""

from __future__ import annotations

from typing import Any

from headstart.classifier.metadata import ROUNDED, count, some
from headstart.safety.json_checks import anything, each, fields, flag, interval, mapping, maybe, number, path, share, text

CLASS_SCORE = fields(
    {"label": text, "precision": maybe(share), "recall": maybe(share), "f1": maybe(share), "support": count},
    {"average_precision": maybe(ROUNDED), "threshold": maybe(ROUNDED)},
)
BIN = fields(
    {"n": some, "probability": ROUNDED, "accuracy": share, "interval": interval},
    {"share": share, "n_effective": number(1e-9, 1e12)},
)
CALIBRATION = fields(
    {"n_images": count, "error_after": ROUNDED, "bins": each(BIN)},
    {
        "temperature": number(1e-9, 1e9),
        "error_before": maybe(ROUNDED),
        "bias": maybe(ROUNDED),
        "bins_before": maybe(each(BIN)),
        "is_balanced": flag,
    },
)
RUNG = fields(
    {"name": text, "accuracy": maybe(share), "is_taken": flag},
    {
        "look": maybe(text),
        "interval": maybe(interval),
        "cross_entropy": maybe(number()),
        "seconds": number(),
        "n_images": count,
        "why": maybe(text),
        "is_balanced": flag,
    },
)
EPOCH = fields(
    {"epoch": count},
    {"train_loss": maybe(number()), "validation_loss": maybe(number()), "validation_accuracy": maybe(share)},
)
SENTENCE = maybe(fields({}, {"sentence": maybe(text)}))
FINE_TUNING = fields({"is_taken": flag, "epochs": count}, {"history": maybe(each(EPOCH)), "comparison": SENTENCE})
POINT = fields({"n_per_class": some, "n_images": some, "accuracy": share, "interval": interval})
LEARNING_CURVE = fields(
    {"points": each(POINT)},
    {
        "forecast": maybe(fields({"n_more": some, "accuracy": share, "interval": interval})),
        "sentence": maybe(text),
        "n_held_out": maybe(count),
        "split": maybe(text),
    },
)
OF_STEP = {f"{split}_{name}": maybe(kind) for split in ("train", "validation") for name, kind in
           (("accuracy", share), ("cross_entropy", number()))}  # fmt: skip
STEP = fields({"step": count, **OF_STEP})
LEFT_OUT = fields({"label": text, "n": count}, dict.fromkeys(("flagged", "auroc", "auroc_max_probability"), maybe(share)))
PROBE = fields({"name": text}, {"prediction": maybe(text), "probability": ROUNDED, "unfamiliarity": maybe(number())})
UNFAMILIAR = fields(
    {},
    {
        "test": maybe(fields({"n": count, "flagged": count})),
        "left_out": maybe(each(LEFT_OUT)),
        "probes": maybe(each(PROBE)),
    },
)
RUN = fields(
    {
        "classes": each(text, least=1),
        "photos": path,
        "images": fields({"used": some}, dict.fromkeys(("train", "validation", "test", "skipped", "computed"), count)),
        "evaluation": fields(
            {
                "split": text,
                "n_images": some,
                "n_correct": count,
                "accuracy": share,
                "interval": interval,
                "classes": each(CLASS_SCORE),
            },
            {
                "cross_entropy": number(),
                "n_different": some,
                "balanced_accuracy": maybe(share),
                "balanced_interval": maybe(interval),
                **dict.fromkeys(("top5", "mean_average_precision", "f1_micro", "f1_macro"), maybe(ROUNDED)),
            },
        ),
    },
    {
        "run": maybe(path),
        "arguments": maybe(fields({}, {"seed": maybe(count), "test": maybe(share), "balance": maybe(flag)})),
        "images_of_class": maybe(mapping(count)),
        "notes": each(text),
        "choice": maybe(fields({}, {"backbone": text, "head": text})),
        "model": maybe(fields({}, {"file": text, "bytes": count, "sha256": text})),
        "seconds": maybe(mapping(number())),
        "versions": maybe(mapping(anything)),
        "calibration": maybe(CALIBRATION),
        "comparison": SENTENCE,
        "fine_tuning": maybe(FINE_TUNING),
        "fitting": maybe(
            fields(
                {"n_train": count, "n_validation": count}, {"steps": maybe(each(STEP)), "n_effective": number(1e-9, 1e12)}
            )
        ),
        "ladder": maybe(each(RUNG)),
        "learning_curve": maybe(LEARNING_CURVE),
        "unfamiliar": maybe(UNFAMILIAR),
    },
)
ISSUES = fields(
    {
        "issues": each(
            fields(
                {"kind": text},
                {
                    "path": maybe(text),
                    "paths": maybe(each(text)),
                    "label": maybe(text),
                    "labels": maybe(each(maybe(text))),
                    "suggested_label": maybe(text),
                    "score": maybe(number()),
                    "sentence": maybe(text),
                    "suggestion": maybe(text),
                },
            )
        )
    }
)


def check_run(about: Any) -> None:
    """Check a run.json; raises ValueError."""
    RUN(about, "")
    names, evaluation = about["classes"], about["evaluation"]
    k = len(names)
    maybe(each(ROUNDED, k))(about.get("thresholds"), "thresholds")
    if evaluation["n_correct"] > evaluation["n_images"]:
        raise ValueError(f"it says that {evaluation['n_correct']:,} of {evaluation['n_images']:,} images were right")
    if [score["label"] for score in evaluation["classes"]] != names:
        raise ValueError("its evaluation is of other classes than it has")
    if about.get("thresholds") is None:
        each(each(count, k), k)(evaluation.get("confusion"), "evaluation.confusion")
    elif evaluation.get("confusion") is not None:
        raise ValueError("it has a table of confusions, though an image may have several labels")
    if not set(about.get("images_of_class") or {}) <= set(names):
        raise ValueError("it counts images of classes that it does not have")


def check_issues(about: Any) -> None:
    """Check an issues.json; raises ValueError."""
    ISSUES(about, "")
