"""torch's exported program, classifier.pt2, with labels.txt and classifier.json inside; opened with torch.export.load."""

from __future__ import annotations

import json
from pathlib import Path

from headstart.classifier.metadata import ClassifierMetadata
from headstart.errors import ExportError
from headstart.export.opened import Exported
from headstart.export.options import Options
from headstart.export.original import Original
from headstart.export.writers.onnx_files import keep_outputs, set_batch

FILE = "classifier.pt2"


def write(original: Original, folder: Path, options: Options) -> ClassifierMetadata:
    """Write the program; its outputs are a tuple, `probabilities` first."""
    import onnx

    from headstart.engines.torch_graph import UnknownOperation
    from headstart.engines.torch_program import write_program

    about = original.classifier.about
    model = onnx.load_from_string(original.classifier.content)
    del model.metadata_props[:]
    keep_outputs(model, outputs_of(about))
    set_batch(model, 1)
    labels = "".join(f"{' '.join(name.splitlines())}\n" for name in about["classes"])
    try:
        write_program(model, folder / FILE, {"labels.txt": labels, "classifier.json": json.dumps(about)})
    except UnknownOperation as error:
        raise ExportError(f"this network cannot be written for torch: it has no {error}; onnx can hold it") from error
    return about


def open_file(folder: Path, about: ClassifierMetadata) -> Exported:
    """Open it as torch does."""
    from headstart.engines.torch_program import open_program, torch_version

    return Exported(open_program(folder / FILE, outputs_of(about)), f"torch {torch_version()}")


def outputs_of(about: ClassifierMetadata) -> tuple[str, ...]:
    """The outputs that it has, in their order."""
    return ("probabilities", "codes", *(["unfamiliarity"] if about["has_unfamiliarity"] else []))
