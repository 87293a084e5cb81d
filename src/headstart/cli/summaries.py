"""The text that commands print for people: a training, accuracy, confusions, the ladder, learning curves, predictions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from headstart.classifier.prediction import Prediction
from headstart.cli.console import program, quoted, table
from headstart.data.labels import SEPARATOR
from headstart.evaluation.metrics import Evaluation
from headstart.evaluation.multilabel import MultiLabelEvaluation
from headstart.record import FineTuningRecord, LearningCurveRecord, RungRecord, RunRecord
from headstart.report.sentences import numbers
from headstart.runs.photo_paths import is_remote
from headstart.safety.terminal_text import printable
from headstart.wording import counted, percent

if TYPE_CHECKING:
    from headstart.runs.open import SavedRun
    from headstart.training.steps.write_run import Run

MOST_CLASSES = 20  # more rows than this hide the result
WORST_CLASSES = 10
MOST_CONFUSION = 10
MOST_UNFAMILIAR = 20


def run_text(run: Run, *, is_curve_asked: bool) -> str:
    """What a training gave, part by part, and what to do next.

    is_curve_asked: show the learning curve's points too, and it even where it forecasts nothing.
    """
    from headstart.checks.kinds import kind_title

    about, images, seconds = run.about, run.about["images"], run.about["seconds"]
    n_train = images["train"] + images["validation"]
    parts = [
        f"{images['used']:,} photos of {len(about['classes'])} classes: {_splits_text(about)}\n"
        + evaluation_text(run.evaluation, is_balanced=numbers.is_balanced(about))
    ]
    if len(about["ladder"]) > 1:
        parts.append(ladder_text(about["ladder"], n_train))
    if (tuning := about["fine_tuning"]) is not None:
        parts.append(_fine_tuning_text(tuning))
    if (curve := about["learning_curve"]) is not None and (is_curve_asked or curve["forecast"]):
        parts.append("\n".join([curve["sentence"], *([curve_text(curve)] if is_curve_asked else [])]))
    is_tuned = about["choice"]["head"] == "fine-tuned"  # then what was held out has chosen the epoch
    if run.evaluation.split == "test" and not is_tuned and about["cross_validation"]["n_images"]:
        parts.append(_cross_validation_text(about, n_train))
    lines = [
        f"seconds: {', '.join(f'{stage} {s:.1f}' for stage, s in seconds.items())}; together {sum(seconds.values()):.1f}"
    ]
    if about["issues"]:
        most_first = sorted(about["issues"].items(), key=lambda kind: -kind[1])
        kinds = ", ".join(f"{kind_title(kind).lower()} ({n:,})" for kind, n in most_first)
        lines.append(f"found in the photos: {kinds}; the report shows them")
    report = f"How far to trust it, and why: open {run.folder}/report.html"
    if about["arguments"].get("report") == "none":
        report = f"No report was written; for one: {program()} report {quoted(run.folder)}"
    next_steps = (
        f"{report}\nThe classifier is in {run.folder}; label new photos with:"
        f"\n  {program()} predict {quoted(run.folder)} PHOTO_OR_FOLDER"
    )
    return "\n\n".join(parts) + "\n" + "\n".join(lines) + "\n\n" + next_steps


def _fine_tuning_text(tuning: FineTuningRecord) -> str:
    taken = "and is taken" if tuning["is_taken"] else "and is not taken: the frozen classifier stays (--force overrides)"
    return (
        f"fine-tuning ({tuning['unfrozen']}, {tuning['epochs']} epochs, {tuning['seconds']:.0f} s) {taken}\n"
        f"  on the validation photos: {tuning['comparison']['sentence']}"
    )


def _splits_text(about: RunRecord) -> str:
    """How many photos are learnt from, chosen by and tested with."""
    images, n_train = about["images"], about["images"]["train"] + about["images"]["validation"]
    if about["cross_validation"].get("by") != "validation":
        return f"{n_train:,} to learn from, {images['test']:,} to test with"
    learnt = f"{images['train']:,} to learn from, {images['validation']:,} to choose by"
    also = " and then learn from" if about["arguments"].get("learn_from_val") else ""
    return f"{learnt}{also}, {images['test']:,} to test with"


def _cross_validation_text(about: RunRecord, n_train: int) -> str:
    cv = about["cross_validation"]
    low, high = cv["interval"] or (0.0, 1.0)
    if cv.get("by") == "validation":
        return f"what was chosen, on the {cv['n_images']:,} validation photos that chose: {percent(cv['accuracy'])}"
    share = f"{'all' if cv['n_images'] == n_train else format(cv['n_images'], ',')} of the {n_train:,} photos"
    balanced = f"; balanced accuracy {percent(cv['balanced_accuracy'])}" if numbers.is_balanced(about) else ""
    return (
        f"what was chosen, cross-validated on {share} to learn from: "
        f"{percent(cv['accuracy'])} ({percent(low)} to {percent(high)}){balanced}"
    )


def evaluation_text(evaluation: Evaluation | MultiLabelEvaluation, *, is_balanced: bool = False) -> str:
    """The result in a sentence, then a row a class; of many classes, the ones that do worst.

    is_balanced: say as well how good it is where every class counts the same.
    """
    if isinstance(evaluation, MultiLabelEvaluation):
        return _multilabel_text(evaluation)
    low, high = evaluation.interval
    where = "test photos, seen for the first time" if evaluation.split == "test" else "photos, each held out in turn"
    lines = [
        f"accuracy {percent(evaluation.accuracy)} on {evaluation.n_images:,} {where} "
        f"(95 % interval: {percent(low)} to {percent(high)}{_copies_text(evaluation)})",
    ]
    if is_balanced:
        low, high = evaluation.balanced_interval
        lines.append(
            f"balanced accuracy {percent(evaluation.balanced_accuracy)}, every class counted alike (95 % interval: "
            f"{percent(low)} to {percent(high)})"
        )
    lines.append(f"cross entropy {evaluation.cross_entropy:z.3f}")
    if evaluation.top5 is not None:
        lines.append(f"the right class is among the first five for {percent(evaluation.top5)}")
    scores = sorted(evaluation.classes, key=lambda c: c.f1 if c.f1 is not None else 2.0)
    in_table = evaluation.classes if len(evaluation.classes) <= MOST_CLASSES else tuple(scores[:WORST_CLASSES])
    rows = [(c.label, percent(c.precision), percent(c.recall), percent(c.f1), f"{c.support:,}") for c in in_table]
    lines += ["", table(("class", "precision", "recall", "F1", "photos"), rows)]
    if len(in_table) < len(evaluation.classes):
        lines.append(f"  ... the {len(in_table)} worst of {len(evaluation.classes)} classes; all of them are in run.json")
    return "\n".join([*lines, *_confusion_matrix(evaluation), *_confusions(evaluation)])


def _copies_text(evaluation: Evaluation | MultiLabelEvaluation) -> str:
    """How many photos the interval counts, where some are copies."""
    n_different = evaluation.n_different
    return f"; {n_different:,} different photos, copies count as one" if n_different < evaluation.n_images else ""


def _multilabel_text(evaluation: MultiLabelEvaluation) -> str:
    low, high = evaluation.interval
    where = "test photos, seen for the first time" if evaluation.split == "test" else "photos, each held out in turn"
    lines = [
        f"all labels right for {percent(evaluation.accuracy)} of {evaluation.n_images:,} {where} "
        f"(95 % interval: {percent(low)} to {percent(high)}{_copies_text(evaluation)})",
        f"mean average precision {percent(evaluation.mean_average_precision)}; F1 of all decisions together (micro) "
        f"{percent(evaluation.f1_micro)}, mean of the labels (macro) {percent(evaluation.f1_macro)}",
    ]
    scores = sorted(evaluation.classes, key=lambda c: c.f1 if c.f1 is not None else 2.0)
    in_table = evaluation.classes if len(evaluation.classes) <= MOST_CLASSES else tuple(scores[:WORST_CLASSES])
    rows = [
        (
            c.label,
            *(percent(share) for share in (c.precision, c.recall, c.f1, c.average_precision)),
            f"{c.threshold:.2f}",
            f"{c.support:,}",
        )
        for c in in_table
    ]
    header = ("label", "precision", "recall", "F1", "average precision", "threshold", "photos")
    lines += ["", table(header, rows)]
    if len(in_table) < len(evaluation.classes):
        lines.append(f"  ... the {len(in_table)} worst of {len(evaluation.classes)} labels; all of them are in run.json")
    return "\n".join(lines)


def people_row(prediction: Prediction, width: int) -> str:
    """A prediction as a line: the answer, how sure, of what, and what else it might be; width: of the longest class name."""
    path = printable(prediction.path)
    if prediction.prediction is None:
        return f"{'-':<{width}}  {'-':>7}  {path}  ({prediction.status}: {printable(str(prediction.reason))})"
    answers = {prediction.prediction, *prediction.prediction.split(SEPARATOR)}  # a class may have a | in its own name
    others = [f"{printable(name)} {percent(p)}" for name, p in prediction.top if p >= 0.01 and name not in answers]
    also = f"  ({', '.join(others)})" if others else ""
    if prediction.set is not None:
        also = f"  {{{', '.join(map(printable, prediction.set))}}}"
    if prediction.unfamiliar:
        also += f"  unfamiliar ({prediction.unfamiliarity:.1f}): like nothing it was shown"
    return f"{printable(prediction.prediction) or '(none)':<{width}}  {percent(prediction.probability):>7}  {path}{also}"


def missing_photos_notes(saved: SavedRun) -> Iterator[str]:
    """Say how many of a run's photos are not where they were, if any."""
    if not saved.n_gone:
        return
    photos, where = saved.record["photos"], "are not where they were"
    if is_remote(photos):
        where = "are not looked for on another machine because a run names it"
    yield f"{saved.n_gone:,} of {len(saved.images):,} photos {where} ({photos}); --photos says where they lie now"


def unfamiliar_lines(added: Sequence[dict[str, Any]]) -> list[str]:
    """Say which photos that were added to a map are unfamiliar, the strangest first; added: rows as predict has them."""
    strange = sorted((row for row in added if row["unfamiliar"]), key=lambda row: -row["unfamiliarity"])
    if not strange:
        return []
    of = f"{len(strange):,} of the {counted(len(added), 'photo')} that {'was' if len(added) == 1 else 'were'} added"
    lines = [f"{of} {'is' if len(strange) == 1 else 'are'} unfamiliar, like nothing it was shown:"]
    lines += [printable(f"  {row['path']} ({row['unfamiliarity']:.1f})") for row in strange[:MOST_UNFAMILIAR]]
    rest = len(strange) - MOST_UNFAMILIAR
    return [*lines, f"  ... and {rest:,} more: --json lists all"] if rest > 0 else lines


def ladder_text(rungs: Sequence[RungRecord], n_train: int) -> str:
    """The rungs that were tried, each with what it gave on held-out photos and what became of it.

    n_train: photos that are learnt from in all, of which rungs may have seen a sample.
    """
    rows = []
    for rung in rungs:
        if rung["accuracy"] is None:
            rows.append((rung["name"], "-", "-", "-", "no", rung["why"]))
            continue
        low, high = (percent(share).removesuffix(" %") for share in rung.get("interval") or ())
        accuracy = f"{percent(rung['accuracy'])} ({low} to {high})"
        outcome = f"{rung['look']}: {rung['why']}"
        rows.append(
            (
                rung["name"],
                accuracy,
                f"{rung['cross_entropy']:z.3f}",
                f"{rung['seconds']:.1f}",
                "yes" if rung["is_taken"] else "no",
                outcome,
            )
        )
    n, is_balanced = rungs[0]["n_images"], rungs[0].get("is_balanced")
    among = f"a sample of {n:,} of the {n_train:,} to learn from" if n < n_train else f"{n:,}"
    header = ("rung", "balanced accuracy" if is_balanced else "cross-validated", "cross entropy", "s", "taken", "")
    alike = ", every class counted alike" if is_balanced else ""
    return f"the ladder, each rung judged on held-out photos among {among}{alike}:\n{table(header, rows, text=(0, 5))}"


def curve_text(curve: LearningCurveRecord, width: int = 40) -> str:
    """A learning curve as bars."""
    rows = [
        (
            f"{p['n_per_class']:,}",
            f"{p['n_images']:,}",
            f"{percent(p['accuracy'])} ({percent(p['interval'][0]).removesuffix(' %')} to {percent(p['interval'][1])})",
            "#" * round(width * p["accuracy"]),
        )
        for p in curve["points"]
    ]
    return table(("photos a class", "together", "accuracy", ""), rows, left=0, text=(3,))


def _confusion_matrix(evaluation: Evaluation) -> list[str]:
    """Labels down, predictions across; of many classes the pairs that follow say more."""
    names = [c.label for c in evaluation.classes]
    if len(names) > MOST_CONFUSION:
        return []
    header = ("label \\ prediction", *(name if len(name) <= 10 else f"{name[:9]}…" for name in names))
    rows = [(name, *(str(n) if n else "." for n in row)) for name, row in zip(names, evaluation.confusion, strict=True)]
    return ["", table(header, rows)]


def _confusions(evaluation: Evaluation, most: int = 3) -> list[str]:
    names = [c.label for c in evaluation.classes]
    pairs = [
        (n, names[i], names[j]) for i, row in enumerate(evaluation.confusion) for j, n in enumerate(row) if i != j and n > 0
    ]
    worst = sorted(pairs, key=lambda pair: -pair[0])[:most]
    if not worst:
        return []
    return ["", "most confused: " + ", ".join(f"{printable(a)} taken for {printable(b)} ({n})" for n, a, b in worst)]
