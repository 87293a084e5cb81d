"""The zoo: a backbone by any of the names that people have for one.

Takes a name of the table, the path of an ONNX file, `timm:NAME`, `hf:owner/repo/file.onnx`, or what a tutorial calls it;
gives a Backbone. It decides which backbones are at hand, and says what their licences ask for before they are used.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from headstart.backbones import huggingface
from headstart.backbones.backbone import MORE, USUAL, WHOLE, Backbone
from headstart.backbones.builtin import BACKBONES, DEFAULT, backbone_of_file, describe, is_installed, load_backbone
from headstart.backbones.layers import find_taps
from headstart.backbones.standard_form import PREPROCESS_KEY, preprocess_of, standard_form, with_shapes
from headstart.backbones.tutorial_names import ALIASES, resolve_alias
from headstart.cache_folder import is_usable
from headstart.errors import BackboneError
from headstart.files import write_atomically

AUTO, TIMM = "auto", "timm:"
EXPORT_VERSION = 1  # raise it when taps.py, networks.py or torch_networks.py make another network of the same weights
LICENSE_KEY = "headstart.license"
log = logging.getLogger("headstart")


@dataclass(frozen=True)
class BackboneSpec:
    """A backbone that is asked for: its name, and what its images are like, where an ONNX file does not say itself."""

    name: str = DEFAULT
    size: int | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    output: str | None = None

    @property
    def describes(self) -> dict[str, object]:
        """What is said of the file's images."""
        return {"size": self.size, "mean": self.mean, "std": self.std, "output": self.output}


def find_backbone(spec: BackboneSpec, cache_dir: Path, *, pixels: str = USUAL) -> Backbone:
    """Load a backbone by any name, and tell what its licence asks for; what is fetched or exported is kept in cache_dir.

    pixels: see backbones.load_backbone. Raises BackboneError for an unknown name or an unsuitable
    file, and where it cannot look at more; MissingExtra where the package that has it is not installed.
    """
    name = resolve_alias(spec.name) or spec.name
    if name.startswith(huggingface.PREFIX):
        fetched = huggingface.fetch(name, cache_dir)
        found = backbone_of_file(
            fetched.path,
            size=spec.size,
            mean=spec.mean,
            std=spec.std,
            output=spec.output,
            pixels=pixels,
            told=fetched.preprocess,
        )
        found = replace(found, name=name, license=fetched.license)
        note = fetched.note
    elif name.startswith(TIMM):
        if any(value is not None for value in spec.describes.values()):
            raise BackboneError(f"size, mean, std and output describe an ONNX file of your own; {name} carries its own")
        if pixels == MORE:
            raise BackboneError(f"{name} is exported for images of one size")
        found = _exported_once(name, cache_dir)
        if pixels == WHOLE:
            found = replace(found, preprocess=replace(found.preprocess, crop=1.0))
        note = huggingface.license_note(found.license)
    elif name in BACKBONES or Path(name).suffix.lower() == ".onnx" or Path(name).is_file():
        return load_backbone(
            name, cache_dir=cache_dir, size=spec.size, mean=spec.mean, std=spec.std, output=spec.output, pixels=pixels
        )
    else:
        raise BackboneError(_unknown(name))
    if note and pixels == USUAL:
        log.warning("%s: %s", name, note)
    return found


def find_backbones(spec: BackboneSpec, cache_dir: Path) -> tuple[Backbone, tuple[Backbone, ...]]:
    """The backbone that is asked for; for `auto` the default one, and the others at hand, to compare it with."""
    if spec.name != AUTO:
        return find_backbone(spec, cache_dir), ()
    others = [row.name for row in BACKBONES.values() if row.name != DEFAULT and is_installed(row)]
    first = find_backbone(replace(spec, name=DEFAULT), cache_dir)
    return first, tuple(load_backbone(other, cache_dir=cache_dir) for other in others)


def wider_backbone(backbone: Backbone, spec: BackboneSpec, cache_dir: Path, pixels: str = MORE) -> Backbone | None:
    """The same backbone looking at the whole photo, or None where it cannot; spec: what it was loaded by.

    pixels: MORE or WHOLE; a network of one size looks at the whole photo in that.
    """
    name = backbone.name if spec.name == AUTO else spec.name
    for looked_at in dict.fromkeys((pixels, WHOLE)):
        with contextlib.suppress(BackboneError):
            wider = find_backbone(replace(spec, name=name), cache_dir, pixels=looked_at)
            if wider.widths == backbone.widths and wider.preprocess != backbone.preprocess:
                return wider
    return None


def notes_on(backbones: Sequence[Backbone]) -> list[str]:
    """What must be said of backbones' licences."""
    notes = {b.name: huggingface.license_note(b.license) for b in backbones if b.name.startswith((huggingface.PREFIX, TIMM))}
    return [f"{name}: {note}" for name, note in notes.items() if note]


def _unknown(name: str) -> str:
    from difflib import get_close_matches

    known = [*BACKBONES, *(alias.name for alias in ALIASES.values() if alias.stands_for)]
    near = get_close_matches(name, known, n=2, cutoff=0.4)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return (
        f"unknown backbone {name!r}; {hint}known: {AUTO}, {', '.join(known)}, {TIMM}NAME (any of timm's), "
        "hf:owner/repo/file.onnx, or the path of an ONNX file"
    )


def _exported_once(name: str, cache_dir: Path) -> Backbone:
    """Export a network of timm's to ONNX, or read the one exported before, for which torch need not be there."""
    import onnx

    folder = cache_dir / "backbones"
    is_kept = is_usable(cache_dir, folder)
    stem = re.sub(r"[^\w.-]", "_", name.removeprefix(TIMM))
    for path in sorted(folder.glob(f"timm-{stem}-v{EXPORT_VERSION}-*.onnx")) if is_kept else ():
        with contextlib.suppress(OSError):
            content = path.read_bytes()
            if path.stem == f"timm-{stem}-v{EXPORT_VERSION}-{hashlib.sha256(content).hexdigest()[:16]}":
                model = onnx.load_from_string(content)
                preprocess = preprocess_of(model)
                license = next((p.value for p in model.metadata_props if p.key == LICENSE_KEY), "unknown")
                if preprocess:
                    return describe(name, content, preprocess, license, "codes")
    from headstart.backbones.torch_modules import to_onnx, torch_network

    network = torch_network(name)
    model = with_shapes(to_onnx(network.module, network.preprocess.size), network.preprocess.size, False, Path(name))
    standard = standard_form(model, network.preprocess, codes="codes", taps=find_taps(model, "codes"))
    said = {PREPROCESS_KEY: json.dumps(asdict(network.preprocess)), LICENSE_KEY: network.license}
    onnx.helper.set_model_props(standard, said)
    content = standard.SerializeToString(deterministic=True)
    with contextlib.suppress(OSError):  # without a cache it is an export at every start
        if is_kept:
            sha256 = hashlib.sha256(content).hexdigest()
            write_atomically(folder / f"timm-{stem}-v{EXPORT_VERSION}-{sha256[:16]}.onnx", content)
    return describe(name, content, network.preprocess, network.license, "codes")
