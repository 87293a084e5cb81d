"""Every command as a user types it, with what it prints, where, and how it ends."""

import contextlib
import csv
import hashlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import sklearn.datasets
import sklearn.utils

import headstart
from headstart.cli import main
from headstart.codes.store import Store
from headstart.runs.record_file import FORMAT
from support.disk import fill
from support.photos import write_photos
from support.processes import HEAR_CTRL_C

ROW = ["path", "status", "reason", "prediction", "probability", "top", "unfamiliar", "unfamiliarity", "set"]
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="/dev/full and disks in memory are Linux's")


@pytest.fixture(scope="module")
def finished_run(tiny_onnx, tmp_path_factory):
    """A run on photos as those of the fixture of that name, which no test changes."""
    root = tmp_path_factory.mktemp("finished")
    arguments = [str(write_photos(root / "photos")), "-o", str(root / "run"), "--cache", str(root / "cache"), "--quiet"]
    with contextlib.redirect_stdout(io.StringIO()):
        assert main.main(["train", *arguments, "--backbone", str(tiny_onnx)]) == 0
    return root / "run"


@pytest.fixture
def run(finished_run, tmp_path):
    """A copy of a finished run."""
    return Path(shutil.copytree(finished_run, tmp_path / "run"))


@pytest.fixture
def headstart_command():
    """The command in a process of its own."""

    def start(*arguments, **options):
        command = [sys.executable, "-m", "headstart", *map(str, arguments)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)

    return start


def test_train_tells_the_result_and_what_to_do_next(photos, tiny_onnx, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main.main(["train", "photos", "--backbone", str(tiny_onnx)]) == 0
    out, err = capsys.readouterr()
    assert "60 photos of 3 classes" in out and "95 % interval" in out and "cross-validated" in out
    for name in ("blue", "green", "red"):
        assert re.search(rf"{name} +\d+\.\d %", out)
    assert out.splitlines()[-1].strip() == "headstart predict photos-run PHOTO_OR_FOLDER"
    assert main.main(["train", "photos", "--backbone", str(tiny_onnx), "--quiet"]) == 0
    assert (tmp_path / "photos-run-2" / "run.json").is_file()  # and the first is as it was


def test_train_json_is_run_json_and_nothing_else_is_on_stdout(photos, tiny_onnx, tmp_path, capsys):
    assert main.main(["train", str(photos), "-o", str(tmp_path / "r"), "--backbone", str(tiny_onnx), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer.pop("run") == str(tmp_path / "r")
    assert {"format": FORMAT, **answer} == json.loads((tmp_path / "r" / "run.json").read_text())


def test_predict_prints_a_row_for_each_image(run, photos, capsys):
    assert main.main(["predict", str(run), str(photos / "red" / "red 0.png"), str(photos / "blue")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 21
    assert re.match(r"red +\d+\.\d %  .*red 0\.png", lines[0])
    assert [re.search(r"blue (\d+)\.png", line).group(1) for line in lines[1:4]] == ["0", "1", "2"]  # natural order


@pytest.mark.parametrize("form", ["csv", "jsonl", "json", "parquet"])
def test_a_row_is_the_same_in_every_format(run, photos, tmp_path, capsys, form):
    bad = tmp_path / 'bad, "odd" name.jpg'
    bad.write_text("no photo")
    good = photos / "red" / "red 0.png"
    target = tmp_path / f"rows.{form}"
    assert main.main(["predict", str(run), str(good), str(bad), "-o", str(target), "--top", "2"]) == 1
    if form == "parquet":
        rows = pytest.importorskip("pyarrow.parquet").read_table(target).to_pylist()
        for row in rows:
            row["top"] = [[pair["label"], pair["probability"]] for pair in row["top"]]
    elif form == "csv":
        rows = list(csv.DictReader(io.StringIO(target.read_text(), newline="")))
        for row in rows:
            row["top"] = json.loads(row["top"])
            row["probability"] = float(row["probability"]) if row["probability"] else None
            row["unfamiliarity"] = float(row["unfamiliarity"]) if row["unfamiliarity"] else None
            row["unfamiliar"], row["set"] = {"True": True, "False": False}.get(row["unfamiliar"]), row["set"] or None
            row["reason"], row["prediction"] = row["reason"] or None, row["prediction"] or None
    else:
        rows = json.loads(target.read_text()) if form == "json" else list(map(json.loads, target.read_text().splitlines()))
    assert [list(row) for row in rows] == [ROW, ROW]
    first, second = rows
    assert (first["path"], first["status"], first["reason"], first["prediction"]) == (str(good), "ok", None, "red")
    assert [label for label, _ in first["top"]][0] == "red" and len(first["top"]) == 2
    assert first["probability"] == pytest.approx(first["top"][0][1]) and first["probability"] > 0.5
    assert (second["path"], second["status"], second["prediction"], second["top"]) == (str(bad), "not an image", None, [])
    assert second["reason"] and second["probability"] is None
    if form != "parquet":  # the flag writes to stdout what the file's name writes to the file
        capsys.readouterr()
        main.main(["predict", str(run), str(good), str(bad), f"--{form}", "--top", "2"])
        assert capsys.readouterr().out == target.read_text()


def test_json_of_one_image_is_an_array(run, photos, capsys):
    assert main.main(["predict", str(run), str(photos / "red" / "red 0.png"), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 1


def test_an_output_file_is_never_overwritten_by_accident(run, photos, tmp_path, capsys):
    target = tmp_path / "mine.csv"
    target.write_text("precious")
    arguments = ["predict", str(run), str(photos / "red"), "-o", str(target)]
    assert main.main(arguments) == 1
    assert target.read_text() == "precious" and "--overwrite" in capsys.readouterr().err
    assert main.main([*arguments, "--overwrite"]) == 0
    assert target.read_text().startswith("path,status") and not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize("command", ["predict", "map", "plot", "check"])
def test_a_folder_in_the_way_of_an_output_file_is_told_before_any_work(run, photos, tmp_path, capsys, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    name = {"predict": "x.csv", "map": "x.html", "plot": "x.png", "check": "x.csv"}[command]
    (tmp_path / name).mkdir()
    arguments = {
        "predict": [str(run), str(photos)],
        "map": [str(run)],
        "plot": [str(run), "--kind", "confusion"],
        "check": [str(photos)],
    }[command]
    flag = "--csv" if command == "check" else "-o"
    assert main.main([command, *arguments, flag, name, "--overwrite"]) == 1
    out, err = capsys.readouterr()
    assert not out and err.strip() == f"headstart: {name} is a folder; name a file in it"


def test_bad_files_are_rows_and_the_exit_code_says_so(run, photos, tmp_path, capsys):
    empty = tmp_path / "empty.jpg"
    empty.touch()
    assert main.main(["predict", str(run), str(empty), "nowhere.jpg", str(photos / "red" / "red 1.png")]) == 1
    out, err = capsys.readouterr()
    assert "(empty: the file is empty)" in out and "(missing: no such file)" in out and len(out.splitlines()) == 3
    assert "2 of 3 images could not be used" in err


def test_an_empty_folder_leaves_no_file_behind(run, tmp_path, capsys):
    (tmp_path / "nothing").mkdir()
    assert main.main(["predict", str(run), str(tmp_path / "nothing"), "-o", str(tmp_path / "rows.csv")]) == 1
    assert "no files" in capsys.readouterr().err and not list(tmp_path.glob("rows.csv*"))


def test_an_empty_folder_beside_others_is_told(run, photos, tmp_path, capsys):
    (tmp_path / "nothing" / "deeper").mkdir(parents=True)
    assert main.main(["predict", str(run), str(tmp_path / "nothing"), str(photos / "red" / "red 1.png")]) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 1 and err.strip() == f"headstart: {tmp_path / 'nothing'} holds no files"


def test_a_file_name_that_tells_no_format_is_refused(run, photos, tmp_path, capsys):
    assert main.main(["predict", str(run), str(photos), "-o", str(tmp_path / "rows.xlsx")]) == 1
    assert ".csv" in capsys.readouterr().err and not (tmp_path / "rows.xlsx").exists()


def test_ctrl_c_in_predict_says_what_is_left(run, photos, tmp_path, capsys, monkeypatch):
    first = headstart.load(run).predict(photos / "red" / "red 0.png")

    def stop(*_, **__):
        yield from first
        raise KeyboardInterrupt

    monkeypatch.setattr("headstart.classifier.classifier.Classifier.stream", stop)
    assert main.main(["predict", str(run), str(photos), "-o", str(tmp_path / "rows.csv")]) == 130
    (part,) = tmp_path.glob("rows.csv*")
    assert f"stopped; what was written so far is in {part}" in capsys.readouterr().err
    assert re.fullmatch(r"rows\.csv\.[0-9a-f]{16}\.partial", part.name) and "red 0.png" in part.read_text()


@on_linux
@pytest.mark.parametrize("form", [None, "csv", "json"])
def test_predict_says_that_the_standard_output_cannot_be_written(run, photos, form):
    command = [
        sys.executable,
        "-m",
        "headstart.cli.main",
        "predict",
        str(run),
        str(photos),
        *([f"--{form}"] if form else []),
    ]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1
    assert done.stderr == b"headstart: the standard output cannot be written: No space left on device\n"


@on_linux
def test_every_command_says_that_the_standard_output_cannot_be_written():
    with open("/dev/full", "wb") as full:
        done = subprocess.run([sys.executable, "-m", "headstart", "cache"], stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1
    assert done.stderr == b"headstart: the standard output cannot be written: No space left on device\n"


@on_linux
@pytest.mark.parametrize("form", ["csv", "jsonl", "json", "parquet"])
def test_predict_on_a_full_disk_says_so_and_what_is_kept(run, photos, mounted, capsys, form):
    if form == "parquet":
        pytest.importorskip("pyarrow")
    disk = mounted("size=64k")
    fill(disk / "holiday.mp4", 4096)
    assert main.main(["predict", str(run), *[str(photos)] * 3, "-o", str(disk / f"rows.{form}"), "--quiet"]) == 1
    (part,) = disk.glob("rows*")
    assert capsys.readouterr().err == (
        f"headstart: {disk}/rows.{form} cannot be written: No space left on device; what was written so far is in {part}\n"
    )


@pytest.mark.parametrize("stranger", ["file", "link"])
def test_no_file_or_link_that_looks_like_ours_is_written_to(run, photos, tmp_path, stranger):
    precious, taken = tmp_path / "thesis.txt", tmp_path / "rows.csv.partial"
    precious.write_text("precious")
    if stranger == "file":
        taken.write_text("precious")
    else:
        try:
            taken.symlink_to(precious)
        except OSError:
            pytest.skip("this user may make no links")
    assert main.main(["predict", str(run), str(photos / "red"), "-o", str(tmp_path / "rows.csv")]) == 0
    assert precious.read_text() == "precious" and taken.read_text() == "precious"
    assert (tmp_path / "rows.csv").read_text().startswith("path,status")


def test_patterns_are_opened_where_the_shell_does_not(run, photos, capsys):
    assert main.main(["predict", str(run), str(photos / "*" / "* 1.png")]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert main.main(["predict", str(run), str(photos / "*.gif")]) == 1  # a pattern that meets nothing is told


def test_stdin_gives_paths_or_one_picture(run, photos):
    paths = sorted((photos / "red").iterdir())[:3]
    for content, n in (("".join(f"{p}\n" for p in paths).encode(), 3), (paths[0].read_bytes(), 1)):
        result = subprocess.run(
            [sys.executable, "-m", "headstart", "predict", str(run), "-", "--jsonl"],
            input=content,
            capture_output=True,
        )
        rows = [json.loads(line) for line in result.stdout.splitlines()]
        assert result.returncode == 0 and len(rows) == n and {row["prediction"] for row in rows} == {"red"}


def test_imagenet_needs_no_training(tmp_path, capsys):
    data = pytest.importorskip("skimage.data")
    from PIL import Image

    Image.fromarray(data.coffee()).save(tmp_path / "cup.png")
    assert main.main(["predict", "imagenet", str(tmp_path / "cup.png"), "--json", "--top", "5"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["prediction"] == "espresso" and len(row["top"]) == 5


def test_backbones_are_listed(capsys):
    assert main.main(["backbones", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [r["name"] for r in rows if "installed" in r] == [
        "efficientnet-lite0",
        "efficientnet-lite1",
        "efficientnet-lite2",
    ]
    others = [r for r in rows if "installed" not in r]
    assert others and all(r["name"].startswith("timm:") and 0.7 < r["accuracy"] < 0.9 and r["source"] for r in others)
    assert all(r["size_mb"] == round(4 * r["n_parameters"] / 1e6) and r["license"] and r["good_for"] for r in others)
    assert {"size", "n_parameters", "n_codes", "license", "installed", "images_per_second"} <= set(rows[0])
    assert rows[0]["installed"] and rows[0]["license"] == "Apache-2.0"
    assert main.main(["backbones"]) == 0
    out = capsys.readouterr().out
    assert "efficientnet-lite0" in out and all(r["name"] in out and r["good_for"] in out for r in others)


def test_backbones_are_measured_on_this_machine(capsys, monkeypatch):
    from headstart.backbones import builtin

    monkeypatch.setattr(builtin, "BACKBONES", {"efficientnet-lite0": builtin.BACKBONES["efficientnet-lite0"]})
    assert main.main(["backbones", "--measure", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["images_per_second"] > 1


def test_a_cache_that_cannot_be_written_is_told_once_by_train_and_fails_cache(
    photos, tiny_onnx, tmp_path, headstart_command
):
    (tmp_path / "file").write_text("")
    cache = ("--cache", tmp_path / "file")
    out, err = headstart_command("train", photos, "-o", tmp_path / "r", "--backbone", tiny_onnx, *cache).communicate()
    assert err.count(b"not kept in the cache") == 1 and (tmp_path / "r" / "run.json").is_file()
    process = headstart_command("cache", *cache)
    assert b"cannot be made: File exists; choose another with --cache DIR" in process.communicate()[1]
    assert process.returncode == 1


def test_the_cache_is_shown_and_emptied(photos, tiny_onnx, tmp_path, capsys):
    headstart.train(photos, tmp_path / "run", backbone=str(tiny_onnx), budget=0)
    assert main.main(["cache", "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    assert about["images"] == 60 and {recipe["name"] for recipe in about["recipes"]} == {"tiny", "glance"}
    assert main.main(["cache", "prune"]) == 0
    assert capsys.readouterr().out.startswith("0 images forgotten")  # all of them were used today
    assert main.main(["cache", "clear", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["forgotten"] == 60
    assert main.main(["cache"]) == 0
    assert "codes of 0 images" in capsys.readouterr().out


@pytest.fixture
def few_digits(monkeypatch):
    """The first 200 of the 1,797 digits, which are learnt many times faster."""
    digits = sklearn.datasets.load_digits()
    few = sklearn.utils.Bunch(images=digits.images[:200], target=digits.target[:200])
    monkeypatch.setattr("sklearn.datasets.load_digits", lambda: few)


def test_the_demo_learns_handwritten_digits(few_digits, tmp_path, capsys):
    assert main.main(["demo", "-o", str(tmp_path / "demo"), "--quiet"]) == 0
    out = capsys.readouterr().out
    evaluation = json.loads((tmp_path / "demo" / "run" / "run.json").read_text())["evaluation"]
    assert evaluation["accuracy"] > 0.8  # of ten digits: chance is 0.1
    assert sum(1 for _ in (tmp_path / "demo" / "digits").rglob("*.png")) == 200
    assert "headstart predict" in out and "headstart train PHOTOS" in out
    assert main.main(["demo", "-o", str(tmp_path / "demo"), "--quiet"]) == 0  # again: another run, the same digits
    assert (tmp_path / "demo" / "run-2" / "run.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "no-such-folder"], "there is no no-such-folder"),
        (["train", "photo", "--backbone", "efficientnet-lite9"], "did you mean"),
        (["train", "photos", "--precision", "f16"], "auto, f32"),
        (["train", "photos", "--threads", "0"], "at least 1"),
        (["train", "photos", "--device", "TPU"], "OpenVINO finds"),
        (["train", "photos", "--test", "1.2"], "0 to 0.9"),
        (["predict", "photos", "x.jpg"], "holds no model.onnx"),
        (["predict", "no-run", "x.jpg"], "no-run cannot be read"),
    ],
)
def test_mistakes_end_with_a_sentence_and_one(photos, capsys, monkeypatch, arguments, words):
    monkeypatch.chdir(photos.parent)
    if "efficientnet-lite9" in arguments:
        arguments = ["train", "photos", *arguments[2:]]
    assert main.main(arguments) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("headstart: ") and words in err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["train"],
        ["predict", "run"],
        ["backbones", "import"],
        ["train", "photos", "more photos"],
        ["train", "photos", "--mean", "1,2"],
        ["predict", "r", "p", "--top", "0"],
    ],
)
def test_wrong_usage_ends_with_two(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main.main(arguments)
    assert ended.value.code == 2 and "usage: headstart" in capsys.readouterr().err


def test_photos_that_lie_deeper_are_found_in_one_hop(photos, tmp_path, capsys):
    (tmp_path / "zip" / "data" / "v2").mkdir(parents=True)
    deeper = photos.rename(tmp_path / "zip" / "data" / "v2" / "colours")
    assert main.main(["train", str(tmp_path / "zip")]) == 1
    assert capsys.readouterr().err.strip().endswith(f"did you mean {deeper}?")
    assert main.main(["train", str(deeper.parent)]) == 1
    assert capsys.readouterr().err.strip().endswith(f"did you mean {deeper}?")


def test_a_run_is_never_overwritten(run, photos, tiny_onnx, capsys):
    before = (run / "model.onnx").read_bytes()
    assert main.main(["train", str(photos), "-o", str(run), "--backbone", str(tiny_onnx)]) == 1
    assert "never overwritten" in capsys.readouterr().err and (run / "model.onnx").read_bytes() == before
    assert main.main(["train", str(photos), "-o", str(photos), "--backbone", str(tiny_onnx)]) == 1


def test_somebody_elses_files_are_never_overwritten(photos, tiny_onnx, tmp_path, capsys):
    (tmp_path / "deploy").mkdir()
    (tmp_path / "deploy" / "model.onnx").write_bytes(b"mine")
    assert main.main(["train", str(photos), "-o", str(tmp_path / "deploy"), "--backbone", str(tiny_onnx), "--quiet"]) == 1
    assert (tmp_path / "deploy" / "model.onnx").read_bytes() == b"mine"
    (tmp_path / "empty").mkdir()
    assert main.main(["train", str(photos), "-o", str(tmp_path / "empty"), "--backbone", str(tiny_onnx), "--quiet"]) == 0
    assert not list(tmp_path.glob(".headstart*"))


def test_two_trainings_into_one_folder_give_one_whole_run(photos, tiny_onnx, tmp_path, headstart_command):
    command = ("train", photos, "-o", tmp_path / "same", "--backbone", tiny_onnx, "--json")
    started = [headstart_command(*command, "--seed", str(seed)) for seed in range(3)]
    ended = [(p.communicate()[0], p.returncode) for p in started]
    assert sorted(code for _, code in ended) == [0, 1, 1]
    assert not list(tmp_path.glob(".headstart*"))  # what the others had drafted is gone
    winner = next(json.loads(out) for out, code in ended if code == 0)
    kept = json.loads((tmp_path / "same" / "run.json").read_text())
    assert kept["arguments"]["seed"] == winner["arguments"]["seed"]
    assert hashlib.sha256((tmp_path / "same" / "model.onnx").read_bytes()).hexdigest() == winner["model"]["sha256"]


def test_quiet_is_quiet_and_a_pipe_gets_plain_lines(run, photos, headstart_command):
    out, err = headstart_command("predict", run, photos / "red", "--quiet").communicate()
    assert err == b"" and len(out.splitlines()) == 20
    out, err = headstart_command("predict", run, photos / "red").communicate()
    assert b"\x1b" not in out + err


SLOW_TRAINING = f"""{HEAR_CTRL_C}
import sys, time
from headstart.cli.main import main
from headstart.codes import compute, shelf
shelf.COMMIT_SECONDS, crop = 0.05, compute.crop_and_resize
compute.crop_and_resize = lambda *arguments: (time.sleep(0.05), crop(*arguments))[1]
sys.exit(main())
"""


def test_ctrl_c_ends_cleanly_and_keeps_what_was_computed(photos, tiny_onnx, tmp_path, own_cache):
    arguments = [str(photos), "-o", str(tmp_path / "run"), "--backbone", str(tiny_onnx), "--threads", "1"]
    store = Store(own_cache)

    def n_images():
        query = "SELECT COUNT(DISTINCT digest) FROM codes JOIN recipes USING (recipe) WHERE about LIKE '%tiny%'"
        return store.read(lambda connection: connection.execute(query).fetchone()[0])

    command = [sys.executable, "-c", SLOW_TRAINING, "train", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while n_images() < 5:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert b"stopped" in err and b"Traceback" not in err and not (tmp_path / "run").exists()
    kept = n_images()
    store.close()
    assert 5 <= kept < 60
    again = headstart.train(photos, tmp_path / "run", backbone=str(tiny_onnx))
    assert again.about["images"]["computed"] == 60 - kept


def test_the_demo_leaves_other_folders_alone(photos, capsys):
    assert main.main(["demo", "-o", str(photos)]) == 1
    assert "no demo's folder" in capsys.readouterr().err and not (photos / "digits").exists()


def test_a_reader_that_goes_away_is_no_error(run, photos, headstart_command):
    process = headstart_command("predict", run, *[photos] * 50, "--jsonl")
    process.stdout.readline()
    process.stdout.close()
    with process.stderr as stderr:
        assert b"Traceback" not in stderr.read()
    process.wait()


def test_names_that_a_terminal_should_not_obey(photos, tiny_onnx, tmp_path, capsys):
    (photos / "red").rename(photos / "\x1b[31mred [bold]x")
    assert main.main(["train", str(photos), "-o", str(tmp_path / "r"), "--backbone", str(tiny_onnx), "--quiet"]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out and "red [bold]x" in out


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has names that are not text")
def test_file_names_that_are_not_utf8(photos, tiny_onnx, tmp_path, capsys):
    odd = os.fsencode(photos / "red") + b"/caf\xe9.png"
    os.rename(os.fsencode(photos / "red" / "red 0.png"), odd)
    assert main.main(["train", str(photos), "-o", str(tmp_path / "r"), "--backbone", str(tiny_onnx), "--quiet"]) == 0
    assert b"caf\xe9.png" in (tmp_path / "r" / "predictions.csv").read_bytes()
    for form in ("csv", "jsonl", "json", "parquet"):
        target = tmp_path / f"rows.{form}"
        assert main.main(["predict", str(tmp_path / "r"), os.fsdecode(odd), "-o", str(target)]) == 0
        assert b"caf" in target.read_bytes()


def test_help_imports_nothing_that_is_slow_to_import():
    """How many seconds it takes is a line of benchmarks/speed.py."""
    code = """if True:
        import contextlib, sys
        from headstart.cli.main import main
        with contextlib.suppress(SystemExit):
            main(["--help"])
        packages = {name.split(".")[0] for name in sys.modules} - set(sys.stdlib_module_names)
        print(*(name for name in sorted(packages) if not name.startswith("_")))
    """
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "train" in out and out.splitlines()[-1] == "headstart"


def test_the_version_is_the_packages(capsys):
    with pytest.raises(SystemExit):
        main.main(["--version"])
    assert re.match(r"headstart \d+\.\d+\.\d+", capsys.readouterr().out)


def test_train_shows_the_ladder(photos, deep_onnx, tmp_path, capsys):
    options = ("--backbone", str(deep_onnx), "--views", "rotation=15")
    assert main.main(["train", str(photos), "-o", str(tmp_path / "r"), *options]) == 0
    out = capsys.readouterr().out
    assert "the ladder, each rung judged on held-out photos" in out
    assert re.search(r"mean of layers +\d+\.\d % \(.*yes", out) and "views rotation=15" in out


def test_without_a_report_a_run_says_how_to_write_one(photos, tiny_onnx, tmp_path, capsys):
    run = tmp_path / "r"
    assert main.main(["train", str(photos), "-o", str(run), "--backbone", str(tiny_onnx), "--report", "none"]) == 0
    assert f"headstart report {run}" in capsys.readouterr().out
    assert not (run / "report.html").exists() and not (run / "tensorboard").exists() and (run / "run.json").exists()
    assert main.main(["report", str(run)]) == 0 and (run / "report.html").exists()
    assert main.main(["map", str(run), "-o", str(tmp_path / "map.html")]) == 0


@pytest.mark.parametrize("wrong", ["soon", "inf", "5d", ""])
def test_a_budget_is_a_time(wrong, photos, capsys):
    with pytest.raises(SystemExit) as end:
        main.main(["train", str(photos), "--budget", wrong])
    assert end.value.code == 2 and "30s" in capsys.readouterr().err


def test_views_are_drawn(photos, tmp_path, capsys):
    photo = str(photos / "red" / "red 0.png")
    assert main.main(["views", photo, "-o", str(tmp_path / "grid.jpg"), "--views", "mirrored,rotation=30"]) == 0
    from PIL import Image

    with Image.open(tmp_path / "grid.jpg") as grid:
        assert grid.format == "JPEG" and grid.width > 600 and grid.height > 400
    assert main.main(["views", photo, "-o", str(tmp_path / "grid.jpg")]) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert main.main(["views", str(photos / "none.png"), "-o", str(tmp_path / "g.png")]) == 1
    assert main.main(["views", photo, "-o", str(tmp_path / "g.png"), "--views", "sideways"]) == 1


def test_importing_what_is_no_tensorflow_file_says_why(photos, tmp_path, capsys):
    assert main.main(["backbones", "import", str(photos / "red" / "red 0.png"), "-o", str(tmp_path / "x.onnx")]) == 1
    assert str(photos / "red" / "red 0.png") in capsys.readouterr().err
    assert not (tmp_path / "x.onnx").exists()


def test_a_process_beside_the_first_does_nothing_where_there_is_nothing_to_share(photos, monkeypatch, capsys):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main.main(["train", str(photos)]) == 0
    assert capsys.readouterr().out == ""
