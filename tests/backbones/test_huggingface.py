"""A file from a hub is fetched once, pinned, and never swapped; what its owner asks for is said. All against 127.0.0.1."""

import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from headstart.backbones import tutorial_names
from headstart.backbones.builtin import BACKBONES
from headstart.backbones.huggingface.download import PREFIX, fetch, parse
from headstart.backbones.huggingface.licenses import license_note
from headstart.backbones.huggingface.preprocessor_config import preprocess_from
from headstart.backbones.onnx_files import read_onnx
from headstart.backbones.tutorial_names import ALIASES, resolve_alias
from headstart.errors import BackboneError, CacheError, MissingExtra

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAME = "hf:somebody/photos/onnx/model.onnx"
CONFIG = {
    "do_center_crop": True,
    "crop_size": {"height": 224, "width": 224},
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "resample": 3,
    "rescale_factor": 1 / 255,
    "size": {"shortest_edge": 256},
}


def write_model(path: Path, weights_in: str | None = None) -> Path:
    """A 1 x 1 convolution and a mean; its weights inside, or in a file beside it."""
    kernel = numpy_helper.from_array(np.arange(12, dtype=np.float32).reshape(4, 3, 1, 1), "kernel")
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["pixels", "kernel"], ["map"]),
            helper.make_node("GlobalAveragePool", ["map"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["features"]),
        ],
        "somebody's",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 3, 32, 32])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", 4])],
        [kernel],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = {"save_as_external_data": True, "location": weights_in, "size_threshold": 0} if weights_in else {}
    onnx.save(model, str(path), **beside)
    return path


class Hub:
    """What the server has, and what it was asked for."""

    def __init__(self, root: Path) -> None:
        self.root, self.requests, self.info = root, [], {"gated": False, "cardData": {"license": "apache-2.0"}}
        self.refused: dict[str, tuple[int, str]] = {}  # a beginning of a path -> status and error code
        self.stall_after: int | None = None  # bytes of a file, then nothing more
        self.may_end = threading.Event()

    def files(self) -> list[str]:
        return sorted(str(p.relative_to(self.root)) for p in self.root.rglob("*") if p.is_file())


class Handler(BaseHTTPRequestHandler):
    """The hub's layout: what a repository holds, and its files at a commit."""

    protocol_version = "HTTP/1.1"
    state: Hub

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.state.requests.append((self.command, self.path, dict(self.headers)))
        for beginning, (status, code) in self.state.refused.items():
            if self.path.startswith(beginning):
                return self.send(status, b"", {"X-Error-Code": code, "X-Error-Message": "no"})
        if self.path.startswith("/api/models/somebody/photos/revision/"):
            about = {"id": "somebody/photos", "sha": COMMIT, "siblings": [{"rfilename": f} for f in self.state.files()]}
            return self.send(200, json.dumps({**about, **self.state.info}).encode(), {"Content-Type": "application/json"})
        file = self.state.root / self.path.partition(f"/resolve/{COMMIT}/")[2]
        if not file.is_file():
            return self.send(404, b"", {"X-Error-Code": "EntryNotFound"})
        content = file.read_bytes()
        self.send(200, content, {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": COMMIT})

    do_HEAD = do_GET

    def send(self, status, content, headers):
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            stall_after = self.state.stall_after if "/resolve/" in self.path else None
            self.wfile.write(content[:stall_after])
            self.wfile.flush()
            if stall_after is not None:
                self.state.may_end.wait(20)


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A hub of one repository, where huggingface_hub looks for it."""
    pytest.importorskip("huggingface_hub")
    from huggingface_hub import constants

    state = Hub(tmp_path / "served")
    write_model(state.root / "onnx" / "model.onnx")
    http = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"state": state}))
    http.daemon_threads, http.block_on_close = True, False
    threading.Thread(target=http.serve_forever, args=[0.02], daemon=True).start()
    state.url = f"http://127.0.0.1:{http.server_address[1]}"
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "no hub cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", state.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", state.url + "/{repo_id}/resolve/{revision}/{filename}")
    yield state
    state.may_end.set()
    http.shutdown()
    http.server_close()


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# ---- fetching


def test_it_is_fetched_once_and_then_read_without_a_request(server, cache, monkeypatch):
    first = fetch(NAME, cache)
    served = server.root / "onnx" / "model.onnx"
    assert first.path.read_bytes() == served.read_bytes()
    assert first.path.is_relative_to(cache / "backbones" / "hub")
    assert (first.sha256, first.commit) == (sha256(served), COMMIT)
    assert (first.license, first.note, first.preprocess) == ("Apache-2.0", None, None)
    server.requests.clear()
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # not even its package is needed
    assert fetch(NAME, cache) == first
    assert server.requests == []


def test_a_commit_may_be_named(server, cache):
    assert fetch("hf:somebody/photos@v1.0/onnx/model.onnx", cache).commit == COMMIT
    assert server.requests[0][1].startswith("/api/models/somebody/photos/revision/v1.0")


def test_what_moves_on_at_the_hub_changes_nothing_here(server, cache):
    first = fetch(NAME, cache)
    write_model(server.root / "onnx" / "model.onnx", weights_in="other.onnx_data")
    assert fetch(NAME, cache) == first


def test_a_changed_file_is_refused_and_told_how_to_mend(server, cache):
    first = fetch(NAME, cache)
    first.path.write_bytes(first.path.read_bytes() + b"\0")
    with pytest.raises(BackboneError, match="is not what was first fetched: .* delete that file to fetch the same again"):
        fetch(NAME, cache)
    first.path.unlink()
    assert fetch(NAME, cache) == first


def test_a_hub_that_gives_something_else_for_the_same_commit_is_refused(server, cache):
    first = fetch(NAME, cache)
    first.path.unlink()
    served = server.root / "onnx" / "model.onnx"
    served.write_bytes(served.read_bytes() + b"\0")
    with pytest.raises(BackboneError, match="is not what was first fetched"):
        fetch(NAME, cache)


@pytest.mark.parametrize("content", ["{", "[]", "{}", ""])
def test_a_damaged_pin_is_told(content, server, cache):
    fetch(NAME, cache)
    (record,) = (cache / "backbones" / "hub").glob("*/*.json")
    record.write_text(content)
    with pytest.raises(BackboneError, match="which pins a backbone, cannot be read .* delete it to fetch it anew"):
        fetch(NAME, cache)


@pytest.mark.parametrize("weights_in", ["model.onnx_data", "model.onnx.data"])
def test_weights_beside_the_file_come_too_and_are_pinned(weights_in, server, cache):
    write_model(server.root / "onnx" / "model.onnx", weights_in=weights_in)
    fetched = fetch(NAME, cache)
    (kernel,) = read_onnx(fetched.path).graph.initializer
    assert numpy_helper.to_array(kernel).ravel().tolist() == list(range(12))
    beside = fetched.path.with_name(weights_in)
    beside.write_bytes(b"\1" * beside.stat().st_size)
    with pytest.raises(BackboneError, match=f"is not what was first fetched: .*{weights_in}"):
        fetch(NAME, cache)


def test_weights_are_fetched_from_nowhere_else(server, cache):
    path = write_model(server.root / "onnx" / "model.onnx", weights_in="model.onnx_data")
    for location in ("../../etc/passwd", "model.pkl", "sub/model.onnx_data"):
        model = onnx.load(str(path), load_external_data=False)
        for entry in model.graph.initializer[0].external_data:
            if entry.key == "location":
                entry.value = location
        path.write_bytes(model.SerializeToString())
        with pytest.raises(BackboneError, match="wants its weights from .* which headstart does not fetch"):
            fetch(NAME, cache / location.replace("/", "_"))


def test_what_is_no_onnx_is_left_to_its_reader(server, cache):
    (server.root / "onnx" / "model.onnx").write_bytes(b"no ONNX file")
    with pytest.raises(BackboneError, match=r"model\.onnx is not a valid ONNX file"):
        read_onnx(fetch(NAME, cache).path)


def test_no_more_is_sent_than_must_be(server, cache):
    fetch(NAME, cache)
    assert {method for method, *_ in server.requests} == {"GET", "HEAD"}
    for _, path, headers in server.requests:
        assert path.startswith(("/api/models/somebody/photos/revision/main", f"/somebody/photos/resolve/{COMMIT}/onnx/"))
        agent = headers.get("User-Agent", headers.get("user-agent", ""))
        assert "torch/" not in agent and "agent/" not in agent
        assert "authorization" not in {key.lower() for key in headers}


# ---- what goes wrong


def test_offline_works_from_the_cache_and_says_so_without(server, cache, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(BackboneError, match="is not in the cache, and HF_HUB_OFFLINE forbids to fetch it"):
        fetch(NAME, cache)
    assert server.requests == []
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    first = fetch(NAME, cache)
    server.requests.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert fetch(NAME, cache) == first
    first.path.unlink()
    with pytest.raises(BackboneError, match="is not in the cache, and HF_HUB_OFFLINE"):
        fetch(NAME, cache)
    assert server.requests == []


def test_a_wrong_file_name_lists_the_right_ones(server, cache):
    with pytest.raises(
        BackboneError, match=r"there is no hf:.*did you mean hf:somebody/photos/onnx/model\.onnx\? ONNX files in"
    ):
        fetch("hf:somebody/photos/onnx/modell.onnx", cache)
    assert not list(cache.rglob("*.json"))


@pytest.mark.parametrize(
    "path, status, code, reason",
    [
        ("/api/models", 401, "RepoNotFound", "the hub has no repository somebody/photos, or it is private"),
        ("/api/models", 404, "RevisionNotFound", "somebody/photos has no revision 'main'"),
        ("/somebody", 403, "GatedRepo", r"is gated: accept its terms on http://.*/somebody/photos, then .*hf auth login"),
        ("/somebody", 404, "EntryNotFound", "needs a file that"),
        ("/api/models", 403, "", "the hub does not give hf:somebody/photos/onnx/model.onnx: "),
    ],
)
def test_what_the_hub_refuses_is_told_with_the_next_step(path, status, code, reason, server, cache):
    server.refused[path] = status, code
    with pytest.raises(BackboneError, match=reason):
        fetch(NAME, cache)
    assert not list(cache.rglob("*.onnx")) and not list(cache.rglob("*.json"))
    server.refused.clear()
    assert fetch(NAME, cache).path.is_file()


def test_no_network(server, cache, monkeypatch):
    from huggingface_hub import constants

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setattr(constants, "ENDPOINT", closed)
    with pytest.raises(BackboneError, match=f"cannot be fetched from {closed}: .*; check the network, or fetch the file"):
        fetch(NAME, cache)


def test_a_cache_that_cannot_be_written_is_told(server, tmp_path):
    blocked = tmp_path / "a file"
    blocked.write_text("")
    with pytest.raises(CacheError, match="cannot be made: File exists; choose another with --cache"):
        fetch(NAME, blocked)


def test_a_missing_package_is_an_extra(cache, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtra, match=r"pip install 'headstart\[hub\]'"):
        fetch(NAME, cache)


KILLED = """
import sys
from pathlib import Path
from headstart.backbones.huggingface.download import fetch
print("begun", flush=True)
fetch({name!r}, Path({cache!r}))
"""


@pytest.mark.skipif(os.name != "posix", reason="signals are sent as POSIX does")
def test_a_kill_in_the_middle_leaves_nothing_that_counts(server, cache):
    with (server.root / "onnx" / "model.onnx").open("ab") as file:
        file.write(b"\x0a\x00" * 200_000)  # long enough to be in the middle of it
    server.stall_after = 100_000
    environment = {**os.environ, "HF_ENDPOINT": server.url, "HF_HOME": str(cache / "home")}
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED.format(name=NAME, cache=str(cache))], env=environment, stdout=subprocess.PIPE
    )
    with process:
        deadline = time.monotonic() + 20
        while not any(method == "GET" and "/resolve/" in path for method, path, _ in server.requests):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.05)
        time.sleep(0.3)
        process.send_signal(signal.SIGKILL)
    assert not list(cache.rglob("model.onnx")) and not list(cache.rglob("*.json"))
    server.stall_after = None
    assert fetch(NAME, cache).sha256 == sha256(server.root / "onnx" / "model.onnx")


# ---- names


@pytest.mark.parametrize(
    "name, address",
    [
        ("hf:a/b/c.onnx", ("a/b", "main", "c.onnx")),
        ("hf:a-b/c.d_e/onnx/f g.onnx", ("a-b/c.d_e", "main", "onnx/f g.onnx")),
        ("hf:a/b@v1.0/c.onnx", ("a/b", "v1.0", "c.onnx")),
    ],
)
def test_an_address(name, address):
    assert parse(name) == address


@pytest.mark.parametrize(
    "name",
    ["hf:a", "hf:a/b", "hf:a/b/", "hf:a/b/c.pt", "hf:a/b/c.onnx/", "hf:a/b/../../c.onnx", "hf:../b/c.onnx", "hf:a/b//c.onnx"]
    + ["hf:a/b/c\\d.onnx", "hf:a/b/.onnx", "hf:a/b@/c.onnx", "hf:a/..", "https://huggingface.co/a/b/c.onnx", "hf:a/b/c.pkl"],
)
def test_what_names_no_onnx_file_is_refused_before_any_request(name, cache):
    with pytest.raises(BackboneError, match="write hf:OWNER/REPOSITORY/PATH/FILE.onnx"):
        fetch(name, cache)


@pytest.mark.parametrize("alias", ALIASES.values(), ids=ALIASES)
def test_a_tutorials_name_is_an_alias_or_names_the_nearest(alias):
    if alias.stands_for is None:
        with pytest.raises(BackboneError, match=f"{alias.name} .* has no equivalent .* the nearest is {alias.nearest}"):
            resolve_alias(alias.name)
        target = alias.nearest
    else:
        target = alias.stands_for
        assert resolve_alias(alias.name) == target
    assert target in BACKBONES or target.startswith("timm:")
    if target.startswith("timm:"):
        timm = pytest.importorskip("timm")
        assert target.removeprefix("timm:") in timm.list_pretrained()


@pytest.mark.parametrize(
    "name, nearest", [("1.0_160", "mobilenet_1.0_224"), ("0.50_224_quantized", tutorial_names._HALF_WIDTH)]
)
def test_every_size_of_retrain_py_names_the_nearest(name, nearest):
    with pytest.raises(BackboneError, match=f"mobilenet_{name} .* the nearest is {nearest}"):
        resolve_alias(f"mobilenet_{name}")


def test_other_names_are_no_aliases():
    for name in ("efficientnet-lite0", "timm:resnet50", "net.onnx", "mobilenet_2.0_224", ""):
        assert resolve_alias(name) is None


# ---- licences


@pytest.mark.parametrize("license", ["apache-2.0", "Apache-2.0", "mit", "cc-by-4.0", "bsd-3-clause"])
def test_a_licence_that_allows_any_use_needs_no_note(license):
    assert license_note(license) is None


@pytest.mark.parametrize(
    "license, note",
    [
        ("cc-by-nc-4.0", r"\(cc-by-nc-4.0\) forbids commercial use"),
        ("CC-BY-NC-SA-4.0", "forbids commercial use"),
        ("other: dinov3-license", "is not one that headstart knows; read it"),
        ("other", "is not one that headstart knows"),
        ("llama3.2", "forbids some uses and asks for a notice"),
        ("openrail", "forbids some uses"),
        ("apple-amlr", "allows research only"),
        ("agpl-3.0", "the same licence"),
        ("unknown", "states no licence"),
        ("", "states no licence"),
    ],
)
def test_other_licences_are_said(license, note):
    assert re.search(note, license_note(license))
    assert license_note(license, is_gated=True).endswith("(it is gated)")


@pytest.mark.parametrize(
    "info, license, note",
    [
        ({"cardData": {"license": "cc-by-nc-4.0"}}, "cc-by-nc-4.0", "forbids commercial use"),
        ({"cardData": {"license": ["mit", "cc0-1.0"]}}, "MIT", None),
        ({"cardData": {"license": "other", "license_name": "dinov3"}}, "other: dinov3", "is not one that headstart knows"),
        ({"cardData": {}}, "unknown", "states no licence"),
        ({"cardData": None}, "unknown", "states no licence"),
        ({"gated": "manual"}, "Apache-2.0", "it is gated"),
    ],
)
def test_a_repositorys_licence_is_read_and_kept(info, license, note, server, cache):
    server.info.update(info)
    for _ in range(2):  # from the hub, and from the record
        fetched = fetch(NAME, cache)
        assert fetched.license == license
        assert (fetched.note is None) if note is None else (note in fetched.note)


# ---- how images are made ready


@pytest.mark.parametrize("place", ["preprocessor_config.json", "onnx/preprocessor_config.json"])
def test_what_the_repository_says_of_images_is_taken_over(place, server, cache):
    (server.root / place).write_text(json.dumps(CONFIG))
    for _ in range(2):
        preprocess = fetch(NAME, cache).preprocess
        assert (preprocess.size, preprocess.crop, preprocess.resample) == (224, 224 / 256, "area")
        assert (preprocess.mean, preprocess.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.mark.parametrize("content", ["", "[]", "null", '{"size": 3}', "\xff"])
def test_a_config_that_says_nothing_is_no_harm(content, server, cache):
    (server.root / "preprocessor_config.json").write_text(content, encoding="latin-1")
    assert fetch(NAME, cache).preprocess is None or content == '{"size": 3}'


TIMM = {"input_size": [3, 256, 256], "crop_pct": 0.95, "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
WHOLE = {**CONFIG, "do_center_crop": False, "size": {"height": 384, "width": 384}}


@pytest.mark.parametrize(
    "config, size, crop, mean",
    [
        (CONFIG, 224, 0.875, 0.485),
        ({**CONFIG, "size": 256, "crop_size": 224}, 224, 0.875, 0.485),
        (WHOLE, 384, 1.0, 0.485),
        ({**WHOLE, "do_normalize": False}, 384, 1.0, 0.0),
        ({**CONFIG, "do_center_crop": False, "size": {"shortest_edge": 224}, "crop_pct": 0.9}, 224, 0.9, 0.485),
        (TIMM, 256, 0.95, 0.5),
        ({"pretrained_cfg": TIMM, "architecture": "x"}, 256, 0.95, 0.5),
    ],
)
def test_configs_that_leave_no_doubt(config, size, crop, mean):
    preprocess = preprocess_from(config)
    assert (preprocess.size, preprocess.crop, preprocess.mean[0]) == (size, crop, mean)


@pytest.mark.parametrize(
    "change",
    [
        {"size": {"height": 224, "width": 200}, "do_center_crop": False},
        {"size": {"shortest_edge": 256}, "do_center_crop": False},  # a picture that is no square
        {"size": {"shortest_edge": 200}},  # padded to 224
        {"rescale_factor": 1 / 127.5},
        {"do_rescale": False},
        {"image_mean": [0.5]},
        {"image_std": [0.5, 0, 0.5]},
        {"image_mean": None},
        {"crop_size": None},
        {"size": "large"},
    ],
)
def test_configs_that_leave_a_doubt_are_not_guessed_at(change):
    assert preprocess_from({**CONFIG, **change}) is None


def test_the_hub_is_not_imported_by_its_module():
    module = "headstart.backbones.huggingface.download"
    code = f"import sys, {module}\nprint({{'huggingface_hub', 'onnx', 'torch', 'timm'}} & {{*sys.modules}})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"
    assert PREFIX == "hf:"
