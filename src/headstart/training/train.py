"""The recipe: photos -> codes -> head -> evaluation -> a run folder. Read `train()` from top to bottom.

It decides what a run writes and where, and what is left out of learning and said so.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from headstart.backbones.builtin import DEFAULT
from headstart.backbones.find import AUTO, BackboneSpec, find_backbones, notes_on, wider_backbone
from headstart.cache_folder import default_cache_dir
from headstart.checks.fixes import apply_fixes, read_fixes
from headstart.checks.photo_groups import group_photos
from headstart.classifier.classifier import Classifier
from headstart.classifier.model_file import FILE_NAME
from headstart.codes.representation import Representation, pixels_for, represent
from headstart.codes.store import Store
from headstart.data import datasets
from headstart.data.images import display_name
from headstart.data.splits import TEST
from headstart.data.tables import check_same
from headstart.data.views import parse_views
from headstart.engines.hardware import Hardware, available_cores
from headstart.errors import DataError, HeadstartError
from headstart.evaluation.metrics import Evaluation
from headstart.evaluation.multilabel import MultiLabelEvaluation
from headstart.files import write_output
from headstart.progress import Progress, underway
from headstart.record import LossCurveRecord, RunRecord
from headstart.report.review import review, with_probes, write_issues, write_report
from headstart.report.sentences.numbers import judges
from headstart.report.tensorboard.write import write_events
from headstart.runs.folder import draft_of, publish, reserve, write_tables
from headstart.runs.learnt_photos import write_learnt_photos
from headstart.runs.record_file import run_record_json
from headstart.selection.ladder import BUDGET, Ladder
from headstart.selection.loss_curve import loss_curve
from headstart.selection.rungs import Candidate, Learned
from headstart.training.held_out import judge_held_out
from headstart.training.learnable import TrainingSet, training_set
from headstart.training.more_photos import curve_of_run
from headstart.training.notes import of_a_strangers_network, of_fixes, of_neighbours, of_single_photos, of_splits
from headstart.training.options import check_balance, check_head, check_seed, check_share, check_tuning, first_head
from headstart.training.write_run import classifier_metadata, gather_findings, run_record
from headstart.trust.fit import build_trust

if TYPE_CHECKING:
    from headstart.finetune.recipe import FineTuning
    from headstart.training.finetuning import Verdict


FEW_TESTED = 30


@dataclass(frozen=True)
class Run:
    """What `train` gives: where the run folder is, the classifier, and how good it is."""

    folder: Path
    classifier: Classifier
    evaluation: Evaluation | MultiLabelEvaluation
    about: RunRecord


@dataclass
class Stages:
    """Seconds that each stage of a run took, in order; each is told as it begins and ends."""

    progress: Progress = lambda *_: None
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Time a block under a name."""
        start = time.perf_counter()
        with underway(self.progress, name):
            yield
        self.seconds[name] = round(time.perf_counter() - start, 3)


def train(
    photos: str | os.PathLike[str],
    run: str | os.PathLike[str] | None = None,
    *,
    backbone: str = DEFAULT,
    size: int | None = None,
    mean: tuple[float, float, float] | None = None,
    std: tuple[float, float, float] | None = None,
    output: str | None = None,
    head: str = "auto",
    views: str = "auto",
    budget: float = BUDGET,
    balance: bool = False,
    finetune: bool = False,
    unfreeze: str | None = None,
    epochs: int | None = None,
    batch: int | None = None,
    force: bool = False,
    learning_curve: bool = False,
    fixes: str | os.PathLike[str] | None = None,
    test: float = 0.2,
    seed: int = 0,
    cache: str | os.PathLike[str] | None = None,
    device: str = "CPU",
    threads: int | None = None,
    precision: str = "auto",
    progress: Progress = lambda *_: None,
) -> Run:
    """Learn a classifier from labelled photos and write a run folder.

    photos: a folder per class, train/val/test folders of those, or a table (.csv, .tsv, .parquet). run: the folder to
    write; by default a new one named after the photos, in the current folder. backbone: a name that `headstart backbones`
    lists, or an ONNX file, which size, mean, std and output describe where it does not itself; `auto` compares all that are
    installed. head: a row of heads.kinds.HEADS; `auto` leaves it to held-out data. views:
    what views.parse_views reads, to be learnt from as well if that is better; `auto` tries mirroring only, `none` nothing.
    budget: seconds that choosing beyond the first rung may take; 0 keeps the last layer's codes. balance: let
    every class count the same. finetune: let the backbone learn as well (extra torch), and keep that only if it is better
    on validation beyond chance, or with force; unfreeze: how much of it, a key of finetune.recipe.UNFREEZE; epochs: how long
    at most; batch: images a step. learning_curve: draw it with more points, each drawn more often. fixes: a
    table of relabels and exclusions, as `headstart check --fix-list` writes it. test: the share of the images to test with,
    where the data gives no test split. seed: which images those are. cache: the folder that keeps codes, by default the
    user's cache folder. device, threads, precision: see engines.hardware.Hardware. progress: called as (stage, done, total).

    Raises HeadstartError, whose message says what to do, for anything that the caller can mend.
    """
    arguments = {k: v for k, v in locals().items() if k not in ("photos", "run", "progress")}
    check_share(test)
    check_head(head)
    check_tuning(finetune, {"unfreeze": unfreeze, "epochs": epochs, "batch": batch, "force": force or None}, balance)
    check_seed(seed)
    tried_views = None if views == "auto" else [str(view) for view in parse_views(views)]
    means = _Means(Hardware(device, threads, precision), seed, progress)
    stages, cache_dir = Stages(progress), Path(cache) if cache is not None else default_cache_dir()
    spec = BackboneSpec(backbone, size, mean, std, output)
    tuning = _tuning(spec, (unfreeze, epochs, batch), means, cache_dir / "checkpoints") if finetune else None

    with reserve(run, photos) as folder, Store(cache_dir) as store:
        with stages("list"):
            dataset = datasets.load_dataset(photos)
            as_given = dataset
            if fixes is not None:
                dataset = apply_fixes(dataset, read_fixes(fixes))
            check_balance(balance, dataset)
            kind = first_head(head, dataset)
        with stages("backbone"):
            network, others = find_backbones(spec, cache_dir)
            first = Representation((network,), n_layers=len(network.widths) if budget > 0 else 1)
        with stages("codes"):
            codes = represent(dataset.images, first, store, hardware=means.hardware, progress=progress)
        with stages("glance"):
            alike = group_photos(dataset, codes, store, hardware=means.hardware, progress=progress)
        with stages("splits"):
            data = training_set(dataset, codes, alike.groups, str(photos), seed=seed, test=test)
            data.notes.extend((*as_given.notes, *of_fixes(as_given, dataset, data), *of_splits(as_given), *alike.notes))
            data.notes.extend(of_single_photos(data))
            data.notes.extend((*of_a_strangers_network(network), *notes_on((network, *others))))
        source = _Source(data, first, store, means)
        with stages("choose"):
            pixels = pixels_for(data.images, network.preprocess.size)
            learned = Ladder(
                lambda look, rows: source.codes_of(look, source.learn[rows]),
                data.labels[source.learn],
                len(data.classes),
                source.groups,
                wider=lambda other: wider_backbone(other, spec, cache_dir, pixels),
                others=others,
                views=tried_views,
                heads=None if head == AUTO else [],
                contents=[data.digests[i] for i in source.learn],
                balance=balance,
                budget=budget,
                threads=means.threads,
                progress=progress,
            ).learn(Candidate(replace(first, n_layers=1), kind))
        data.notes.extend(of_neighbours(data, learned.choice))
        verdict = None
        if tuning is not None:
            with stages("fine-tune"):
                verdict = _tuned(source, learned, tuning, force)
                learned = verdict.learned if verdict else learned
        with stages("gather"):
            look = replace(learned.look, views=())
            learnt, tested = source.codes_of(look, source.learn), source.codes_of(look, source.test)
        with stages("trust"):
            trust = build_trust(
                learnt,
                data.labels[source.learn],
                data.classes,
                source.groups,
                learned.choice,
                n_codes=look.widths[0],
                threads=means.threads,
            )
            learned = replace(learned, choice=trust.choice)
        with stages("evaluate"):
            judged = judge_held_out(data, learned.choice, tested)
        with stages("curve"):
            curve = None
            if verdict is None or not verdict.is_taken:  # a tuned backbone has seen all photos
                with_views = source.codes_of(learned.look, source.learn) if learned.look.views else learnt
                curve = curve_of_run(
                    data,
                    learned,
                    with_views,
                    tested,
                    is_thorough=learning_curve,
                    seed=seed,
                    progress=progress,
                )
        with stages("fitting"):
            fitting = _fitting(source, learned, learnt)
        with stages("issues"):
            issues = alike.issues(data.notes, threads=means.threads, progress=progress)
        with stages("map"):
            findings = gather_findings(data, learned, trust, learnt, tested, means.threads, progress)
        strange = findings.unfamiliarity[data.splits == TEST]
        if judged.evaluation.n_different < FEW_TESTED:
            judging = judges(judged.evaluation.to_json())
            data.notes.append(f"only {judging} to judge by: mind the interval, and add photos if you can")
        data.notes.extend(store.notes)
        with stages("build"):
            about: RunRecord = {
                **run_record(photos, arguments, data, codes.n_computed, learned, judged),
                "calibration": None if trust.calibration is None else trust.calibration.to_json(),
                "fine_tuning": None if verdict is None else verdict.to_json(),
                "learning_curve": curve,
                "fitting": fitting,
                "unfamiliar": trust.unfamiliar_to_json(strange),
                "issues": dict(Counter(issue["kind"] for issue in issues)),
            }
            classifier = Classifier.build(
                learned.look,
                learned.choice.head,
                data.classes,
                classifier_metadata(about, trust, learned.look.backbones),
                means.hardware,
                unfamiliarity=trust.unfamiliarity,
            )
            digest = sha256(classifier.content).hexdigest()
            about["model"] = {"file": FILE_NAME, "bytes": len(classifier.content), "sha256": digest}
        with stages("review"):
            pictures = [alike.glances.pictures[i] for i in data.rows]
            reviewed = review(classifier, findings, data.images, pictures, progress=progress)
            about = with_probes(about, reviewed)
        with draft_of(folder) as draft:
            with stages("write"):
                classifier.save(draft / FILE_NAME)
                write_tables(draft, data.classes, judged.held_out, data.skipped)
                findings.save(draft)
                write_learnt_photos(draft, alike.glances.only(data.rows[source.learn]))
                write_issues(draft, issues)
                so_far: RunRecord = {**about, "seconds": stages.seconds}
                write_events(
                    draft / "tensorboard", so_far, findings, learned.choice.head, classifier.content, pictures=pictures
                )
                write_report(draft, so_far, findings, issues, reviewed)
            about["seconds"] = stages.seconds
            write_output(draft / "run.json", run_record_json(about))
            return Run(publish(draft, folder), classifier, judged.evaluation, about)


@dataclass(frozen=True)
class _Means:
    """What every stage needs: where it runs, which chance, and whom to tell."""

    hardware: Hardware
    seed: int
    progress: Progress

    @property
    def threads(self) -> int:
        return self.hardware.threads or available_cores()


@dataclass(frozen=True)
class _Source:
    """Where codes come from: those of the first look are in memory, others come through the store.

    learn, test: rows of the data, those that are learnt from and those that are tested with. groups: of the former.
    """

    data: TrainingSet
    first: Representation
    store: Store
    means: _Means

    @cached_property
    def learn(self) -> np.ndarray:
        return np.flatnonzero(self.data.splits != TEST)

    @cached_property
    def test(self) -> np.ndarray:
        return np.flatnonzero(self.data.splits == TEST)

    @cached_property
    def groups(self) -> list[bytes]:
        return [self.data.groups[i] for i in self.learn]

    def codes_of(self, look: Representation, rows: np.ndarray) -> np.ndarray:
        """As ladder.CodesOf, of rows of the data."""
        if replace(look, n_layers=self.first.n_layers) == self.first:
            columns = slice(sum(look.widths))
            return self.data.codes[:, columns] if len(rows) == len(self.data.codes) else self.data.codes[rows, columns]
        images = [self.data.images[i] for i in rows]
        means = self.means
        looked = represent(images, look, self.store, seed=means.seed, hardware=means.hardware, progress=means.progress)
        if looked.failures:
            i, failure = next(iter(looked.failures.items()))
            raise DataError(f"{display_name(images[i])} could be used a moment ago, and cannot any more: {failure.reason}")
        check_same(images, [self.data.digests[i] for i in rows], looked.digests, "the training ran")
        return looked.values


def _tuning(
    spec: BackboneSpec, options: tuple[str | None, int | None, int | None], means: _Means, folder: Path
) -> FineTuning:
    """How to fine-tune; raises HeadstartError, before any work, for a backbone that torch does not have."""
    from headstart.finetune.recipe import FineTuning
    from headstart.training.finetuning import check_name

    check_name(spec.name)
    return FineTuning(
        *options,
        seed=means.seed,
        checkpoint_dir=folder,
        device=means.hardware.torch_device,
        threads=means.hardware.threads,
        precision=means.hardware.precision,
    )


def _tuned(source: _Source, learned: Learned, tuning: FineTuning, force: bool) -> Verdict | None:
    """Fine-tune; None where it came to nothing: the frozen classifier is there, and is not lost for it."""
    from headstart.training.finetuning import fine_tuned

    means = source.means
    try:
        return fine_tuned(
            source.data,
            source.codes_of,
            learned,
            options=tuning,
            force=force,
            threads=means.threads,
            progress=means.progress,
        )
    except HeadstartError as error:
        source.data.notes.append(f"fine-tuning came to nothing, the frozen classifier stays: {error}")
        return None


def _fitting(source: _Source, learned: Learned, learnt: np.ndarray) -> LossCurveRecord | None:
    """How the head learnt, step by step, as run.json has it."""
    return loss_curve(
        learnt,
        source.data.labels[source.learn],
        len(source.data.classes),
        source.groups,
        kind=learned.choice.kind,
        strength=learned.choice.strength,
        widths=learned.look.widths,
        balance=learned.choice.is_balanced,
        threads=source.means.threads,
    )
