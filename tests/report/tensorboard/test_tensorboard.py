"""TensorBoard itself reads what is written, and finds the run's own numbers in it."""

import contextlib
import dataclasses
import html
import importlib.util
import json
import os
import re
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import simplejpeg

import headstart
from headstart.errors import OutputError
from headstart.heads.head import Head
from headstart.report.tensorboard import events, write
from support.maps import findings_of
from support.networks import write_deep_backbone
from support.photos import COLOURS, picture
from support.records import declared

N = 30
CLASSES = ["<script>alert(1)</script>", "red\tand\nround", "שושנה 🌹"]
SHOWN = ["<script>alert(1)</script>", "red and round", "שושנה 🌹"]
STEPS = [
    {
        "step": s,
        "train_accuracy": 0.5 + s / 100,
        "train_cross_entropy": 1 / (s + 1),
        "validation_accuracy": 0.4 + s / 100,
        "validation_cross_entropy": 2 / (s + 1),
    }
    for s in range(12)
]
EPOCHS = [
    {"epoch": 0, "train_loss": None, "validation_loss": 0.5, "validation_accuracy": 0.8, "lr": 0.0},
    {"epoch": 1, "train_loss": 0.7, "validation_loss": 0.25, "validation_accuracy": 0.9, "lr": 0.001},
]


def about(**more):
    """The parts of run.json that TensorBoard reads."""
    return declared(
        {
            "headstart": "0.1.0",
            "created": "2026-11-22T09:12:13+00:00",
            "photos": "photos/a|b",
            "arguments": {"backbone": "auto", "budget": 60.0, "balance": True, "seed": 3, "size": None, "cache": "x"},
            "classes": CLASSES,
            "images": {"used": N, "train": 20, "validation": 4, "test": 6, "skipped": 1},
            "images_of_class": dict.fromkeys(CLASSES, 10),
            "notes": ["one `note`"],
            "choice": {"backbone": "tiny", "head": "softmax", "strength": 0.125, "views": ["mirrored"], "trials": [{}]},
            "ladder": [{"name": "last layer", "accuracy": 0.75, "is_taken": True}],
            "evaluation": {
                "split": "test",
                "n_images": 6,
                "n_correct": 5,
                "accuracy": 0.875,
                "interval": [0.5, 0.96],
                "top5": None,
                "cross_entropy": 0.375,
            },
            "fitting": {"n_train": 20, "n_validation": 4, "steps": STEPS},
            "fine_tuning": {"history": EPOCHS},
            "learning_curve": None,
            "seconds": {"choose": 2.0, "write": 1.0},
            **more,
        }
    )


def findings(**more):
    """30 photos, 3 classes in turn; the last 24 were held out, 4 of them are mistakes."""
    rng = np.random.default_rng(0)
    labels = np.arange(N) % 3
    held_out = np.arange(6, N)
    given = labels[held_out].copy()
    given[[2, 5, 9, 20]] = (given[[2, 5, 9, 20]] + 1) % 3
    sure = np.full(len(held_out), 0.6)
    sure[[2, 5, 9, 20]] = 0.7, 0.9, 0.8, 0.75
    probabilities = np.repeat((1 - sure[:, None]) / 2, 3, axis=1)
    probabilities[np.arange(len(given)), given] = sure
    values = {
        "splits": np.array([0] * 20 + [1] * 4 + [2] * 6, np.int8),
        "unfamiliarity": np.linspace(0, 2, N, dtype=np.float32),
        "space": rng.normal(0, 0.3, (N, 5)).astype(np.float16),
        "space_axes": np.zeros((8, 5), np.float32),
        "positions": np.full((N, 2), np.nan, np.float32),
    }
    names = [f"folder/{i}\t\udcff.jpg" for i in range(N)]
    known = findings_of(names, labels, held_out=held_out, probabilities=probabilities.astype(np.float32))
    return replace(known, **{**values, **more})


def several_labels():
    """Findings of the same photos, where each shows the first class, and every third the second and the third as well."""
    labels = np.ones((N, 3), np.uint8)
    labels[np.arange(N) % 3 > 0, 1:] = 0
    probabilities = np.random.default_rng(2).random((24, 3), np.float32)
    return findings(labels=labels, probabilities=probabilities)


def small_pictures():
    colours = list(COLOURS.values())
    return [simplejpeg.encode_jpeg(picture(colours[i % 3], i, (60, 48)), quality=85) for i in range(N)]


def a_head():
    rng = np.random.default_rng(1)
    return Head(((rng.normal(size=(24, 3)).astype(np.float32), np.array([-1, 0.25, 1], np.float32)),))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_deep_backbone(tmp_path_factory.mktemp("model") / "model.onnx").read_bytes()


class Server:
    """TensorBoard in a process of its own."""

    def __init__(self, folder, log):
        self.log = log
        command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--host", "127.0.0.1", "--port", "0"]
        with log.open("wb") as file:
            self.process = subprocess.Popen(command, stdout=file, stderr=file, env={**os.environ, "PYTHONUNBUFFERED": "1"})
        self.address = None

    def wait(self, n_runs):
        end = time.monotonic() + 60
        while time.monotonic() < end and self.process.poll() is None:
            if found := re.search(r"http://127\.0\.0\.1:\d+", self.log.read_text()):
                self.address = found[0]
                try:
                    if len(self.get("runs")) == n_runs:  # all are read
                        return
                except urllib.error.URLError:  # not yet
                    pass
            time.sleep(0.1)
        raise AssertionError(f"TensorBoard did not come up: {self.log.read_text()}")

    def read(self, path, body=None, **query):
        address = f"{self.address}/data/{path}"
        if query:
            address += "?" + urllib.parse.urlencode(query)
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(address, content, {"Content-Type": "application/json"} if content else {})
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.read()

    def get(self, path, body=None, **query):
        return json.loads(self.read(path, body, **query))

    def trials(self, *metrics):
        """The rows of the table of hyper-parameters, by their names: columns, and metrics by their tags."""
        columns = [{"metric": {"group": "", "tag": tag}} for tag in metrics]
        wanted = {"experimentName": "", "allowedStatuses": ["STATUS_SUCCESS"], "startIndex": 0, "sliceSize": 50}
        groups = self.get("plugin/hparams/session_groups", {**wanted, "colParams": columns})["sessionGroups"]
        return {
            group["name"]: (group["hparams"], {m["name"]["tag"]: m["value"] for m in group["metricValues"]})
            for group in groups
        }


@contextlib.contextmanager
def started(folder, log, n_runs):
    if importlib.util.find_spec("tensorboard") is None:
        pytest.skip("tensorboard is not installed")
    server = Server(folder, log)
    try:
        server.wait(n_runs)
        yield server
    finally:
        server.process.terminate()
        try:
            server.process.wait(10)
        except subprocess.TimeoutExpired:
            server.process.kill()
            server.process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory, model):
    folder = tmp_path_factory.mktemp("board")
    write.write_events(folder / "tensorboard", about(), findings(), a_head(), model, pictures=small_pictures())
    with started(folder / "tensorboard", folder / "log.txt", 4) as server:
        yield server


@pytest.fixture(scope="module")
def three_runs(tmp_path_factory, model):
    """TensorBoard on a folder of three runs that differ in what they chose, and in what they were judged on."""
    folder = tmp_path_factory.mktemp("boards")
    evaluation = {**about()["evaluation"], "split": "cross-validation", "accuracy": 0.5, "mean_average_precision": 0.75}
    nearest = {"backbone": "wide", "pixels": 96, "head": "nearest", "strength": 5, "views": []}
    for name, told, found in (
        ("softmax", about(), findings()),
        ("nearest", about(choice=nearest, evaluation=evaluation), findings()),
        ("sigmoid", about(thresholds=[0.5, 0.5, 0.5]), several_labels()),
    ):
        write.write_events(folder / name / "tensorboard", told, found, a_head(), model)
    with started(folder, folder / "log.txt", 12) as server:
        yield server


def test_there_are_four_runs_and_two_have_the_same_tags(server):
    assert server.get("runs") == [".", "evaluation", "train", "validation"]
    tags = {run: set(found) for run, found in server.get("plugin/scalars/tags").items()}
    assert tags["train"] == {"accuracy", "cross_entropy", "fine_tuning/cross_entropy", "fine_tuning/learning_rate"}
    assert tags["validation"] == {"accuracy", "cross_entropy", "fine_tuning/accuracy", "fine_tuning/cross_entropy"}
    assert tags["evaluation"] == {"evaluation/accuracy", "evaluation/cross_entropy"} and "." not in tags


@pytest.mark.parametrize("run", ["train", "validation"])
@pytest.mark.parametrize("tag", ["accuracy", "cross_entropy"])
def test_the_curves_are_the_heads(server, run, tag):
    points = server.get("plugin/scalars/scalars", run=run, tag=tag)
    assert [step for _, step, _ in points] == [s["step"] for s in STEPS]
    assert [value for _, _, value in points] == pytest.approx([s[f"{run}_{tag}"] for s in STEPS])
    assert {at for at, _, _ in points} == {1795338733.0}  # when the run was made


def test_fine_tunings_epochs_leave_out_what_nobody_measured(server):
    points = {
        run: [p[1:] for p in server.get("plugin/scalars/scalars", run=run, tag="fine_tuning/cross_entropy")]
        for run in ("train", "validation")
    }
    assert points == {"train": [[1, pytest.approx(0.7)]], "validation": [[0, 0.5], [1, 0.25]]}


def test_histograms_hold_every_weight(server):
    assert set(server.get("plugin/histograms/tags")["train"]) == {"head/weights", "head/biases"}
    ((_, _, buckets),) = server.get("plugin/histograms/histograms", run="train", tag="head/weights")
    weights = a_head().layers[0][0]
    assert sum(count for _, _, count in buckets) == weights.size
    full = [bucket for bucket in buckets if bucket[2]]
    assert (full[0][0], full[-1][1]) == pytest.approx((weights.min(), weights.max()))


def test_mistakes_are_shown_the_surest_first_with_what_they_are_taken_for(server):
    tags = sorted(server.get("plugin/images/tags")["."])
    place = {rank: 6 + j for rank, j in enumerate((5, 9, 20, 2), start=1)}
    names = [(SHOWN[i % 3], SHOWN[(i + 1) % 3]) for i in place.values()]
    sure = (90, 80, 75, 70)
    assert tags == [f"mistakes/{r:02} {a} → {b} ({p} %)" for r, ((a, b), p) in enumerate(zip(names, sure, strict=True), 1)]
    for rank, tag in enumerate(tags, start=1):
        (image,) = server.get("plugin/images/images", run=".", tag=tag, sample=0)
        assert server.read(f"plugin/images/individualImage?{image['query']}") == small_pictures()[place[rank]]


def test_the_graph_has_every_node_and_no_weight(server):
    text = server.read("plugin/graphs/graph", run="train", conceptual="false").decode()
    nodes = re.findall(r'name: "([^"]+)"\n  op: "(\w+)"', text)
    assert ("pixels", "Placeholder") in nodes and ("depthwise2/sums", "Conv") in nodes and ("features", "Flatten") in nodes
    assert len(nodes) == 1 + 2 * 7 + 2
    conv = re.search(r'node \{\n  name: "depthwise2/sums".*?\n\}', text, re.S)[0]
    assert 'input: "pointwise1"' in conv and "weight (12, 1, 3, 3), bias (12,)" in conv
    assert [int(n) for n in re.findall(r"size: (-?\d+)", conv)] == [-1, 12, 8, 8]
    assert len(text) < 20_000


def test_hyper_parameters_stand_beside_what_came_of_them(server):
    experiment = server.get("plugin/hparams/experiment", {"experimentName": ""})
    metrics = {"evaluation/accuracy", "evaluation/cross_entropy"}
    assert {(info["name"]["group"], info["name"]["tag"]) for info in experiment["metricInfos"]} == {("", m) for m in metrics}
    ((name, (chosen, values)),) = server.trials("evaluation/accuracy").items()
    expected = {"backbone": "tiny", "budget": 60.0, "balance": True, "seed": 3.0, "head": "softmax", "strength": 0.125}
    assert name == "evaluation" and chosen == {**expected, "views": "mirrored", "evaluated_on": "test"}
    assert values == {"evaluation/accuracy": 0.875, "evaluation/cross_entropy": 0.375}


def test_runs_of_one_folder_are_compared_whatever_each_of_them_chose(three_runs):
    experiment = three_runs.get("plugin/hparams/experiment", {"experimentName": ""})
    differ = {info["name"]: info["differs"] for info in experiment["hparamInfos"]}
    assert {name for name, does in differ.items() if does} == {"backbone", "head", "strength", "views", "evaluated_on"}
    assert set(differ) >= {"pixels", "seed", "budget", "balance"}  # only one run has pixels
    tags = {f"evaluation/{key}" for key in ("accuracy", "cross_entropy", "mean_average_precision")}
    assert {info["name"]["tag"] for info in experiment["metricInfos"]} == tags
    trials = three_runs.trials()
    row = {name: os.path.join(name, "tensorboard", "evaluation") for name in ("softmax", "nearest", "sigmoid")}
    assert set(trials) == set(row.values())
    chosen, values = trials[row["nearest"]]
    assert (chosen["head"], chosen["pixels"], chosen["views"], chosen["evaluated_on"]) == (
        *("nearest", 96.0, "none", "cross-validation"),
    )
    assert values == dict(zip(sorted(tags), (0.5, 0.375, 0.75), strict=True))
    assert trials[row["softmax"]][1]["evaluation/accuracy"] == 0.875


# ---- precision and recall


def counted(truth, probabilities):
    """How many are true and false positives, true and false negatives, photo by photo, at each threshold: (201, 4)."""
    said = probabilities[None].astype(np.float32) >= np.linspace(0, 1, 201).astype(np.float32)[:, None]
    return np.stack([said & truth, said & ~truth, ~said & ~truth, ~said & truth]).sum(axis=2).T


def rows_of(curve):
    """A curve as TensorBoard gives it, whose end, where nothing is taken for the class, it leaves out."""
    return np.transpose([curve[f"{a}_{b}"] for a, b in (("true", "positives"), ("false", "positives"),
                                                        ("true", "negatives"), ("false", "negatives"))])  # fmt: skip


@pytest.mark.parametrize(("name", "found"), [("softmax", findings()), ("sigmoid", several_labels())])
def test_each_class_has_its_precision_against_its_recall_over_all_that_was_held_out(three_runs, name, found):
    run = os.path.join(name, "tensorboard")
    assert set(three_runs.get("plugin/pr_curves/tags")[run]) == {f"precision_recall/{shown}" for shown in SHOWN}
    for j, shown in enumerate(SHOWN):
        tag = f"precision_recall/{shown}"
        ((curve,),) = three_runs.get("plugin/pr_curves/pr_curves", run=run, tag=tag).values()
        labels = found.labels[found.held_out]
        expected = counted(labels[:, j] > 0 if labels.ndim > 1 else labels == j, found.probabilities[:, j])
        n = len(curve["thresholds"])
        assert n > 100 and curve["thresholds"] == pytest.approx(np.linspace(0, 1, 201)[:n])
        assert (rows_of(curve) == expected[:n]).all() and not expected[n:, :2].any()
        tp, fp, _, fn = expected[:n].T
        assert curve["precision"] == pytest.approx(tp / (tp + fp)) and curve["recall"] == pytest.approx(tp / (tp + fn))


def test_a_curve_says_of_which_photos_it_is(three_runs):
    run, tag = os.path.join("sigmoid", "tensorboard"), f"precision_recall/{SHOWN[1]}"
    told = three_runs.get("plugin/pr_curves/tags")[run][tag]["description"]
    assert "8 of 24 held-out photos are labelled red and round." in told


def test_the_projector_has_codes_what_is_known_and_thumbnails(server):
    assert server.get("plugin/projector/runs") == ["."]
    (codes,) = server.get("plugin/projector/info", run=".")["embeddings"]
    assert codes["tensorShape"] == [N, 5] and codes["sprite"]["singleImageDim"] == [write.THUMBNAIL] * 2
    values = np.frombuffer(server.read("plugin/projector/tensor", run=".", name="codes"), np.float32).reshape(N, 5)
    np.testing.assert_allclose(values, findings().space.astype(np.float32), atol=1e-4)
    header, *rows = [
        r.split("\t") for r in server.read("plugin/projector/metadata", run=".", name="codes").decode().splitlines()
    ]
    assert header == ["label", "prediction", "sureness", "judged", "split", "unfamiliarity", "photo"]
    assert len(rows) == N and {len(row) for row in rows} == {7}
    assert rows[0] == [SHOWN[0], "-", "-", "not held out", "train", "0.000", "folder/0 ?.jpg"]
    assert rows[11] == [SHOWN[2], SHOWN[0], "0.900", "wrong", "train", "0.759", "folder/11 ?.jpg"]
    sprite = simplejpeg.decode_jpeg(server.read("plugin/projector/sprite_image", run=".", name="codes"))
    side = write.THUMBNAIL
    squares = sprite.reshape(5, side, 6, side, 3).mean(axis=(1, 3)).reshape(N, 3)  # 6 in a row, 5 rows
    colours = np.array([COLOURS[name] for name in COLOURS], float)
    nearest = np.abs(squares[:, None] - colours).sum(axis=2).argmin(axis=1)
    assert nearest.tolist() == [i % 3 for i in range(N)]


def test_the_card_is_text_and_no_script(server):
    assert list(server.get("plugin/text/tags")["."]) == ["run"]
    (card,) = server.get("plugin/text/text", run=".", tag="run")
    assert "<script" not in card["text"]
    shown = html.unescape(card["text"])
    assert "87.5 % right" in shown and "5 of 6 photos" in shown and "50.0 to 96.0 %" in shown
    assert "<td><script>alert(1)</script></td>" in shown and "<td>red and round</td>" in shown
    assert "<li>one `note`</li>" in shown and "photos/a|b" in shown


# ---- in a browser


@pytest.mark.parametrize(
    ("tab", "shown"),
    [
        ("projector", ("1 tensor found", "Points: 30", "Dimension: 5")),
        ("hparams", ("evaluation/accuracy", "0.87500", "tiny")),
        ("pr_curves", ("precision_recall", SHOWN[1], SHOWN[2])),
    ],
)
def test_a_tab_shows_what_was_written(server, browser, tab, shown):
    page = browser.new_page(viewport={"width": 2400, "height": 1200})
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    try:
        page.goto(f"{server.address}/#{tab}")
        place = page.frame_locator("iframe").frame_locator("iframe") if tab == "projector" else page
        for text in shown:
            place.get_by_text(text).locator("visible=true").first.wait_for(timeout=20_000)
    finally:
        page.close()
    assert errors == []


# ---- without a server


def tags_in(folder):
    """All that is written in the events of a folder."""
    return b"".join(file.read_bytes() for file in sorted(folder.rglob("events*")))


def values_in(folder):
    """The values in a folder's event file by their tags, as TensorBoard reads them."""
    loader = pytest.importorskip("tensorboard.backend.event_processing.event_file_loader", reason="no tensorboard")
    (file,) = folder.glob("events*")
    return {v.tag: v for event in loader.EventFileLoader(str(file)).Load() for v in event.summary.value}


def curves_in(folder):
    """(6, thresholds) of each curve of precision against recall, by its class."""
    util = pytest.importorskip("tensorboard.util.tensor_util", reason="no tensorboard")
    start = "precision_recall/"
    return {
        tag.removeprefix(start): util.make_ndarray(value.tensor)
        for tag, value in values_in(folder).items()
        if tag.startswith(start)
    }


def test_the_projector_is_told_how_many_codes_there_are(tmp_path, model):
    """Otherwise TensorBoard's page says "0 tensors found" when it is opened while the codes are still read."""
    projector = pytest.importorskip("tensorboard.plugins.projector.projector_config_pb2", reason="no tensorboard")
    from google.protobuf import text_format

    write.write_events(tmp_path / "run", about(), findings(), a_head(), model)
    text = (tmp_path / "run" / "projector_config.pbtxt").read_text()
    (codes,) = text_format.Parse(text, projector.ProjectorConfig()).embeddings
    assert list(codes.tensor_shape) == [N, 5]


def test_a_trained_run_says_what_it_chose_how_long_it_took_and_each_classs_curve(tiny_onnx, photos, tmp_path):
    hparams = pytest.importorskip("tensorboard.plugins.hparams.metadata", reason="no tensorboard")
    run = headstart.train(photos, tmp_path / "run", backbone=str(tiny_onnx))
    values = values_in(run.folder / "tensorboard" / "evaluation")
    content = {key.rpartition("/")[2]: v.metadata.plugin_data.content for key, v in values.items() if "hparams" in key}
    began = hparams.parse_session_start_info_plugin_data(content["session_start_info"])
    ended = hparams.parse_session_end_info_plugin_data(content["session_end_info"])
    assert 0 < ended.end_time_secs - began.start_time_secs <= sum(run.about["seconds"].values()) + 1e-6
    kept = {key: value for key, value in run.about["choice"].items() if isinstance(value, str)}
    assert kept["head"] and kept.items() <= {key: value.string_value for key, value in began.hparams.items()}.items()
    curves = curves_in(run.folder / "tensorboard")
    held_out = [row.split(",")[2] for row in (run.folder / "predictions.csv").read_text().splitlines()[1:]]
    assert {name: curve[0, 0] for name, curve in curves.items()} == {name: held_out.count(name) for name in COLOURS}


def test_two_names_that_look_the_same_have_a_curve_each_and_a_class_without_photos_has_none(tmp_path, model):
    names = ["red  rose", "red rose", "never held out", "red\trose"]
    labels = np.arange(N) % 2
    labels[::5] = 3
    probabilities = np.eye(4, dtype=np.float32)[labels[6:]]
    four = about(classes=names, images_of_class=dict.fromkeys(names, 1))
    write.write_events(tmp_path / "run", four, findings(labels=labels, probabilities=probabilities), a_head(), model)
    curves = curves_in(tmp_path / "run")
    n_photos = np.bincount(labels[6:])
    assert {name: curve[0, 0] for name, curve in curves.items()} == {
        "red rose": n_photos[0],
        "red rose (2)": n_photos[1],
        "red rose (3)": n_photos[3],
    }


@pytest.mark.parametrize("is_several", [False, True])
def test_of_too_many_classes_those_with_most_mistakes_have_curves(tmp_path, model, monkeypatch, is_several):
    monkeypatch.setattr(write, "MOST_CURVES", 2)
    labels = np.arange(N) % 4
    said = labels[6:].copy()
    said[labels[6:] == 3] = 1  # so that classes 1 and 3 have all the mistakes
    names = [f"class {i}" for i in range(4)]
    several = np.eye(4, dtype=np.uint8)[labels]
    found = findings(labels=several if is_several else labels, probabilities=np.eye(4, dtype=np.float32)[said])
    four = about(classes=names, images_of_class=dict.fromkeys(names, 1))
    write.write_events(tmp_path / "run", four, found, a_head(), model)
    assert list(curves_in(tmp_path / "run")) == ["class 1", "class 3"]
    value = values_in(tmp_path / "run")["precision_recall/class 3"]
    assert "Of 4 classes, those 2 with most mistakes" in value.metadata.summary_description


def test_the_same_run_gives_the_same_bytes_and_no_thread_stays(tmp_path, model):
    before = threading.active_count()
    for name in "ab":
        write.write_events(tmp_path / name, about(), findings(), a_head(), model, pictures=small_pictures())
    files = [{p.relative_to(tmp_path / n): p.read_bytes() for p in (tmp_path / n).rglob("*") if p.is_file()} for n in "ab"]
    events = "events.out.tfevents.1795338733.headstart"  # when the run was made, not when it was written; no host
    assert {path.as_posix() for path in files[0]} == {
        *(events, f"evaluation/{events}", f"train/{events}", f"validation/{events}"),
        *("codes.tsv", "photos.tsv", "photos.jpg", "projector_config.pbtxt"),
    }
    assert files[0] == files[1]
    assert threading.active_count() == before


def test_nothing_heavy_is_imported(tmp_path, model):
    """Neither with the module nor by writing."""
    (tmp_path / "model.onnx").write_bytes(model)
    code = (
        f"import sys; sys.path[:0] = {[str(Path(__file__).parents[i]) for i in (0, 2)]!r}\n"
        "import test_tensorboard as t; from pathlib import Path\n"
        f"here = Path({str(tmp_path)!r})\n"
        "t.write.write_events(here / 'out', t.about(), t.findings(), t.a_head(), (here / 'model.onnx').read_bytes(),"
        " pictures=t.small_pictures())\n"
        "print(sorted({m.partition('.')[0] for m in sys.modules}))"
    )
    out = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert out.returncode == 0 and not out.stderr, out.stderr
    assert "'headstart'" in out.stdout and (tmp_path / "out" / "codes.tsv").exists()
    for heavy in ("torch", "tensorflow", "tensorboardX", "matplotlib", "tensorboard", "sklearn"):
        assert f"'{heavy}'" not in out.stdout


def test_without_pictures_there_are_no_images_and_without_one_it_is_grey(tmp_path, model):
    write.write_events(tmp_path / "none", about(), findings(), a_head(), model)
    assert not (tmp_path / "none" / "photos.jpg").exists()
    assert "sprite" not in (tmp_path / "none" / "projector_config.pbtxt").read_text()
    assert b"mistakes/" not in tags_in(tmp_path / "none")

    some = small_pictures()
    some[11] = None  # the surest mistake
    write.write_events(tmp_path / "some", about(), findings(), a_head(), model, pictures=some)
    sprite = simplejpeg.decode_jpeg((tmp_path / "some" / "photos.jpg").read_bytes())
    side = write.THUMBNAIL
    assert np.abs(sprite[side : 2 * side, 5 * side :].astype(int) - 128)[2:-2, 2:].max() <= 4  # but for its edge
    assert tags_in(tmp_path / "some").count(b"mistakes/") == 3


def test_what_a_run_does_not_have_is_left_out(tmp_path, model):
    bare = {**about(), "fitting": None, "fine_tuning": None, "ladder": None, "notes": []}
    del bare["learning_curve"]
    nobody = findings(held_out=np.zeros(0, np.int64), probabilities=np.zeros((0, 3), np.float32))
    write.write_events(tmp_path / "bare", bare, nobody, a_head(), model)
    written = tags_in(tmp_path / "bare")
    assert not any(part in written for part in (b"fine_tuning", b"precision_recall", b"mistakes/", b"Notes", b"rung"))
    assert len((tmp_path / "bare" / "photos.tsv").read_text().splitlines()) == N + 1


def test_of_several_labels_an_image_one_told_wrongly_is_a_mistake(tmp_path, model):
    labels = np.eye(3, dtype=np.uint8)[np.arange(N) % 3]
    labels[:, 0] = 1
    labels[29] = 0
    held_out = np.arange(27, N)
    probabilities = labels[held_out] * 0.5 + 0.25
    probabilities[1, 2] = 0.9  # the second is none of the third class, surely said
    several = findings(labels=labels, held_out=held_out, probabilities=probabilities.astype(np.float32))
    said = about(thresholds=[0.5, 0.5, 0.5])
    write.write_events(tmp_path / "run", said, several, a_head(), model, pictures=small_pictures())
    mistake = f"mistakes/01 {SHOWN[0]}|{SHOWN[1]} → {SHOWN[0]}|{SHOWN[1]}|{SHOWN[2]}"
    assert mistake.encode() in tags_in(tmp_path / "run")
    rows = [row.split("\t") for row in (tmp_path / "run" / "photos.tsv").read_text().splitlines()]
    assert [row[3] for row in rows[-3:]] == ["right", "wrong", "right"]
    assert rows[-2][2] == "0.900" and rows[-1][0] == "(none)"


def test_of_too_many_photos_mistakes_come_first_and_others_evenly(tmp_path, model, monkeypatch):
    monkeypatch.setattr(write, "MOST_ROWS", 10)
    write.write_events(tmp_path / "run", about(), findings(), a_head(), model)
    rows = [row.split("\t") for row in (tmp_path / "run" / "photos.tsv").read_text().splitlines()[1:]]
    assert len(rows) == 10 == len((tmp_path / "run" / "codes.tsv").read_text().splitlines())
    assert [row[3] for row in rows].count("wrong") == 4
    others = [int(re.search(r"/(\d+)", row[6])[1]) for row in rows if row[3] != "wrong"]
    right = [i for i in range(N) if i not in (8, 11, 15, 26)]
    assert others == [right[26 * k // 6] for k in range(6)]

    monkeypatch.setattr(write, "MOST_ROWS", 3)
    write.write_events(tmp_path / "few", about(), findings(), a_head(), model)
    assert (tmp_path / "few" / "photos.tsv").read_text().count("\twrong\t") == 3


def test_a_head_of_several_layers_has_histograms_of_each(tmp_path, model):
    layers = (
        (np.ones((24, 4), np.float32), np.zeros(4, np.float32)),
        (np.ones((4, 3), np.float32), np.zeros(3, np.float32)),
    )
    write.write_events(tmp_path / "run", about(), findings(), Head(layers), model)
    assert all(f"head/layer_{i}/{n}".encode() in tags_in(tmp_path / "run") for i in (1, 2) for n in ("weights", "biases"))


def test_a_thousand_classes_keep_the_card_short(tmp_path, model):
    names = [f"class {i}" for i in range(1000)]
    many = about(classes=names, images_of_class=dict.fromkeys(names, 1))
    probabilities = np.eye(1000, dtype=np.float32)[np.arange(24)]
    write.write_events(tmp_path / "run", many, findings(probabilities=probabilities), a_head(), model)
    assert b"... and 950 more" in tags_in(tmp_path / "run") and b"class 999 " not in tags_in(tmp_path / "run")


def test_checksums_are_those_of_the_standard():
    """RFC 3720, B.4: 32 bytes of zeros; and the check value of CRC-32C's catalogue, both masked as in TFRecord."""
    for content, crc in ((bytes(32), 0x8A9136AA), (b"123456789", 0xE3069283)):
        assert events._masked_crc(content) == (((crc >> 15) | (crc << 17 & 0xFFFFFFFF)) + 0xA282EAD8) % 2**32


def test_a_folder_that_cannot_be_is_told(tmp_path, model):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        write.write_events(tmp_path / "file", about(), findings(), a_head(), model)


@pytest.mark.parametrize("n", [0, 1])
def test_no_photo_or_one_is_no_failure(tmp_path, model, n):
    whole = findings()
    cut = {
        f.name: getattr(whole, f.name)[:n]
        for f in dataclasses.fields(whole)
        if f.name not in ("held_out", "probabilities", "space_mean", "space_axes")
    }
    few = findings(**cut, held_out=np.arange(n), probabilities=np.full((n, 3), 1 / 3, np.float32))
    write.write_events(tmp_path / "run", about(), few, a_head(), model, pictures=small_pictures()[:n])
    assert (tmp_path / "run" / "projector_config.pbtxt").exists() == bool(n)
