"""Fine-tuning: what is frozen stays, the rest learns; a killed run goes on as if nothing had been, and so do processes."""

import os
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from support.networks import tiny_network

torch = pytest.importorskip("torch")
pytest.importorskip("timm")

from headstart.classifier.classifier import Classifier
from headstart.data.images import Preprocess, load_image
from headstart.data.splits import TEST, TRAIN, VALIDATION
from headstart.errors import DataError, HeadstartError
from headstart.finetune import (
    augment,
    batches,
    partial,
    processes,
    recipe,
)
from headstart.finetune import loop as finetuning
from headstart.finetune.loop import finetune
from headstart.finetune.recipe import FineTuning
from headstart.finetune.task import Task, pack, unpack
from headstart.heads.head import Head
from support.photos import COLOURS, write_photos

CLASSES = tuple(COLOURS)
N_TRAIN, N_VALIDATION = 10, 4  # of each class


def head_of(weight, bias=(0, 0, 0), widths=()):
    return Head(((np.asarray(weight, np.float32), np.asarray(bias, np.float32)),), widths)


class Tangled(torch.nn.Module):
    """The same layers, of which the image jumps over all but one: it cannot be cut in two."""

    def __init__(self):
        super().__init__()
        self.layers = tiny_network().module
        self.beside = torch.nn.Conv2d(3, 16, 1)

    def forward(self, images):
        return self.layers(images) + self.beside(images).mean(dim=(2, 3))


class Photos:
    """What finetune() takes, three colours."""

    def __init__(self, folder, n_train=N_TRAIN):
        write_photos(folder, n=n_train + N_VALIDATION)
        self.images = [str(path) for path in sorted(folder.glob("*/*"))]
        self.labels = np.array([CLASSES.index(Path(path).parent.name) for path in self.images])
        place = np.concatenate([np.arange(n_train + N_VALIDATION)] * len(CLASSES))
        self.splits = np.where(place < N_VALIDATION, VALIDATION, TRAIN)
        self.digests = [sha256(Path(path).read_bytes()).digest() for path in self.images]

    def task(self, network=None, head=None):
        network = network or tiny_network()
        nothing = head_of(np.zeros((network.n_codes, 3)))
        return Task(self.images, self.labels, self.splits, self.digests, network, head or nothing)

    def finetuned(self, network=None, head=None, *, judged_from=1, **options):
        given = {"epochs": 2, "batch": 8, "lr": 0.01, "unfreeze": "all", "precision": "f32", "threads": 1, "device": "cpu"}
        hooks = {name: options.pop(name) for name in ("on_epoch", "progress") if name in options}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(recipe, "FEW_TO_JUDGE", judged_from)
            return finetune(self.task(network, head), options=FineTuning(**{**given, **options}), **hooks)


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    return Photos(tmp_path_factory.mktemp("data") / "photos")


@pytest.fixture
def last_training(monkeypatch):
    """The training that ran last, with the network as it left it."""
    trainings = []
    init = finetuning._Training.__init__

    def noted(self, *arguments):
        init(self, *arguments)
        trainings.append(self)

    monkeypatch.setattr(finetuning._Training, "__init__", noted)
    return lambda: trainings[-1]


def test_what_is_learnt_is_in_the_classifier(data):
    told = []
    tuned = data.finetuned(epochs=8, lr=0.02, progress=lambda *about: told.append(about))
    first, best = tuned.history[0], tuned.history[tuned.best_epoch]
    assert first.validation_accuracy < 0.5 and best.validation_accuracy > 0.95  # a head of zeros knows nothing
    assert best.validation_loss == min(epoch.validation_loss for epoch in tuned.history)
    assert [epoch.epoch for epoch in tuned.history] == list(range(tuned.epochs + 1))
    assert told[-1] == ("fine-tuning", 8 * 30, 8 * 30)  # the stage is over, wherever it stopped
    assert tuned.epochs == 8
    assert tuned.backbone.name == "tiny (fine-tuned)" and tuned.backbone.license == "MIT"

    classifier = Classifier.build(tuned.backbone, tuned.head, CLASSES)
    paths = [data.images[i] for i in tuned.validation_index]
    expected = data.labels[tuned.validation_index]
    predictions = classifier.predict(paths, top=3)
    assert np.mean([p.prediction == CLASSES[y] for p, y in zip(predictions, expected, strict=True)]) > 0.95
    given = np.array([[dict(p.top)[name] for name in CLASSES] for p in predictions])
    assert np.abs(given - tuned.validation_probabilities).max() < 5e-3
    assert (data.splits[tuned.validation_index] == VALIDATION).all()


@pytest.mark.parametrize("unfreeze, n_open", [("head", 0), ("last", 1), ("half", 2), ("all", 4)])
def test_frozen_layers_stay_bit_for_bit_and_the_others_learn(data, last_training, unfreeze, n_open):
    network = tiny_network()
    before = {name: tensor.clone() for name, tensor in network.module.state_dict().items()}
    tuned = data.finetuned(network, unfreeze=unfreeze)
    after = last_training().net.module.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    layers = [["0", "1"], ["3"], ["4"], ["6", "7"]]  # as they stand in the module
    free = {name for layer in layers[len(layers) - n_open :] for name in before if name.split(".")[0] in layer}
    statistics = {name for name in before if "running" in name or "num_batches" in name}
    assert changed == free - statistics
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.module.state_dict().items())  # the one given
    head = sum(array.size for array in tuned.head.layers[0])
    assert tuned.n_trained == sum(before[name].numel() for name in free - statistics) + head
    assert tuned.unfrozen == unfreeze and last_training().stepper.average["head.weight"].any()


def test_a_network_that_cannot_be_cut_is_fine_tuned_whole(data, last_training):
    torch.manual_seed(0)
    network = replace(tiny_network(), module=Tangled().eval())
    tuned = data.finetuned(network, unfreeze="half", epochs=6, lr=0.02)
    assert last_training().net.trunk is None and last_training().recipe.n_views == 0
    assert tuned.history[tuned.best_epoch].validation_accuracy > 0.9


def test_lower_layers_learn_more_slowly():
    net = partial.PartlyFrozen(tiny_network(), head_of(np.zeros((16, 3))), 1)
    groups = net.parameter_groups(0.01)
    assert len({id(p) for g in groups for p in g["params"]}) == len(list(net.whole.parameters()))
    rates = [g["lr"] for g in groups]
    assert rates == sorted(rates, reverse=True) and rates[0] == 0.01
    assert rates[-1] == pytest.approx(0.01 * partial.LAYER_DECAY**4)
    assert all(g["weight_decay"] == 0 for g in groups for p in g["params"] if p.ndim < 2)


def test_heads_on_codes_of_length_one_and_of_many_labels(data, last_training):
    unit = data.finetuned(head=head_of(np.zeros((16, 3)), widths=(16,)), epochs=8, lr=0.05)
    assert unit.head.widths == (16,) and unit.history[unit.best_epoch].validation_accuracy > 0.9
    several = Photos.__new__(Photos)
    several.__dict__.update(data.__dict__, labels=np.eye(3, dtype=np.uint8)[data.labels])
    head = replace(head_of(np.zeros((16, 3))), output="sigmoid")
    tuned = several.finetuned(head=head, epochs=15, lr=0.05)
    assert tuned.head.output == "sigmoid" and tuned.history[tuned.best_epoch].validation_accuracy > 0.9
    assert tuned.validation_probabilities.sum(axis=1).std() > 1e-4  # each class on its own
    for wrong in (replace(head, layers=head.layers * 2), head_of(np.zeros((16, 3)), widths=(8, 8))):
        with pytest.raises(ValueError, match="one layer on the codes of the last layer"):
            data.finetuned(head=wrong)


@pytest.mark.parametrize("n, unfreeze", [(3, "head"), (300, "last"), (5_000, "half"), (50_000, "all")])
def test_more_photos_unfreeze_more(n, unfreeze):
    assert recipe.default_unfreeze(n) == unfreeze


def test_parts_of_a_batch_learn_what_the_batch_learns(data, last_training):
    ends = []
    for accumulate in (1, 3):
        data.finetuned(accumulate=accumulate)
        ends.append({name: p.detach().clone() for name, p in last_training().stepper.average.items()})
    assert all(torch.allclose(ends[0][name], ends[1][name], atol=1e-5) for name in ends[0])


class Killed(Exception):
    pass


def die_at(limit):
    def hook(*_):
        hook.calls += 1
        if hook.calls == limit:
            raise Killed

    hook.calls = 0
    return hook


@pytest.mark.parametrize("unfreeze", ["last", "all"])
def test_a_killed_run_goes_on_to_the_same_end(data, tmp_path, monkeypatch, unfreeze):
    options = {"epochs": 3, "unfreeze": unfreeze}
    whole = data.finetuned(**options)
    assert whole.resumed_from is None
    monkeypatch.setattr(finetuning, "SAVE_SECONDS", 0.0)  # so within an epoch too
    for limit, hook, held in ((3, "on_epoch", 1), (7, "progress", 1)):
        folder = tmp_path / hook
        with pytest.raises(Killed):
            extra = 2 if unfreeze == "last" and hook == "progress" else 0  # told of the frozen layers first
            data.finetuned(**options, checkpoint_dir=folder, **{hook: die_at(limit + 2 * extra)})
        resumed = data.finetuned(**options, checkpoint_dir=folder)
        assert resumed.resumed_from == held
        assert resumed.backbone.sha256 == whole.backbone.sha256
        assert np.array_equal(resumed.head.layers[0][0], whole.head.layers[0][0])
        told = [(e.epoch, e.train_loss, e.validation_loss, e.validation_accuracy, e.lr) for e in resumed.history]
        assert told == [(e.epoch, e.train_loss, e.validation_loss, e.validation_accuracy, e.lr) for e in whole.history]


def test_a_process_that_is_killed_leaves_a_checkpoint_that_is_whole(data, tmp_path):
    code = f"""
import sys
sys.path[:0] = [{str(Path(__file__).parent)!r}, {str(Path(__file__).parents[1])!r}]
from pathlib import Path
import os, signal
import test_loop
def die(epoch):
    if epoch.epoch == 2:
        os.kill(os.getpid(), signal.SIGKILL)
data = object.__new__(test_loop.Photos)
data.__dict__.update(test_loop.read_photos(Path({str(Path(data.images[0]).parents[1])!r})))
data.finetuned(epochs=3, checkpoint_dir=Path({str(tmp_path)!r}), on_epoch=die)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == -9, done.stderr
    resumed = data.finetuned(epochs=3, checkpoint_dir=tmp_path)
    assert resumed.resumed_from == 1 and not resumed.notes
    assert resumed.backbone.sha256 == data.finetuned(epochs=3).backbone.sha256


def read_photos(folder):
    images = [str(path) for path in sorted(folder.glob("*/*"))]
    place = np.concatenate([np.arange(len(images) // 3)] * 3)
    return {
        "images": images,
        "labels": np.array([CLASSES.index(Path(path).parent.name) for path in images]),
        "splits": np.where(place < N_VALIDATION, VALIDATION, TRAIN),
        "digests": [sha256(Path(path).read_bytes()).digest() for path in images],
    }


def test_a_finished_run_is_not_repeated(data, tmp_path):
    first = data.finetuned(checkpoint_dir=tmp_path)
    epochs = []
    again = data.finetuned(checkpoint_dir=tmp_path, on_epoch=epochs.append)
    assert not epochs and again.resumed_from == 2
    assert again.backbone.sha256 == first.backbone.sha256 and again.history == first.history


def test_a_checkpoint_belongs_to_one_recipe(data, tmp_path):
    data.finetuned(checkpoint_dir=tmp_path)
    (file,) = tmp_path.glob("*.pt")
    for other in ({"lr": 0.02}, {"seed": 1}, {"batch": 4}, {"unfreeze": "half"}, {"network": tiny_network(12)}):
        tuned = data.finetuned(checkpoint_dir=tmp_path, **other)
        assert tuned.resumed_from is None and not tuned.notes, other
    relabelled = Photos.__new__(Photos)
    relabelled.__dict__.update(data.__dict__, labels=np.roll(data.labels, 1))
    assert relabelled.finetuned(checkpoint_dir=tmp_path).resumed_from is None
    whole = file.read_bytes()
    other = next(path for path in tmp_path.glob("*.pt") if path != file)
    for content, told in (
        (whole[:-1], "damaged"),
        (whole[:99] + b"x" + whole[100:], "damaged"),
        (other.read_bytes(), "another"),
    ):
        file.write_bytes(content)
        tuned = data.finetuned(checkpoint_dir=tmp_path)
        assert tuned.resumed_from is None and told in tuned.notes[0] and "ignored" in tuned.notes[0]
    assert file.read_bytes()[:32] == sha256(file.read_bytes()[32:]).digest()


def test_a_checkpoint_that_cannot_be_written_is_told_and_stops_nothing(data, tmp_path):
    (tmp_path / "file").write_text("")
    tuned = data.finetuned(checkpoint_dir=tmp_path / "file" / "folder")
    assert tuned.epochs == 2 and "no checkpoint can be" in " ".join(tuned.notes)


def test_few_images_and_odd_splits(data):
    def of(rows, splits):
        some = Photos.__new__(Photos)
        picked = [[getattr(data, name)[i] for i in rows] for name in ("images", "digests")]
        some.images, some.digests = picked
        some.labels, some.splits = data.labels[rows], np.array(splits)
        return some

    one = of([5], [TRAIN]).finetuned(batch=8)  # fewer images than a batch, two classes absent, nothing to validate with
    assert one.epochs == 2 == one.best_epoch and one.history[-1].validation_loss is None and one.blend == 0.5
    assert one.validation_probabilities.shape == (0, 3)
    single = of([5, 20, 21], [TRAIN, TRAIN, VALIDATION]).finetuned(batch=1)  # batches of one; a class in no split
    assert np.isfinite(single.history[-1].train_loss) and single.validation_probabilities.shape == (1, 3)
    ignored = of([5, 20, 34], [TRAIN, VALIDATION, TEST]).finetuned()
    assert ignored.validation_index.tolist() == [1]
    with pytest.raises(DataError, match="no image in the train split"):
        of([5], [VALIDATION]).finetuned()


def test_a_gain_that_is_none_gives_back_what_was_given(data):
    good = data.finetuned(epochs=8, lr=0.02)
    network = replace(tiny_network(), module=good_module(data))
    for judged_from, epochs in ((1, 3), (200, 6)):  # where validation has enough images, it does not go on for ever
        spoiled = data.finetuned(network, good.head, lr=1.0, epochs=6, judged_from=judged_from)
        assert (spoiled.best_epoch, spoiled.epochs) == (0, epochs)
        assert np.array_equal(spoiled.head.layers[0][0], good.head.layers[0][0])


def good_module(data):
    """The tiny network after fine-tuning, as a torch module."""
    training = finetuning._Training(
        data.task(),
        FineTuning(epochs=8, lr=0.02, batch=8, unfreeze="all", precision="f32", threads=1, device="cpu"),
        processes.ProcessGroup(0, 1, torch.device("cpu")),
        lambda *_: None,
        lambda _: None,
    )
    training.run()
    return training.net.module


def test_few_validation_images_pick_no_epoch_but_half_the_way(data, last_training):
    tuned = data.finetuned(epochs=6, lr=0.02, judged_from=200)
    assert (tuned.epochs, tuned.best_epoch, tuned.blend) == (6, 6, 0.5)
    training = last_training()
    half = {name: training.best.first[name].lerp(training.stepper.average[name], 0.5) for name in training.best.first}
    assert all(torch.equal(half[name], training.best.weights[name]) for name in half)


def test_what_was_chosen_on_some_images_is_learnt_again_from_all(data, last_training):
    tuned = data.finetuned(epochs=6, lr=0.02)
    everything = Photos.__new__(Photos)
    everything.__dict__.update(data.__dict__, splits=np.full(len(data.labels), TRAIN))
    again = everything.finetuned(epochs=6, lr=0.02, keep=(2, 0.5))
    training = last_training()
    assert (again.epochs, again.best_epoch, again.blend) == (2, 2, 0.5) and len(training.train) == len(data.images)
    half = {name: training.best.first[name].lerp(training.stepper.average[name], 0.5) for name in training.best.first}
    assert all(torch.equal(half[name], training.best.weights[name]) for name in half)
    assert again.history[1].lr == pytest.approx(tuned.history[1].lr, rel=0.2)  # the schedule is that of all six epochs


def test_the_time_allowed_is_kept(data):
    tuned = data.finetuned(epochs=50, budget_seconds=1e-3)
    assert tuned.epochs == 1 and "stopped after epoch 1 of 50" in tuned.notes[0]


def test_an_image_that_is_gone_is_named(data, tmp_path):
    data.images, kept = [*data.images[:-1], str(tmp_path / "gone.png")], data.images
    try:
        with pytest.raises(DataError, match="gone.png cannot be read any more: no such file"):
            data.finetuned()
    finally:
        data.images = kept


def test_an_image_that_is_another_one_by_now_is_named(data, tmp_path):
    data.images, kept = [*data.images[:-1], str(tmp_path / "other.png")], data.images
    shutil.copy(data.images[0], tmp_path / "other.png")
    try:
        with pytest.raises(DataError, match="other.png cannot be read any more: it is another photo by now; leave"):
            data.finetuned()
    finally:
        data.images = kept


def test_a_loss_that_is_no_number_is_told(data):
    with pytest.raises(HeadstartError, match="no number any more in epoch 1; lower the learning rate"):
        data.finetuned(head=head_of(np.full((16, 3), np.nan)))


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA"), RuntimeError("DefaultCPUAllocator: can't allocate")])
def test_too_little_memory_is_told_with_what_to_lower(data, monkeypatch, error):
    def full(*_):
        raise error

    monkeypatch.setattr(finetuning.Stepper, "step", full)
    with pytest.raises(HeadstartError, match="lower --batch.*--unfreeze last"):
        data.finetuned()
    monkeypatch.setattr(finetuning.Stepper, "step", lambda *_: [][1])
    with pytest.raises(IndexError):  # any other error is a bug, and stays one
        data.finetuned()


@pytest.mark.parametrize(
    "wrong", [{"unfreeze": "some"}, {"batch": 0}, {"lr": 0.0}, {"lr": 3.0}, {"seed": -1}, {"precision": "int8"}]
)
def test_options_that_cannot_be_are_refused(wrong):
    with pytest.raises(HeadstartError, match=str(next(iter(wrong.values())))):
        FineTuning(**wrong)


def test_a_device_that_is_not_there_is_told(data):
    with pytest.raises(HeadstartError, match="knows the devices cpu and cuda, not 'npu'"):
        data.finetuned(device="npu")
    if not torch.cuda.is_available():
        with pytest.raises(HeadstartError, match="no CUDA device here"):
            data.finetuned(device="cuda")


def test_the_middle_view_is_what_the_backbone_sees():
    preprocess = Preprocess(64)
    down, across = np.mgrid[:300, :400] // 2
    picture = np.stack([down, across, 255 - down], axis=2).astype(np.uint8)
    whole = load_image(picture, replace(preprocess, size=73, crop=1.0))
    seen = augment.render_views(torch.from_numpy(whole[None]), augment.centre_views(1, 0.875), preprocess)
    difference = (seen[0].permute(1, 2, 0).numpy() + 1) * 127.5 - load_image(picture, preprocess)
    assert np.abs(difference).max() < 2


def test_views_are_drawn_anew_within_the_image_and_half_of_them_mirrored():
    views = augment.draw_views(1000, np.random.default_rng(0), is_strong=False)
    corners = views.theta @ np.array([[-1, -1, 1], [1, 1, 1]]).T
    assert np.abs(corners).max() <= 1 + 1e-6 and (views.colour == 1).all()
    assert 0.4 < (views.theta[:, 0, 0] < 0).mean() < 0.6
    area = np.abs(views.theta[:, 0, 0] * views.theta[:, 1, 1])
    assert area.min() > 0.3 and area.std() > 0.1
    strong = augment.draw_views(1000, np.random.default_rng(0), is_strong=True)
    turned = strong.theta[:, 1, 0] != 0
    assert 0.2 < turned.mean() < 0.8 and ((strong.colour != 1).sum(axis=1) <= 2).all() and (strong.colour != 1).any()
    squares = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (5, 36, 36, 3), np.uint8))
    seen = augment.render_views(squares, strong.of(slice(5)), Preprocess(32))
    assert seen.shape == (5, 3, 32, 32) and seen.abs().max() <= 1


def test_mixed_batches_mix_the_labels_as_the_pixels():
    y = torch.nn.functional.one_hot(torch.tensor([0, 1, 2]), 3).float()
    x = y[:, :, None, None].expand(3, 3, 16, 16).contiguous()  # each image has its label's colour
    kinds = set()
    for seed in range(30):
        mixed, labels = augment.mix(x, y, np.random.default_rng(seed))
        assert torch.allclose(mixed.mean(dim=(2, 3)), labels, atol=1e-4)
        is_box = len(mixed[0].unique()) == 2 and mixed[0].unique().tolist() == [0, 1]
        kinds.add("same" if torch.equal(mixed, x) else "box" if is_box else "whole")
    assert kinds == {"same", "box", "whole"}


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def test_two_processes_learn_what_one_learns_with_twice_the_batch(data, tmp_path, monkeypatch, last_training):
    monkeypatch.setattr(processes, "PATIENT_SECONDS", 100)
    data.finetuned(batch=8, unfreeze="half")
    alone = {name: p.clone() for name, p in last_training().stepper.average.items()}
    for name, value in {
        "WORLD_SIZE": 2,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": free_port(),
        "OMP_NUM_THREADS": 1,
    }.items():
        monkeypatch.setenv(name, str(value))
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
import torch
from headstart.finetune import loop
from support.networks import tiny_network
run = loop._Training.run
def saved(self):
    assert run(self) is None
    torch.save(dict(self.stepper.average), {str(tmp_path / "other.pt")!r})
loop._Training.run = saved
loop.finetune_worker(lambda name: tiny_network(), device="cpu")
"""
    other = subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, "RANK": "1"}, stderr=subprocess.PIPE, text=True
    )
    try:
        monkeypatch.setenv("RANK", "0")
        try:
            tuned = data.finetuned(batch=4, unfreeze="half")  # 30 images in 8s: the last step has an uneven share
        except RuntimeError as error:
            raise AssertionError(other.communicate()[1]) from error
        assert other.wait(timeout=60) == 0, other.stderr.read()
    finally:
        other.kill()
        other.stderr.close()
        other.wait()
    together = last_training().stepper.average
    theirs = torch.load(tmp_path / "other.pt", weights_only=True)
    assert all(torch.equal(together[name], theirs[name]) for name in together)
    assert all(torch.allclose(together[name], alone[name], atol=1e-5) for name in alone)
    assert tuned.epochs == 2


def test_images_in_memory_are_not_for_several_processes(data):
    task = replace(data.task(), images=[np.zeros((3, 3, 3), np.uint8)])
    with pytest.raises(DataError, match="not from images in memory"):
        pack(task, FineTuning())


def test_a_task_reaches_other_processes_whole(data, tmp_path):
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    from headstart.data.datasets import load_dataset

    contents = [Path(path).read_bytes() for path in data.images]
    table = pa.table({"image": contents, "label": [CLASSES[y] for y in data.labels]})
    parquet.write_table(table, tmp_path / "train.parquet", row_group_size=4)
    dataset = load_dataset(tmp_path / "train.parquet")
    finer = replace(tiny_network(), preprocess=Preprocess(48, crop=1.0))
    task = replace(data.task(finer), images=list(dataset.images))
    content = pack(task, FineTuning(epochs=3, seed=5, checkpoint_dir=tmp_path))
    same, options = unpack(content, lambda name: tiny_network())
    assert [image.read() for image in same.images] == contents
    assert np.array_equal(same.labels, task.labels) and same.digests == task.digests
    assert same.network.preprocess == finer.preprocess and same.head.widths == task.head.widths
    assert (options.epochs, options.seed, options.checkpoint_dir) == (3, 5, None)
    assert batches._table_contents(same.images) == dict(enumerate(contents))


@pytest.mark.parametrize("module", ["headstart.finetune.recipe", "headstart.finetune.loop"])
def test_without_torch_the_line_that_installs_it_is_told(module):
    code = f"import sys; sys.modules['torch'] = None; import {module}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "MissingExtra" in done.stderr and "pip install 'headstart[torch]'" in done.stderr
