"""Photos that a run has learnt from never judge it: whatever was done to them, wherever the learnt ones lie by now."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import headstart
from headstart.checks import copies
from headstart.codes.image_stats import compute_image_stats
from headstart.data.splits import TEST
from headstart.data.tables import digest_of
from headstart.errors import DataError
from headstart.runs import training_photos
from headstart.runs.findings import Findings
from headstart.runs.training_photos import FILE_NAME
from headstart.training import evaluate_run, other_photos
from support.photos import scene

CLASSES = ("blue", "red")
NEARLY = "of these photos are nearly the same as photos that were learnt from, and are left out"
N_LEARNT, N_NEW = 6, 4  # photos a class


@dataclass(frozen=True)
class World:
    """A run on scenes, none of which was tested with, and scenes that it has never seen; nothing here is ever changed."""

    photos: Path
    new: Path
    run: Path
    backbone: str


def write_scenes(root, seeds):
    """A folder per class, a tint each, with a scene for each seed."""
    for i, name in enumerate(CLASSES):
        (root / name).mkdir(parents=True)
        for seed in seeds:
            pixels = scene(100 * i + seed)
            pixels[:, :, 2 * i] //= 3
            Image.fromarray(pixels).save(root / name / f"{seed}.png")
    return root


def resave(path, copy, *, quality=70, crop=0):
    with Image.open(path) as image:
        width, height = image.size
        image.convert("RGB").crop((crop, crop, width - crop, height - crop)).save(copy, quality=quality)
    return copy


@pytest.fixture(scope="module")
def world(tmp_path_factory, deep_onnx):
    root = tmp_path_factory.mktemp("recognition")
    photos = write_scenes(root / "photos", range(N_LEARNT))
    new = write_scenes(root / "new", range(50, 50 + N_NEW))
    options = {"backbone": str(deep_onnx), "budget": 0, "test": 0.0, "cache": root / "cache", "precision": "f32"}
    return World(photos, new, headstart.train(photos, root / "run", **options).folder, str(deep_onnx))


@pytest.fixture
def mixed(world, tmp_path):
    """The photos that the run has never seen, to lay copies of others beside them."""
    return shutil.copytree(world.new, tmp_path / "mixed")


def judged(run, photos, **options):
    """How many photos judge, and what is said of the others."""
    tested = headstart.evaluate_run(run, photos, write=False, precision="f32", **options)
    return tested.evaluation.n_images, " ".join(tested.about["notes"])


def test_each_of_several_identical_copies_of_a_learnt_photo_is_left_out(world, mixed):
    for path in world.photos.rglob("[0-3].png"):
        copy = resave(path, mixed / path.parent.name / f"copy of {path.stem}.jpg")
        for i in range(2):
            shutil.copy(copy, copy.with_stem(f"{copy.stem} {i}"))
    assert judged(world.run, mixed) == (
        8,
        "24 of these photos are nearly the same as photos that were learnt from, and are left out",
    )


def test_a_copy_of_a_copy_is_left_out(world, mixed):
    """Each is cropped a little more, the last so far that nobody could tell from the learnt photo alone."""
    first = world.photos / "red" / "0.png"
    path, last = first, mixed / "red" / "alone.jpg"
    for i in range(1, 5):
        path = resave(path, mixed / "red" / f"cropped {i}.jpg", crop=9, quality=95)
    path.rename(last)
    n, notes = judged(world.run, mixed)
    assert n == 8 and "4 of these photos are nearly the same" in notes
    for i in range(1, 4):
        (mixed / "red" / f"cropped {i}.jpg").unlink()
    assert judged(world.run, mixed) == (9, "")


def test_of_a_chain_that_is_cut_what_looks_like_a_learnt_photo_is_left_out_and_the_rest_is_told(world, mixed, monkeypatch):
    monkeypatch.setattr(copies, "MAX_GROUP", 2)
    monkeypatch.setattr(copies, "MAX_GROUP_SHARE", 0)
    path = world.photos / "red" / "0.png"
    for i in range(1, 8):
        path = resave(path, mixed / "red" / f"cropped {i}.jpg", crop=9, quality=95)
    n, notes = judged(world.run, mixed)
    assert 8 < n < 15 and "8 photos, those that were learnt from among them, form chains" in notes


@pytest.fixture
def moved(world, tmp_path):
    """A run whose photos are gone, with what its run.json says of where they lay."""
    run = shutil.copytree(world.run, tmp_path / "run")
    about = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**about, "photos": str(tmp_path / "gone")}))
    findings = Findings.load(run)
    names = tuple(name.replace(str(world.photos), str(tmp_path / "gone")) for name in findings.names)
    Findings(**{**vars(findings), "names": names}).save(run)
    return run


def test_learnt_photos_are_recognised_without_them_and_without_a_cache(world, mixed, moved, tmp_path):
    for path in world.photos.rglob("*.png"):
        resave(path, mixed / path.parent.name / f"copy of {path.stem}.jpg")
    assert judged(moved, mixed, cache=tmp_path / "new cache")[0] == 8


def test_what_cannot_be_recognised_any_more_is_told(world, mixed, moved, tmp_path):
    """As of a run of an earlier release, which kept no small pictures."""
    (moved / FILE_NAME).unlink()
    for path in world.photos.rglob("*.png"):
        resave(path, mixed / path.parent.name / f"copy of {path.stem}.jpg")
    n, notes = judged(moved, mixed, cache=tmp_path / "new cache")
    assert n == 20 and "12 of the 12 photos that it learnt from cannot be compared with these" in notes
    assert str(tmp_path / "gone") in notes and "put them back, or train again" in notes
    run = shutil.copytree(world.run, tmp_path / "early")  # whose photos lie where they lay
    (run / FILE_NAME).unlink()
    assert judged(run, mixed, cache=tmp_path / "new cache") == (8, f"12 {NEARLY}")


def test_too_many_photos_to_compare_are_told(world, mixed, monkeypatch):
    monkeypatch.setattr(training_photos, "MAX_COMPARED", 19)
    n, notes = judged(world.run, mixed)
    assert n == 8 and "20 photos, those that were learnt from among them, are too many to compare" in notes


def test_photos_that_either_run_has_learnt_from_are_left_out_of_a_comparison(world, mixed, tmp_path):
    other = headstart.train(world.new, tmp_path / "other", backbone=world.backbone, budget=0, test=0, precision="f32").folder
    write_scenes(tmp_path / "third", range(80, 83))
    shutil.copytree(tmp_path / "third", mixed, dirs_exist_ok=True)
    for root in (world.photos, world.new):
        resave(root / "red" / f"{5 if root == world.photos else 50}.png", mixed / "red" / f"{root.name}.jpg")
    n, notes = judged(world.run, mixed, against=other)
    assert n == 6 and "8 of these photos were learnt from" in notes and "2 of these photos are nearly the same" in notes


def test_photos_that_were_learnt_from_are_not_even_decoded(world, mixed, monkeypatch):
    decoded = []
    monkeypatch.setattr(other_photos, "load_image", lambda *a, f=other_photos.load_image: decoded.append(a) or f(*a))
    shutil.copytree(world.photos, mixed / "blue" / "learnt")
    assert judged(world.run, mixed) == (8, "12 of these photos were learnt from, and are left out")
    assert len(decoded) == 8


def test_a_learnt_photo_with_a_label_that_the_run_does_not_know_is_of_no_class(world, mixed):
    for name, root in (("learnt", world.photos), ("new", world.new)):
        shutil.copytree(root / "red", mixed / "mauve" / name)
    n, notes = judged(world.run, mixed)
    assert n == 8 and "10 photos are of no class that it knows (mauve), and are left out" in notes
    assert "% of those that it has not learnt from it calls unfamiliar" in notes


def test_copies_among_the_photos_that_judge_count_as_one(world, mixed, tmp_path):
    one = mixed / "red" / "50.png"
    for i in range(2):
        shutil.copy(one, mixed / "red" / f"again {i}.png")
    resave(one, mixed / "red" / "resaved.jpg")
    tested = headstart.evaluate_run(world.run, mixed, output=tmp_path / "e", precision="f32")
    assert (tested.evaluation.n_images, tested.evaluation.n_different) == (11, 8)
    findings = Findings.load(tmp_path / "e")
    assert len(set(findings.groups.tolist())) == 8 and tested.about["notes"] == []


def test_a_photo_that_changes_between_two_runs_is_told(world, mixed, monkeypatch, tmp_path):
    changed, look = mixed / "red" / "50.png", evaluate_run.classify_photos

    def looked(*arguments):
        seen = look(*arguments)
        Image.fromarray(scene(7)).save(changed)
        return seen

    monkeypatch.setattr(evaluate_run, "classify_photos", looked)
    with pytest.raises(DataError, match=r"red.50\.png changed while the runs were compared.*start again"):
        judged(world.run, mixed, against=world.run)


def test_a_run_keeps_the_small_pictures_of_what_it_learnt_from_alone(world, tmp_path, deep_onnx):
    run = headstart.train(world.photos, tmp_path / "run", backbone=str(deep_onnx), budget=0, test=0.4)
    findings = Findings.load(run.folder)
    with np.load(run.folder / FILE_NAME) as kept:
        assert len(kept["lengths"]) == (findings.splits != TEST).sum() < len(findings.names)
        assert kept["lengths"].min() > 100 and kept["lengths"].sum() == len(kept["pictures"])


def damaged(kind, kept):
    """What a stranger may have put there."""
    some = {name: array[:3] for name, array in kept.items() if name != "pictures"}
    return {
        "of another run": {**some, "pictures": kept["pictures"][: some["lengths"].sum()]},
        "no JPEG": {**kept, "pictures": kept["pictures"] ^ 1},
        "lengths": {**kept, "lengths": kept["lengths"] + 5},
        "negative": {**kept, "lengths": -kept["lengths"]},
        "a kind": {**kept, "hashes": kept["hashes"].astype(np.float64)},
        "a shape": {**kept, "contrast": kept["contrast"][:, None]},
        "lacking": {name: array for name, array in kept.items() if name != "hashes"},
        "objects": {**kept, "hashes": np.array([{}] * len(kept["hashes"]), object)},
    }[kind]


@pytest.mark.parametrize(
    "kind", ["of another run", "no JPEG", "lengths", "negative", "a kind", "a shape", "lacking", "objects", "cut"]
)
def test_pictures_that_are_not_whole_or_not_ours_are_told(world, mixed, tmp_path, kind):
    run = shutil.copytree(world.run, tmp_path / "run")
    path = run / FILE_NAME
    if kind == "cut":
        path.write_bytes(path.read_bytes()[:-50])
    else:
        with np.load(path) as kept:
            np.savez(path, **damaged(kind, dict(kept)))
    with pytest.raises(DataError, match=rf"{FILE_NAME} is not .*; remove it"):
        judged(run, mixed)


def test_a_huge_picture_is_not_decoded(world, mixed, tmp_path):
    run = shutil.copytree(world.run, tmp_path / "run")
    large = tmp_path / "large.jpg"
    Image.new("RGB", (4000, 40)).save(large)
    with np.load(run / FILE_NAME) as kept:
        kept = dict(kept)
    first, content = kept["lengths"][0], np.frombuffer(large.read_bytes(), np.uint8)
    kept["pictures"] = np.concatenate([content, kept["pictures"][first:]])
    kept["lengths"][0] = len(content)
    np.savez(run / FILE_NAME, **kept)
    with pytest.raises(DataError, match="not of this run"):
        judged(run, mixed)


def test_glances_of_some_photos_are_those_photos():
    images = [scene(seed) for seed in range(3)]
    every = compute_image_stats(images, [digest_of(image) for image in images], None)
    some = every.only(np.array([2, 0]))
    assert some.pictures == (every.pictures[2], every.pictures[0]) and some.hashes.tolist() == every.hashes[[2, 0]].tolist()
