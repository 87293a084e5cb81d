"""Writes a run's event files for TensorBoard: curves, histograms, graph, projector, mistakes, PR curves, hyper-parameters.

Takes run.json, findings, head and model.onnx; gives a folder of event files. It decides what is shown, and under which tag.
The curves are the rows of report/curve_table.py; a new plugin's data is one more generator of events in write_events.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from headstart.data.labels import are_many, label_text
from headstart.data.splits import SPLITS
from headstart.files import write_output
from headstart.heads.head import Head
from headstart.record import RunRecord
from headstart.report.curve_table import CURVES
from headstart.report.sentences.learning import more_photos
from headstart.report.sentences.numbers import balanced, is_balanced
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
from headstart.runs.findings import Findings, Outcomes
from headstart.wording import percent, whole_percent

MOST_ROWS = 5_000  # in the projector: more are slow to turn, and its own t-SNE comes to no end
MOST_MISTAKES = 25
THUMBNAIL = 48  # pixels: 71 in a row fit into the textures of any graphics chip; JPEG's blocks of 16 do not mix two photos
MOST_VALUES = 1_000_000  # in a histogram: a head of neighbours holds the codes of all training photos
N_BINS = 60
MOST_CURVES = 100  # of precision against recall: a class takes 5 kB, and 4 ms of 60,000 photos
N_THRESHOLDS = 201  # from 0 to 1, as TensorBoard's own
MOST_LETTERS = 80  # of a name
MOST_CLASSES = 50  # on the card
DIGITS = 4  # of the projector's numbers: its rows have length 1 at most
YES_NO = {True: "yes", False: "no"}
NO_HYPERPARAMETERS = ("cache", "threads", "learning_curve", "trials")  # they change no classifier, or list all trials


def write_events(
    folder: Path,
    record: RunRecord,
    findings: Findings,
    head: Head,
    model: bytes,
    *,
    pictures: Sequence[bytes | None] = (),
) -> None:
    """Write a run's new folder for `tensorboard --logdir`; raises OutputError where it cannot be written.

    record: run.json. model: the bytes of model.onnx. pictures: small JPEG files of the findings' n photos, or None; empty
    where there are none at all. In TensorBoard there are four runs: `train` and `validation` with the same tags, as
    retrain.py had them; `evaluation`, which stands beside those of other run folders in the table of hyper-parameters; and
    the folder itself with all else.
    """
    pictures = pictures or [None] * len(findings.names)
    outcomes, wrong = findings.outcomes(record.get("thresholds")), findings.mistakes(record.get("thresholds"))
    classes = _distinct_names(record["classes"])
    mistakes = _mistake_images(findings, outcomes, wrong, classes, pictures)
    runs = {
        "": (*_card(record), *mistakes, *_precision_recall(findings, outcomes, classes)),
        "evaluation": (*_metric_scalars(record), *_hyperparameters(record)),
        "train": (graph_of(model), *_histograms(head), *_curves(record, "train")),
        "validation": tuple(_curves(record, "validation")),
    }
    at = datetime.fromisoformat(record["created"]).timestamp()
    for run, events in runs.items():
        write_output(folder / run / f"events.out.tfevents.{int(at)}.headstart", event_file(events, at))
    _write_projector(folder, findings, outcomes, classes, pictures)


def _label_text(label: np.ndarray, classes: Sequence[str]) -> str:
    return label_text(label, classes) or "(none)"


def _shorten(text: str, *, end: bool = False) -> str:
    """Shorten a text to one line of MOST_LETTERS: its beginning, or its end."""
    text = " ".join(text.split()) or "(no name)"
    if len(text) <= MOST_LETTERS:
        return text
    return f"…{text[1 - MOST_LETTERS :]}" if end else f"{text[: MOST_LETTERS - 1]}…"


def _distinct_names(names: Sequence[str]) -> list[str]:
    """Shorten names and number equal ones: TensorBoard would take two of the same tag for one."""
    distinct: dict[str, None] = {}
    for name in map(_shorten, names):
        n, whole = 1, name
        while name in distinct:
            n += 1
            name = f"{whole} ({n})"
        distinct[name] = None
    return list(distinct)


def _curves(record: RunRecord, run: str) -> Iterator[bytes]:
    """Yield the scalars of a split's curves, point by point; the head's own curves have tags without a folder."""
    for (entry, _), rows in groupby((c for c in CURVES if c.split == run), key=lambda curve: (curve.entry, curve.points)):
        curves = list(rows)
        folder = "" if entry == "fitting" else f"{entry}/"
        for point in curves[0].points_of(record):
            for curve in curves:
                if point.get(curve.key) is not None:
                    yield scalar(folder + curve.measure, point[curve.key], step=point[curve.counter])


def _metric_scalars(record: RunRecord) -> Iterator[bytes]:
    for tag, value in _metrics(record).items():
        yield scalar(tag, value)


def _metrics(record: RunRecord) -> dict[str, float]:
    """Give the numbers of the evaluation, by tag."""
    evaluation = record["evaluation"]
    numbers = {key: value for key, value in evaluation.items() if isinstance(value, float)}
    if calibration := record.get("calibration"):
        numbers["calibration_error"] = calibration["error_after"]
    return {f"evaluation/{key}": value for key, value in numbers.items()}


def _histograms(head: Head) -> Iterator[bytes]:
    """Yield a histogram of the weights and one of the biases of each layer of the head."""
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


def _mistake_images(
    findings: Findings, outcomes: Outcomes, rows: np.ndarray, classes: Sequence[str], pictures: Sequence[bytes | None]
) -> Iterator[bytes]:
    """Yield the photos that were predicted wrongly, the most confident first, under tags of label and prediction."""
    import simplejpeg

    photos = [(row, picture) for row in rows.tolist() if (picture := pictures[row]) is not None]
    for rank, (row, picture) in enumerate(photos[:MOST_MISTAKES], start=1):
        j = int(np.searchsorted(findings.held_out, row))
        height, width = simplejpeg.decode_jpeg_header(picture)[:2]
        label, prediction = _label_text(findings.labels[row], classes), _label_text(outcomes.predictions[j], classes)
        sure = "" if are_many(findings.labels) else f" ({whole_percent(outcomes.confidence[j])})"
        image = int_field(1, height) + int_field(2, width) + int_field(3, 3) + bytes_field(4, picture)
        yield summary(f"mistakes/{rank:02} {label} → {prediction}{sure}", bytes_field(4, image))


def _card(record: RunRecord) -> Iterator[bytes]:
    """Yield the run's summary as Markdown, for the text plugin."""
    text = "\n".join(_card_lines(record)).encode("utf-8", "replace")
    tensor = (
        int_field(1, 7) + bytes_field(2, bytes_field(2, int_field(1, 1))) + bytes_field(8, text)
    )  # strings, of shape (1,)
    yield summary("run", metadata("text") + bytes_field(8, tensor))


def _card_lines(record: RunRecord) -> Iterator[str]:
    evaluation, images, choice = record["evaluation"], record["images"], record["choice"]
    low, high = evaluation["interval"]
    yield f"# {100 * evaluation['accuracy']:.1f} % right\n"
    yield (
        f"{evaluation['n_correct']:,} of {evaluation['n_images']:,} photos ({evaluation['split']}); "
        f"95 % interval {100 * low:.1f} to {100 * high:.1f} %\n"
    )
    if is_balanced(record):
        yield f"balanced accuracy (every class counted alike): {100 * balanced(evaluation)[0]:.1f} %\n"
    if sentence := more_photos(record):
        yield f"{_escape_markdown(sentence)}\n"
    yield f"- photos: {_escape_markdown(str(record['photos']))}, {images['used']:,} used, {images['skipped']:,} skipped"
    yield f"- splits: {images['train']:,} train, {images['validation']:,} validation, {images['test']:,} test"
    yield f"- classifier: {_escape_markdown(', '.join(f'{k} {v}' for k, v in choice.items() if k != 'trials'))}"
    yield f"- made by headstart {record['headstart']}, {record['created']}\n"
    yield "### Classes\n\n| class | photos |\n|---|---|"
    of_class = record["images_of_class"]
    yield from (f"| {_escape_markdown(_shorten(name))} | {n:,} |" for name, n in list(of_class.items())[:MOST_CLASSES])
    if len(of_class) > MOST_CLASSES:
        yield f"| ... and {len(of_class) - MOST_CLASSES:,} more | |"
    if ladder := record.get("ladder"):
        yield f"\n### What was tried\n\n| rung | {'balanced ' * is_balanced(record)}accuracy | taken |\n|---|---|---|"
        yield from (
            f"| {_escape_markdown(r['name'])} | {percent(r['accuracy'])} | {YES_NO[r['is_taken']]} |" for r in ladder
        )
    if notes := record.get("notes"):
        yield "\n### Notes\n"
        yield from (f"- {_escape_markdown(note)}" for note in notes)


def _escape_markdown(text: str) -> str:
    """Escape text so that Markdown shows it as it is."""
    return re.sub(r"([\\`*_{}\[\]()#+!|~-])", lambda match: f"&#{ord(match[0])};", html.escape(" ".join(text.split())))


def _precision_recall(findings: Findings, outcomes: Outcomes, classes: Sequence[str]) -> Iterator[bytes]:
    """Yield each class's precision-recall curve over thresholds, on all held-out photos (the pr_curves plugin)."""
    labels, thresholds = outcomes.labels, np.linspace(0, 1, N_THRESHOLDS).astype(np.float32)
    rows = _classes_with_curves(outcomes, len(classes))
    for j in rows:
        is_of_class, p = (labels[:, j] if labels.ndim > 1 else labels == j), findings.probabilities[:, j]
        n, n_of_class = len(p), int(is_of_class.sum())
        n_above = n - np.searchsorted(np.sort(p), thresholds)
        tp = n_of_class - np.searchsorted(np.sort(p[is_of_class]), thresholds)
        fp = n_above - tp
        counts = (tp, fp, n - n_of_class - fp, n_of_class - tp, tp / np.maximum(n_above, 1), tp / n_of_class)
        text = f"{n_of_class:,} of {n:,} held-out photos are labelled {_escape_markdown(classes[j])}."
        if MOST_CURVES == len(rows) < len(classes):
            text += f" Of {len(classes):,} classes, those {MOST_CURVES} with most mistakes have a curve."
        plugin = metadata("pr_curves", int_field(2, N_THRESHOLDS), description=text)
        yield summary(f"precision_recall/{classes[j]}", plugin + tensor(np.stack(counts)))


def _classes_with_curves(outcomes: Outcomes, n_classes: int) -> list[int]:
    """Choose the classes that have held-out photos, ascending: all, or those with most mistakes."""
    if outcomes.labels.ndim > 1:
        n_photos, n_wrong = outcomes.labels.sum(axis=0), (outcomes.labels != outcomes.predictions).sum(axis=0)
    else:
        confused = np.concatenate([x[~outcomes.is_right] for x in (outcomes.labels, outcomes.predictions)])
        n_photos, n_wrong = (np.bincount(x, minlength=n_classes) for x in (outcomes.labels, confused))
    order = np.argsort(-n_wrong, kind="stable")
    return sorted(order[n_photos[order] > 0][:MOST_CURVES].tolist())


def _hyperparameters(record: RunRecord) -> Iterator[bytes]:
    """Yield the arguments, `auto` replaced by what was chosen: one row of the hparams plugin's table.

    No list of the columns (the plugin's `experiment`) is written: TensorBoard takes the list of one run for all runs, and
    would miss the columns that only others have. It finds the columns by itself, and which of them differ.
    """
    values = {**record["arguments"], **record["choice"], "evaluated_on": record["evaluation"]["split"]}
    hparams = b"".join(
        bytes_field(1, text_field(1, key) + bytes_field(2, _protobuf_value(value)))
        for key, value in values.items()
        if value is not None and key not in NO_HYPERPARAMETERS
    )
    ended = datetime.fromisoformat(record["created"]).timestamp()
    began = ended - sum(record["seconds"].values())
    for tag, content in (
        ("session_start_info", bytes_field(3, hparams + double_field(5, began))),
        ("session_end_info", bytes_field(4, int_field(1, 1) + double_field(2, ended))),  # a success
    ):
        yield summary(f"_hparams_/{tag}", metadata("hparams", content))


def _protobuf_value(value: Any) -> bytes:
    """Encode a value as google.protobuf.Value."""
    if isinstance(value, bool):
        return int_field(4, value)
    if isinstance(value, (int, float)):
        return double_field(2, value)
    return text_field(3, (", ".join(map(str, value)) or "none") if isinstance(value, (list, tuple)) else str(value))


def _write_projector(
    folder: Path, findings: Findings, outcomes: Outcomes, classes: Sequence[str], pictures: Sequence[bytes | None]
) -> None:
    """Write the projector's files: the photos' codes along their principal axes, a table of metadata, and thumbnails."""
    rows = _projector_rows(findings, outcomes)
    if not len(rows):
        return
    values = np.round(findings.space[rows].astype(np.float64), DIGITS).tolist()
    write_output(folder / "codes.tsv", "".join("\t".join(map(repr, row)) + "\n" for row in values))
    write_output(
        folder / "photos.tsv", "".join(_metadata_lines(findings, outcomes, classes, rows)).encode("utf-8", "replace")
    )
    sprite = ""
    if any(pictures[i] is not None for i in rows):
        write_output(folder / "photos.jpg", _sprite_sheet([pictures[i] for i in rows]))
        side = f"single_image_dim: {THUMBNAIL}"
        sprite = f'  sprite {{ image_path: "photos.jpg" {side} {side} }}\n'
    # Without a shape the page says "0 tensors found" while TensorBoard still reads the codes.
    shape = "".join(f" tensor_shape: {n}" for n in findings.space[rows].shape)
    config = f'  tensor_name: "codes"\n  tensor_path: "codes.tsv"\n {shape}\n  metadata_path: "photos.tsv"\n{sprite}'
    write_output(folder / "projector_config.pbtxt", f"embeddings {{\n{config}}}\n")


def _projector_rows(findings: Findings, outcomes: Outcomes) -> np.ndarray:
    """Choose the rows that the projector shows, ascending: all, or the mistakes and some of the others, evenly."""
    mistakes = findings.held_out[~outcomes.is_right][:MOST_ROWS]
    others = np.setdiff1d(np.arange(len(findings.names)), mistakes)
    n = min(len(others), MOST_ROWS - len(mistakes))
    return np.sort(np.concatenate([mistakes, others[np.arange(n) * len(others) // max(1, n)]]))


def _metadata_lines(findings: Findings, outcomes: Outcomes, classes: Sequence[str], rows: np.ndarray) -> Iterator[str]:
    yield "label\tprediction\tsureness\tjudged\tsplit\tunfamiliarity\tphoto\n"
    place = {row: j for j, row in enumerate(findings.held_out.tolist())}
    not_held_out = "-", "-", "not held out"
    for i in rows.tolist():
        outcome = not_held_out
        if (j := place.get(i)) is not None:
            prediction, verdict = _label_text(outcomes.predictions[j], classes), "right" if outcomes.is_right[j] else "wrong"
            outcome = prediction, f"{outcomes.confidence[j]:.3f}", verdict
        label, split, unfamiliar = (
            _label_text(findings.labels[i], classes),
            SPLITS[findings.splits[i]],
            findings.unfamiliarity[i],
        )
        yield "\t".join((label, *outcome, split, f"{unfamiliar:.3f}", _shorten(findings.names[i], end=True))) + "\n"


def _sprite_sheet(pictures: Sequence[bytes | None]) -> bytes:
    """Put all thumbnails into one JPEG, filled row by row."""
    import simplejpeg

    columns = int(np.ceil(np.sqrt(len(pictures))))
    sheet = np.full((-(-len(pictures) // columns), THUMBNAIL, columns, THUMBNAIL, 3), GREY, np.uint8)
    for i, picture in enumerate(pictures):
        if picture is not None:
            sheet[i // columns, :, i % columns] = square(picture, THUMBNAIL)
    flat = sheet.reshape(-1, columns * THUMBNAIL, 3)
    return simplejpeg.encode_jpeg(flat, quality=75, colorspace="RGB", colorsubsampling="420")
