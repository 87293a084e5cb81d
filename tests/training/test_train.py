"""The recipe and the run folder that it leaves."""

import csv
import errno
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image

import headstart
from headstart.backbones.find import BackboneSpec, find_backbone
from headstart.codes.representation import Representation
from headstart.codes.workspace import Workspace
from headstart.data.splits import TEST
from headstart.engines.hardware import Hardware
from headstart.errors import DataError, HeadstartError, OutputError
from headstart.files import write_output
from headstart.runs.folder import draft_of, publish
from headstart.selection.ladder import Ladder
from headstart.training.steps.load import Expected, expected_seconds
from headstart.training.steps.training_codes import TrainingCodes
from support.disk import fill
from support.photos import COLOURS, picture, resaved, scene, write_photos


@pytest.fixture
def train(tiny_onnx, tmp_path):
    """headstart.train on the tiny backbone, to a new run folder each time; without the ladder, which takes longest."""
    runs = iter(range(100))
    return lambda photos, **options: headstart.train(
        photos,
        options.pop("run", tmp_path / f"run {next(runs)}"),
        **{"backbone": str(tiny_onnx), "effort": "quick", **options},
    )


def predictions(run):
    with (run.folder / "predictions.csv").open(newline="") as file:
        return {row["path"]: row for row in csv.DictReader(file)}


def skipped(run):
    with (run.folder / "skipped.csv").open(newline="") as file:
        return {row["path"]: row["reason"] for row in csv.DictReader(file)}


def test_a_folder_of_photos_becomes_a_run_folder(train, photos):
    run = train(photos)
    assert run.evaluation.accuracy > 0.95 and run.evaluation.split == "test"
    names = {p.name for p in run.folder.iterdir()}
    tables = {"labels.txt", "predictions.csv", "skipped.csv"}
    findings = {"issues.json", "findings.npz", "learnt.npz"}
    assert names == {"model.onnx", "run.json", *tables, "report.html", *findings, "tensorboard"}
    assert (run.folder / "labels.txt").read_text() == "blue\ngreen\nred\n"
    about = json.loads((run.folder / "run.json").read_text())
    assert about["evaluation"]["accuracy"] == run.evaluation.accuracy
    assert about["images"]["used"] == 60 == sum(about["images"][s] for s in ("train", "validation", "test"))
    assert set(about["seconds"]) - {"precision"} == {  # which takes time where the machine has bf16
        *("list", "backbone", "codes", "glance", "splits", "choose", "gather", "trust", "evaluate", "curve", "fitting"),
        *("issues", "map", "build", "review", "write"),
    }
    assert about["arguments"]["seed"] == 0 and about["versions"]["openvino"]
    (prediction,) = headstart.load(run.folder).predict(photos / "red" / "red 0.png")
    assert prediction.prediction == "red"


def test_every_stage_is_told_as_it_begins_and_as_it_ends(train, photos):
    told = []
    run = train(photos, effort="normal", progress=lambda *args: told.append(args))
    begun, over = {stage for stage, done, _ in told if not done}, {stage for stage, done, total in told if 0 < total <= done}
    assert begun >= {*run.about["seconds"], "rung", "head", "compare", "labels"}
    assert over >= begun
    assert all(total for stage, _, total in told if stage == "rung")


def test_no_message_names_the_hidden_folder_that_a_run_is_drafted_in(tmp_path, monkeypatch):
    run = tmp_path / "run"
    with pytest.raises(OutputError) as refused, draft_of(run) as draft:
        (draft / "labels.txt").mkdir()
        write_output(draft / "labels.txt", "red")
    assert str(refused.value).startswith(f"{run / 'labels.txt'} cannot be written") and ".headstart" not in str(
        refused.value
    )
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="run cannot be written: .*[Nn]ot a directory") as refused:
        draft_of(tmp_path / "file" / "run").__enter__()
    assert ".headstart" not in str(refused.value)
    with draft_of(run) as draft:
        moved = OSError(errno.EXDEV, "Invalid cross-device link", str(draft), None, "photos-run")
        monkeypatch.setattr(Path, "rename", Mock(side_effect=moved))
        with pytest.raises(OutputError, match="run cannot be written: Invalid cross-device link") as refused:
            publish(draft, run)
        assert ".headstart" not in str(refused.value)


def test_of_many_classes_without_a_photo_to_learn_from_the_message_says_how_many_more_there_are(train, photos, tmp_path):
    table = tmp_path / "table.csv"
    files = sorted(photos.rglob("*.png"))
    rows = [f"{path},red,train" for path in files[:40]]
    rows += [f"{path},class {i // 2},test" for i, path in enumerate(files[40:])]
    table.write_text("\n".join(["path,label,split", *rows]))
    with pytest.raises(DataError, match="'class 0', 'class 1', 'class 2', 'class 3', 'class 4' and 5 more with no image"):
        train(table)


def test_predictions_csv_agrees_with_the_classifier_on_the_test_split(train, photos):
    run = train(photos, precision="f32")
    rows = [row for row in predictions(run).values() if row["split"] == "test"]
    assert len(rows) == run.evaluation.n_images
    for row, again in zip(rows, headstart.load(run.folder, precision="f32").predict([r["path"] for r in rows]), strict=True):
        assert again.prediction == row["prediction"] and again.probability == pytest.approx(
            float(row["probability"]), abs=2e-3
        )
    assert len(predictions(run)) == 60  # the others are there as well, judged by fits that had not seen them


@pytest.mark.parametrize("how_many", [1, 20])
def test_photos_that_are_exchanged_while_the_ladder_runs_stop_it(train, photos, how_many):
    """Labels and splits belong to what the photos were; the codes of the next rung would be of what they are."""
    exchanged = [[photos / name / f"{name} {i}.png" for name in ("blue", "red")] for i in range(how_many)]

    def exchange(stage, done, total):
        if stage == "rung" and exchanged:
            for blue, red in exchanged:
                contents = blue.read_bytes(), red.read_bytes()
                red.write_bytes(contents[0])
                blue.write_bytes(contents[1])
            exchanged.clear()

    with pytest.raises(DataError, match=r"(blue|red) \d+\.png and \d+ more changed while the training ran.*start again"):
        train(photos, test=0, views="rotation=15", progress=exchange)
    assert not exchanged and train(photos, test=0).evaluation.accuracy > 0.6


def test_labels_that_mean_nothing_are_not_learnt(train, photos):
    everything = sorted(photos.rglob("*.png"))
    shuffled = photos.parent / "shuffled"
    for i, path in enumerate(np.random.default_rng(0).permutation(np.array(everything, object))):
        folder = shuffled / str(i % 3)
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / f"{i}.png")
    run = train(shuffled, test=0.5)
    low, high = run.evaluation.interval
    assert low < 1 / 3 + 0.05 and run.evaluation.accuracy < 0.65


def test_training_again_computes_nothing_and_says_the_same(train, photos):
    first, second = train(photos), train(photos)
    assert (first.about["images"]["computed"], second.about["images"]["computed"]) == (60, 0)
    assert first.about["splits_sha256"] == second.about["splits_sha256"]
    np.testing.assert_array_equal(first.evaluation.confusion, second.evaluation.confusion)


def test_what_cannot_be_used_is_listed_and_the_rest_is_learnt(train, photos):
    (photos / "red" / "note.jpg").write_text("not a photo")
    (photos / "red" / "empty.png").touch()
    whole = (photos / "red" / "red 0.png").read_bytes()
    (photos / "red" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (photos / "stray.png").write_bytes(whole)
    run = train(photos)
    reasons = {os.path.basename(path): reason for path, reason in skipped(run).items()}
    assert set(reasons) == {"note.jpg", "empty.png", "cut.png", "stray.png"} and all(reasons.values())
    assert run.about["images"] == {**run.about["images"], "used": 60, "skipped": 4}


def test_a_folder_without_a_single_image_is_no_class(train, photos):
    (photos / "notes").mkdir()
    for i in range(3):
        (photos / "notes" / f"{i}.txt").write_text("words")
    run = train(photos)
    assert run.classifier.classes == ("blue", "green", "red")
    assert any("'notes'" in note for note in run.about["notes"])


ALONE = "has a single photo, copies aside: it is learnt, but there is no other photo to judge by"


def add_grey(photos):
    """A class of one photo, and a file that is none."""
    (photos / "grey").mkdir()
    Image.fromarray(picture((90, 90, 90), 0)).save(photos / "grey" / "one.png")
    (photos / "grey" / "two.png").write_text("no photo")
    return photos / "grey" / "one.png"


@pytest.mark.parametrize(("head", "test"), [("auto", 0.0), ("softmax", 0.9), ("hidden", 0.9), ("class-mean", 0.0)])
def test_a_class_of_one_photo_is_learnt_and_nobody_pretends_that_it_was_judged(train, photos, head, test):
    lone = add_grey(photos)
    run = train(photos, head=head, test=test, effort="quick")
    (note,) = (note for note in run.about["notes"] if "single photo" in note)
    assert note.startswith(f"'grey' {ALONE}")
    (grey,) = (c for c in run.evaluation.classes if c.label == "grey")
    assert (grey.support, grey.recall, grey.f1) == (0, None, None) and str(lone) not in predictions(run)
    assert run.evaluation.split == ("test" if test else "cross-validation")
    assert run.classifier.predict(str(lone))[0].prediction == "grey"


def test_a_class_of_one_photo_that_the_nearest_can_hardly_give_is_told(train, photos):
    add_grey(photos)
    run = train(photos, head="nearest", effort="quick")
    assert run.about["choice"]["strength"] > 1
    assert any(
        f"'grey' has too few photos to be most of the {run.about['choice']['strength']:.0f} nearest" in note
        for note in run.about["notes"]
    )


@pytest.mark.parametrize("seed", range(3))
def test_a_class_all_of_whose_photos_are_copies_of_one_is_learnt_and_not_judged(train, photos, seed):
    lone = add_grey(photos)
    for quality in (90, 92, 94):
        Image.open(lone).save(lone.with_name(f"{quality}.jpg"), quality=quality)
    shutil.copy(lone, lone.with_name("same.png"))
    run = train(photos, seed=seed, test=0.5, effort="quick")
    assert any(note.startswith(f"'grey' {ALONE}") for note in run.about["notes"])
    assert not [path for path in predictions(run) if "grey" in path]


def test_several_classes_of_one_photo_are_named_together(train, photos):
    for i, name in enumerate(("grey", "dark", "black", "white", "pink")):
        (photos / name).mkdir()
        Image.fromarray(picture((40 * i, 40 * i, 90), i)).save(photos / name / "one.png")
    notes = train(photos, effort="quick").about["notes"]
    assert any(note.startswith("'black', 'dark', 'grey', 'pink' and 'white' have a single photo each") for note in notes)


@pytest.mark.parametrize("test", [0.0, 0.2, 0.9])
def test_one_photo_of_a_class_and_two_of_another_are_enough(train, photos, test):
    for path in [*photos.rglob("[b-g]* [2-9]*.png"), *photos.rglob("* 1?.png"), photos / "blue" / "blue 1.png"]:
        path.unlink(missing_ok=True)
    shutil.rmtree(photos / "red")
    run = train(photos, test=test)
    assert run.about["images_of_class"] == {"blue": 1, "green": 2}
    n = run.evaluation.n_images
    assert {c.label: c.support for c in run.evaluation.classes} == {"blue": 0, "green": n} and n in (1, 2)


@pytest.mark.parametrize("n_copies", [1, 4])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_where_no_class_has_a_second_photo_nothing_could_judge_and_that_is_told(train, tmp_path, n_copies, n_classes):
    for i, (name, colour) in enumerate([*COLOURS.items()][:n_classes]):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for j in range(n_copies):
            Image.fromarray(picture(colour, i)).save(tmp_path / "photos" / name / f"{j}.jpg", quality=95 - j)
    with pytest.raises(DataError, match="a single (image|photo) of each class.*nothing is left to judge by; add photos"):
        train(tmp_path / "photos")


def test_one_photo_to_learn_from_is_judged_by_a_test_split_that_the_data_gives(train, tmp_path):
    for i, (split, n) in enumerate((("train", 1), ("test", 4))):
        for j, (name, colour) in enumerate(COLOURS.items()):
            (tmp_path / "data" / split / name).mkdir(parents=True)
            for k in range(n):
                pixels = picture(colour, 1000 * i + 100 * j + k)
                Image.fromarray(pixels).save(tmp_path / "data" / split / name / f"{k}.png")
    run = train(tmp_path / "data")
    assert run.evaluation.n_images == 12 and run.evaluation.accuracy > 0.9
    assert not any("single photo" in note for note in run.about["notes"])


def test_a_label_of_one_photo_is_learnt_beside_others(train, photos, tmp_path):
    paths = sorted(photos.rglob("*.png"))
    labels = {path: path.parent.name + "|bright" * (path.parent.name == "red") for path in paths}
    labels[paths[0]] += "|odd"
    with (tmp_path / "many.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label"), *((p.relative_to(tmp_path), label) for p, label in labels.items())])
    run = train(tmp_path / "many.csv", effort="quick")
    assert "odd" in run.about["classes"] and any(note.startswith(f"'odd' {ALONE}") for note in run.about["notes"])


def test_nothing_but_text_is_told(train, tmp_path):
    for name in ("a", "b"):
        (tmp_path / "texts" / name).mkdir(parents=True)
        for i in range(3):
            (tmp_path / "texts" / name / f"{i}.jpg").write_text("words")
    with pytest.raises(DataError, match="none of the 6 files"):
        train(tmp_path / "texts")


def test_given_splits_are_kept_and_a_leak_is_told_and_mended(train, tmp_path):
    for i, split in enumerate(("train", "test")):
        for j, (name, colour) in enumerate(COLOURS.items()):
            (tmp_path / "data" / split / name).mkdir(parents=True)
            for k in range(10):
                pixels = picture(colour, 1000 * i + 100 * j + k)
                Image.fromarray(pixels).save(tmp_path / "data" / split / name / f"{k}.png")
    shutil.copy(tmp_path / "data" / "test" / "red" / "0.png", tmp_path / "data" / "train" / "red" / "leak.png")
    run = train(tmp_path / "data")
    assert run.about["images"]["test"] == 30
    assert {row["split"] for path, row in predictions(run).items() if "/test/" in path} == {"test"}
    assert [os.path.basename(p) for p in skipped(run)] == ["leak.png"] and "the test stays honest" in run.about["notes"][0]


def test_images_under_two_labels_are_told(train, photos):
    shutil.copy(photos / "red" / "red 0.png", photos / "blue" / "not blue.png")
    assert any("more than one label" in note and "not blue.png" in note for note in train(photos).about["notes"])


def test_no_test_split_falls_back_on_cross_validation_and_says_so(train, photos):
    run = train(photos, test=0)
    assert run.evaluation.split == "cross-validation" and run.evaluation.n_images == 60
    assert run.about["images"]["test"] == 0


def test_two_photos_a_class_are_enough(train, tmp_path):
    for seed in range(5):
        run = train(write_photos(tmp_path / f"few {seed}", n=2), seed=seed)
        assert len(run.classifier.classes) == 3


def test_a_table_trains_as_its_folder_does(train, photos):
    with (photos.parent / "table.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [("path", "label"), *((p.relative_to(photos.parent), p.parent.name) for p in photos.rglob("*.png"))]
        )
    from_folder, from_table = train(photos), train(photos.parent / "table.csv")
    assert from_folder.about["splits_sha256"] == from_table.about["splits_sha256"]
    assert from_table.about["images"]["computed"] == 0


def test_moved_and_renamed_photos_stay_in_their_split(train, photos):
    before = train(photos)
    by_pixels = {(photos / "red" / f"red {i}.png").read_bytes(): i for i in range(20)}
    where = {by_pixels[Path(p).read_bytes()]: r["split"] for p, r in predictions(before).items() if "red" in p}
    for i in range(20):
        (photos / "red" / f"red {i}.png").rename(photos / "red" / f"renamed {19 - i}.png")
    after = train(photos)
    assert after.about["images"]["computed"] == 0
    assert {by_pixels[Path(p).read_bytes()]: r["split"] for p, r in predictions(after).items() if "red" in p} == where


def test_a_folder_in_use_is_refused_before_any_work(train, photos, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    started = []
    with pytest.raises(OutputError, match="never overwritten"):
        train(photos, run=tmp_path / "mine", progress=lambda *a: started.append(a))
    assert not started and (tmp_path / "mine" / "thesis.txt").read_text() == "precious"
    with pytest.raises(OutputError, match="is a file"):
        train(photos, run=tmp_path / "mine" / "thesis.txt")


def test_runs_without_a_name_get_one_of_their_own(photos, tiny_onnx, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folders = [headstart.train("photos", backbone=str(tiny_onnx)).folder.name for _ in range(3)]
    assert folders == ["photos-run", "photos-run-2", "photos-run-3"]


def test_a_second_run_of_one_name_is_refused_at_once_and_the_first_goes_on(train, photos, tmp_path):
    told = []

    def start_another(*_):
        if not told:
            told.append(())
            with pytest.raises(
                OutputError, match="another run writes .*mine at this moment; name another with -o"
            ) as raised:
                train(photos, run=tmp_path / "mine", progress=lambda *a: told.append(a))
            told.append(raised.value)

    assert train(photos, run=tmp_path / "mine", progress=start_another).folder == tmp_path / "mine"
    assert len(told) == 2  # the second did nothing
    assert not list(tmp_path.glob(".headstart*"))
    with pytest.raises(OutputError, match="never overwritten"):
        train(photos, run=tmp_path / "mine")


def test_two_runs_without_a_name_get_one_each(photos, tiny_onnx, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folders = []

    def start_another(*_):
        if not folders:
            folders.append("")
            folders[0] = headstart.train("photos", backbone=str(tiny_onnx)).folder.name

    assert headstart.train("photos", backbone=str(tiny_onnx), progress=start_another).folder.name == "photos-run"
    assert folders == ["photos-run-2"] and not list(tmp_path.glob(".headstart*"))


def test_what_a_killed_run_left_does_not_block_the_next(train, photos, tmp_path):
    (tmp_path / ".headstart-mine.lock").touch()
    train(photos, run=tmp_path / "mine")
    assert not list(tmp_path.glob(".headstart*"))


def test_a_run_that_fails_leaves_nothing_and_can_be_tried_again(train, photos, tmp_path):
    run = tmp_path / "new" / "deep" / "run"
    with pytest.raises(DataError):
        train(tmp_path / "nowhere", run=run)
    assert not (tmp_path / "new").exists()
    assert train(photos, run=run).folder == run


@pytest.mark.parametrize("obstacle", ["read-only", "file", "link"])
def test_a_place_where_no_run_can_be_is_refused_before_any_work(train, photos, tmp_path, obstacle, mounted):
    place = tmp_path / "place"
    if obstacle == "file":
        place.write_text("")
        place /= "below/run"
    elif obstacle == "link":
        try:
            place.symlink_to(tmp_path / "nowhere")
        except OSError:
            pytest.skip("this user may make no links")
    elif hasattr(os, "geteuid") and os.geteuid() == 0:
        place = mounted("size=1m") / "run"
        subprocess.run(["mount", "-o", "remount,ro", str(place.parent)], check=True)
    else:
        place.mkdir(mode=0o555)
        place /= "run"
    started = []
    with pytest.raises(OutputError):
        train(photos, run=place, progress=lambda *a: started.append(a))
    assert not started


@pytest.mark.parametrize("obstacle", ["here", "above", "link", "mount", "not ours"])
def test_an_empty_folder_whose_place_no_run_can_take_is_refused_before_any_work(
    train, photos, tmp_path, obstacle, monkeypatch, request
):
    place = tmp_path / "empty"
    place.mkdir()
    if obstacle in ("here", "above"):
        monkeypatch.chdir(place)
        place = Path("." if obstacle == "here" else "../empty/..")
    elif obstacle == "link":
        place = tmp_path / "link"
        try:
            place.symlink_to(tmp_path / "empty")
        except OSError:
            pytest.skip("this user may make no links")
    elif obstacle == "mount":
        place = request.getfixturevalue("mounted")("size=1m")
    else:
        place.chmod(0o555)
        if os.access(place, os.W_OK):
            monkeypatch.setattr("os.access", lambda path, _: Path(path) != place)  # as for another user
    started = []
    with pytest.raises(OutputError, match=r"name (a folder in it|another) with -o|never overwritten"):
        train(photos, run=place, progress=lambda *a: started.append(a))
    assert not started and place.is_dir() and not list((tmp_path / "empty").iterdir())


def test_a_place_that_cannot_be_written_is_told(train, photos, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="name a new folder with -o"):
        train(photos, run=tmp_path / "file" / "run")


def test_a_cache_that_cannot_be_written_stops_no_training_and_is_noted(train, photos, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    kept, unkept = train(photos), train(photos, cache=tmp_path / "file")
    (message,) = caplog.messages
    assert message.startswith("what is computed from here on is not kept in the cache: ") and "--cache DIR" in message
    notes = json.loads((unkept.folder / "run.json").read_text())["notes"]
    assert notes == [*kept.about["notes"], message]
    assert unkept.evaluation == kept.evaluation


def test_a_cache_that_fills_up_while_training_runs_stops_no_training(train, photos, tmp_path, mounted):
    disk = mounted("size=1m")
    fill(disk / "holiday.mp4", 60_000)
    unkept = train(photos, cache=disk)
    (note,) = [note for note in unkept.about["notes"] if "not kept in the cache" in note]
    assert "no room is left for the cache" in note and unkept.evaluation == train(photos).evaluation


def test_progress_is_told(train, photos):
    told = []
    train(photos, progress=lambda *a: told.append(a))
    assert ("codes", 60, 60) in told and any(stage == "head" for stage, _, _ in told)


def test_names_of_every_kind_survive(train, tmp_path):
    names = ["10 öäü", "2 <script>alert(1)</script>".replace("/", "∕"), "ארץ \U0001f98a", '"quoted", [x]']
    for i, name in enumerate(names):
        (tmp_path / "odd" / name).mkdir(parents=True)
        for j in range(6):
            Image.fromarray(picture((60 * i, 200 - 40 * i, 90), 10 * i + j)).save(tmp_path / "odd" / name / f"{j}.png")
    run = train(tmp_path / "odd")
    assert set(headstart.load(run.folder).classes) == set(names)
    assert run.classifier.classes.index(names[1]) < run.classifier.classes.index(names[0])  # 2 before 10
    assert (run.folder / "labels.txt").read_text().splitlines() == list(run.classifier.classes)


@pytest.mark.shared
def test_real_flowers_with_the_default_backbone(shared, tmp_path):
    run = headstart.train(shared / "data" / "flowers", tmp_path / "run")
    assert run.evaluation.accuracy > 0.8 and run.about["cross_validation"]["accuracy"] > 0.83


def test_a_strangers_network_is_told_as_it_was_understood(train, photos):
    assert any("48 numbers of 'features'" in note and "--mean" in note for note in train(photos).about["notes"])


def test_few_test_photos_are_told(train, photos):
    assert any("photos to judge by" in note for note in train(photos, test=0.1).about["notes"])


def test_an_effort_says_what_is_learnt_from_and_a_budget_of_0_is_quick(train, photos, deep_onnx):
    normal = train(photos, backbone=str(deep_onnx), effort="normal").about
    assert [rung["name"] for rung in normal["ladder"]] == ["mean of layers"]
    assert all(rung["why"] for rung in normal["ladder"]) and normal["effort"] == {"name": "normal", "is_cut": False}
    assert (normal["choice"]["layers"], normal["choice"]["mirrored"], len(normal["choice"]["members"])) == (4, False, 3)
    quick, simple = (
        train(photos, backbone=str(deep_onnx), **o).about for o in ({"effort": "quick"}, {"effort": "normal", "budget": 0})
    )
    assert quick["ladder"][0]["name"] == "last layer" and quick["choice"] == simple["choice"]
    assert quick["effort"] == simple["effort"] == {"name": "quick", "is_cut": False}
    assert (simple["choice"]["layers"], simple["choice"]["mirrored"]) == (1, False)


def test_a_budget_that_is_too_small_takes_less_effort_and_says_so(train, photos, deep_onnx, monkeypatch):
    monkeypatch.setattr("headstart.training.steps.load.expected_seconds", lambda *_: Expected(100.0, 0))
    about = train(photos, backbone=str(deep_onnx), effort="normal", budget=99).about
    assert about["effort"] == {"name": "quick", "is_cut": True}
    assert any("the effort is quick, not normal" in note for note in about["notes"])
    whole = train(photos, backbone=str(deep_onnx), effort="normal", budget=101).about
    assert whole["effort"] == {"name": "normal", "is_cut": False}


def test_the_expected_seconds_are_those_of_codes_that_are_not_there_yet(photos, deep_onnx, tmp_path):
    images = [str(path) for path in sorted(photos.rglob("*.png"))]
    representation = Representation((find_backbone(BackboneSpec(str(deep_onnx)), tmp_path),))
    with Workspace(tmp_path / "c", Hardware()) as workspace:
        first = expected_seconds(images, representation, workspace)
        assert first.seconds >= 0 and first.n_computed == 56
        workspace.represent(images, representation)
        again = expected_seconds(images, representation, workspace)
        assert again.seconds < 1 and again.n_computed == 0


def test_of_many_photos_the_time_is_told_beforehand_and_all_of_them_are_counted(train, photos, monkeypatch):
    monkeypatch.setattr("headstart.training.steps.load.FROM_TOLD", 50)
    monkeypatch.setattr("headstart.training.steps.load.LEAST_TOLD", 0.0)
    told = []

    class Progress:
        def __call__(self, *_):
            pass

        def note(self, text):
            told.append(text)

    run = train(photos, progress=Progress())
    assert re.fullmatch(r"effort quick: the codes of 60 photos take about \d+ s", told[0]) and len(told) == 1
    assert run.about["images"]["computed"] == 60
    assert train(photos).about["images"]["computed"] == 0


def test_an_effort_that_is_not_there_is_refused(train, photos):
    with pytest.raises(HeadstartError, match=r"there is no effort 'huge'; the efforts: quick, normal, thorough"):
        train(photos, effort="huge")


def test_choosing_never_sees_the_test_split(train, photos, deep_onnx, monkeypatch):
    read, compute, learn = set(), TrainingCodes.of, Ladder.learn

    def of(self, representation, rows):
        read.update(self.data.splits[rows].tolist())
        return compute(self, representation, rows)

    def watched(self, first):
        learned = learn(self, first)
        assert read and TEST not in read
        return learned

    monkeypatch.setattr(TrainingCodes, "of", of)
    monkeypatch.setattr(Ladder, "learn", watched)
    train(photos, backbone=str(deep_onnx), effort="normal")
    assert TEST in read


@pytest.mark.parametrize("head", ["softmax", "class-mean", "nearest"])
def test_every_head_becomes_a_classifier_that_says_what_was_evaluated(train, photos, head):
    run = train(photos, head=head, precision="f32")
    assert run.about["choice"]["head"] == head and run.evaluation.accuracy > 0.9
    rows = {path: row for path, row in predictions(run).items() if row["split"] == "test"}
    for prediction in headstart.load(run.folder, precision="f32").predict(list(rows)):
        assert prediction.prediction == rows[prediction.path]["prediction"]
        assert prediction.probability == pytest.approx(float(rows[prediction.path]["probability"]), abs=2e-2)


def test_an_unknown_head_lists_the_known_ones(train, photos):
    with pytest.raises(HeadstartError, match="class-mean"):
        train(photos, head="svm")


def test_views_are_learnt_from_where_they_help_and_told(train, photos):
    about = train(photos, views="mirrored,brightness=20", effort="normal").about
    assert "views mirrored, brightness=20" in [rung["name"] for rung in about["ladder"]]
    none = train(photos, views="none", effort="normal").about
    assert not any(rung["name"].startswith("views") for rung in none["ladder"])
    with pytest.raises(HeadstartError, match="did you mean rotation"):
        train(photos, views="rotatoin=3")


@pytest.fixture
def table_of_many(photos, tmp_path):
    """Each picture has its colour; reds and blues are `warm` or `cold` as well, a few have both colours' labels."""
    rows = ["path,label"]
    for path in sorted(photos.rglob("*.png")):
        colour = path.parent.name
        rows.append(f"{path},{colour}" + {"red": "|warm", "blue": " | cold"}.get(colour, ""))
    table = tmp_path / "many.csv"
    table.write_text("\n".join(rows) + "\n")
    return table


def test_several_labels_an_image(train, table_of_many, photos):
    run = train(table_of_many, precision="f32")
    assert run.about["classes"] == ["blue", "cold", "green", "red", "warm"]
    assert run.evaluation.mean_average_precision > 0.95 and run.evaluation.f1_micro > 0.9
    assert len(run.about["thresholds"]) == 5 and run.about["choice"]["head"] == "sigmoid"
    assert run.about["learning_curve"] is None
    classifier = headstart.load(run.folder, precision="f32")
    red, blue, green = classifier.predict([photos / c / f"{c} 0.png" for c in ("red", "blue", "green")])
    assert (red.prediction, blue.prediction, green.prediction) == ("red|warm", "blue|cold", "green")
    rows = {path: row for path, row in predictions(run).items() if row["split"] == "test"}
    assert all(p.prediction == rows[p.path]["prediction"] for p in classifier.predict(list(rows)))


def test_several_labels_an_image_are_no_business_of_a_softmax(train, table_of_many):
    with pytest.raises(HeadstartError, match="sigmoid"):
        train(table_of_many, head="softmax")


def test_the_learning_curve_rises_and_says_what_it_says(train, photos):
    curve = train(photos, learning_curve=True).about["learning_curve"]
    accuracies = [point["accuracy"] for point in curve["points"]]
    assert accuracies[-1] > 0.95 and accuracies[-1] >= accuracies[0] and curve["sentence"]


def test_copies_between_a_given_test_split_and_what_the_table_leaves_open_are_a_leak(train, photos):
    rows = [("path", "label", "split")]
    for i, path in enumerate(sorted(photos.rglob("*.png"))):
        rows.append((str(path), path.parent.name, "test" if i % 3 == 0 else ""))
        if i % 9 == 1:  # resaved, into the test split
            pixels = np.clip(np.asarray(Image.open(path)).astype(int) + 1, 0, 255).astype(np.uint8)
            copy = photos.parent / f"copy{i}.png"
            Image.fromarray(pixels).save(copy)
            rows.append((str(copy), path.parent.name, "test"))
    table = photos.parent / "table.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    run = train(table)
    assert run.about["issues"].get("leak") and any("more than one of the splits" in note for note in run.about["notes"])


def test_fixes_of_test_photos_are_told_with_the_result(train, photos):
    every = sorted(photos.rglob("*.png"))
    fixes = photos.parent / "fixes.csv"
    with fixes.open("w", newline="") as file:
        rows = [("path", "action", "label"), *((str(p), "relabel", "red") for p in every if p.parent.name == "blue")]
        csv.writer(file).writerows([*rows[:11], (str(every[-1]), "exclude", "")])
    run = train(photos, fixes=fixes, test=0.5)
    (note,) = (note for note in run.about["notes"] if note.startswith("by the fixes"))
    assert "10 photos got another label, and 1 photo left the data" in note and "kinder" in note
    assert "unreadable" not in run.about["issues"]
    assert all(p.exists() for p in every)


def test_many_copies_of_few_photos_are_few_to_judge_by(train, tmp_path):
    for i in range(12):
        folder = tmp_path / "photos" / f"class {i % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        for j, content in enumerate(resaved(scene(i, 128, 96), 12, i)):
            (folder / f"{i}-{j}.jpg").write_bytes(content)
    run = train(tmp_path / "photos", test=0.3, effort="quick")
    n_different = run.evaluation.n_different
    assert run.evaluation.n_images == 12 * n_different >= 24
    assert any(note.startswith(f"only {n_different} different photos to judge by") for note in run.about["notes"])
