"""A run on an MLflow server: what is logged under which name, and what becomes of it where the server fails."""

import json
import os
import socket
import sys

import pytest

from headstart.cli.main import main
from headstart.errors import MissingExtra, OutputError
from headstart.share.mlflow_tracking import check_server, log_to_mlflow, metrics_of, params_of
from headstart.training.train import train
from support.mlflow_server import API, ARTIFACTS, MlflowServer, RealServer
from support.photos import write_photos

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # MLflow's own
REAL = os.environ.get("HEADSTART_TEST_MLFLOW")


@pytest.fixture(scope="module")
def run(tmp_path_factory, deep_onnx):
    root = tmp_path_factory.mktemp("mlflow")
    photos = write_photos(root / "photos", n=20)
    return train(photos, root / "run", backbone=str(deep_onnx), cache=root / "cache").folder


@pytest.fixture
def server(monkeypatch):
    pytest.importorskip("mlflow")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    state = MlflowServer()
    yield state
    state.close()


def logged_in(server, run_id):
    """A run as the server has it: status, tags, parameters, the last value of each metric, and files."""
    run = server.runs[run_id]
    metrics = {metric["key"]: metric["value"] for metric in run["metrics"]}
    files = {path.partition("/artifacts/")[2]: content for path, content in server.files.items() if run_id in path}
    return run["status"], run["tags"], run["params"], metrics, files


def test_a_run_is_logged_with_its_figures_choices_and_files(run, server):
    record = json.loads((run / "run.json").read_text())
    logged = log_to_mlflow(run, server.url)
    status, tags, params, metrics, files = logged_in(server, logged.run_id)
    assert status == "FINISHED" and logged.experiment == "photos" and logged.run_id in logged.url
    low, high = record["evaluation"]["interval"]
    assert metrics["test.accuracy"] == record["evaluation"]["accuracy"]
    assert (metrics["test.accuracy.low"], metrics["test.accuracy.high"]) == (low, high)
    assert {f"recall/{label}" for label in record["classes"]} <= metrics.keys()
    assert params["chosen.head"] == record["choice"]["head"] and params["effort"] == "normal"
    assert tags["headstart.model_sha256"] == record["model"]["sha256"] and "95 % interval" in tags["mlflow.note.content"]
    assert files["model/model.onnx"] == (run / "model.onnx").read_bytes()
    assert files["report.html"] == (run / "report.html").read_bytes()
    assert {"run.json", "predictions.csv", "model/labels.txt"} <= files.keys()


def test_how_the_head_learnt_is_there_step_by_step(run, server):
    steps = json.loads((run / "run.json").read_text())["fitting"]["steps"]
    logged = log_to_mlflow(run, server.url)
    of_head = [m for m in server.runs[logged.run_id]["metrics"] if m["key"] == "head.train_cross_entropy"]
    assert [m["step"] for m in of_head] == [row["step"] for row in steps] and len(of_head) > 1


def test_runs_on_the_same_photos_share_an_experiment(run, server):
    first, second = log_to_mlflow(run, server.url), log_to_mlflow(run, server.url)
    other = log_to_mlflow(run, server.url, experiment="another", name="a name")
    assert first.run_id != second.run_id and server.experiments == {"photos": "1", "another": "2"}
    assert server.runs[other.run_id]["name"] == "a name"


def test_names_of_classes_that_mlflow_cannot_spell_stay_apart(run):
    record = json.loads((run / "run.json").read_text())
    classes = record["evaluation"]["classes"]
    for row, label in zip(classes, ("a/b", "a?b", "été"), strict=False):
        row["label"] = label
    names = [name for name in metrics_of(record) if name.startswith("recall/")]
    assert len(names) == len(classes) and names[:2] == ["recall/a_b", "recall/a_b 1"]


def test_values_are_as_long_as_every_server_takes(run):
    record = json.loads((run / "run.json").read_text())
    record["photos"] = "/x" * 2000
    assert max(map(len, params_of(record).values())) == 500


def test_a_server_that_fails_halfway_has_a_failed_run_and_the_run_is_whole(run, server):
    before = (run / "run.json").read_bytes()
    server.refuse[ARTIFACTS] = 400
    with pytest.raises(OutputError, match=r"does not take the run: .*--mlflow"):
        log_to_mlflow(run, server.url)
    assert [each["status"] for each in server.runs.values()] == ["FAILED"]
    assert (run / "run.json").read_bytes() == before


def test_no_server_is_told_at_once():
    pytest.importorskip("mlflow")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(OutputError, match="no MLflow server answers .*mlflow server"):
        check_server(url)


def test_what_is_no_mlflow_is_told(server):
    server.refuse[API] = 404
    with pytest.raises(OutputError, match="does not take the run"):
        check_server(server.url)


def test_the_extra_is_named(monkeypatch):
    import headstart.share.mlflow_tracking as tracking

    monkeypatch.setattr(tracking, "find_spec", lambda _: None)
    with pytest.raises(MissingExtra, match=r"headstart\[mlflow\]"):
        check_server("http://127.0.0.1:1")


def test_train_asks_the_server_first_and_logs_at_the_end(run, server, deep_onnx, tmp_path, capsys, monkeypatch):
    command = [
        "train",
        str(run.parent / "photos"),
        "--backbone",
        str(deep_onnx),
        "--cache",
        str(run.parent / "cache"),
        "--quiet",
    ]
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    assert main([*command, "-o", str(tmp_path / "run"), "--mlflow", server.url, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["mlflow"]["run_id"] in server.runs and set(server.experiments) == {"mine"}
    server.refuse[API] = 500
    assert main([*command, "-o", str(tmp_path / "other"), "--mlflow", server.url]) == 1
    assert not (tmp_path / "other").exists()


def test_train_whose_logging_fails_says_that_the_run_is_there(run, server, deep_onnx, tmp_path, capsys):
    server.refuse[API + "runs/create"] = 400
    command = [
        "train",
        str(run.parent / "photos"),
        "--backbone",
        str(deep_onnx),
        "--cache",
        str(run.parent / "cache"),
        "--quiet",
    ]
    assert main([*command, "-o", str(tmp_path / "run"), "--mlflow", server.url]) == 1
    assert "is whole; to log it again" in capsys.readouterr().err and (tmp_path / "run" / "run.json").exists()


def test_mlflows_telemetry_is_off(server):
    import subprocess

    code = f"from headstart.share.mlflow_tracking import check_server; check_server({server.url!r}); "
    code += "import mlflow.telemetry.client as t; print(t.get_telemetry_client())"
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTEST_CURRENT_TEST", "CI", "MLFLOW_DISABLE_TELEMETRY")}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], env=clean, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "None"


@pytest.mark.skipif(not REAL, reason="HEADSTART_TEST_MLFLOW does not name a Python with the whole of MLflow")
def test_mlflows_own_server_takes_it(run, tmp_path, monkeypatch):
    from mlflow.tracking import MlflowClient

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = RealServer(REAL, tmp_path)
    try:
        logged = log_to_mlflow(run, server.url)
        there = MlflowClient(server.url).get_run(logged.run_id)
        assert there.info.status == "FINISHED"
        assert there.data.metrics.keys() >= metrics_of(json.loads((run / "run.json").read_text())).keys()
        paths = {file.path for file in MlflowClient(server.url).list_artifacts(logged.run_id)}
        assert {"report.html", "run.json", "model"} <= paths
    finally:
        server.close()
