"""A folder for web servers: a page and a module that run the classifier in the browser, with onnxruntime-web.

The page, the module and the preprocessing are files of headstart's (export/web). onnxruntime-web (MIT) comes from its npm
package: from a folder that the user names, or by `npm pack`, once, into the cache; its sha512 is checked.
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from importlib.resources import files
from pathlib import Path

from headstart.cache_folder import default_cache_dir, is_usable
from headstart.classifier.metadata import ClassifierMetadata
from headstart.classifier.model_file import seal
from headstart.errors import ExportError
from headstart.export.opened import Exported
from headstart.export.options import Options
from headstart.export.original import Original
from headstart.export.writers.onnx_files import halve_weights, keep_outputs, set_batch
from headstart.export.writers.onnx_format import open_onnx
from headstart.files import write_atomically, write_output

FILE = "model.onnx"
PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
INTEGRITY = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="  # its sha512
WASM = "ort-wasm-simd-threaded.wasm"
RUNTIME = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", WASM)
MOST_BYTES = 100_000_000  # of one of its files
SECONDS = 300  # for npm
LICENSE = """\
onnxruntime-web {version}, https://github.com/microsoft/onnxruntime

MIT License

Copyright (c) Microsoft Corporation

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""


def write(original: Original, folder: Path, options: Options) -> ClassifierMetadata:
    """Write the network with weights in 16 bits, the page, the module and the runtime."""
    import onnx

    runtime = find_runtime(options.runtime, default_cache_dir())
    about = original.classifier.about
    model = onnx.load_from_string(original.classifier.content)
    del model.metadata_props[:]
    keep_outputs(model, ["probabilities", "unfamiliarity"])
    set_batch(model, 1)
    halve_weights(model)
    write_output(folder / FILE, seal(model, about))
    for file in files("headstart.export").joinpath("web").iterdir():
        write_output(folder / file.name, file.read_bytes())
    (folder / "ort").mkdir()
    for name in RUNTIME:
        write_output(folder / "ort" / name, (runtime / name).read_bytes())
    write_output(folder / "ort" / "LICENSE", LICENSE.format(version=VERSION))
    return about


def open_file(folder: Path, about: ClassifierMetadata) -> Exported:
    """Open the network; what the browser makes of it is measured by benchmarks/export.py."""
    return open_onnx(folder / FILE)


def find_runtime(named: str | None, cache_dir: Path) -> Path:
    """The folder of onnxruntime-web's files: the user's, that of the cache, or a new one by npm.

    Raises ExportError where it is not there and cannot be fetched, and what to do then.
    """
    if named is not None:
        folder = Path(named)
        for place in (folder, folder / "dist", folder / PACKAGE / "dist", folder / "node_modules" / PACKAGE / "dist"):
            if all((place / name).is_file() for name in RUNTIME):
                return place
        raise ExportError(f"{named} holds no {PACKAGE}: expected {', '.join(RUNTIME)} in it, or in a folder dist below it")
    cached = cache_dir / "downloads" / f"{PACKAGE}-{VERSION}"
    if not all((cached / name).is_file() for name in RUNTIME):
        _fetch(cached, cache_dir)
    return cached


def _fetch(folder: Path, cache_dir: Path) -> None:
    """Fetch the package by `npm pack`, check it, and keep its files."""
    advice = f"npm install {PACKAGE}@{VERSION}, and name the folder with --runtime node_modules/{PACKAGE}"
    npm = shutil.which("npm")
    if npm is None:
        raise ExportError(f"the page needs {PACKAGE}, and there is no npm here to fetch it; elsewhere: {advice}")
    if not is_usable(cache_dir, folder.parent):
        raise ExportError(f"{folder} cannot be written; {advice}")
    with tempfile.TemporaryDirectory(prefix="headstart-npm-") as tmp:
        try:
            command = [npm, "pack", f"{PACKAGE}@{VERSION}", "--silent"]
            process = subprocess.run(command, cwd=tmp, capture_output=True, text=True, timeout=SECONDS)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ExportError(f"npm could not fetch {PACKAGE}: {error}; {advice}") from error
        packed = Path(tmp, f"{PACKAGE}-{VERSION}.tgz")
        if process.returncode or not packed.is_file():
            lines = process.stderr.strip().splitlines() or ["it gave no reason"]
            raise ExportError(f"npm could not fetch {PACKAGE}: {lines[-1][:200]}; {advice}")
        digest = base64.b64encode(hashlib.sha512(packed.read_bytes()).digest()).decode()
        if digest != INTEGRITY:
            raise ExportError(f"what npm gave as {PACKAGE}@{VERSION} is not that package: its sha512 is {digest}")
        with tarfile.open(packed) as archive:
            for name in RUNTIME:
                member = archive.extractfile(f"package/dist/{name}")
                assert member is not None
                write_atomically(folder / name, member.read(MOST_BYTES))


def bytes_to_load(folder: Path) -> dict[str, int]:
    """How many bytes a browser loads of the network and of the runtime, for its progress bar."""
    return {"model": os.path.getsize(folder / FILE), "wasm": os.path.getsize(folder / "ort" / WASM)}
