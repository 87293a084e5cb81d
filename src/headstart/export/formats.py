"""The formats that a classifier can be exported to, a row of FORMATS each.

To add a format, add a row; nothing else needs to know its name. A row needs:

- `packages`: the modules that it imports, and `extra`, the extra of headstart that brings them.
- `options`: the fields of Options that it heeds; any other that is set is refused.
- `least_same`: the share of photos that must keep their label, or the export fails.
- `write`: writes the file (or the folder's files) into a folder, and gives the metadata that the file has.
- `open`: opens what was written, by the way that a user of the format would take; see opened.Exported. None: nothing here
  can run such a file, which is then told everywhere as "not checked".
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from headstart.classifier.metadata import ClassifierMetadata
from headstart.errors import ExportError
from headstart.export.opened import Exported
from headstart.export.options import Options
from headstart.export.original import Original
from headstart.export.writers import coreml_format, int8, onnx_format, openvino_format, tensorflow_formats, torch_format, web

LEAST_SAME = 0.995  # of the photos keep their label
LEAST_SAME_INT8 = 0.98


@dataclass(frozen=True)
class Format:
    """A format; see the module's docstring. file: what the artefact is called in its folder."""

    name: str
    file: str
    about: str
    write: Callable[[Original, Path, Options], ClassifierMetadata]
    open: Callable[[Path, ClassifierMetadata], Exported] | None
    packages: tuple[str, ...] = ()
    extra: str = ""
    options: tuple[str, ...] = ()
    least_same: float = LEAST_SAME

    @property
    def missing(self) -> str | None:
        """The first package that is not installed."""
        return next((name for name in self.packages if importlib.util.find_spec(name) is None), None)

    def check(self, options: Options) -> None:
        """Raise ExportError for an option that this format does not have."""
        for field in fields(options):
            if getattr(options, field.name) != field.default and field.name not in self.options:
                has = [name.replace("_", "-") for name in self.options]
                raise ExportError(
                    f"the format {self.name} has no --{field.name.replace('_', '-')}; "
                    + (f"it has --{', --'.join(has)}" if has else "it has no options")
                )


FORMATS: dict[str, Format] = {
    row.name: row
    for row in (
        Format(
            "onnx",
            "classifier.onnx",
            "ONNX, for ONNX Runtime and whatever else reads it",
            onnx_format.write,
            onnx_format.open_file,
            options=("half", "batch", "any_size", "slim"),
        ),
        Format(
            "openvino",
            "classifier.xml",
            "OpenVINO's IR, for Intel's processors",
            openvino_format.write,
            openvino_format.open_file,
            options=("half", "slim"),
        ),
        Format(
            "web",
            web.FILE,
            "a page and a module that run the classifier in the browser",
            web.write,
            web.open_file,
            options=("runtime",),
        ),
        Format(
            "int8",
            "classifier.onnx",
            "ONNX with weights and activations of 8 bits; the head is learnt again on their codes",
            int8.write,
            onnx_format.open_file,
            ("nncf",),
            "int8",
            least_same=LEAST_SAME_INT8,
        ),
        Format(
            "int8-openvino",
            "classifier.xml",
            "the same as OpenVINO's IR",
            int8.write_openvino,
            openvino_format.open_file,
            ("nncf",),
            "int8",
            least_same=LEAST_SAME_INT8,
        ),
        Format(
            "torch",
            torch_format.FILE,
            "torch's exported program, for torch.export.load",
            torch_format.write,
            torch_format.open_file,
            ("torch",),
            "torch",
        ),
        Format(
            "coreml",
            coreml_format.FILE,
            "a Core ML package, for apps on Apple's devices; checked on macOS alone",
            coreml_format.write,
            coreml_format.opener(),
            ("torch", "coremltools"),
            "coreml",
            ("half",),
        ),
        *(
            Format(
                name,
                file,
                about,
                tensorflow_formats.writer_of(name),
                tensorflow_formats.opener_of(name),
                ("tensorflow",),
                "tensorflow",
                options,
            )
            for name, file, about, options in (
                (
                    "tflite",
                    "classifier.tflite",
                    "LiteRT (TensorFlow Lite), for phones and boards; labels inside",
                    ("half",),
                ),
                (
                    "saved_model",
                    "classifier/saved_model.pb",
                    "a TensorFlow SavedModel (signature serving_default)",
                    (),
                ),
                ("pb", "classifier.pb", "a frozen TensorFlow graph, from `image` to `probabilities`", ()),
            )
        ),
    )
}


def format_named(name: str) -> Format:
    """The row of a format; raises ExportError for a name that no row has."""
    if name not in FORMATS:
        raise ExportError(f"there is no format {name!r}; there are {', '.join(FORMATS)}, and all for all that are installed")
    return FORMATS[name]


def formats_json() -> list[dict[str, Any]]:
    """The table, for people and programs."""
    return [
        {"format": row.name, "file": row.file, "about": row.about, "extra": row.extra, "is_installed": row.missing is None}
        for row in FORMATS.values()
    ]
