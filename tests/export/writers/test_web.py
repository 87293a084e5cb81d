"""Where onnxruntime-web comes from: a folder, the cache, or npm; and what is said where there is none."""

import base64
import hashlib
import stat
import sys
import tarfile

import pytest

from headstart.errors import ExportError
from headstart.export.writers import web


def write_package(folder):
    """A package as npm has it, as far as we look."""
    dist = folder / "package" / "dist"
    dist.mkdir(parents=True)
    for name in web.RUNTIME:
        (dist / name).write_bytes(name.encode())
    packed = folder / f"{web.PACKAGE}-{web.VERSION}.tgz"
    with tarfile.open(packed, "w:gz") as archive:
        archive.add(folder / "package", "package")
    return packed


@pytest.fixture
def npm(tmp_path, monkeypatch):
    """A program named npm that does what a line of Python says."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def make(line):
        program = folder / "npm"
        program.write_text(f"#!{sys.executable}\nimport shutil, sys, time\n{line}\n")
        program.chmod(program.stat().st_mode | stat.S_IEXEC)

    monkeypatch.setenv("PATH", str(folder))
    return make


@pytest.mark.skipif(sys.platform == "win32", reason="a program of a script's first line")
def test_npm_fetches_it_once_and_its_hash_is_checked(tmp_path, npm, monkeypatch):
    packed = write_package(tmp_path)
    npm(f"shutil.copy({str(packed)!r}, '.')")
    with pytest.raises(ExportError, match="is not that package: its sha512"):
        web.find_runtime(None, tmp_path / "cache")
    monkeypatch.setattr(web, "INTEGRITY", base64.b64encode(hashlib.sha512(packed.read_bytes()).digest()).decode())
    folder = web.find_runtime(None, tmp_path / "cache")
    assert [(folder / name).read_bytes() for name in web.RUNTIME] == [name.encode() for name in web.RUNTIME]
    npm("sys.exit('no network')")
    assert web.find_runtime(None, tmp_path / "cache") == folder


@pytest.mark.skipif(sys.platform == "win32", reason="a program of a script's first line")
@pytest.mark.parametrize("line, why", [("sys.exit('no network')", "no network"), ("time.sleep(9)", "timed out")])
def test_npm_that_fails_or_hangs_is_told_with_another_way(tmp_path, npm, monkeypatch, line, why):
    npm(line)
    monkeypatch.setattr(web, "SECONDS", 0.5)
    with pytest.raises(ExportError, match=f"npm could not fetch.*{why}.*--runtime"):
        web.find_runtime(None, tmp_path / "cache")


def test_a_named_folder_is_looked_into_and_no_npm_is_told(tmp_path, monkeypatch):
    write_package(tmp_path)
    assert web.find_runtime(str(tmp_path / "package"), tmp_path / "cache") == tmp_path / "package" / "dist"
    with pytest.raises(ExportError, match="holds no onnxruntime-web"):
        web.find_runtime(str(tmp_path / "nowhere"), tmp_path / "cache")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ExportError, match="no npm here.*npm install"):
        web.find_runtime(None, tmp_path / "cache")
