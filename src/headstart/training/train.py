"""The recipe: photos -> codes -> head -> evaluation -> a run folder. `train_with` tells the story, a step a line."""

from __future__ import annotations

import os
from pathlib import Path

from headstart.backbones.builtin import DEFAULT
from headstart.backbones.find import BackboneSpec
from headstart.cache_folder import default_cache_dir
from headstart.codes.workspace import Workspace
from headstart.engines.hardware import Hardware
from headstart.progress import Progress
from headstart.runs.folder import reserve
from headstart.selection.effort import DEFAULT as DEFAULT_EFFORT
from headstart.training.options import FULL, TrainOptions, TuningOptions
from headstart.training.steps.choose import choose
from headstart.training.steps.held_out import judge_held_out
from headstart.training.steps.load import compute_first_codes, find_candidates, find_copies, load_photos
from headstart.training.steps.look import look_at_run
from headstart.training.steps.precision import compare_precisions
from headstart.training.steps.run_record import compose_record
from headstart.training.steps.training_codes import TrainingCodes
from headstart.training.steps.training_set import build_training_set
from headstart.training.steps.trust import fit_trust
from headstart.training.steps.write_run import Run, build_classifier, write_run


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
    effort: str = DEFAULT_EFFORT,
    budget: float | None = None,
    balance: bool = False,
    finetune: bool = False,
    unfreeze: str | None = None,
    epochs: int | None = None,
    batch: int | None = None,
    force: bool = False,
    learning_curve: bool = False,
    report: str = FULL,
    fixes: str | os.PathLike[str] | None = None,
    test: float = 0.2,
    learn_from_val: bool = False,
    seed: int = 0,
    cache: str | os.PathLike[str] | None = None,
    device: str = "CPU",
    threads: int | None = None,
    precision: str = "auto",
    progress: Progress = lambda *_: None,
) -> Run:
    """Learn a classifier from labelled photos and write a run folder.

    photos: a folder per class, train/val/test folders of those, or a table (.csv, .tsv, .parquet). run: the folder to write;
    by default a new one named after the photos, in the current folder. backbone: a name that `headstart backbones` lists, or
    an ONNX file, which size, mean, std and output describe where it does not itself; `auto` averages the built-in ones that
    are installed. head: a row of heads.kinds.HEADS; `auto` leaves it to held-out data. views: what views.parse_views reads,
    to be learnt from as well if that is better; `auto` and `none` try nothing. effort: a row of selection.effort.EFFORTS.
    budget: seconds that computing codes, and then choosing, may each take; what it cuts depends on the machine, and the run
    says so; None cuts nothing, 0 is effort quick. balance: let every class count the same. finetune: let the backbone learn
    as well (extra torch), and keep that only if it is better on validation beyond chance, or with force; unfreeze: how much
    of it, a key of finetune.recipe.UNFREEZE; epochs: how long at most; batch: images a step. learning_curve: draw it with
    more points, each drawn more often. report: `full`, or `none` for no report.html, TensorBoard files and map, which
    `headstart report` can write later. fixes: a table of relabels and exclusions, as `headstart check --fix-list` writes it.
    test: the share of the images to test with, where the data gives none to test with, `test` or, alone, `val`.
    learn_from_val: learn at the end from the `val` photos that made the choices, where the data has `test` as well. seed:
    which images those are. cache: the folder that keeps codes, by default the user's cache folder. device, threads,
    precision: see engines.hardware.Hardware. progress: called as (stage, done, total).

    Raises HeadstartError, whose message says what to do, for anything that the caller can mend.
    """
    arguments = {k: v for k, v in locals().items() if k not in ("photos", "run", "progress")}
    options = TrainOptions(
        backbone=BackboneSpec(backbone, size, mean, std, output),
        head=head,
        views=views,
        effort=effort,
        budget=budget,
        balance=balance,
        tuning=TuningOptions(finetune, unfreeze, epochs, batch, force),
        learning_curve=learning_curve,
        report=report,
        fixes=fixes,
        test=test,
        learn_from_validation=learn_from_val,
        seed=seed,
        cache_dir=Path(cache) if cache is not None else default_cache_dir(),
        hardware=Hardware(device, threads, precision),
        arguments=arguments,
    )
    return train_with(photos, run, options, progress)


def train_with(
    photos: str | os.PathLike[str],
    run: str | os.PathLike[str] | None,
    options: TrainOptions,
    progress: Progress = lambda *_: None,
) -> Run:
    """Learn a classifier from labelled photos and write a run folder, as `train` does; the options are one value here."""
    with (
        reserve(run, photos) as folder,
        Workspace(options.cache_dir, options.hardware, seed=options.seed, progress=progress) as workspace,
    ):
        labelled = load_photos(photos, options, workspace)
        backbones = find_candidates(labelled, options, workspace)
        computed = compute_first_codes(labelled, backbones, workspace)
        copies = find_copies(labelled, computed, workspace)
        data = build_training_set(labelled, computed, copies, options, workspace, backbones.notes)
        codes = TrainingCodes(data, backbones.first, workspace)
        chosen = choose(codes, labelled.head, backbones, options)
        trained = fit_trust(codes, chosen)
        judged = judge_held_out(trained)
        findings = look_at_run(trained, copies, options)
        record = compose_record(photos, options, backbones, computed.n_computed, trained, judged, findings)
        classifier, record = build_classifier(record, trained)
        record = compare_precisions(record, classifier, trained)
        return write_run(folder, classifier, record, trained, judged, findings, copies, has_report=options.has_report)
