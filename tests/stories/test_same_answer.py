"""The same command on the same photos gives the same classifier, however busy the machine is and on any number of cores."""

import json
import multiprocessing
import os
import subprocess
import sys
import time

import pytest

from support.photos import write_photos

TRAIN = "import sys; from headstart.cli.main import main; sys.exit(main())"


def busy() -> None:
    while True:
        pass


@pytest.fixture
def busy_cores():
    """Every core has something else to do meanwhile."""
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=busy, daemon=True) for _ in range(os.cpu_count() or 1)]
    for process in processes:
        process.start()
    time.sleep(0.2)
    yield
    for process in processes:
        process.kill()
        process.join()


def train(photos, run, *options):
    command = [sys.executable, "-c", TRAIN, "train", str(photos), "-o", str(run), "--quiet", *options]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "HEADSTART_CACHE": f"{run}-cache"})
    return (run / "model.onnx").read_bytes(), json.loads((run / "run.json").read_text())


@pytest.fixture(scope="module")
def many_photos(tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("same") / "photos", n=40)


@pytest.mark.parametrize("precision", ["f32", "auto"])
def test_a_busy_machine_and_one_core_give_the_same_bytes(many_photos, tmp_path, precision, request):
    options = ("--views", "rotation=15", "--precision", precision)
    first, about = train(many_photos, tmp_path / "first", *options)
    request.getfixturevalue("busy_cores")
    again, about_again = train(many_photos, tmp_path / "again", "--threads", "1", *options)
    for key in ("choice", "classes", "evaluation", "effort", "calibration", "splits_sha256"):
        assert about[key] == about_again[key] or precision == "auto", key
    facts = [[(r["name"], r["is_taken"], r["accuracy"]) for r in each["ladder"]] for each in (about, about_again)]
    assert facts[0] == facts[1] and about["effort"] == {"name": "normal", "is_cut": False}
    if precision == "f32":  # in 16 bits a network may round otherwise on another number of threads
        assert first == again


def test_results_of_earlier_runs_are_what_is_computed(many_photos, tmp_path):
    first, _ = train(many_photos, tmp_path / "first")
    command = [sys.executable, "-c", TRAIN, "train", str(many_photos), "-o", str(tmp_path / "again"), "--quiet"]
    environment = {**os.environ, "HEADSTART_CACHE": f"{tmp_path / 'first'}-cache"}
    subprocess.run(command, check=True, capture_output=True, env=environment)
    assert (tmp_path / "again" / "model.onnx").read_bytes() == first
    for name in ("findings.npz", "learnt.npz", "predictions.csv", "issues.json"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "first" / name).read_bytes(), name


def test_moved_and_renamed_photos_give_the_same_bytes(many_photos, tmp_path):
    first, _ = train(many_photos, tmp_path / "first")
    for place, path in enumerate(sorted(many_photos.glob("*/*"), reverse=True)):
        (tmp_path / "renamed" / path.parent.name).mkdir(parents=True, exist_ok=True)
        (tmp_path / "renamed" / path.parent.name / f"{place:04}{path.suffix}").write_bytes(path.read_bytes())
    again, _ = train(tmp_path / "renamed", tmp_path / "again")
    assert again == first
    names = [line.split(",")[0] for line in (tmp_path / "again" / "predictions.csv").read_text().splitlines()[1:]]
    assert names == sorted(names)
