"""The commands that look at photos and runs, as a user types them: check, map, report, plot, explain, evaluate."""

import base64
import builtins
import csv
import hashlib
import io
import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headstart.cli import main
from headstart.cli.commands import plot
from headstart.runs.findings import Findings
from support.photos import COLOURS, picture, write_photos

N = 10  # photos a class
EXACT = ("--precision", "f32")
SIMPLE = ("--budget", 0, "--quiet", *EXACT)
HOSTILE = (
    "<script>alert(1)",
    "\"quoted\", 'so' {{data}}",
    "ארץ \U0001f98a",
    "new\nline\x1b[31m",
    "a|b",
    os.fsdecode(b"bad\xff"),
)
KINDS = plot.KINDS


@dataclass(frozen=True)
class World:
    """A folder of photos with two wrong labels, and a run on it; nothing of it is ever changed by these tests."""

    root: Path
    photos: Path
    run: Path
    backbone: Path
    swapped: tuple[Path, Path]


def command(*arguments):
    return main.main([str(a) for a in arguments])


def learn(photos, run, backbone, *options):
    """Train without the ladder."""
    assert command("train", photos, "-o", run, "--backbone", backbone, *SIMPLE, *options) == 0
    return run


@pytest.fixture(scope="module")
def world(tmp_path_factory, deep_onnx):
    root = tmp_path_factory.mktemp("world")
    photos = write_photos(root / "photos", n=N)
    swapped = (photos / "blue" / "no blue.png", photos / "red" / "no red.png")
    for path, colour in zip(swapped, ("red", "blue"), strict=True):
        Image.fromarray(picture(COLOURS[colour], 77)).save(path)
    learn(photos, root / "run", deep_onnx, "--cache", root / "cache")
    return World(root, photos, root / "run", deep_onnx, swapped)


@pytest.fixture
def tell(capsys):
    """Run a command; gives its exit status, stdout and stderr."""

    def run(*arguments):
        capsys.readouterr()
        status = command(*arguments)
        return (status, *capsys.readouterr())

    return run


@pytest.fixture
def refused(tell):
    """Run a command that must end as an expected failure, with nothing on stdout; gives its one line on stderr."""

    def run(*arguments):
        status, out, err = tell(*arguments)
        assert (status, out) == (1, "") and err.startswith("headstart: ") and "Traceback" not in err
        return err

    return run


def told_by(run):
    return json.loads((run / "run.json").read_text())


def in_page(path):
    """What a page's script is given."""
    found = re.search(r'<script [^>]*id="data"[^>]*>(.*?)</script>', path.read_text("utf-8"), re.DOTALL)
    return json.loads(found[1])


def numbers(packed):
    ((kind, content),) = ((k, v) for k, v in packed.items() if k != "of")
    return np.frombuffer(base64.b64decode(content), {"f32": "<f4", "i8": "<i1", "u8": "<u1", "i16": "<i2"}[kind])


def fingerprint(folder):
    return {p: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*")) if p.is_file()}


def size_of(path):
    with Image.open(path) as image:
        return image.size


def resave(path, other, quality):
    with Image.open(path) as image:
        image.save(other, quality=quality)


def rows_of(path):
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.DictReader(file))


# ---- train


def test_a_run_has_all_that_can_be_looked_at(world):
    assert {p.name for p in world.run.iterdir()} == {
        *("model.onnx", "labels.txt", "run.json", "predictions.csv", "skipped.csv"),
        *("report.html", "findings.npz", "learnt.npz", "issues.json", "tensorboard"),
    }
    about, findings = told_by(world.run), Findings.load(world.run)
    assert about["images"]["used"] == len(findings.names) == 3 * N + 2
    assert about["calibration"]["temperature"] > 0 and about["calibration"]["bins"]
    probes = about["unfamiliar"]["probes"]
    assert len(probes) == 6 and {p["prediction"] for p in probes} <= set(about["classes"])
    assert about["unfamiliar"]["test"]["n"] == about["images"]["test"]
    first, last = about["fitting"]["steps"][0], about["fitting"]["steps"][-1]
    assert last["train_cross_entropy"] < first["train_cross_entropy"] and last["train_accuracy"] >= 0.8
    issues = json.loads((world.run / "issues.json").read_text())["issues"]
    assert sum(about["issues"].values()) == len(issues) and about["issues"]["label"] >= 1
    assert list((world.run / "tensorboard").iterdir())


def test_the_report_shows_every_photo_and_explains_the_mistakes(world):
    page = in_page(world.run / "report.html")
    assert page["n_photos"] == 3 * N + 2 and page["missing"] == []
    findings = Findings.load(world.run)
    wrong = [findings.names[i] for i in findings.mistakes()]
    assert {str(p) for p in world.swapped} <= set(wrong)
    assert [page["photos"]["name"][m["photo"]] for m in page["mistakes"]] == wrong
    for mistake in page["mistakes"]:
        assert base64.b64decode(mistake["square"])[:2] == b"\xff\xd8" and mistake["heat"] and len(mistake["nearest"]) == 3
    assert len(page["probes"]) == 6


@pytest.mark.parametrize("seed", range(3))
def test_near_duplicates_share_a_split(tmp_path, deep_onnx, seed):
    photos = write_photos(tmp_path / "photos", n=6)
    pairs = []
    for i in range(6):
        original, copy = photos / "red" / f"red {i}.png", photos / "red" / f"a copy of {i}.jpg"
        resave(original, copy, 92)
        pairs.append((str(original), str(copy)))
    about = told_by(learn(photos, tmp_path / "run", deep_onnx, "--test", 0.4, "--seed", seed))
    split = {row["path"]: row["split"] for row in rows_of(tmp_path / "run" / "predictions.csv")}
    assert len(split) > 6 and about["issues"]["near-duplicate"] == 6
    findings = Findings.load(tmp_path / "run")
    of_photo = dict(zip(findings.names, findings.splits.tolist(), strict=True))
    assert all(of_photo[a] == of_photo[b] for a, b in pairs)


def test_a_leak_between_given_splits_is_told_loudly(tmp_path, deep_onnx, tell):
    for i, split in enumerate(("train", "test")):
        write_photos(tmp_path / "data" / split, n=5)
        for j, path in enumerate(sorted((tmp_path / "data" / split).rglob("*.png"))):
            Image.fromarray(picture(COLOURS[path.parent.name], 5000 * i + j)).save(path)
    tested = tmp_path / "data" / "test" / "red" / "red 0.png"
    again = tmp_path / "data" / "train" / "red" / "red again.jpg"
    resave(tested, again, 95)
    arguments = ("--backbone", deep_onnx, "--budget", 0, "--quiet")
    status, _, err = tell("train", tmp_path / "data", "-o", tmp_path / "run", *arguments)
    (note,) = (line for line in err.splitlines() if "more than one of the splits" in line)
    assert status == 0 and "1 photo stands" in note and str(tested) in note and str(again) in note
    (leak,) = (i for i in json.loads((tmp_path / "run" / "issues.json").read_text())["issues"] if i["kind"] == "leak")
    assert set(leak["paths"]) == {str(tested), str(again)} and leak["score"] < 0.1
    status, out, _ = tell("check", tmp_path / "data", "--backbone", deep_onnx)
    assert status == 0 and "leak" in out and "red again.jpg" in out + str(leak["paths"])


# ---- check


def test_swapped_labels_are_found_and_a_list_of_fixes_mends_them(world, tmp_path, tell):
    before = fingerprint(world.photos)
    fixes, issues = tmp_path / "fixes.csv", tmp_path / "issues.csv"
    options = ("--backbone", world.backbone, "--quiet")
    status, out, _ = tell("check", world.photos, *options, "--fix-list", fixes, "--csv", issues)
    assert status == 0 and "label" in out and all(p.name in out for p in world.swapped)
    assert f"--fixes {fixes}" in out.splitlines()[-1]
    assert {r["path"]: (r["action"], r["label"]) for r in rows_of(fixes) if r["kind"] == "label"} == {
        str(world.swapped[0]): ("review", "red"),
        str(world.swapped[1]): ("review", "blue"),
    }
    assert "2 review" in out and "review: the label is in doubt" in out
    fixes.write_text(fixes.read_text().replace(",review,", ",relabel,"))
    assert [r["kind"] for r in rows_of(issues)].count("label") == 2 and rows_of(issues)[0]["score"] < "0.5"
    learn(world.photos, tmp_path / "mended", world.backbone, "--fixes", fixes)
    about, findings = told_by(tmp_path / "mended"), Findings.load(tmp_path / "mended")
    labels = dict(zip(findings.names, findings.labels.tolist(), strict=True))
    assert about["classes"][labels[str(world.swapped[0])]] == "red" and "label" not in about["issues"]
    assert about["arguments"]["fixes"] == str(fixes)
    fixes.write_text(f"path,action\n{world.swapped[0]},exclude\n")
    about = told_by(learn(world.photos, tmp_path / "without", world.backbone, "--fixes", fixes))
    assert about["images"]["used"] == 3 * N + 1
    assert [r["path"] for r in rows_of(tmp_path / "without" / "skipped.csv")] == [str(world.swapped[0])]
    assert fingerprint(world.photos) == before


def test_check_as_json_and_without_issues(world, tmp_path, tell):
    status, out, _ = tell("check", world.photos, "--backbone", world.backbone, "--json")
    told = json.loads(out)
    assert status == 0 and told["images"] == 3 * N + 2 and told["images_of_class"] == {"blue": 11, "green": 10, "red": 11}
    assert {"kind", "path", "paths", "label", "suggested_label", "score", "sentence", "suggestion"} <= set(told["issues"][0])
    assert told["kinds"]["label"] == 2 and [i["score"] for i in told["issues"]] == sorted(i["score"] for i in told["issues"])
    clean = write_photos(tmp_path / "clean", n=12)
    status, out, _ = tell("check", clean, "--backbone", world.backbone)
    assert (status, out) == (0, "36 photos of 3 classes: 0 issues\n")


def test_check_with_one_unreadable_file_and_any_name(tmp_path, tiny_onnx, tell):
    for i, name in enumerate(HOSTILE):
        folder = tmp_path / "odd" / name
        folder.mkdir(parents=True)
        for j in range(3):
            with (folder / f"{name} {j}.png").open("wb") as file:
                Image.fromarray(picture((40 * i, 100, 250 - 40 * i), 10 * i + j)).save(file, "png")
    (tmp_path / "odd" / HOSTILE[0] / "note.jpg").write_text("no photo")
    fixes, table = tmp_path / "fixes.csv", tmp_path / "i.csv"
    status, out, _ = tell("check", tmp_path / "odd", "--backbone", tiny_onnx, "--fix-list", fixes, "--csv", table)
    assert status == 0 and "unreadable" in out and "\x1b" not in out
    (row,) = (r for r in rows_of(fixes) if r["kind"] == "unreadable")
    assert row["path"].endswith("note.jpg") and row["action"] == "exclude"
    run = learn(tmp_path / "odd", tmp_path / "run", tiny_onnx, "--fixes", fixes)
    assert set(told_by(run)["classes"]) == set(HOSTILE)
    for name in ("report", "map"):
        status, out, err = tell(name, run, *(["-o", tmp_path / "map.html"] if name == "map" else []))
        assert (status, err) == (0, "")
    for page in (run / "report.html", tmp_path / "map.html"):
        assert "<script>alert" not in page.read_text("utf-8") and set(in_page(page)["classes"]) == set(HOSTILE)
    assert tell("plot", run, "--kind", "photos", "-o", tmp_path / "photos.png")[0] == 0
    odd = next((tmp_path / "odd" / HOSTILE[3]).iterdir())
    status, out, _ = tell("explain", run, odd, "-o", tmp_path / "why.png")
    assert status == 0 and "\x1b" not in out and len([line for line in out.splitlines() if line.startswith("  like ")]) == 3
    status, out, err = tell("evaluate", run, tmp_path / "odd", "-o", tmp_path / "again")
    assert status == 0 and "1 file cannot be used as a photo; the first: " in err and "note.jpg" in err


def test_photos_that_judged_the_run_before_are_told(tmp_path, tiny_onnx, tell):
    photos = write_photos(tmp_path / "photos")
    run = learn(photos, tmp_path / "run", tiny_onnx)
    n_test = told_by(run)["images"]["test"]
    _, _, err = tell("evaluate", run, photos, "-o", tmp_path / "again")
    assert "all photos that judge here are the run's own test photos, which have judged it before" in err
    Image.fromarray(picture((200, 50, 40), 999)).save(photos / "red" / "new.png")
    _, _, err = tell("evaluate", run, photos, "-o", tmp_path / "more")
    assert f"{n_test} of these photos are the run's own test photos" in err and "the others are new to it" in err


def test_an_empty_folder_and_no_folder_are_told(tmp_path, tiny_onnx, refused):
    (tmp_path / "empty").mkdir()
    assert "holds no images" in refused("check", tmp_path / "empty", "--backbone", tiny_onnx)
    assert "there is no" in refused("check", tmp_path / "nowhere", "--backbone", tiny_onnx)


# ---- what must not be overwritten


def test_nothing_is_overwritten_by_accident(world, tmp_path, tell, refused):
    mine = {name: tmp_path / name for name in ("a.csv", "b.csv", "map.html", "plot.png", "why.png")}
    for path in mine.values():
        path.write_text("precious")
    photo = world.photos / "red" / "red 0.png"
    commands = [
        ("check", world.photos, "--backbone", world.backbone, "--fix-list", mine["a.csv"]),
        ("check", world.photos, "--backbone", world.backbone, "--csv", mine["b.csv"]),
        ("map", world.run, "-o", mine["map.html"]),
        ("plot", world.run, "--kind", "confusion", "-o", mine["plot.png"]),
        ("explain", world.run, photo, "-o", mine["why.png"]),
    ]
    for arguments in commands:
        assert "--overwrite" in refused(*arguments)
    assert {path.read_text() for path in mine.values()} == {"precious"}
    for arguments in commands:
        assert tell(*arguments, "--overwrite")[0] == 0
    assert not [path for path in mine.values() if path.read_bytes() == b"precious"]
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "1.txt").write_text("precious")
    assert "never overwritten" in refused("evaluate", world.run, world.photos, "-o", tmp_path / "thesis")


# ---- map


def test_the_map_is_a_page_or_a_picture(world, tmp_path, tell, refused, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, err = tell("map", world.run)
    assert (status, err) == (0, "") and out == "32 photos are on the map run-map.html; open it\n"
    page = in_page(tmp_path / "run-map.html")
    assert len(page["names"]) == 32 and page["sprites"]
    np.testing.assert_allclose(numbers(page["x"]), Findings.load(world.run).positions[:, 0])
    status, out, _ = tell("map", world.run, "-o", "map.PNG", "--json")
    assert json.loads(out) == {"file": "map.PNG"} and size_of("map.PNG")[0] > 500
    assert ".html or .png" in refused("map", world.run, "-o", "map.gif")


def test_new_photos_are_placed_among_their_likes(world, tmp_path, tell, refused):
    folder = tmp_path / "new"
    folder.mkdir()
    for name, colour in COLOURS.items():
        Image.fromarray(picture(colour, 4321)).save(folder / f"{name}.png")
    (folder / "none.jpg").write_text("no photo")
    status, out, err = tell("map", world.run, "-o", tmp_path / "map.html", "--add", folder)
    assert status == 0 and "35 photos" in out and "none.jpg is left out" in err
    page = in_page(tmp_path / "map.html")
    is_new, places = numbers(page["isNew"]) > 0, np.stack([numbers(page["x"]), numbers(page["y"])], axis=1)
    assert is_new.sum() == 3
    labels, said = numbers(page["label"]), numbers(page["prediction"])
    for at, name, prediction in zip(places[is_new], page["names"][-3:], said[is_new], strict=True):
        nearest = np.argsort(np.linalg.norm(places[~is_new] - at, axis=1))[:5]
        most = int(np.bincount(labels[~is_new][nearest].astype(int)).argmax())
        assert page["classes"][most] == page["classes"][prediction] == Path(name).stem
    assert "none.jpg" in refused("map", world.run, "-o", tmp_path / "other.html", "--add", folder / "none.jpg")


def test_new_photos_are_called_unfamiliar_where_predict_calls_them_so(world, tmp_path, tell):
    folder = tmp_path / "new"
    folder.mkdir()
    shutil.copy(world.photos / "red" / "red 0.png", folder / "red.png")
    for i in range(22):
        chequered = np.kron(np.indices((8, 8)).sum(axis=0) % 2, np.ones((8, 8), np.uint8))[..., None] * [9, 255 - i, 9]
        Image.fromarray(chequered.astype(np.uint8)).save(folder / f"odd {i}.png")
    predicted = [json.loads(line) for line in tell("predict", world.run, folder, "--jsonl", *EXACT)[1].splitlines()]
    strange = [row["path"] for row in predicted if row["unfamiliar"]]
    assert len(strange) == 22 and not any(path.endswith("red.png") for path in strange)
    status, out, _ = tell("map", world.run, "-o", tmp_path / "map.html", "--add", folder, *EXACT)
    assert status == 0 and "22 of the 23 photos that were added are unfamiliar, like nothing it was shown:" in out
    assert (
        any(f"{path} (" in out for path in strange)
        and "red.png" not in out
        and out.rstrip().endswith("... and 2 more: --json lists all")
    )
    page = in_page(tmp_path / "map.html")
    said = numbers(page["unfamiliarity"])[-23:]
    assert [page["root"] + name for name, value in zip(page["names"][-23:], said, strict=True) if value > 1] == strange
    assert "22 of them unfamiliar" in (tmp_path / "map.html").read_text("utf-8")
    told = json.loads(tell("map", world.run, "-o", tmp_path / "map.png", "--add", folder, "--json", *EXACT)[1])
    keys = ("path", "prediction", "probability", "unfamiliar", "unfamiliarity")
    assert [{key: row[key] for key in keys} for row in told["added"]] == [
        pytest.approx({key: row[key] for key in keys}) for row in predicted
    ]


def test_a_map_can_be_made_again(world, tmp_path, tell):
    known = Findings.load(world.run).positions[:, 0]
    found = []
    for seed in (1, 1, 2):
        assert tell("map", world.run, "-o", tmp_path / "m.html", "--overwrite", "--again", "--seed", seed)[0] == 0
        found.append(numbers(in_page(tmp_path / "m.html")["x"]))
    np.testing.assert_array_equal(found[0], found[1])
    assert np.abs(found[0] - found[2]).max() > 1e-3 and np.abs(found[0] - known).max() > 1e-3
    np.testing.assert_array_equal(Findings.load(world.run).positions[:, 0], known)  # the run's own stays


# ---- photos and runs that are elsewhere


@pytest.mark.parametrize(
    ("inside", "typed"), [(".", "photos"), ("photos", "."), ("other", "../photos"), ("photos/red", "..")]
)
def test_moved_photos_are_found_again(tmp_path, tiny_onnx, tell, refused, monkeypatch, inside, typed):
    write_photos(tmp_path / "photos", n=3)
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / inside)
    run = learn(typed, tmp_path / "run", tiny_onnx)
    monkeypatch.chdir(tmp_path / "other")
    assert tell("report", run)[2] == ""  # from another folder
    (tmp_path / "photos").rename(tmp_path / "moved")
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "another cache"))
    status, out, err = tell("report", run)
    assert status == 0 and "9 of 9 photos are not where they were" in err and "--photos" in err
    assert in_page(run / "report.html")["sprites"] is None
    for where in (tmp_path / "moved", "../moved"):
        status, _, err = tell("report", run, "--photos", where)
        assert (status, err) == (0, "") and in_page(run / "report.html")["missing"] == []
    status, _, err = tell("map", run, "--photos", "../moved", "-o", "map.html")
    assert (status, err) == (0, "") and in_page(Path("map.html"))["sprites"]
    assert "there is no nowhere" in refused("report", run, "--photos", "nowhere")


def test_a_report_without_photos_is_told_and_keeps_what_the_cache_has(tmp_path, tiny_onnx, tell, monkeypatch):
    photos = write_photos(tmp_path / "photos", n=3)
    run = learn(photos, tmp_path / "run", tiny_onnx)
    (photos / "red" / "red 0.png").unlink()
    status, _, err = tell("report", run)
    assert status == 0 and "1 of 9 photos are not where they were" in err
    assert in_page(run / "report.html")["missing"] == []  # the cache has its small picture
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "another cache"))
    Image.fromarray(picture((1, 2, 3), 0)).save(photos / "blue" / "blue 1.png")  # another photo under an old name
    assert tell("report", run)[0] == 0
    page = in_page(run / "report.html")
    missing = sorted(os.path.basename(page["photos"]["name"][i]) for i in page["missing"])
    assert missing == ["blue 1.png", "red 0.png"]
    shutil.rmtree(photos)
    status, out, err = tell("report", run, "--json")
    assert (status, json.loads(out)) == (0, {"file": str(run / "report.html")}) and "9 of 9" in err
    for kind in ("predictions", "photos"):
        status, _, err = tell("plot", run, "--kind", kind, "-o", tmp_path / f"{kind}.png")
        assert status == 0 and "9 of 9" in err
    status, out, _ = tell("explain", run, tmp_path / "photos.png", "-o", tmp_path / "why.jpg")
    assert status == 0 and (tmp_path / "why.jpg").stat().st_size > 1000


def test_a_copied_run_is_as_good_as_the_first(world, tmp_path, tell):
    copy = shutil.copytree(world.run, tmp_path / "copy")
    (copy / "report.html").unlink()
    status, out, err = tell("report", copy)
    assert (status, err) == (0, "") and str(copy / "report.html") in out
    first, second = in_page(world.run / "report.html"), in_page(copy / "report.html")
    for told in (first, second):
        told.pop("card")  # the first was written before all seconds were known
    # Probabilities are kept in 16 bits.
    np.testing.assert_allclose(second["photos"].pop("probability"), first["photos"].pop("probability"), atol=5e-4)
    assert second == first


def test_a_run_of_an_earlier_release_asks_to_train_again(world, tmp_path, tell, refused):
    copy = shutil.copytree(world.run, tmp_path / "copy")
    (copy / "findings.npz").unlink()
    for arguments in (
        ("report",),
        ("map", "-o", tmp_path / "m.html"),
        ("plot", "--kind", "curves", "-o", tmp_path / "p.png"),
    ):
        assert "train again" in refused(arguments[0], copy, *arguments[1:])
    assert "train again" in refused("evaluate", copy, world.photos)
    status, out, _ = tell("explain", copy, world.photos / "red" / "red 0.png")  # the classifier alone can do that
    assert status == 0 and "  like " not in out
    assert "run folder" in refused("report", world.photos)
    assert "run folder" in refused("report", tmp_path / "nowhere")


DAMAGES = {
    "cut": lambda content: content[: len(content) // 2],
    "empty": lambda _: b"",
    "odd byte": lambda content: content[: len(content) // 2] + b"\xff\xfe" + content[len(content) // 2 + 2 :],
    "a list": lambda _: b"[]",
    "nothing said": lambda _: b"{}",
    "other things": lambda _: b'{"classes": 3, "photos": null, "issues": [1, null, {}]}',
    "deep": lambda _: b"[" * 100_000,
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("file", ["run.json", "findings.npz", "issues.json"])
def test_damaged_files_are_told(world, tmp_path, refused, file, damage):
    copy = shutil.copytree(world.run, tmp_path / "copy")
    (copy / file).write_bytes(DAMAGES[damage]((copy / file).read_bytes()))
    for arguments in (
        ("report",),
        ("map", "-o", tmp_path / "m.html"),
        ("plot", "--kind", "photos", "-o", tmp_path / "p.png"),
    ):
        assert file in refused(arguments[0], copy, *arguments[1:])
    assert file in refused("evaluate", copy, world.photos)
    if file != "issues.json":
        assert file in refused("explain", copy, world.photos / "red" / "red 0.png")
    assert not (tmp_path / "m.html").exists() and not (tmp_path / "p.png").exists()


def test_files_of_two_runs_are_not_taken_for_one(world, tmp_path, tiny_onnx, refused):
    other = learn(write_photos(tmp_path / "photos", n=3), tmp_path / "run", tiny_onnx)
    shutil.copy(world.run / "findings.npz", other)
    assert "not of one run" in refused("report", other)


def test_a_damaged_classifier_is_told(world, tmp_path, refused):
    copy = shutil.copytree(world.run, tmp_path / "copy")
    (copy / "model.onnx").write_bytes((copy / "model.onnx").read_bytes()[:500])
    assert "model.onnx" in refused("report", copy)
    (copy / "model.onnx").unlink()
    assert "model.onnx" in refused("report", copy)


# ---- plot


@pytest.mark.parametrize("kind", KINDS)
def test_every_plot_is_drawn(world, tmp_path, tell, kind):
    path = tmp_path / f"{kind}.svg"
    status, out, err = tell("plot", world.run, "--kind", kind, "-o", path)
    assert (status, out, err) == (0, f"{path} is drawn\n", "") and path.read_text().startswith("<?xml")


def test_a_plot_has_a_name_and_a_kind(world, tmp_path, tell, refused, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert json.loads(tell("plot", world.run, "--kind", "confusion", "--json")[1]) == {"file": "confusion.png"}
    assert size_of("confusion.png")[0] > 300
    assert ".png, .svg, .pdf" in refused("plot", world.run, "--kind", "map", "-o", "map.gif")
    with pytest.raises(SystemExit) as ended:
        command("plot", world.run, "--kind", "pie")
    assert ended.value.code == 2


def test_without_matplotlib_the_missing_extra_is_named(world, tmp_path, refused, monkeypatch):
    original = builtins.__import__

    def no_matplotlib(name, *rest):
        if name.split(".")[0] == "matplotlib":
            raise ImportError(name)
        return original(name, *rest)

    monkeypatch.setattr(builtins, "__import__", no_matplotlib)
    assert "headstart[plot]" in refused("plot", world.run, "--kind", "confusion", "-o", tmp_path / "p.png")


# ---- explain


def test_an_explanation_adds_up_to_the_score(world, tell):
    photo = world.photos / "red" / "red 1.png"
    scores = {}
    for label in COLOURS:
        told = json.loads(tell("explain", world.run, photo, "--label", label, "--json", "--precision", "f32")[1])
        assert told["is_exact"] and told["label"] == label and told["prediction"] == "red"
        scores[label] = np.mean(told["heat"]) + told["constant"]
    # Scores are known but for what is added to all of them, which explanations set so that their mean is 0.
    p = np.array([dict(told["top"])[label] for label in COLOURS])
    expected = np.log(p) - np.log(p).mean()
    np.testing.assert_allclose(list(scores.values()), expected, atol=2e-3)


def test_an_explanation_is_drawn_with_the_photos_most_like_it(world, tmp_path, tell, refused):
    photo = world.photos / "red" / "red 1.png"
    status, out, err = tell("explain", world.run, photo, "-o", tmp_path / "why.png", "--label", "blue")
    assert (status, err) == (0, "") and "evidence for blue lies (it adds up to the score)" in out
    like = re.findall(r"  like (.*) \((\w+)\)", out)
    assert len(like) == 3 and str(photo) not in dict(like) and all(os.path.isfile(path) for path, _ in like)
    assert size_of(tmp_path / "why.png") == (2 * 448 + 16, 448 + 16 + 144)
    assert (
        tell("explain", world.run / "model.onnx", photo, "-o", tmp_path / "alone.png")[0] == 0
    )  # no run, none most like it
    assert size_of(tmp_path / "alone.png") == (2 * 448 + 16, 448)
    alone = json.loads(tell("explain", world.run / "model.onnx", photo, "--json")[1])
    assert alone["nearest"] == [] and alone["label"] == "red" and alone["is_exact"]
    assert "the classes: blue, green and red" in refused("explain", world.run, photo, "--label", "mauve")
    assert "cannot be used" in refused("explain", world.run, world.run / "run.json")
    assert "no such file" in refused("explain", world.run, "nowhere.png")
    assert ".png or .jpg" in refused("explain", world.run, photo, "-o", tmp_path / "why.gif")


# ---- evaluate


def newly(folder, n=4, seed=0, **of_class):
    """New photos; of_class: the colour that a class's photos have, its own if it is not named."""
    for i, name in enumerate(of_class or COLOURS):
        (folder / name).mkdir(parents=True)
        for j in range(n):
            colour = COLOURS[of_class.get(name, name)] if name in COLOURS else (200, 50, 200)
            Image.fromarray(picture(colour, 50_000 + 1000 * seed + 100 * i + j)).save(folder / name / f"{j}.png")
    return folder


@pytest.mark.shared
def test_resaved_photos_of_the_training_do_not_judge(shared, tmp_path, tell):
    photos, resaved = tmp_path / "photos", tmp_path / "resaved"
    for folder in sorted((shared / "data" / "alpaca").iterdir()):
        for i, path in enumerate(sorted(folder.iterdir())[:12]):
            for root, quality in ((photos, 95), (resaved, 70)):
                (root / folder.name).mkdir(parents=True, exist_ok=True)
                image = Image.open(path).convert("RGB").resize((320, 240))
                image.save(root / folder.name / f"{i}.jpg", quality=quality)
    assert tell("train", photos, "-o", tmp_path / "run", "--budget", "0", "--test", "0.4")[0] == 0
    learnt = told_by(tmp_path / "run")["images"]
    status, _, err = tell("evaluate", tmp_path / "run", resaved, "-o", tmp_path / "again")
    again = told_by(tmp_path / "again")
    assert status == 0 and "are nearly the same as photos that were learnt from, and are left out" in err
    assert again["evaluation"]["n_images"] <= learnt["test"] + 1


def test_the_photos_of_the_training_give_what_the_test_gave(world, tmp_path, tell):
    status, out, err = tell("evaluate", world.run, world.photos, "-o", tmp_path / "again", "--precision", "f32")
    about = told_by(world.run)
    n_learnt = about["images"]["train"] + about["images"]["validation"]
    assert status == 0 and f"{n_learnt} of these photos were learnt from, and are left out" in err
    again = told_by(tmp_path / "again")
    for key in ("accuracy", "interval", "n_images", "confusion"):
        assert again["evaluation"][key] == about["evaluation"][key]
    assert out.splitlines()[-1] == f"The report is {tmp_path / 'again'}/report.html; open it in a browser"
    skipped = rows_of(tmp_path / "again" / "skipped.csv")
    assert len(skipped) == n_learnt and {r["reason"] for r in skipped} == {"it was learnt from"}
    assert {p.name for p in (tmp_path / "again").iterdir()} == {
        *("run.json", "predictions.csv", "skipped.csv", "labels.txt", "findings.npz", "issues.json", "report.html")
    }


def test_an_evaluation_can_be_looked_at_as_a_run_can(world, tmp_path, tell, refused):
    photos = newly(tmp_path / "new")
    assert tell("evaluate", world.run, photos, "-o", tmp_path / "new one", "--quiet")[0] == 0
    folder = tmp_path / "new one"
    (folder / "report.html").unlink()
    assert tell("report", folder)[::2] == (0, "") and in_page(folder / "report.html")["n_photos"] == 12
    assert tell("map", folder, "-o", tmp_path / "m.html")[0] == 0
    assert tell("plot", folder, "--kind", "predictions", "-o", tmp_path / "p.png")[0] == 0
    assert "model.onnx" in refused("evaluate", folder, photos)


def test_classes_that_a_run_does_not_know_are_left_out_and_told(world, tmp_path, tell, refused):
    photos = newly(tmp_path / "new", red="red", blue="blue", mauve="")
    status, out, err = tell("evaluate", world.run, photos, "-o", tmp_path / "e", "--json")
    told = json.loads(out)
    assert status == 0 and told["evaluation"]["n_images"] == 8 and told["folder"] == str(tmp_path / "e")
    assert "4 photos are of no class that it knows (mauve), and are left out" in err and "it calls unfamiliar" in err
    strange = newly(tmp_path / "strange", mauve="", pink="")
    err = refused("evaluate", world.run, strange, "-o", tmp_path / "none")
    assert "none of these photos can judge" in err and "mauve and pink" in err and "blue, green and red" in err
    assert not (tmp_path / "none").exists()
    everything = learn(world.photos, tmp_path / "all", world.backbone, "--test", 0)
    assert "32 of these photos were learnt from" in refused("evaluate", everything, world.photos, "-o", tmp_path / "none")


def test_runs_are_compared_on_photos_that_neither_learnt_from(world, tmp_path, tell, refused):
    photos = newly(tmp_path / "new", n=6)
    # A run that was taught colours in a circle is wrong about everything.
    wrong = learn(newly(tmp_path / "w", seed=1, red="blue", blue="green", green="red"), tmp_path / "wrong", world.backbone)
    status, out, _ = tell("evaluate", world.run, photos, "--against", wrong, "-o", tmp_path / "a")
    assert status == 0 and "This run is better than" in out and told_by(tmp_path / "a")["comparison"]["only_a"] > 10
    status, out, _ = tell("evaluate", wrong, photos, "--against", world.run, "-o", tmp_path / "b")
    assert status == 0 and "This run is worse than" in out
    status, out, _ = tell("evaluate", world.run, photos, "--against", world.run, "-o", tmp_path / "c")
    assert status == 0 and " get the same images right, " in out and " of 18;" in out
    two = learn(newly(tmp_path / "t", seed=2, red="red", blue="blue"), tmp_path / "two", world.backbone)
    assert "only runs of the same classes" in refused("evaluate", world.run, photos, "--against", two)
    learnt = learn(photos, tmp_path / "learnt", world.backbone, "--test", 0)
    assert "learnt from" in refused("evaluate", world.run, photos, "--against", learnt)


def test_all_wrong(world, tmp_path, tell):
    photos = newly(tmp_path / "new", n=6, red="blue", blue="green", green="red")
    status, out, _ = tell("evaluate", world.run, photos, "-o", tmp_path / "a")
    assert status == 0 and "on 18 test photos" in out
    page = in_page(tmp_path / "a" / "report.html")
    assert page["n_right"] <= 1 and page["n_mistakes"] >= 17 and len(page["mistakes"]) == 12
    assert all(page["photos"]["is_right"][m["photo"]] is False for m in page["mistakes"])


def test_an_evaluation_gets_a_name_beside_the_caller_and_takes_relative_paths(world, tmp_path, tell, monkeypatch):
    newly(tmp_path / "new")
    shutil.copytree(world.run, tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    for name in ("new-evaluation", "new-evaluation-2"):
        status, out, _ = tell("evaluate", "run", "new")
        assert status == 0 and f"The report is {name}/report.html" in out
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert tell("report", "../new-evaluation")[::2] == (0, "")
    assert in_page(tmp_path / "new-evaluation" / "report.html")["missing"] == []


# ---- all sorts of runs


def looked_at(run, photos, photo, folder, tell, kinds=("curves", "mistakes")):
    """Look at a run with every command; gives what evaluate tells. A plot of what there is nothing of says so."""
    about, findings = told_by(run), Findings.load(run)
    lacking = {} if len(findings.mistakes(about["thresholds"])) else {"mistakes": "no photo that was held out is labelled"}
    if not about["fitting"] and not about["learning_curve"]:
        lacking["curves"] = "this run holds no curve"
    if findings.labels.ndim == 2:
        lacking["confusion"] = "a photo may have several labels here"
    assert tell("report", run)[::2] == (0, "")
    for suffix in ("html", "png"):
        assert tell("map", run, "-o", folder / f"map.{suffix}", "--quiet")[::2] == (0, "")
    for kind in kinds:
        status, _, err = tell("plot", run, "--kind", kind, "-o", folder / f"plot {kind}.svg")
        assert status == int(kind in lacking) and (err == "") == (status == 0) and lacking.get(kind, "") in err
    assert tell("explain", run, photo, "-o", folder / "why.png")[::2] == (0, "")
    return tell("evaluate", run, photos, "-o", folder / "again")


@pytest.mark.parametrize("head", ["nearest", "class-mean", "hidden"])
def test_every_head_can_be_looked_at(tmp_path, deep_onnx, tell, head):
    photos = write_photos(tmp_path / "photos", n=6)
    run = learn(photos, tmp_path / "run", deep_onnx, "--head", head)
    assert told_by(run)["fitting"] is None
    status, out, _ = looked_at(run, photos, photos / "red" / "red 0.png", tmp_path, tell)
    assert status == 0
    told = json.loads(tell("explain", run, photos / "red" / "red 0.png", "--json")[1])
    assert told["is_exact"] == (head != "nearest")


@pytest.mark.parametrize(("n", "test"), [(2, 0.2), (3, 0.2), (3, 0)])
def test_few_photos_can_be_looked_at(tmp_path, tiny_onnx, tell, n, test):
    photos = newly(tmp_path / "photos", n=n, red="red", blue="blue")
    run = learn(photos, tmp_path / "run", tiny_onnx, "--test", test)
    status, _, err = looked_at(run, photos, photos / "red" / "0.png", tmp_path, tell, KINDS if n == 2 else KINDS[1:3])
    page = in_page(run / "report.html")
    assert page["mistakes"] == [] and page["n_mistakes"] == 0 and page["n_right"] == page["evaluation"]["n_images"]
    assert (status == 1 and "none of these photos can judge" in err) if test == 0 else status == 0


def test_several_labels_an_image(tmp_path, deep_onnx, tell, refused):
    photos = write_photos(tmp_path / "photos", n=8)
    rows = [(p.relative_to(tmp_path), p.parent.name) for p in sorted(photos.rglob("*.png"))]
    more = {"red": "red|warm", "blue": "blue|cold"}

    def table(name, labels):
        with (tmp_path / name).open("w", newline="") as file:
            csv.writer(file).writerows([("path", "label"), *((path, labels.get(of, of)) for path, of in rows)])
        return tmp_path / name

    many = table("many.csv", more)
    run = learn(many, tmp_path / "run", deep_onnx)
    status, out, err = looked_at(run, many, photos / "red" / "red 0.png", tmp_path, tell, KINDS[:-1])
    assert status == 0 and "all labels right for" in out and "were learnt from" in err
    again, about = told_by(tmp_path / "again"), told_by(run)
    assert again["evaluation"]["n_images"] == about["evaluation"]["n_images"] == about["images"]["test"]
    told = json.loads(tell("explain", run, photos / "red" / "red 0.png", "--label", "warm", "--json", *EXACT)[1])
    assert told["prediction"] == "red|warm" and told["nearest"][0]["label"] == "red|warm"
    score = np.mean(told["heat"]) + told["constant"]
    assert 1 / (1 + np.exp(-score)) == pytest.approx(dict(told["top"])["warm"], abs=0.02)
    status, _, err = tell("check", many, "--backbone", deep_onnx)
    assert status == 0
    _, out, err = tell("evaluate", run, table("hot.csv", {**more, "red": "red|hot"}), "-o", tmp_path / "hot")
    assert "whether a photo is hot is not judged: it knows no such label" in err
    status, out, err = tell("evaluate", run, table("part.csv", {**more, "green": "mauve|hot"}), "-o", tmp_path / "part")
    assert status == 0 and "8 photos are of no class that it knows (hot and mauve), and are left out" in err
    strange = table("strange.csv", {"red": "a|b", "blue": "b|c", "green": "c"})
    assert "none of these photos can judge" in refused("evaluate", run, strange)
    single = learn(photos, tmp_path / "single", deep_onnx)
    assert "several labels each" in refused("evaluate", single, many)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_tables_can_be_looked_at(tmp_path, tiny_onnx, tell, monkeypatch, kind):
    photos = write_photos(tmp_path / "data" / "photos", n=4)
    table = tmp_path / "data" / f"table.{kind}"
    files = sorted(photos.rglob("*.png"))
    if kind == "csv":
        with table.open("w", newline="") as file:
            csv.writer(file).writerows([("path", "label"), *((p.relative_to(table.parent), p.parent.name) for p in files)])
    else:
        arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        columns = {"image": [p.read_bytes() for p in files], "label": [p.parent.name for p in files]}
        parquet.write_table(arrow.table(columns), table)
    photo = shutil.copy(photos / "red" / "red 0.png", tmp_path / "a photo.png")
    monkeypatch.chdir(table.parent)
    run = learn(table.name, tmp_path / "run", tiny_onnx)  # so names are relative to here
    monkeypatch.chdir(tmp_path)
    assert looked_at(run, table, photo, tmp_path, tell)[0] == 0
    (tmp_path / "data").rename(tmp_path / "moved")
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "another cache"))
    assert "12 of 12 photos are not where they were" in tell("report", run)[2]
    assert tell("report", run, "--photos", tmp_path / "moved" / table.name)[::2] == (0, "")
    assert in_page(run / "report.html")["missing"] == []


# ---- options and streams


def test_device_and_threads_are_passed_through(world, tmp_path, tell, refused):
    photo = world.photos / "red" / "red 0.png"
    every = (
        ("explain", world.run, photo),
        ("evaluate", world.run, world.photos, "-o", tmp_path / "e"),
        ("check", world.photos, "--backbone", world.backbone),
        ("map", world.run, "-o", tmp_path / "m.html", "--add", photo),
    )
    for arguments in every:
        assert "TPU" in refused(*arguments, "--device", "TPU")
        assert tell(*arguments, "--threads", 1, "--precision", "f32")[0] == 0


@pytest.mark.parametrize("is_quiet", [True, False])
def test_progress_goes_to_stderr_unless_quiet(world, tmp_path, capsys, monkeypatch, is_quiet):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    shown = Terminal()
    monkeypatch.setattr("sys.stderr", shown)
    quiet = ["--quiet"] if is_quiet else []
    for arguments in (
        ("check", world.photos, "--backbone", world.backbone),
        ("map", world.run, "-o", tmp_path / "m.html", "--again"),
        ("evaluate", world.run, newly(tmp_path / "new"), "-o", tmp_path / "e"),
    ):
        shown.truncate(0)
        assert command(*arguments, *quiet) == 0
        assert bool(shown.getvalue()) != is_quiet
    assert capsys.readouterr().out


def test_all_predictions_right_leave_no_mistakes_in_the_report(tmp_path, tiny_onnx, tell):
    run = learn(write_photos(tmp_path / "photos", n=8), tmp_path / "run", tiny_onnx)
    page = in_page(run / "report.html")
    assert page["mistakes"] == [] and page["n_mistakes"] == 0 and page["cells"]["all"] == [[i, i, 8] for i in range(3)]
    assert "100" in page["sentences"]["result"]
