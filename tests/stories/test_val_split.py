"""Folders and tables with `train`, `val` and `test`: what judges, what the choices are made by, and what is learnt from."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

import headstart
from headstart.cli import main
from headstart.errors import DataError
from headstart.runs.findings import Findings
from support.photos import picture, write_photos


@pytest.fixture
def split_photos(tmp_path):
    """Makes a folder of splits, so many photos of each class in each."""

    def make(**n_of_split):
        for i, (split, n) in enumerate(n_of_split.items()):
            folder = tmp_path / "photos" / split
            for name, colour in (("red", (200, 30, 30)), ("blue", (30, 30, 200)), ("green", (30, 200, 30))):
                (folder / name).mkdir(parents=True)
                for j in range(n):
                    pixels = picture(colour, 1000 * i + j + 100 * len(name), (40, 40))
                    Image.fromarray(pixels).save(folder / name / f"{name} {split} {j}.png")
        return tmp_path / "photos"

    return make


def train(photos, run, backbone, **options):
    return headstart.train(photos, run, backbone=str(backbone), cache=run.parent / "cache", **options)


def test_val_alone_judges_and_is_not_learnt_from(split_photos, tiny_onnx, tmp_path):
    photos = split_photos(train=12, val=6)
    run = train(photos, tmp_path / "run", tiny_onnx)
    assert run.evaluation.split == "test" and run.evaluation.n_images == 18
    assert (run.about["images"]["test"], run.about["images"]["train"] + run.about["images"]["validation"]) == (18, 36)
    assert any("18 validation photos judge the result" in note for note in run.about["notes"])
    findings = Findings.load(run.folder)
    assert {name.split("/")[-3] for name in np.array(findings.names)[findings.splits == 2]} == {"val"}
    assert run.about["cross_validation"]["by"] == "folds" and run.about["cross_validation"]["n_images"] == 36


@pytest.mark.parametrize("is_learnt", [False, True])
def test_val_beside_test_makes_the_choices(split_photos, tiny_onnx, tmp_path, is_learnt):
    photos = split_photos(train=12, val=6, test=5)
    run = train(photos, tmp_path / "run", tiny_onnx, learn_from_val=is_learnt)
    assert run.evaluation.n_images == 15 and run.about["cross_validation"]["by"] == "validation"
    assert run.about["cross_validation"]["n_images"] == 18
    assert any(("are learnt from at the end" in note) == is_learnt for note in run.about["notes"] if "decide" in note)
    wrong = tmp_path / "photos" / "val" / "red"  # labels of val that are wrong change the head only if it learns from them
    shutil.move(wrong / "red val 0.png", tmp_path / "photos" / "val" / "blue" / "red val 0.png")
    again = train(photos, tmp_path / "again", tiny_onnx, learn_from_val=is_learnt)
    if run.about["choice"]["strength"] == again.about["choice"]["strength"]:
        one, other = (headstart.load(r.folder).predict(photos / "test" / "red" / "red test 0.png") for r in (run, again))
        if not is_learnt:
            assert [p.top for p in one] == [p.top for p in other]


def test_a_val_split_without_a_class_is_one_all_the_same(split_photos, tiny_onnx, tmp_path):
    photos = split_photos(train=12, val=6, test=5)
    shutil.rmtree(photos / "val" / "green")
    run = train(photos, tmp_path / "run", tiny_onnx)
    assert run.about["cross_validation"]["n_images"] == 12 and len(run.about["classes"]) == 3
    shutil.rmtree(photos / "test")
    alone = train(photos, tmp_path / "alone", tiny_onnx)
    assert alone.evaluation.n_images == 12


def test_a_class_that_only_val_has_is_a_clear_error(split_photos, tiny_onnx, tmp_path):
    photos = split_photos(train=12, val=6)
    shutil.rmtree(photos / "train" / "green")
    with pytest.raises(DataError, match=r"leaves 'green' with no image to learn from; move some"):
        train(photos, tmp_path / "run", tiny_onnx)
    assert not (tmp_path / "run").exists()


def test_a_table_says_it_with_its_column(tiny_onnx, tmp_path):
    photos = write_photos(tmp_path / "photos", n=12)
    paths = sorted(photos.rglob("*.png"))
    rows = [f"{path},{path.parent.name},{'val' if i % 4 == 0 else 'train'}" for i, path in enumerate(paths)]
    (tmp_path / "table.csv").write_text("\n".join(["path,label,split", *rows]))
    run = train(tmp_path / "table.csv", tmp_path / "run", tiny_onnx)
    assert run.evaluation.split == "test" and run.evaluation.n_images == sum(row.endswith("val") for row in rows)


def test_the_command_line_counts_what_is_chosen_by(split_photos, tiny_onnx, tmp_path, capsys):
    photos = split_photos(train=12, val=6, test=5)
    arguments = ["train", str(photos), "--backbone", str(tiny_onnx), "--quiet"]
    assert main.main([*arguments, "-o", str(tmp_path / "a")]) == 0
    out = capsys.readouterr().out
    assert "36 to learn from, 18 to choose by, 15 to test with" in out and "on the 18 validation photos that chose" in out
    assert main.main([*arguments, "-o", str(tmp_path / "b"), "--learn-from-val"]) == 0
    assert "18 to choose by and then learn from" in capsys.readouterr().out
    about = json.loads((tmp_path / "b" / "run.json").read_text())
    assert about["arguments"]["learn_from_val"] is True
    assert main.main(["report", str(tmp_path / "a")]) == 0
