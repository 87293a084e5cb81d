"""What lies beside an exported file: labels.txt, classifier.json for programs, parity.json, and card.md for people."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.classifier.metadata import ClassifierMetadata
from headstart.export.options import Options
from headstart.export.original import Original
from headstart.export.parity import Parity
from headstart.export.writers import web
from headstart.files import write_output
from headstart.versions import own_version
from headstart.wording import counted, listed, percent

if TYPE_CHECKING:
    from headstart.export.formats import Format

FORMAT, PROGRAMS = 1, "classifier.json"  # the file for programs
FOR_PROGRAMS = (
    "classes",
    "labels",
    "thresholds",
    "preprocess",
    "has_unfamiliarity",
    "conformal",
    "backbone",
    "license_notes",
)
RESAMPLING = {
    "area": "the mean of the pixels that each new one covers (OpenCV's INTER_AREA); smaller images by INTER_CUBIC",
    "bilinear": "linearly between the nearest pixels, without a filter (OpenCV's INTER_LINEAR)",
    "bicubic": "cubically between the nearest pixels, without a filter (OpenCV's INTER_CUBIC)",
}


def write_card(
    folder: Path,
    original: Original,
    about: ClassifierMetadata,
    row: Format,
    options: Options,
    export: Mapping[str, Any],
    parity: Parity | None,
) -> None:
    """Write the files beside an export."""
    write_output(folder / "labels.txt", labels_text(about["classes"]))
    write_output(folder / PROGRAMS, _json(for_programs(original, about, row, options, folder)))
    write_output(folder / "parity.json", _json({**export, "folder": None}))
    write_output(folder / "card.md", "\n".join(_lines(original, about, row, options, export, parity)) + "\n")


def labels_text(classes: Sequence[str]) -> str:
    """The classes, one a line, in the order of the outputs."""
    return "".join(f"{' '.join(name.splitlines())}\n" for name in classes)


def for_programs(
    original: Original, about: ClassifierMetadata, row: Format, options: Options, folder: Path
) -> dict[str, Any]:
    """All that a program needs to use an exported file."""
    digest = sha256((folder / row.file).read_bytes()).hexdigest()
    described = describe_file(original.name, about, options, row.file, digest)
    return {**described, **({"bytes": web.bytes_to_load(folder)} if row.file == web.FILE else {})}


def describe_file(name: str, about: ClassifierMetadata, options: Options, file: str, digest: str) -> dict[str, Any]:
    """All that a program needs to use a file: its inputs, outputs, classes, preprocessing and thresholds. digest: sha256."""
    size, k = about["preprocess"]["size"], len(about["classes"])
    image = {"name": "photo", "shape": [1, "height", "width", 3]} if options.any_size else _image(size, options)
    outputs = {"probabilities": [k], "codes": [about["backbone"]["n_codes"]], "unfamiliarity": [1]}
    if not about["has_unfamiliarity"] or options.slim:
        del outputs["unfamiliarity"]
    if options.slim:
        del outputs["codes"]
    return {
        "format": FORMAT,
        "name": name,
        "file": file,
        "sha256": digest,
        "headstart": own_version(),
        "image": {**image, "type": "uint8", "channels": "RGB", "values": "0 to 255, as they are"},
        "outputs": outputs,
        **{key: about[key] for key in FOR_PROGRAMS if key in about},  # type: ignore[literal-required]
    }


def _image(size: int, options: Options) -> dict[str, Any]:
    batch: int | str = int(options.batch) if options.batch and options.batch != "any" else "n"
    return {"name": "image", "shape": [batch, size, size, 3]}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1) + "\n"


def _lines(
    original: Original,
    about: ClassifierMetadata,
    row: Format,
    options: Options,
    export: Mapping[str, Any],
    parity: Parity | None,
) -> Iterator[str]:
    yield f"# {original.name}"
    yield ""
    yield f"An image classifier, exported by headstart {own_version()} as {row.about}."
    yield ""
    yield f"- It tells {counted(len(about['classes']), 'class')} apart: {listed(about['classes'], most=20)}."
    yield f"- Backbone: {about['backbone']['name']}; licence of the weights: {about['backbone'].get('license', 'unknown')}."
    for note in about.get("license_notes", ()):
        yield f"- {note}"
    yield from _how_good(original)
    yield from how_to_use(about, options)
    yield ""
    yield "## Compared with the original"
    yield ""
    yield from _compared(export, parity)


def how_to_use(about: ClassifierMetadata, options: Options) -> Iterator[str]:
    """How an image is made ready for the file, and what comes out of it."""
    size = about["preprocess"]["size"]
    yield ""
    yield "## How an image is made ready"
    yield ""
    if options.any_size:
        yield "Give the photo as it is decoded, upright, RGB, 0 to 255; the file cuts and resizes it itself."
    else:
        crop = about["preprocess"].get("crop", 1.0)
        yield "1. Decode the photo at its full size, turn it upright (EXIF), put transparency on white, take RGB, 0 to 255."
        whole = "the square in the middle, as large as it can be"
        yield f"2. Cut {whole if crop == 1 else f'the square in the middle whose side is {crop:g} times the shorter side'}."
        yield f"3. Resize it to {size} x {size}: {RESAMPLING[about['preprocess'].get('resample', 'area')]}."
        yield "4. Give the whole numbers; the normalisation is inside the file."
    yield ""
    yield "## What comes out"
    yield ""
    yield "- `probabilities`: one for each line of labels.txt" + (
        "; each class applies by itself, from its threshold in classifier.json on" if about.get("labels") == "many" else ""
    )
    if about["has_unfamiliarity"] and not options.slim:
        yield "- `unfamiliarity`: above 1, the photo looks like nothing in the training photos, and the label means nothing."


def _how_good(original: Original) -> Iterator[str]:
    if original.saved is None:
        return
    record = original.saved.record
    evaluation = record["evaluation"]
    low, high = evaluation["interval"]
    yield f"- Learnt from {counted(record['images']['used'] - record['images'].get('test', 0), 'photo')}."
    yield (
        f"- Accuracy of the original: {percent(evaluation['accuracy'])} of {counted(evaluation['n_images'], 'photo')} "
        f"({evaluation['split']}; 95 % interval {percent(low)} to {percent(high)})."
    )


def _compared(export: Mapping[str, Any], parity: Parity | None) -> Iterator[str]:
    if parity is None:
        yield f"**Not checked**: {export['not_checked']}."
        return
    yield f"On {counted(parity.n, 'photo')} ({parity.photos}), run by {export['runner']}:"
    yield ""
    yield f"- {parity.sentence()}; for 99 of 100 photos by {parity.probability.high:.4f} at most."
    if parity.unfamiliarity is not None:
        yield f"- Unfamiliarity differs by {parity.unfamiliarity.largest:.4f} at most."
    if parity.accuracies is not None:
        ours, theirs = parity.accuracies
        yield f"- Accuracy: {percent(ours.share)} before, {percent(theirs.share)} after."
    for path, ours_label, theirs_label in parity.differing[:20]:
        yield f"- {Path(path).name}: {ours_label} became {theirs_label}"
