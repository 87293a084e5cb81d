"""Which backbone an old command means: its own weights where they are at hand, else the one that stands in for it.

Takes --architecture or --tfhub_module and --model_dir; gives a Backbone, and a line that says which one, and why.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from headstart.backbones.backbone import Backbone
from headstart.backbones.builtin import DEFAULT
from headstart.backbones.find import BackboneSpec, find_backbone
from headstart.backbones.huggingface.client import offline_if_unreachable
from headstart.backbones.tutorial_names import resolve_alias
from headstart.cache_folder import make_cache_folder
from headstart.errors import BackboneError, HeadstartError
from headstart.files import write_output
from headstart.wording import first_line

SUFFIXES = (".onnx", ".tflite", ".pb", ".keras")
INCEPTION = "classify_image_graph_def"  # what retrain.py downloaded for inception_v3
SIZES_OF_HUB = {"035": "0.35", "050": "0.50", "075": "0.75", "100": "1.0", "130": "1.3", "140": "1.4"}


def find_architecture(name: str, model_dir: str | Path, cache_dir: Path) -> tuple[Backbone, str]:
    """Find the backbone for an architecture's name, a file or folder, or the address of a module on TF-Hub.

    Raises BackboneError for a name that no tutorial had, and for a file that is no network.
    """
    if (path := Path(name)).exists() and (path.is_dir() or path.suffix.lower() in SUFFIXES):
        return _of_file(path, cache_dir), f"{name} is the backbone."
    wanted = _name_of_module(name) if "://" in name else name
    for file in _files_of(wanted, Path(model_dir)):
        return _of_file(file, cache_dir), f"{wanted}: its weights in {file} are the backbone."
    try:
        meant = (resolve_alias(wanted) if "://" not in wanted else None) or wanted
        if meant == wanted and "://" in name:
            raise BackboneError(f"{name} is not to be had here")
        with offline_if_unreachable():
            return find_backbone(BackboneSpec(meant), cache_dir), f"{wanted}: {meant} is the backbone."
    except HeadstartError as error:
        if "unknown backbone" in str(error):
            raise
        why = first_line(error).partition(";")[0].partition(": ")[0]
    return (
        find_backbone(BackboneSpec(DEFAULT), cache_dir),
        f"{wanted} is not at hand ({why}), so {DEFAULT} stands in for it. For its own weights, put its .onnx, .tflite or "
        f".pb file into {model_dir}.",
    )


def _name_of_module(address: str) -> str:
    """The architecture in a TF-Hub address, as --architecture has it: .../imagenet/mobilenet_v1_100_224/feature_vector/1."""
    if "inception_v3" in address:
        return "inception_v3"
    if match := re.search(r"mobilenet_v1_(\d{3})_(\d{3})(/quantops)?", address):
        size = SIZES_OF_HUB.get(match[1], match[1])
        return f"mobilenet_{size}_{match[2]}{'_quantized' if match[3] else ''}"
    if "mobilenet_v2" in address:
        return "mobilenet_v2"
    if match := re.search(r"efficientnet/lite(\d)", address):
        return f"efficientnet_lite{match[1]}"
    return address


def _files_of(name: str, folder: Path) -> Iterator[Path]:
    """Files in a folder, or in a folder of it, whose name begins as the architecture's does."""
    stems = (name, name.replace("mobilenet_", "mobilenet_v1_", 1), *([INCEPTION] if name == "inception_v3" else []))
    if not folder.is_dir():
        return
    found = [path for pattern in ("*", "*/*") for path in sorted(folder.glob(pattern)) if path.suffix.lower() in SUFFIXES]
    for suffix in SUFFIXES:  # ONNX first: it needs no TensorFlow
        for path in found:
            is_named = any(re.fullmatch(rf"{re.escape(stem)}(_frozen|_quant_frozen)?", path.stem) for stem in stems)
            if is_named and path.suffix.lower() == suffix:
                yield path


def _of_file(path: Path, cache_dir: Path) -> Backbone:
    """The backbone in a file; one of TensorFlow's is converted once, and kept in the cache."""
    if path.suffix.lower() == ".onnx":
        return find_backbone(BackboneSpec(str(path)), cache_dir)
    from headstart.backbones.tensorflow_files.import_file import import_file, recognise_kind

    file, _ = recognise_kind(path)
    content = file.read_bytes() if file.is_file() else (file / "saved_model.pb").read_bytes()
    folder = cache_dir / "backbones"
    converted = folder / f"imported-{path.stem}-{hashlib.sha256(content).hexdigest()[:16]}.onnx"
    if not converted.is_file():
        make_cache_folder(cache_dir)
        folder.mkdir(exist_ok=True)
        write_output(converted, import_file(path).SerializeToString())
    return find_backbone(BackboneSpec(str(converted)), cache_dir)
