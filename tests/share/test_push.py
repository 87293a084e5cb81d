"""A classifier on the hub: what is uploaded, what never is, and that others get the very same file. All on 127.0.0.1."""

import json
import re

import pytest

import headstart
from headstart.backbones.huggingface.client import hub, offline_if_unreachable
from headstart.backbones.huggingface.licenses import license_id
from headstart.backbones.huggingface.upload import upload
from headstart.cli.main import main
from headstart.errors import BackboneError, MissingExtra
from headstart.export.original import open_original
from headstart.share.model_card import MOST_ROWS, model_card
from headstart.share.push import push_run
from headstart.training.train import train
from support.hub_server import TOKEN, HubServer
from support.photos import write_photos

NAME = "hf:me/birds"
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content:DeprecationWarning")  # huggingface_hub's, of its own client


@pytest.fixture(scope="module")
def run(tmp_path_factory, deep_onnx):
    root = tmp_path_factory.mktemp("private-folder")
    photos = write_photos(root / "photos", n=20)
    return train(photos, root / "run", backbone=str(deep_onnx), cache=root / "cache").folder


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A hub where huggingface_hub looks for it, and a user who is logged in there."""
    pytest.importorskip("huggingface_hub")
    from huggingface_hub import constants

    hub = HubServer()
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # its storage is another service
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "no hub cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no token"))
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}")
    yield hub
    hub.close()


def test_what_is_pushed_loads_elsewhere_and_answers_the_same(run, server, tmp_path, monkeypatch):
    pushed = push_run(run, NAME)
    assert server.files("me/birds")["model.onnx"] == (run / "model.onnx").read_bytes()
    assert pushed.name == f"hf:me/birds@{pushed.commit}" and pushed.url == f"{server.url}/me/birds"
    photo = next((run.parent / "photos").rglob("*.png"))
    monkeypatch.delenv("HF_TOKEN")  # another user
    for name in (NAME, pushed.name):
        there = headstart.load(name, cache=tmp_path / "elsewhere").predict(photo)[0]
        here = headstart.load(run).predict(photo)[0]
        assert (there.prediction, there.probability) == (here.prediction, here.probability)


def test_it_is_pinned_offline_from_then_on(run, server, tmp_path, monkeypatch):
    from huggingface_hub import constants

    push_run(run, NAME)
    headstart.load(NAME, cache=tmp_path / "cache")
    push_run(run, NAME, message="another")
    server.requests.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    headstart.load(NAME, cache=tmp_path / "cache")
    assert server.requests == []


def test_neither_photos_nor_places_nor_names_of_files_leave_the_machine(run, server):
    push_run(run, NAME)
    sent = b"".join(body for *_, body in server.requests)
    contents = b"".join(server.files("me/birds").values())
    names = [path.name for path in (run.parent / "photos").rglob("*.png")]
    assert names
    for secret in (str(run.parent), run.parent.name, "private-folder", *names):
        assert secret.encode() not in sent and secret.encode() not in contents
    assert set(server.files("me/birds")) == {".gitattributes", "model.onnx", "labels.txt", "classifier.json", "README.md"}


def test_the_card_says_what_the_run_knows(run, server):
    push_run(run, NAME)
    card = server.files("me/birds")["README.md"].decode()
    front, _, body = card.removeprefix("---\n").partition("\n---\n")
    record = json.loads((run / "run.json").read_text())
    values = dict(line.split(": ", 1) for line in front.splitlines())
    assert json.loads(values["pipeline_tag"]) == "image-classification"
    metric = json.loads(values["model-index"])[0]["results"][0]["metrics"][0]
    assert metric["value"] == record["evaluation"]["accuracy"]
    for label in record["classes"]:
        assert f"| {label} |" in body
    for part in (
        "## How good it is",
        "95 % interval",
        "## What it does not know",
        "headstart.load(",
        "licence of its weights",
    ):
        assert part in body


def test_the_front_matter_is_yaml_that_the_hub_reads(run, server):
    cards = pytest.importorskip("huggingface_hub").ModelCard
    push_run(run, NAME)
    card = cards(server.files("me/birds")["README.md"].decode())
    assert card.data.library_name == "headstart" and card.data.pipeline_tag == "image-classification"
    (result,) = card.data.eval_results
    assert result.metric_type == "accuracy"


def test_a_branch_and_a_private_repository(run, server, tmp_path):
    push_run(run, f"{NAME}@trial", private=True)
    repository = server.repositories["me/birds"]
    assert repository["private"] and set(repository["branches"]) == {"main", "trial"}
    assert "model.onnx" in server.files("me/birds", "trial") and "model.onnx" not in server.files("me/birds")
    assert headstart.load(f"{NAME}@trial", cache=tmp_path / "cache").classes


def test_a_file_alone_has_a_card_without_a_result(run, server):
    push_run(run / "model.onnx", NAME)
    card = server.files("me/birds")["README.md"].decode()
    assert "How good it is" not in card and "## What comes out" in card


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("birds", "hf:OWNER/NAME"),
        ("hf:birds", "hf:OWNER/NAME"),
        ("hf:me/birds/model.onnx", "hf:OWNER/NAME"),
        ("hf:me/../birds", "hf:OWNER/NAME"),
        ("hf:me/bi--rds", "cannot be the name"),
    ],
)
def test_a_name_that_cannot_be_is_told(name, reason, run, server):
    with pytest.raises(BackboneError, match=reason):
        push_run(run, name)
    assert server.repositories == {}


def test_nobody_logged_in(run, server, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(BackboneError, match="hf auth login"):
        push_run(run, NAME)


@pytest.mark.parametrize(
    ("path", "status", "reason"),
    [
        ("/api/repos/create", 403, "hf auth login"),
        ("/api/models/me/birds/commit", 403, "hf auth login"),
        ("/lfs/", 400, "failed|does not give"),
        ("/api/models/me/birds/preupload", 404, "no repository|does not give"),
    ],
)
def test_what_the_hub_refuses_is_told_and_nothing_is_committed(path, status, reason, run, server):
    server.refuse[path] = status
    with pytest.raises(BackboneError, match=reason):
        push_run(run, NAME)
    assert all("model.onnx" not in files for r in server.repositories.values() for files in r["commits"].values())


def test_the_extra_is_named_before_any_work(run, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtra, match=re.escape("headstart[hub]")):
        push_run(run, NAME)


def test_what_is_no_classifier_there_is_told(server, run, tmp_path):
    push_run(run, NAME)
    server.files("me/birds")["model.onnx"] = b"no network"
    with pytest.raises(headstart.HeadstartError):
        headstart.load(NAME, cache=tmp_path / "cache")
    with pytest.raises(BackboneError, match="no repository"):
        headstart.load("hf:me/fish", cache=tmp_path / "cache")


def test_the_command_shows_the_card_before_it_pushes(run, server, capsys):
    assert main(["push", str(run), NAME, "--dry-run"]) == 0
    assert "## How good it is" in capsys.readouterr().out and server.repositories == {}
    assert main(["push", str(run), NAME, "--json", "--quiet"]) == 0
    pushed = json.loads(capsys.readouterr().out)
    assert pushed["commit"] in pushed["name"] and set(pushed["files"]) >= {"README.md", "model.onnx"}


def test_predict_takes_it_by_name(run, server, tmp_path, capsys):
    push_run(run, NAME)
    photo = next((run.parent / "photos").rglob("*.png"))
    assert main(["predict", NAME, str(photo), "--jsonl", "--cache", str(tmp_path / "cache"), "--quiet"]) == 0
    assert json.loads(capsys.readouterr().out)["prediction"] in (run / "labels.txt").read_text().splitlines()


def test_a_commit_has_all_files_or_none(server):
    first = upload("me/fish", {"a.txt": b"1"}, "first", private=False)
    second = upload("me/fish", {"a.txt": b"2", "b.txt": b"3"}, "second", private=False)
    assert server.files("me/fish", first.sha)["a.txt"] == b"1" and "b.txt" not in server.files("me/fish", first.sha)
    assert server.files("me/fish", second.sha)["b.txt"] == b"3" and second.url.endswith("/me/fish")
    server.refuse["/api/models/me/fish/commit"] = 400
    with pytest.raises(BackboneError):
        upload("me/fish", {"a.txt": b"4"}, "third", private=False)
    assert server.files("me/fish")["a.txt"] == b"2"


def test_the_client_sends_no_telemetry_and_leaves_the_users_own_setting(server):
    from huggingface_hub import constants

    before = constants.HF_HUB_DISABLE_TELEMETRY
    with hub("hf:me/birds", "me/birds"):
        assert constants.HF_HUB_DISABLE_TELEMETRY is True
    assert constants.HF_HUB_DISABLE_TELEMETRY == before


@pytest.mark.parametrize(
    ("license", "named"),
    [
        ("Apache-2.0", "apache-2.0"),
        ("Apache-2.0, Apache-2.0", "apache-2.0"),
        ("Apache-2.0, MIT", "other"),
        ("CC-BY-NC-4.0", "other"),
        ("unknown", None),
        ("", None),
    ],
)
def test_licences_have_the_hubs_names(license, named):
    assert license_id(license) == named


def test_odd_names_of_classes_do_not_break_the_card(run):
    original = open_original(run)
    rows = original.saved.record["evaluation"]["classes"]
    rows[0]["label"] = "a | b\nc"
    original.saved.record["evaluation"]["classes"] = rows * (MOST_ROWS // len(rows) + 1)
    card = list(model_card(original, "me/birds"))
    table = [line for line in card if line.startswith("| ") and "photos" not in line]
    assert "| a \\| b c |" in table[0] and len(table) == MOST_ROWS + 1 and "more, see labels.txt" in table[-1]


def test_a_hub_that_does_not_answer_is_not_waited_for(server, monkeypatch):
    from huggingface_hub import constants

    with offline_if_unreachable():
        assert constants.HF_HUB_OFFLINE is False
    server.close()
    with offline_if_unreachable(1.0):
        assert constants.HF_HUB_OFFLINE is True
    assert constants.HF_HUB_OFFLINE is False
