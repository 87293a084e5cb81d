"""Finds a backbone by any name: built in, an ONNX file, `timm:NAME`, `hf:owner/repo/file.onnx`, or a tutorial's name.

It decides which backbones are averaged by `auto`, exports timm's networks once, and warns of what a licence asks for.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from headstart.backbones.backbone import MORE, SIZES, USUAL, WHOLE, Backbone, backbone_of_file, backbone_of_network
from headstart.backbones.builtin import BACKBONES, DEFAULT, is_installed, load_builtin
from headstart.backbones.huggingface import download
from headstart.backbones.huggingface.licenses import license_note
from headstart.backbones.layers import find_layers
from headstart.backbones.onnx_files import PREPROCESS_KEY, preprocess_of, with_shapes
from headstart.backbones.standard_form import standard_form
from headstart.backbones.torch_modules import TIMM, to_onnx, torch_network
from headstart.backbones.tutorial_names import ALIASES, resolve_alias
from headstart.cache_folder import is_usable
from headstart.data.images import Preprocess
from headstart.errors import BackboneError
from headstart.files import write_atomically

AUTO = "auto"
EXPORT_VERSION = 1  # raise it when layers.py, standard_form.py or torch_modules.py make another network of the same weights
LICENSE_KEY = "headstart.license"
log = logging.getLogger("headstart")


@dataclass(frozen=True)
class BackboneSpec:
    """The name of a backbone, and what an ONNX file does not say itself: how its images are made, and which output is used.

    size: pixels a side of its images. mean, std: of the normalisation, per channel in [0, 1]. output: the value of the
    network that holds the codes.
    """

    name: str = DEFAULT
    size: int | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    output: str | None = None


def find_backbone(spec: BackboneSpec, cache_dir: Path, *, pixels: str = USUAL) -> Backbone:
    """Load a backbone by any of its names, and warn of what its licence asks for; for `auto` the default one.

    cache_dir: where networks that are downloaded, exported or built are stored. pixels: USUAL, as the network was trained;
    WHOLE, nothing of the photo cut away; MORE, the whole photo in more pixels, which is slower and often better (Touvron et
    al. 2019, "Fixing the train-test resolution discrepancy"); FEW, in fewer, for tiny photos. Raises BackboneError for an
    unknown name or an unsuitable file, and where the network takes no other number of pixels; MissingExtra where the
    package that has it is not installed.
    """
    name = resolve_alias(spec.name) or spec.name
    is_file = not name.startswith((download.PREFIX, TIMM)) and name not in BACKBONES
    if name == AUTO:
        return find_backbone(replace(spec, name=DEFAULT), cache_dir, pixels=pixels)
    if is_file and Path(name).suffix.lower() != ".onnx" and not os.path.isfile(name):
        raise BackboneError(_unknown(name))
    if is_file and not os.path.isfile(name):
        raise BackboneError(f"there is no file {name}; known backbones: {', '.join(BACKBONES)}")
    if is_file or name.startswith(download.PREFIX):
        downloaded = None if is_file else download.fetch(name, cache_dir)
        backbone = backbone_of_file(
            downloaded.path if downloaded else Path(name),
            size=spec.size,
            mean=spec.mean,
            std=spec.std,
            output=spec.output,
            pixels=pixels,
            preprocess=downloaded.preprocess if downloaded else None,
        )
        if downloaded is None:
            return backbone
        backbone, note = replace(backbone, name=name, license=downloaded.license), downloaded.note
    elif any(value is not None for value in (spec.size, spec.mean, spec.std, spec.output)):
        raise BackboneError(f"size, mean, std and output describe an ONNX file of your own; {name} carries its own")
    elif name in BACKBONES:
        return load_builtin(name, cache_dir, pixels=pixels)
    else:
        backbone = _timm_backbone(name, cache_dir, pixels)
        note = license_note(backbone.license)
    if note and pixels == USUAL:
        log.warning("%s: %s", name, note)
    return backbone


def others_like(first: Backbone, cache_dir: Path) -> tuple[Backbone, ...]:
    """Load the other built-in backbones that are installed, taking the same pixels as the first one does."""
    others = [row.name for row in BACKBONES.values() if row.name != first.name and is_installed(row)]
    return tuple(load_builtin(name, cache_dir, preprocess=first.preprocess) for name in others)


def wider_backbone(backbone: Backbone, spec: BackboneSpec, cache_dir: Path, pixels: str = MORE) -> Backbone | None:
    """Load the same backbone with the whole photo as its input, or give None where it cannot take that.

    spec: what it was loaded by. pixels: MORE, FEW or WHOLE; a network of one fixed size takes the whole photo at that size.
    """
    for whole_photo in dict.fromkeys((pixels, WHOLE)):
        with contextlib.suppress(BackboneError):
            wider = find_backbone(spec, cache_dir, pixels=whole_photo)
            if wider.widths == backbone.widths and wider.preprocess != backbone.preprocess:
                return wider
    return None


def notes_on(backbones: Sequence[Backbone]) -> list[str]:
    """Sentences that warn of what the licences of backbones ask for."""
    notes = {b.name: license_note(b.license) for b in backbones if b.name.startswith((download.PREFIX, TIMM))}
    return [f"{name}: {note}" for name, note in notes.items() if note]


def _unknown(name: str) -> str:
    from difflib import get_close_matches

    names = [*BACKBONES, *(alias.name for alias in ALIASES.values() if alias.stands_for)]
    matches = get_close_matches(name, names, n=2, cutoff=0.4)
    hint = f"did you mean {' or '.join(matches)}? " if matches else ""
    return (
        f"unknown backbone {name!r}; {hint}known: {AUTO}, {', '.join(names)}, {TIMM}NAME (any of timm's), "
        "hf:owner/repo/file.onnx, or the path of an ONNX file"
    )


def _timm_backbone(name: str, cache_dir: Path, pixels: str) -> Backbone:
    """Load a network of timm's: exported to ONNX, or from the cache, for which torch need not be installed."""
    if pixels in SIZES:
        raise BackboneError(f"{name} is exported for images of one size")
    folder = cache_dir / "backbones"
    can_cache = is_usable(cache_dir, folder)
    file_name = re.sub(r"[^\w.-]", "_", name.removeprefix(TIMM))
    stem = f"timm-{file_name}-v{EXPORT_VERSION}"
    backbone = _cached_export(name, folder, stem) if can_cache else None
    if backbone is None:
        content, preprocess, license = _export(name)
        with contextlib.suppress(OSError):  # without a cache it is an export at every start
            if can_cache:
                write_atomically(folder / f"{stem}-{hashlib.sha256(content).hexdigest()[:16]}.onnx", content)
        backbone = backbone_of_network(name, content, preprocess, license, "codes")
    return replace(backbone, preprocess=replace(backbone.preprocess, crop=1.0)) if pixels == WHOLE else backbone


def _cached_export(name: str, folder: Path, stem: str) -> Backbone | None:
    """Read a network of timm's that was exported before; None where there is none, or only a damaged one."""
    import onnx

    for path in sorted(folder.glob(f"{stem}-*.onnx")):
        with contextlib.suppress(OSError):
            content = path.read_bytes()
            if path.stem == f"{stem}-{hashlib.sha256(content).hexdigest()[:16]}":
                model = onnx.load_from_string(content)
                preprocess = preprocess_of(model)
                license = next((p.value for p in model.metadata_props if p.key == LICENSE_KEY), "unknown")
                if preprocess:
                    return backbone_of_network(name, content, preprocess, license, "codes")
    return None


def _export(name: str) -> tuple[bytes, Preprocess, str]:
    """Export a network of timm's to ONNX in standard form; gives the file, its preprocessing and its licence."""
    import onnx

    network = torch_network(name)
    size = network.preprocess.size
    model = with_shapes(to_onnx(network.module, size), size, False, Path(name))
    standard = standard_form(model, network.preprocess, codes="codes", layers=find_layers(model, "codes"))
    metadata = {PREPROCESS_KEY: json.dumps(asdict(network.preprocess)), LICENSE_KEY: network.license}
    onnx.helper.set_model_props(standard, metadata)
    return standard.SerializeToString(deterministic=True), network.preprocess, network.license
