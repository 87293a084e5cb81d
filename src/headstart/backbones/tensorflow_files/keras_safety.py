"""Refuses .keras files with layers that run code of their own, before Keras loads them."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from headstart.errors import BackboneError

# Keras' layers that run code of the file's own, or read other files; and where all others come from.
UNSAFE_LAYERS = ("Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer", "StringLookup", "IntegerLookup")
SAFE_MODULES = ("layers", "models", "initializers", "regularizers", "constraints", "activations", "dtype_policies", "ops")


def check_keras(path: Path) -> None:
    """Refuse layers with code of their own before Keras sees them: its safe mode has had holes (CVE-2025-1550, -9906)."""
    try:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json"))
    except (zipfile.BadZipFile, KeyError, ValueError, OSError) as error:
        raise BackboneError(f"{path} is no whole .keras file: {error}") from error
    for name, module in _class_names(config):
        if name in UNSAFE_LAYERS or not _is_from_keras(module):
            raise BackboneError(
                f"{path} has a {name} layer of {module or 'its own'}, and headstart executes no code from a model file; "
                "replace it by Keras' own layers (a Rescaling for a scaling, say), and save it again"
            )


def _is_from_keras(module: str | None) -> bool:
    parts = (module or "keras").replace("keras.src.", "keras.").split(".")
    return parts[0] == "keras" and (len(parts) == 1 or parts[1] in SAFE_MODULES)


def _class_names(config: Any) -> Iterator[tuple[str, str | None]]:
    """Yield each class that a Keras configuration names, with its module."""
    if isinstance(config, dict):
        if "class_name" in config and not str(config["class_name"]).startswith("__tuple"):
            yield str(config["class_name"]), config.get("module")
        config = list(config.values())
    if isinstance(config, list):
        for part in config:
            yield from _class_names(part)
