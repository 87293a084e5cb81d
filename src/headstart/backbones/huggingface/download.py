"""Downloads an ONNX file from the Hugging Face hub once, and pins it by its commit and sha256.

Takes `hf:owner/repo/path/file.onnx`; gives that file in headstart's cache, where it is read again without a request. It
decides what is downloaded: ONNX, the raw weights that it names, and the JSON that says how images are preprocessed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from headstart.backbones.huggingface.client import hub
from headstart.backbones.huggingface.licenses import license_note, license_of_card
from headstart.backbones.huggingface.preprocessor_config import preprocess_from
from headstart.backbones.onnx_files import other_files
from headstart.cache_folder import check_owner, make_cache_folder
from headstart.data.images import Preprocess
from headstart.errors import BackboneError
from headstart.files import write_atomically
from headstart.wording import listed

PREFIX = "hf:"
REPOSITORY = re.compile(r"(?P<repo>\w[\w.-]*/\w[\w.-]*)(?:@(?P<revision>\w[\w.-]*))?", re.ASCII)
ADDRESS = re.compile(r"hf:(?P<repo>\w[\w.-]*/\w[\w.-]*)(?:@(?P<revision>\w[\w.-]*))?/(?P<file>[^\\]+)", re.ASCII)
WEIGHTS_SUFFIXES = (".onnx_data", ".data", ".bin", ".weights")  # files of raw numbers, as exporters name them
PREPROCESSOR = "preprocessor_config.json"


@dataclass(frozen=True)
class HubFile:
    """A file from the hub, as it was when it was first downloaded.

    sha256: of the ONNX file. commit: of its repository. license: as its repository states it, an SPDX name where there is
    one. note: what the user must know of the licence. preprocess: how the repository says that images are preprocessed.
    """

    path: Path
    sha256: str
    commit: str
    license: str
    note: str | None
    preprocess: Preprocess | None


class Address(NamedTuple):
    """Where on the hub a file is; revision: a branch, tag or commit."""

    repo: str
    revision: str
    file: str


def parse(name: str) -> Address:
    """Read `hf:owner/repo[@revision]/path/file.onnx`; raises BackboneError with the right spelling."""
    match = ADDRESS.fullmatch(name)
    if not match or {"", ".", ".."} & set(match["file"].split("/")) or PurePosixPath(match["file"]).suffix != ".onnx":
        raise BackboneError(
            f"{name!r} names no ONNX file on the hub; write hf:OWNER/REPOSITORY/PATH/FILE.onnx, or "
            "hf:OWNER/REPOSITORY@REVISION/PATH/FILE.onnx"
        )
    return Address(match["repo"], match["revision"] or "main", match["file"])


def parse_repository(name: str) -> tuple[str, str | None]:
    """Read `hf:owner/repo[@revision]`: the repository, and the revision if it is named; raises BackboneError."""
    match = REPOSITORY.fullmatch(name.removeprefix(PREFIX))
    if not name.startswith(PREFIX) or not match:
        raise BackboneError(f"{name!r} names no repository on the hub; write hf:OWNER/NAME, or hf:OWNER/NAME@REVISION")
    return match["repo"], match["revision"]


def fetch(name: str, cache_dir: Path) -> HubFile:
    """Get the file that a name stands for, from the cache if it was downloaded before, else from the hub.

    The first time pins the commit and the sha256 of every file. Raises BackboneError where a file is not what was pinned,
    and where the hub does not give it (no such file, gated, no network); MissingExtra where the hub's package is missing.
    """
    address = parse(name)
    make_cache_folder(cache_dir)
    check_owner(cache_dir / "backbones")
    folder = cache_dir / "backbones" / "hub" / address.repo.replace("/", "--")
    record = folder / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.json"
    pins = _read_record(record)
    if pins is None:
        pins = _fetch_and_pin(name, address, folder)
        with _writing_to(folder):
            write_atomically(record, json.dumps(pins, indent=2).encode())
    files = folder / pins["commit"]
    missing = [file for file in pins["files"] if not (files / file).is_file()]
    if missing:  # deleted to make room: download the same commit again
        with hub(name, address.repo, address.revision):
            _download(address.repo, pins["commit"], missing, files)
    for file, expected in pins["files"].items():
        _check_sha256(name, files / file, expected, record)
    pinned = pins["preprocess"]
    return HubFile(
        files / address.file,
        pins["files"][address.file],
        pins["commit"],
        pins["license"],
        license_note(pins["license"], is_gated=pins["gated"]),
        Preprocess(**{**pinned, "mean": tuple(pinned["mean"]), "std": tuple(pinned["std"])}) if pinned else None,
    )


# ---- the record


def _read_record(record: Path) -> dict[str, Any] | None:
    try:
        record_content = json.loads(record.read_bytes())
        return {key: record_content[key] for key in ("name", "commit", "files", "license", "gated", "preprocess")}
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BackboneError(
            f"{record}, which pins a backbone, cannot be read ({error}); delete it to fetch it anew"
        ) from error


def _check_sha256(name: str, path: Path, expected: str, record: Path) -> None:
    try:
        sha256 = _sha256(path)
    except OSError as error:
        raise BackboneError(f"{path} cannot be read: {error.strerror}") from error
    if sha256 != expected:
        raise BackboneError(
            f"{name} is not what was first fetched: {path} has the sha256 {sha256[:16]}..., pinned was {expected[:16]}...; "
            f"delete that file to fetch the same again, or {record} as well to take what the hub has now"
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def _writing_to(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BackboneError(
            f"what the hub gives cannot be kept in {folder}: {error.strerror or error}; choose another folder with --cache"
        ) from error


# ---- the hub


def _fetch_and_pin(name: str, address: Address, folder: Path) -> dict[str, Any]:
    """Download a file and what it needs at one commit; gives the record that pins them."""
    with hub(name, address.repo, address.revision) as api:
        info = api.model_info(address.repo, revision=address.revision)
        listed = [sibling.rfilename for sibling in info.siblings or []]
        if address.file not in listed:
            raise BackboneError(_no_such_file(name, address, listed))
        files = folder / info.sha
        _download(address.repo, info.sha, [address.file], files)
        weights = _weights_files(files / address.file, address.file)
        _download(address.repo, info.sha, weights, files)
        configs = [c for c in (str(PurePosixPath(address.file).with_name(PREPROCESSOR)), PREPROCESSOR) if c in listed][:1]
        _download(address.repo, info.sha, configs, files)
    preprocess = preprocess_from(_read_json(files / configs[0])) if configs else None
    return {
        "name": name,
        "commit": info.sha,
        "files": {file: _sha256(files / file) for file in (address.file, *weights)},
        "license": license_of_card(info.card_data),
        "gated": bool(info.gated),
        "preprocess": asdict(preprocess) if preprocess else None,
    }


def _no_such_file(name: str, address: Address, files: Iterable[str]) -> str:
    onnx_files = [file for file in files if file.endswith(".onnx")]
    matches = get_close_matches(address.file, onnx_files, n=1, cutoff=0.4)
    hint = f"did you mean hf:{address.repo}/{matches[0]}? " if matches else ""
    return f"there is no {name}; {hint}ONNX files in {address.repo}: {listed(onnx_files, most=20) or 'none'}"


def _download(repo: str, commit: str, files: Iterable[str], folder: Path) -> None:
    """Download to plain files, each whole or not at all: ONNX refuses weights behind links, as the hub's own cache has."""
    from huggingface_hub import hf_hub_download

    for file in files:
        hf_hub_download(repo, file, revision=commit, local_dir=folder)


def _weights_files(path: Path, file: str) -> list[str]:
    """List the files of raw weights that an ONNX file names, as paths in its repository."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(str(path), format="protobuf", load_external_data=False)
    except (DecodeError, ValueError):  # onnx_files.read_onnx says what is wrong with it
        return []
    locations = other_files(model.graph, even_unused=True)
    for location in locations:
        if "/" in location or "\\" in location or not location.endswith(WEIGHTS_SUFFIXES):
            raise BackboneError(
                f"{file} wants its weights from {location!r}, which headstart does not fetch: they lie beside it, in a file "
                f"that ends in {', '.join(WEIGHTS_SUFFIXES)}"
            )
    return [str(PurePosixPath(file).with_name(location)) for location in locations]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
