"""What TensorBoard shows of a run: curves, histograms, the graph, the projector, mistakes, precision, choices and its card.

Takes what a run knows; gives a folder of event files. It decides what is shown, and under which name.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from headstart.data.labels import are_many, label_text
from headstart.data.splits import SPLITS
from headstart.files import write_output
from headstart.heads.head import Head
from headstart.report.sentences.numbers import is_balanced
from headstart.report.sprites import GREY, square
from headstart.report.tensorboard.events import (
    bytes_field,
    double_field,
    doubles_field,
    event_file,
    int_field,
    metadata,
    scalar,
    summary,
    tensor,
    text_field,
)
from headstart.report.tensorboard.graph import graph_of
from headstart.runs.findings import Findings, Judged
from headstart.wording import percent, whole_percent

MOST_ROWS = 5_000  # in the projector: more are slow to turn, and its own t-SNE comes to no end
MOST_MISTAKES = 25
THUMBNAIL = 48  # pixels: 71 in a row fit into the textures of any graphics chip; JPEG's blocks of 16 do not mix two photos
MOST_VALUES = 1_000_000  # in a histogram: a head of neighbours holds the codes of all its photos
N_BINS = 60
MOST_CURVES = 100  # of precision against recall: a class takes 5 kB, and 4 ms of 60,000 photos
N_THRESHOLDS = 201  # from 0 to 1, as TensorBoard's own
MOST_LETTERS = 80  # of a name
MOST_CLASSES = 50  # on the card
DIGITS = 4  # of the projector's numbers: its rows have length 1 at most
TAKEN = {True: "yes", False: "no"}
NO_CHOICES = ("cache", "threads", "learning_curve", "trials")  # arguments that change nothing, and what was not chosen

# Each run's curves: where run.json has their points, what counts them, and the tag of each of their numbers.
CURVES: dict[str, tuple[tuple[str, str, str, dict[str, str]], ...]] = {
    "train": (
        ("fitting", "steps", "step", {"train_accuracy": "accuracy", "train_cross_entropy": "cross_entropy"}),
        (
            "fine_tuning",
            "history",
            "epoch",
            {"train_loss": "fine_tuning/cross_entropy", "lr": "fine_tuning/learning_rate"},
        ),
    ),
    "validation": (
        ("fitting", "steps", "step", {"validation_accuracy": "accuracy", "validation_cross_entropy": "cross_entropy"}),
        (
            "fine_tuning",
            "history",
            "epoch",
            {"validation_accuracy": "fine_tuning/accuracy", "validation_loss": "fine_tuning/cross_entropy"},
        ),
        (
            "learning_curve",
            "points",
            "n_images",
            {"accuracy": "learning_curve/accuracy", "cross_entropy": "learning_curve/cross_entropy"},
        ),
    ),
}


def write_events(
    folder: Path,
    about: Mapping[str, Any],
    findings: Findings,
    head: Head,
    model: bytes,
    *,
    pictures: Sequence[bytes | None] = (),
) -> None:
    """Write a run's folder for `tensorboard --logdir`, a new one; raises OutputError where that cannot be.

    about: run.json. model: the bytes of model.onnx. pictures: small JPEG files of the findings' n photos, None for one that
    is not there, or none at all. In TensorBoard there are four runs: `train` and `validation` with the same tags, as
    retrain.py had them; `evaluation`, which stands beside those of other run folders in the table of hyper-parameters; and
    the folder itself with all else.
    """
    pictures = pictures or [None] * len(findings.names)
    judged, wrong = findings.judged(about.get("thresholds")), findings.mistakes(about.get("thresholds"))
    classes = _distinct(about["classes"])
    mistakes = _mistakes(findings, judged, wrong, classes, pictures)
    runs = {
        "": (*_card(about), *mistakes, *_precision_recall(findings, judged, classes)),
        "evaluation": (*_numbers(about), *_choices(about)),
        "train": (graph_of(model), *_histograms(head), *_curves(about, "train")),
        "validation": tuple(_curves(about, "validation")),
    }
    at = datetime.fromisoformat(about["created"]).timestamp()
    for run, events in runs.items():
        write_output(folder / run / f"events.out.tfevents.{int(at)}.headstart", event_file(events, at))
    _write_projector(folder, findings, judged, classes, pictures)


def _named(label: np.ndarray, classes: Sequence[str]) -> str:
    return label_text(label, classes) or "(none)"


def _clean(text: str, *, end: bool = False) -> str:
    """Text of one line that is not too long: its beginning, or its end."""
    text = " ".join(text.split()) or "(no name)"
    if len(text) <= MOST_LETTERS:
        return text
    return f"…{text[1 - MOST_LETTERS :]}" if end else f"{text[: MOST_LETTERS - 1]}…"


def _distinct(names: Sequence[str]) -> list[str]:
    """Names of one line that are not too long, each once: two of the same tag would be one to TensorBoard."""
    taken: dict[str, None] = {}
    for name in map(_clean, names):
        n, whole = 1, name
        while name in taken:
            n += 1
            name = f"{whole} ({n})"
        taken[name] = None
    return list(taken)


# ---- what is shown


def _curves(about: Mapping[str, Any], run: str) -> Iterator[bytes]:
    for part, points, counter, tags in CURVES[run]:
        for point in (about.get(part) or {}).get(points) or ():
            for key, tag in tags.items():
                if point.get(key) is not None:
                    yield scalar(tag, point[key], step=point[counter])


def _numbers(about: Mapping[str, Any]) -> Iterator[bytes]:
    for tag, value in _metrics(about).items():
        yield scalar(tag, value)


def _metrics(about: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of the evaluation, by tag."""
    evaluation = about["evaluation"]
    numbers = {key: value for key, value in evaluation.items() if isinstance(value, float)}
    if calibration := about.get("calibration"):
        numbers["calibration_error"] = calibration["error_after"]
    return {f"evaluation/{key}": value for key, value in numbers.items()}


def _histograms(head: Head) -> Iterator[bytes]:
    for i, layer in enumerate(head.layers, start=1):
        place = f"head/layer_{i}" if len(head.layers) > 1 else "head"
        for name, array in zip(("weights", "biases"), layer, strict=True):
            values = array.ravel()
            values = values[:: -(-values.size // MOST_VALUES) or 1].astype(np.float64)
            counts, edges = np.histogram(values, bins=N_BINS)
            numbers = (values.min(), values.max(), values.size, values.sum(), values @ values)
            parts = b"".join(double_field(number, float(x)) for number, x in enumerate(numbers, start=1))
            # The first bucket of TensorBoard has no lower end: an empty one gives the second its own.
            parts += doubles_field(6, edges) + doubles_field(7, np.concatenate([[0], counts]))
            yield summary(f"{place}/{name}", bytes_field(5, parts))


def _mistakes(
    findings: Findings, judged: Judged, rows: np.ndarray, classes: Sequence[str], pictures: Sequence[bytes | None]
) -> Iterator[bytes]:
    """The photos that were labelled wrongly, the surest first, each under a tag that says what they are taken for."""
    import simplejpeg

    seen = [(row, picture) for row in rows.tolist() if (picture := pictures[row]) is not None]
    for rank, (row, picture) in enumerate(seen[:MOST_MISTAKES], start=1):
        j = int(np.searchsorted(findings.held_out, row))
        height, width = simplejpeg.decode_jpeg_header(picture)[:2]
        label, prediction = _named(findings.labels[row], classes), _named(judged.predictions[j], classes)
        sure = "" if are_many(findings.labels) else f" ({whole_percent(judged.sureness[j])})"
        image = int_field(1, height) + int_field(2, width) + int_field(3, 3) + bytes_field(4, picture)
        yield summary(f"mistakes/{rank:02} {label} → {prediction}{sure}", bytes_field(4, image))


def _card(about: Mapping[str, Any]) -> Iterator[bytes]:
    """The run in words, as the text plugin's Markdown."""
    text = "\n".join(_card_lines(about)).encode("utf-8", "replace")
    tensor = (
        int_field(1, 7) + bytes_field(2, bytes_field(2, int_field(1, 1))) + bytes_field(8, text)
    )  # strings, of shape (1,)
    yield summary("run", metadata("text") + bytes_field(8, tensor))


def _card_lines(about: Mapping[str, Any]) -> Iterator[str]:
    evaluation, images, choice = about["evaluation"], about["images"], about["choice"]
    low, high = evaluation["interval"]
    yield f"# {100 * evaluation['accuracy']:.1f} % right\n"
    yield (
        f"{evaluation['n_correct']:,} of {evaluation['n_images']:,} photos ({evaluation['split']}); "
        f"95 % interval {100 * low:.1f} to {100 * high:.1f} %\n"
    )
    if is_balanced(about):
        yield f"balanced accuracy (every class counted alike): {100 * evaluation['balanced_accuracy']:.1f} %\n"
    for part in ("learning_curve", "unfamiliar"):
        if sentence := (about.get(part) or {}).get("sentence"):
            yield f"{_safe(sentence)}\n"
    yield f"- photos: {_safe(str(about['photos']))}, {images['used']:,} used, {images['skipped']:,} skipped"
    yield f"- splits: {images['train']:,} train, {images['validation']:,} validation, {images['test']:,} test"
    yield f"- classifier: {_safe(', '.join(f'{k} {v}' for k, v in choice.items() if k != 'trials'))}"
    yield f"- made by headstart {about['headstart']}, {about['created']}\n"
    yield "### Classes\n\n| class | photos |\n|---|---|"
    of_class = about["images_of_class"]
    yield from (f"| {_safe(_clean(name))} | {n:,} |" for name, n in list(of_class.items())[:MOST_CLASSES])
    if len(of_class) > MOST_CLASSES:
        yield f"| ... and {len(of_class) - MOST_CLASSES:,} more | |"
    if ladder := about.get("ladder"):
        yield f"\n### What was tried\n\n| rung | {'balanced ' * is_balanced(about)}accuracy | taken |\n|---|---|---|"
        yield from (f"| {_safe(r['name'])} | {percent(r['accuracy'])} | {TAKEN[r['is_taken']]} |" for r in ladder)
    if notes := about.get("notes"):
        yield "\n### Notes\n"
        yield from (f"- {_safe(note)}" for note in notes)


def _safe(text: str) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"([\\`*_{}\[\]()#+!|~-])", lambda found: f"&#{ord(found[0])};", html.escape(" ".join(text.split())))


def _precision_recall(findings: Findings, judged: Judged, classes: Sequence[str]) -> Iterator[bytes]:
    """How many photos each class finds, and how many of these are its own, at each threshold, of all that was held out."""
    labels, thresholds = judged.labels, np.linspace(0, 1, N_THRESHOLDS).astype(np.float32)
    shown = _classes_with_curves(judged, len(classes))
    for j in shown:
        is_of_class, p = (labels[:, j] if labels.ndim > 1 else labels == j), findings.probabilities[:, j]
        n, n_of_class = len(p), int(is_of_class.sum())
        found = n - np.searchsorted(np.sort(p), thresholds)
        tp = n_of_class - np.searchsorted(np.sort(p[is_of_class]), thresholds)
        fp = found - tp
        counts = (tp, fp, n - n_of_class - fp, n_of_class - tp, tp / np.maximum(found, 1), tp / n_of_class)
        text = f"{n_of_class:,} of {n:,} held-out photos are labelled {_safe(classes[j])}."
        if MOST_CURVES == len(shown) < len(classes):
            text += f" Of {len(classes):,} classes, those {MOST_CURVES} with most mistakes have a curve."
        plugin = metadata("pr_curves", int_field(2, N_THRESHOLDS), description=text)
        yield summary(f"precision_recall/{classes[j]}", plugin + tensor(np.stack(counts)))


def _classes_with_curves(judged: Judged, n_classes: int) -> list[int]:
    """The classes that have held-out photos, ascending: all, or those with most mistakes."""
    if judged.labels.ndim > 1:
        n_photos, n_wrong = judged.labels.sum(axis=0), (judged.labels != judged.predictions).sum(axis=0)
    else:
        mistaken = np.concatenate([x[~judged.is_right] for x in (judged.labels, judged.predictions)])
        n_photos, n_wrong = (np.bincount(x, minlength=n_classes) for x in (judged.labels, mistaken))
    order = np.argsort(-n_wrong, kind="stable")
    return sorted(order[n_photos[order] > 0][:MOST_CURVES].tolist())


def _choices(about: Mapping[str, Any]) -> Iterator[bytes]:
    """The arguments, `auto` replaced by what was chosen, for the plugin of hyper-parameters: one row of its table.

    No list of the columns is written (its `experiment`): TensorBoard takes the list of any one run for all that it shows, so
    that what others chose, and their metrics, were missing. It finds the columns by itself, and which of them differ.
    """
    values = {**about["arguments"], **about["choice"], "evaluated_on": about["evaluation"]["split"]}
    given = b"".join(
        bytes_field(1, text_field(1, key) + bytes_field(2, _value(value)))
        for key, value in values.items()
        if value is not None and key not in NO_CHOICES
    )
    ended = datetime.fromisoformat(about["created"]).timestamp()
    began = ended - sum(about["seconds"].values())
    for tag, content in (
        ("session_start_info", bytes_field(3, given + double_field(5, began))),
        ("session_end_info", bytes_field(4, int_field(1, 1) + double_field(2, ended))),  # a success
    ):
        yield summary(f"_hparams_/{tag}", metadata("hparams", content))


def _value(value: Any) -> bytes:
    """A value as google.protobuf.Value."""
    if isinstance(value, bool):
        return int_field(4, value)
    if isinstance(value, (int, float)):
        return double_field(2, value)
    return text_field(3, (", ".join(map(str, value)) or "none") if isinstance(value, (list, tuple)) else str(value))


# ---- the projector


def _write_projector(
    folder: Path, findings: Findings, judged: Judged, classes: Sequence[str], pictures: Sequence[bytes | None]
) -> None:
    """Write the photos' codes along their first axes, what is known of each photo, and its thumbnail."""
    rows = _shown(findings, judged)
    if not len(rows):
        return
    values = np.round(findings.space[rows].astype(np.float64), DIGITS).tolist()
    write_output(folder / "codes.tsv", "".join("\t".join(map(repr, row)) + "\n" for row in values))
    write_output(folder / "photos.tsv", "".join(_table(findings, judged, classes, rows)).encode("utf-8", "replace"))
    sprite = ""
    if any(pictures[i] is not None for i in rows):
        write_output(folder / "photos.jpg", _sprite([pictures[i] for i in rows]))
        side = f"single_image_dim: {THUMBNAIL}"
        sprite = f'  sprite {{ image_path: "photos.jpg" {side} {side} }}\n'
    # Without a shape the page says "0 tensors found" while TensorBoard still reads the codes.
    shape = "".join(f" tensor_shape: {n}" for n in findings.space[rows].shape)
    config = f'  tensor_name: "codes"\n  tensor_path: "codes.tsv"\n {shape}\n  metadata_path: "photos.tsv"\n{sprite}'
    write_output(folder / "projector_config.pbtxt", f"embeddings {{\n{config}}}\n")


def _shown(findings: Findings, judged: Judged) -> np.ndarray:
    """The rows that the projector shows, ascending: all, or the mistakes and as many of the others, evenly."""
    mistakes = findings.held_out[~judged.is_right][:MOST_ROWS]
    others = np.setdiff1d(np.arange(len(findings.names)), mistakes)
    n = min(len(others), MOST_ROWS - len(mistakes))
    return np.sort(np.concatenate([mistakes, others[np.arange(n) * len(others) // max(1, n)]]))


def _table(findings: Findings, judged: Judged, classes: Sequence[str], rows: np.ndarray) -> Iterator[str]:
    yield "label\tprediction\tsureness\tjudged\tsplit\tunfamiliarity\tphoto\n"
    place = {row: j for j, row in enumerate(findings.held_out.tolist())}
    unknown = "-", "-", "not held out"
    for i in rows.tolist():
        told = unknown
        if (j := place.get(i)) is not None:
            prediction, verdict = _named(judged.predictions[j], classes), "right" if judged.is_right[j] else "wrong"
            told = prediction, f"{judged.sureness[j]:.3f}", verdict
        label, split, unfamiliar = _named(findings.labels[i], classes), SPLITS[findings.splits[i]], findings.unfamiliarity[i]
        yield "\t".join((label, *told, split, f"{unfamiliar:.3f}", _clean(findings.names[i], end=True))) + "\n"


def _sprite(pictures: Sequence[bytes | None]) -> bytes:
    """All thumbnails in one JPEG, filled row by row."""
    import simplejpeg

    columns = int(np.ceil(np.sqrt(len(pictures))))
    sheet = np.full((-(-len(pictures) // columns), THUMBNAIL, columns, THUMBNAIL, 3), GREY, np.uint8)
    for i, picture in enumerate(pictures):
        if picture is not None:
            sheet[i // columns, :, i % columns] = square(picture, THUMBNAIL)
    flat = sheet.reshape(-1, columns * THUMBNAIL, 3)
    return simplejpeg.encode_jpeg(flat, quality=75, colorspace="RGB", colorsubsampling="420")
