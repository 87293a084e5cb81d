"""What the commands do that look at photos and runs: check, map, report, plot, explain, evaluate.

Results go to stdout, progress and warnings to stderr.
"""

from __future__ import annotations

import argparse
import json
import os
from collections import Counter
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.cli.commands import cache_dir_of, classifier_of, hardware_of, program, quoted
from headstart.errors import DataError, OutputError
from headstart.files import check_output, write_output
from headstart.record import IssueRecord
from headstart.wording import listed

if TYPE_CHECKING:
    import numpy as np

    from headstart.classifier.classifier import Classifier
    from headstart.report.maps.page import NewPhotos
    from headstart.runs.findings import Findings
    from headstart.runs.open import SavedRun


MOST_ROWS = 20  # issues on a terminal
N_NEAREST = 3
CODES_OPTIONS = ("cache", "device", "threads", "precision")


def check(options: argparse.Namespace) -> int:
    """Look for issues in photos."""
    from headstart.checks.check_photos import check_photos
    from headstart.checks.fixes import ACTIONS, REVIEW, propose, write_fixes
    from headstart.checks.kinds import KINDS
    from headstart.cli import console

    chosen = {k: v for k, v in vars(options).items() if k in (*CODES_OPTIONS, "backbone", "seed")}
    for file in filter(None, (options.fix_list, options.csv)):
        check_output(file, overwrite=options.overwrite)
    with console.Progress(quiet=options.quiet) as progress:
        checked = check_photos(options.photos, progress=progress, **chosen)
    for note in checked.notes:
        console.tell(note)
    told = checked.to_json()
    if options.csv:
        _write_rows(options.csv, told["issues"])
    if options.fix_list:
        write_fixes(options.fix_list, checked.issues, overwrite=options.overwrite)
    if options.json:
        print(json.dumps(told, indent=2))
        return 0
    kinds = [kind for kind in KINDS if told["kinds"][kind]]
    print(f"{checked.n_images:,} photos of {len(checked.classes):,} classes: {_counted(len(checked.issues), 'issue')}")
    if kinds:
        rows = [(kind, f"{told['kinds'][kind]:,}", KINDS[kind].meaning) for kind in kinds]
        print(console.table(("kind", "issues", ""), rows, text=(0, 2)))
        print(f"\nthe worst first (0: certain harm, {0.5}: none worth telling):")
        worst = [
            (f"{issue.score:.2f}", issue.kind, _where(issue.paths), f"{issue.sentence}: {issue.suggestion}")
            for issue in checked.issues[:MOST_ROWS]
        ]
        print(console.table(("score", "kind", "photo", ""), worst, left=0, text=(1, 2, 3)))
        if len(checked.issues) > MOST_ROWS:
            print(f"  ... {len(checked.issues) - MOST_ROWS:,} more: --csv FILE or --json gives all")
    if options.fix_list:
        photos, fixes = quoted(options.photos), quoted(options.fix_list)
        n_of = Counter(fix.action for fix in propose(checked.issues))
        actions = ", ".join(f"{n_of[action]:,} {action}" for action in ACTIONS if n_of[action]) or "nothing"
        print(f"\n{options.fix_list} lists what could be done, a row a photo: {actions}.")
        if n_of[REVIEW]:
            print(
                "review: the label is in doubt. Look at the photo, and write relabel where it is wrong. Left so, it stays."
            )
        print("Go through the list, change what is wrong, then:")
        print(f"  {program()} train {photos} --fixes {fixes}")
    elif checked.issues:
        print("\nNothing was changed. To relabel or leave out some of them: --fix-list fixes.csv")
    return 0


def _where(paths: tuple[str, ...]) -> str:
    if not paths:
        return "-"
    return f"{paths[0]}{f' and {len(paths) - 1} more' if len(paths) > 1 else ''}"


def _write_rows(path: Path, issues: list[IssueRecord]) -> None:
    import csv
    import io

    from headstart.safety.csv_cells import to_cells

    columns = ("kind", "path", "label", "suggested_label", "score", "sentence", "suggestion", "paths")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for issue in issues:
        row = {**issue, "paths": json.dumps(issue["paths"], ensure_ascii=False)}
        writer.writerow(to_cells(row[name] for name in columns))
    write_output(path, text.getvalue())


def draw_map(options: argparse.Namespace) -> int:
    """Draw a run's photos as a map, a page and a picture."""
    from headstart.cli import console, summaries
    from headstart.progress import underway
    from headstart.report.maps.image import map_picture
    from headstart.report.maps.page import NO_NEW_PHOTOS, MapContents, map_page
    from headstart.runs.open import open_run

    if options.seed is not None and not options.again:
        raise DataError("--seed is another chance for a map that is placed anew; add --again")
    kinds = (".html", ".png")
    output = options.output or Path(f"{Path(os.path.abspath(options.run)).name}-map.html")
    if output.suffix.lower() not in kinds:
        raise OutputError(f"what is {output} to be? name it {' or '.join(kinds)}")
    check_output(output, overwrite=options.overwrite)
    saved = open_run(options.run, photos=options.photos)
    with console.Progress(quiet=options.quiet) as progress:
        with underway(progress, "map"):
            findings = _placed(saved, options, progress)
        pictures = _pictures(saved, options, progress)
        new = _new_photos(saved, findings, options, progress) if options.add else NO_NEW_PHOTOS
        contents = MapContents(saved.about, findings, pictures, saved.issues, new)
        with underway(progress, "write"):
            write_output(output, map_picture(contents) if output.suffix.lower() == ".png" else map_page(contents))
    _tell_gone(saved)
    sentence = f"{len(findings.names) + len(new.names):,} photos are on the map {output}; open it"
    if not options.add:
        return _done(options, output, sentence)
    added = new.to_json(saved.about["classes"])
    return _done(options, output, "\n".join([sentence, *summaries.unfamiliar_lines(added)]), {"added": added})


def _placed(saved: SavedRun, options: argparse.Namespace, progress: Any) -> Findings:
    """The findings with every photo on the map, where training placed only some, or another chance is asked for."""
    from dataclasses import replace

    import numpy as np

    from headstart.report.maps.layout import place

    findings = saved.findings
    if np.isfinite(findings.positions).all() and not options.again:
        return findings
    seed, threads = options.seed or 0, hardware_of(options).threads
    positions = place(findings.space.astype(np.float32), seed=seed, threads=threads, progress=progress)
    return replace(findings, positions=positions)


def _new_photos(saved: SavedRun, findings: Findings, options: argparse.Namespace, progress: Any) -> NewPhotos:
    """Photos that were not learnt from, placed on the map."""
    import numpy as np

    from headstart.cli import console
    from headstart.codes.image_stats import picture_of
    from headstart.data import inputs
    from headstart.data.decoding import Failure
    from headstart.data.images import display_name, load_image
    from headstart.numerics.pca import along_axes
    from headstart.report.maps.layout import place_on
    from headstart.report.maps.page import NewPhotos

    classifier = saved.classifier(hardware_of(options))
    names, rows, pictures = [], [], []
    total, empty = inputs.count_inputs(options.add), list[str]()

    def load(_: int, image: Any) -> Any:
        return load_image(image, classifier.preprocess)

    for n, result in enumerate(classifier.engine.stream(inputs.list_inputs(options.add, empty), load), start=1):
        progress("photos", n, total)
        if result.outputs is None:
            console.tell(f"{display_name(result.item)} is left out: {result.instead.reason}")
            continue
        classifier.check_outputs(result.outputs)
        names.append(display_name(result.item))
        rows.append(result.outputs)
        square = load_image(result.item, classifier.preprocess)
        pictures.append(None if isinstance(square, Failure) else picture_of(square))
    for folder in empty:
        console.tell(f"{folder} holds no files")
    if not rows:
        raise DataError(f"none of {', '.join(options.add)} can be used as an image")
    codes = np.stack([row["codes"][: len(findings.space_mean)] for row in rows])
    probabilities = np.stack([row["probabilities"] for row in rows])
    space = along_axes(codes, findings.space_mean, findings.space_axes)
    positions = place_on(space, findings.space.astype(np.float32), findings.positions)
    strange = np.array([row["unfamiliarity"][0] if "unfamiliarity" in row else np.nan for row in rows], np.float32)
    is_single = classifier.thresholds is None
    predictions = probabilities.argmax(axis=1) if is_single else probabilities >= classifier.thresholds
    return NewPhotos(tuple(names), positions, predictions, probabilities.max(axis=1), strange, tuple(pictures))


def report(options: argparse.Namespace) -> int:
    """Write a run's report again."""
    from headstart.cli import console
    from headstart.progress import underway
    from headstart.report.review import review, with_probes, write_report
    from headstart.runs.folder import REPORT
    from headstart.runs.open import open_run

    saved = open_run(options.run, photos=options.photos)
    with console.Progress(quiet=options.quiet) as progress:
        classifier = saved.classifier(hardware_of(options)) if (saved.folder / "model.onnx").exists() else None
        pictures = _pictures(saved, options, progress)
        if classifier is None and (other := saved.about.get("run")):  # an evaluation's folder has no classifier of its own
            from headstart.classifier.classifier import Classifier
            from headstart.runs.photo_paths import is_remote

            if is_remote(other):
                raise DataError(f"{saved.folder} is an evaluation of {other}, on another machine; copy that run here first")
            classifier = saved.own(Classifier.load(other, hardware_of(options)))
        if classifier is None:
            raise DataError(f"{saved.folder} holds no model.onnx; its report cannot be made again")
        with underway(progress, "review"):
            reviewed = review(classifier, saved.findings, saved.images, pictures, progress=progress)
        about = with_probes(saved.about, reviewed)
        if saved.n_gone:
            gone = (
                f"when this page was written, {saved.n_gone:,} of {len(saved.images):,} photos were not where they had been"
            )
            about = {**about, "notes": [*about.get("notes", ()), gone]}
        with underway(progress, "write"):
            write_report(saved.folder, about, saved.findings, saved.issues, reviewed)
    _tell_gone(saved)
    return _done(options, saved.folder / REPORT, f"The report is {saved.folder / REPORT}; open it in a browser")


def plot(options: argparse.Namespace) -> int:
    """Draw one of a run's plots."""
    from headstart.report.plots import style, table
    from headstart.runs.open import open_run

    output = options.output or Path(f"{options.kind}.png")
    check_output(output, overwrite=options.overwrite)
    saved = open_run(options.run, photos=options.photos)
    kind = table.PLOTS[options.kind]
    rows = kind.rows(saved.about, saved.findings)
    pictures = {row: seen for row in rows if (seen := _seen(saved, row)) is not None}
    style.save(kind.draw(saved.about, saved.findings, pictures), output)
    if len(pictures) < len(rows):
        _tell_gone(saved)
    return _done(options, output, f"{output} is drawn")


def _seen(saved: SavedRun, row: int) -> np.ndarray | None:
    """A photo of a run as people see it, at most 448 pixels high or wide; None where it is gone, or another one by now."""
    from headstart.data.decoding import Failure, decode
    from headstart.data.tables import same_content_of

    image = saved.images[row]
    if image is None:
        return None
    content = same_content_of(image, saved.findings.digests[row].tobytes())
    if isinstance(content, Failure):
        return None
    pixels = decode(content, shorter_side=448)
    return None if isinstance(pixels, Failure) else pixels


def explain(options: argparse.Namespace) -> int:
    """Show why a photo gets its label: where the evidence lies, and which photos of the training are most like it."""
    from headstart.classifier.explain import Explainer
    from headstart.data.decoding import Failure
    from headstart.data.images import load_image

    classifier = classifier_of(options)
    output = options.output
    if output is not None:
        check_output(output, overwrite=options.overwrite)
    square = load_image(options.photo, classifier.preprocess)
    if isinstance(square, Failure):
        raise DataError(f"{options.photo} cannot be used: {square.reason}")
    label = None
    if options.label is not None:
        if options.label not in classifier.classes:
            raise DataError(f"there is no class {options.label!r}; the classes: {listed(classifier.classes, most=20)}")
        label = classifier.classes.index(options.label)
    (prediction,) = classifier.predict(options.photo)
    explainer = Explainer(classifier)
    heat = explainer.explain(square, label)
    nearest = _nearest(options, classifier, explainer.outputs(square)["codes"])
    if output is not None:
        from headstart.report.heat_image import write_heat

        write_heat(output, square, heat.shown, [name for name, _ in nearest])
    if options.json:
        about = {
            **prediction.to_json(),
            "label": classifier.classes[heat.label],
            "is_exact": heat.is_exact,
            "heat": [[round(float(v), 4) for v in row] for row in heat.values],
            "constant": heat.constant,
            "nearest": [{"path": name, "label": of} for name, of in nearest],
        }
        print(json.dumps(about, indent=2))
        return 0
    from headstart.classifier.writers import people_row
    from headstart.safety.terminal_text import one_line

    print(people_row(prediction, max(len(str(prediction.prediction)), 1)))
    for name, of in nearest:
        print(one_line(f"  like {name} ({of})"))
    if output is not None:
        how = "it adds up to the score" if heat.is_exact else "by covering the photo piece by piece"
        print(one_line(f"{output}: where the evidence for {classifier.classes[heat.label]} lies ({how})"))
    return 0


def _nearest(options: argparse.Namespace, classifier: Classifier, codes: np.ndarray) -> list[tuple[str, str]]:
    """The photos that were learnt from and are most like one, with their labels; none where only model.onnx is given."""
    import numpy as np

    from headstart.data.decoding import read_bytes
    from headstart.data.labels import label_text
    from headstart.data.splits import TEST
    from headstart.numerics.pca import along_axes
    from headstart.runs.findings import FILE_NAME
    from headstart.runs.open import check_own, read_run

    folder = Path(options.run)
    if not (folder / FILE_NAME).exists():
        return []
    about, findings = read_run(folder)
    check_own(folder, about, findings, classifier)
    place = along_axes(codes[None, : len(findings.space_mean)], findings.space_mean, findings.space_axes)[0]
    content = read_bytes(options.photo)
    itself = sha256(content if isinstance(content, bytes) else b"").digest()
    others = (findings.digests != np.frombuffer(itself, np.uint8)).any(axis=1)
    rows = findings.nearest_to(place, N_NEAREST, np.flatnonzero((findings.splits != TEST) & others))
    return [(findings.names[row], label_text(findings.labels[row], about["classes"])) for row in rows]


def evaluate(options: argparse.Namespace) -> int:
    """Evaluate a classifier on other labelled photos."""
    from headstart.cli import console, summaries
    from headstart.report.sentences.numbers import is_balanced
    from headstart.training.evaluate_run import evaluate_run

    chosen = {k: v for k, v in vars(options).items() if k in (*CODES_OPTIONS, "against", "output")}
    with console.Progress(quiet=options.quiet) as progress:
        tested = evaluate_run(options.run, options.photos, progress=progress, **chosen)
    for note in tested.about["notes"]:
        console.tell(note)
    if options.json:
        print(json.dumps({"folder": str(tested.folder), **tested.about}, indent=2))
        return 0
    print(summaries.evaluation_text(tested.evaluation, is_balanced=is_balanced(tested.about)))
    if tested.comparison is not None:
        print(f"\n{tested.comparison.sentence}")
    print(f"\nThe report is {tested.folder}/report.html; open it in a browser")
    return 0


# ---- what they share


def _pictures(saved: SavedRun, options: argparse.Namespace, progress: Any) -> tuple[bytes | None, ...]:
    from headstart.codes.store import Store
    from headstart.report.review import pictures_of

    with Store(cache_dir_of(options)) as store:
        return pictures_of(saved.findings, saved.images, store, threads=hardware_of(options).threads, progress=progress)


def _tell_gone(saved: SavedRun) -> None:
    from headstart.cli.console import tell
    from headstart.runs.photo_paths import is_remote

    if saved.n_gone:
        photos, where = saved.about["photos"], "are not where they were"
        if is_remote(photos):
            where = "are not looked for on another machine because a run names it"
        tell(f"{saved.n_gone:,} of {len(saved.images):,} photos {where} ({photos}); --photos says where they lie now")


def _counted(n: int, thing: str) -> str:
    return f"{n:,} {thing}{'s' * (n != 1)}"


def _done(options: argparse.Namespace, path: Path, sentence: str, more: dict[str, Any] | None = None) -> int:
    print(json.dumps({"file": str(path), **(more or {})}) if options.json else sentence)
    return 0
