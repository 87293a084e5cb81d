"""Core ML's package, classifier.mlpackage, for apps on Apple's devices; labels and metadata are inside."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

from headstart.classifier.metadata import ClassifierMetadata
from headstart.errors import ExportError
from headstart.export.opened import Exported
from headstart.export.options import Options
from headstart.export.original import Original
from headstart.export.writers.onnx_files import keep_outputs, set_batch
from headstart.export.writers.torch_format import outputs_of
from headstart.versions import own_version
from headstart.wording import listed

PACKAGE = "classifier.mlpackage"
FILE = f"{PACKAGE}/Data/com.apple.CoreML/model.mlmodel"  # the network itself; its weights lie beside it


def write(original: Original, folder: Path, options: Options) -> ClassifierMetadata:
    """Write the package: the input `image` is an RGB picture of the right size, as Vision makes it."""
    import onnx

    from headstart.engines.torch_coreml import write_core_ml
    from headstart.engines.torch_graph import UnknownOperation

    about = original.classifier.about
    model = onnx.load_from_string(original.classifier.content)
    del model.metadata_props[:]
    outputs = outputs_of(about)
    keep_outputs(model, outputs)
    set_batch(model, 1)
    is_one = about.get("labels", "one") == "one" and len(set(about["classes"])) == len(about["classes"])
    texts = {
        "author": f"headstart {own_version()}",
        "license": about["backbone"].get("license", ""),
        "description": f"Tells {listed(about['classes'], most=20)} apart.",
        "classifier.json": json.dumps(about),
    }
    try:
        write_core_ml(model, folder / PACKAGE, outputs, about["classes"] if is_one else None, texts, is_half=options.half)
    except UnknownOperation as error:
        raise ExportError(f"this network cannot be written for Core ML: it has no {error}; onnx can hold it") from error
    except (NotImplementedError, RuntimeError, ValueError, TypeError) as error:
        why = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise ExportError(f"coremltools cannot convert this network: {why}; onnx and tflite can hold it") from error
    return about


def opener() -> Callable[[Path, ClassifierMetadata], Exported] | None:
    """What runs such a file: macOS alone; None elsewhere, where it is written and not checked."""
    return _open_file if sys.platform == "darwin" else None


def _open_file(folder: Path, about: ClassifierMetadata) -> Exported:
    from headstart.engines.torch_coreml import open_core_ml

    return Exported(*open_core_ml(folder / PACKAGE, about["classes"]))
