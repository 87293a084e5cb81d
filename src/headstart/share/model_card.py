"""The model card of a classifier on the Hugging Face hub: what it does, how good it is, and what it does not know.

It says what the run's report says, in the report's own sentences, but for what names photos or places.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Any

from headstart.backbones.huggingface.licenses import license_id
from headstart.export.card import how_to_use
from headstart.export.options import Options
from headstart.export.original import Original
from headstart.record import EvaluationRecord, RunRecord
from headstart.report.sentences import classes, learning, result, trust
from headstart.report.sentences.numbers import is_tested
from headstart.versions import own_version
from headstart.wording import counted, percent

README = "README.md"  # where the hub looks for it
MOST_ROWS = 200  # classes in the table


def model_card(original: Original, repo: str) -> Iterator[str]:
    """The model card, line by line: what the hub reads (YAML), then what people do."""
    name, about = repo.partition("/")[2], original.classifier.about
    record = None if original.saved is None else original.saved.record
    yield "---"
    for key, value in _front_matter(name, about["backbone"].get("license", ""), record).items():
        yield f"{key}: {json.dumps(value, ensure_ascii=False)}"  # JSON is YAML
    yield "---"
    yield ""
    yield f"# {name}"
    yield ""
    n_classes = counted(len(about["classes"]), "class")
    yield f"An image classifier that tells {n_classes} apart, made with headstart {own_version()}."
    yield ""
    yield from _usage(repo)
    if record is not None:
        yield from _quality(record)
        yield from _limits(record)
    yield from how_to_use(about, Options())
    yield from _origin(original)


def _usage(repo: str) -> Iterator[str]:
    yield "```sh"
    yield "pip install 'headstart[hub]'"
    yield f"headstart predict hf:{repo} photo.jpg"
    yield "```"
    yield ""
    yield "```python"
    yield "import headstart"
    yield ""
    yield f'classifier = headstart.load("hf:{repo}")  # fetched once, pinned by its commit; @REVISION names another'
    yield 'print(classifier.predict("photo.jpg")[0])'
    yield "```"
    yield ""
    yield "`model.onnx` runs in any ONNX runtime as well, without headstart: see below."
    yield ""


def _front_matter(name: str, license: str, record: RunRecord | None) -> dict[str, Any]:
    """The card's metadata, as the hub defines it (hub-docs, modelcard.md)."""
    stated = license_id(license)
    tags = ["image-classification", "onnx", "headstart", "transfer-learning"]
    card: dict[str, Any] = {"library_name": "headstart", "pipeline_tag": "image-classification", "tags": tags}
    if stated:
        card["license"] = stated
    if record is not None:
        evaluation = record["evaluation"]
        low, high = evaluation["interval"]
        metric = {"type": "accuracy", "value": evaluation["accuracy"], "name": f"accuracy (95 % {low:.4f} to {high:.4f})"}
        data = {"type": "own", "name": "photos of its maker, held out"}
        task = {"type": "image-classification"}
        card["model-index"] = [{"name": name, "results": [{"task": task, "dataset": data, "metrics": [metric]}]}]
    return card


def _quality(record: RunRecord) -> Iterator[str]:
    """How good it is, with the report's own sentences, and a row a class."""
    evaluation, images = record["evaluation"], record["images"]
    learnt = images["used"] - (images["test"] if is_tested(record) else 0)
    yield "## How good it is"
    yield ""
    yield f"It learnt from {counted(learnt, 'photo')} of its maker's own. {result.result(record)} {result.chance(record)}"
    yield ""
    for sentence in filter(None, (classes.classes(record), trust.calibration(record))):
        yield sentence
        yield ""
    yield from _class_table(evaluation, record["images_of_class"])


def _class_table(evaluation: EvaluationRecord, counts: Mapping[str, int]) -> Iterator[str]:
    yield "| class | photos | judged by | recall | precision |"
    yield "|---|---|---|---|---|"
    for row in evaluation["classes"][:MOST_ROWS]:
        shares = ["" if row[key] is None else percent(row[key] or 0.0) for key in ("recall", "precision")]  # type: ignore[literal-required]
        label = " ".join(row["label"].split()).replace("|", "\\|")
        yield f"| {label} | {counts.get(row['label'], 0):,} | {row['support']:,} | {shares[0]} | {shares[1]} |"
    if len(evaluation["classes"]) > MOST_ROWS:
        yield f"| and {len(evaluation['classes']) - MOST_ROWS:,} more, see labels.txt | | | | |"
    yield ""


def _limits(record: RunRecord) -> Iterator[str]:
    yield "## What it does not know"
    yield ""
    for sentence in filter(None, (trust.unfamiliar(record), *learning.limits(record))):
        yield f"- {sentence}"
    yield ""


def _origin(original: Original) -> Iterator[str]:
    backbone = original.classifier.about["backbone"]
    yield ""
    yield "## Where it comes from"
    yield ""
    yield f"- Backbone: {backbone['name']}; licence of its weights: {backbone.get('license') or 'unknown'}."
    for digest in backbone.get("sha256", ()):
        yield f"- sha256 of the weights: {digest}"
    for note in original.classifier.about.get("license_notes", ()):
        yield f"- {note}"
    yield f"- sha256 of model.onnx: {sha256(original.classifier.content).hexdigest()}"
    yield "- The photos, their names and their codes are not part of this repository."
