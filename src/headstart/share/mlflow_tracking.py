"""Logs a run to an MLflow server: its options and choices, its figures with their intervals, the report and the classifier.

Takes a run folder and the server's address; gives the run's address there. It decides what is logged under which name.
MLflow's own telemetry is switched off: nothing is sent anywhere but to that server.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from headstart.errors import HeadstartError, MissingExtra, OutputError
from headstart.record import RunRecord
from headstart.report.sentences import result
from headstart.runs.open import read_run
from headstart.versions import own_version
from headstart.wording import first_line

FILES = ("report.html", "run.json", "predictions.csv", "issues.json", "skipped.csv")  # those of a run that are there
MODEL = ("model.onnx", "labels.txt")
SECONDS_TO_CONNECT = 5
LONGEST_VALUE = 500  # characters of a parameter: what every MLflow server takes
PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class LoggedRun:
    """A run on an MLflow server. url: of its page, where the server has pages."""

    uri: str
    experiment: str
    run_id: str
    url: str | None

    def to_json(self) -> dict[str, Any]:
        """For --json."""
        return {"uri": self.uri, "experiment": self.experiment, "run_id": self.run_id, "url": self.url}


def check_server(uri: str | None = None) -> None:
    """Raise MissingExtra without the extra [mlflow], OutputError where no server answers: before a long training."""
    if find_spec("mlflow") is None:
        raise MissingExtra("logging to MLflow", "mlflow")
    with _errors(uri):
        uri = uri or _mlflow().get_tracking_uri()
    parts = urlsplit(uri)
    if parts.scheme in PORTS and parts.hostname:
        try:
            socket.create_connection((parts.hostname, parts.port or PORTS[parts.scheme]), SECONDS_TO_CONNECT).close()
        except OSError as error:
            raise OutputError(
                f"no MLflow server answers at {uri} ({error.strerror or error}); start one with `mlflow server`, or name "
                "another: --mlflow http://HOST:PORT"
            ) from error
    with _errors(uri):
        _client(uri).search_experiments(max_results=1)


def log_to_mlflow(
    run: str | os.PathLike[str], uri: str | None = None, *, experiment: str | None = None, name: str | None = None
) -> LoggedRun:
    """Log a run folder to an MLflow server, as a finished run of an experiment.

    uri: of the server, by default MLflow's own (MLFLOW_TRACKING_URI). experiment: by default named after the photos, and
    made where there is none. name: of the run, by default the folder's. Raises OutputError where the server does not take
    it; a run that was begun there is then marked as failed.
    """
    folder = Path(run)
    record, _ = read_run(folder)
    check_server(uri)
    with _errors(uri):
        uri = uri or _mlflow().get_tracking_uri()
        client = _client(uri)
        experiment = experiment or Path(record["photos"]).stem or "headstart"
        found = client.get_experiment_by_name(experiment)
        number = found.experiment_id if found is not None else client.create_experiment(experiment)
        logged = client.create_run(number, run_name=name or folder.resolve().name, tags=tags_of(record))
        run_id = logged.info.run_id
        try:
            _log(client, run_id, folder, record)
        except BaseException:
            with contextlib.suppress(Exception):
                client.set_terminated(run_id, "FAILED")
            raise
        client.set_terminated(run_id, "FINISHED")
    page = f"{uri.rstrip('/')}/#/experiments/{number}/runs/{run_id}" if urlsplit(uri).scheme in PORTS else None
    return LoggedRun(uri, experiment, run_id, page)


def _log(client: Any, run_id: str, folder: Path, record: RunRecord) -> None:
    from mlflow.entities import Metric, Param

    params = [Param(key, value) for key, value in params_of(record).items()]
    client.log_batch(run_id, params=params)
    now = time.time_ns() // 1_000_000
    metrics = [Metric(key, value, now, 0) for key, value in metrics_of(record).items()]
    metrics += [Metric(key, value, now, step) for key, step, value in curves_of(record)]
    for first in range(0, len(metrics), 1000):  # what a server takes at once
        client.log_batch(run_id, metrics=metrics[first : first + 1000])
    for file in FILES:
        if (folder / file).is_file():
            client.log_artifact(run_id, str(folder / file))
    for file in MODEL:
        client.log_artifact(run_id, str(folder / file), "model")


def tags_of(record: RunRecord) -> dict[str, str]:
    """What a run is, beside its figures."""
    return {
        "mlflow.note.content": f"{result.result(record)} {result.chance(record)}",
        "headstart.version": own_version(),
        "headstart.classes": ", ".join(record["classes"])[:LONGEST_VALUE],
        "headstart.model_sha256": str(record.get("model", {}).get("sha256", "")),
        "headstart.splits_sha256": str(record.get("splits_sha256", "")),
    }


def params_of(record: RunRecord) -> dict[str, str]:
    """The options, and what was chosen by held-out photos, by names that MLflow takes."""
    choice = record.get("choice") or {}
    options: Mapping[str, Any] = record.get("arguments") or {}
    chosen = {f"chosen.{key}": value for key, value in choice.items() if key not in ("trials", "members")}
    every = {"photos": record["photos"], **options, **chosen}
    return {_name(key): str(value)[:LONGEST_VALUE] for key, value in every.items() if value is not None}


def metrics_of(record: RunRecord) -> dict[str, float]:
    """The figures of a run, each share with the ends of its 95 % interval as NAME.low and NAME.high."""
    evaluation = record["evaluation"]
    figures: dict[str, Any] = {}
    validated: Mapping[str, Any] = record.get("cross_validation") or {}
    sources: tuple[tuple[str, Mapping[str, Any]], ...] = ((evaluation["split"], evaluation), ("cross_validation", validated))
    for prefix, source in sources:
        for key, interval in (("accuracy", "interval"), ("balanced_accuracy", "balanced_interval")):
            figures[f"{prefix}.{key}"] = source.get(key)
            figures |= dict(zip((f"{prefix}.{key}.low", f"{prefix}.{key}.high"), source.get(interval) or (), strict=False))
    for key in ("cross_entropy", "top5", "mean_average_precision", "f1_micro", "f1_macro"):
        figures[f"{evaluation['split']}.{key}"] = evaluation.get(key)
    for i, row in enumerate(evaluation["classes"]):
        label = _name(row["label"])
        label = f"{label} {i}" if f"recall/{label}" in figures else label  # what MLflow cannot spell may be the same
        figures |= {f"recall/{label}": row["recall"], f"precision/{label}": row["precision"]}
    calibration: Mapping[str, Any] = record.get("calibration") or {}
    figures["calibration_error"] = calibration.get("error_after")
    figures |= {f"images.{key}": value for key, value in record["images"].items()}
    figures |= {f"seconds.{_name(key)}": value for key, value in (record.get("seconds") or {}).items()}
    figures |= {f"issues.{_name(key)}": value for key, value in (record.get("issues") or {}).items()}
    return {key: float(value) for key, value in figures.items() if value is not None}


def curves_of(record: RunRecord) -> Iterator[tuple[str, int, float]]:
    """Yield name, step and value of what changed while the head, and the backbone, learnt."""
    fitting: Mapping[str, Any] = record.get("fitting") or {}
    tuning: Mapping[str, Any] = record.get("fine_tuning") or {}
    for row in fitting.get("steps", ()):
        yield from _values(row, "step", "head")
    for row in tuning.get("history", ()):
        yield from _values(row, "epoch", "fine_tuning")


def _values(row: Mapping[str, Any], step: str, prefix: str) -> Iterator[tuple[str, int, float]]:
    for key, value in row.items():
        if key != step and value is not None:
            yield f"{prefix}.{key}", int(row[step]), float(value)


def _name(text: str) -> str:
    """A name that MLflow takes: letters of any script, digits, and -_. alone."""
    return re.sub(r"[^\w\-. ]", "_", " ".join(str(text).split())) or "_"


def _mlflow() -> Any:
    """Import MLflow without its telemetry, which starts when it is imported, and without its lines on stdout."""
    os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT="true")
    import mlflow

    return mlflow


def _client(uri: str) -> Any:
    _mlflow()
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=uri)


@contextlib.contextmanager
def _errors(uri: str | None) -> Iterator[None]:
    """Turn what MLflow raises into an OutputError with the next step."""
    try:
        yield
    except HeadstartError:
        raise
    except Exception as error:  # MlflowException, and what requests, the operating system and its stores raise
        raise OutputError(
            f"MLflow at {uri or 'its default place'} does not take the run: {first_line(error)}; name a server with "
            "--mlflow http://HOST:PORT, or mend what it says"
        ) from error
