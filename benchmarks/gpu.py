"""Codes of 60,000 images on a GPU: images/s, and what share that is of the network alone and of decoding alone.

The images are made here, as many different ones as --distinct says, and held in memory as files: PNG of 32 x 32 pixels, as
quick to decode as CIFAR-10's, or JPEG of 500 x 375, as large as the flower photos. Codes are compared with the CPU's in
float32. `--device torch-cpu --limit 50` tries the script where there is no GPU; its rates then mean nothing.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from headstart.backbones.backbone import Backbone
from headstart.backbones.builtin import DEFAULT
from headstart.backbones.find import BackboneSpec, find_backbone
from headstart.codes.compute import CHUNK
from headstart.data.images import load_image
from headstart.engines.hardware import Hardware
from headstart.engines.openvino_engine import OpenVINOEngine
from headstart.engines.ordered import Result, in_order
from headstart.engines.torch_engine import TorchEngine
from machine import Line, arguments, lines_table, machine, report, seconds

N_IMAGES = 60_000
KINDS = {"png32": ("PNG", (32, 32)), "jpeg500": ("JPEG", (500, 375))}
N_COMPARED = 64
WHOLE_SHARE = 0.9  # of the slower of decoding and inference, which go on at once: DESIGN.md section 5 holds it for the CPU


def made(kind: str, n: int) -> list[bytes]:
    """Pictures with structure at every scale, as files; noise alone would cost a JPEG decoder more than photos do."""
    form, (width, height) = KINDS[kind]
    files = []
    for seed in range(n):
        random = np.random.default_rng(seed)
        picture = np.zeros((height, width, 3))
        for cells in (2, 5, 13, 32):
            coarse = Image.fromarray(random.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
            picture += np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), float) / cells
        scaled = 255 * (picture - picture.min()) / np.ptp(picture)
        file = io.BytesIO()
        Image.fromarray(scaled.astype(np.uint8)).save(file, form, **({"quality": 90} if form == "JPEG" else {}))
        files.append(file.getvalue())
    return files


def decoding(files: Sequence[bytes], n: int, backbone: Backbone, threads: int) -> float:
    """Seconds to decode n images on all cores, and nothing else."""

    def work(index: int, group: range) -> Result[Any]:
        for i in group:
            load_image(files[i % len(files)], backbone.preprocess)
        return Result(index, None, None)

    groups = [range(i, min(i + CHUNK, n)) for i in range(0, n, CHUNK)]
    return seconds(lambda: [None for _ in in_order(groups, work, workers=threads)])


def whole(engine: TorchEngine, files: Sequence[bytes], n: int, backbone: Backbone) -> float:
    """Seconds from files to codes, in order."""

    def codes() -> None:
        load = lambda i, _: load_image(files[i % len(files)], backbone.preprocess)  # noqa: E731
        for done, result in enumerate(engine.stream(range(n), load, chunk=CHUNK)):
            if result.outputs is None or result.index != done:
                raise SystemExit(f"image {done} has no codes: {result.instead}")

    return seconds(codes)


def difference(engine: TorchEngine, files: Sequence[bytes], backbone: Backbone) -> tuple[float, float]:
    """How far codes are from the CPU's float32: the largest as a share of the largest code, and the least correlation."""
    cpu = OpenVINOEngine(backbone.network, Hardware(precision="f32"))
    images = [load_image(file, backbone.preprocess) for file in files[:N_COMPARED]]
    results = engine.stream(range(len(images)), lambda i, _: images[i])
    pairs = [(r.outputs["codes"], cpu.infer(images[r.item])["codes"]) for r in results]
    return (
        max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in pairs),
        min(float(np.corrcoef(a, b)[0, 1]) for a, b in pairs),
    )


def gpu_jpeg(files: Sequence[bytes], device: str) -> list[Line]:
    """The GPU's JPEG decoder: how fast, and how many grey levels its pixels are from ours at full size."""
    import torch
    from torchvision.io import decode_jpeg

    from headstart.data.decoding import decode

    encoded = [torch.frombuffer(bytearray(file), dtype=torch.uint8) for file in files]
    decode_jpeg(encoded[:8], device=device)
    start = time.perf_counter()
    pictures = decode_jpeg(encoded, device=device)
    torch.cuda.synchronize()
    rate = len(files) / (time.perf_counter() - start)
    ours = [np.asarray(decode(file), np.int16).transpose(2, 0, 1) for file in files[:N_COMPARED]]
    off = [np.abs(p.cpu().numpy().astype(np.int16) - o) for p, o in zip(pictures, ours, strict=False)]
    return [
        Line("the GPU's JPEG decoder, full size", rate, "images/s"),
        Line("its pixels beside ours, on average", float(np.mean([d.mean() for d in off])), "levels of 255"),
        Line("its pixels beside ours, at most", float(max(d.max() for d in off)), "levels of 255"),
    ]


def about_gpu(device: str) -> dict[str, str]:
    """What runs the network."""
    import torch

    return {
        "torch": torch.__version__,
        "gpu": torch.cuda.get_device_name() if device.startswith("cuda") else "none (torch on the CPU)",
    }


def measured(options: argparse.Namespace, kind: str, backbone: Backbone) -> list[Line]:
    """All lines for one kind of image."""
    n = options.limit or N_IMAGES
    files = made(kind, min(n, options.distinct))
    start = time.perf_counter()
    engine = TorchEngine(backbone.network, Hardware(options.device, options.threads, options.precision), batch=options.batch)
    opening = time.perf_counter() - start
    share_to_hold = WHOLE_SHARE if options.device.startswith("cuda") else None  # else both are done by the same cores
    lines = []
    if options.compile:
        lines.append(Line("compiling", seconds(engine.compile), "s"))
    alone = engine.images_per_second()
    whole(engine, files, min(n, 2 * engine.batch), backbone)  # to warm up
    decoded = n / decoding(files, n, backbone, engine.threads)
    took = whole(engine, files, n, backbone)
    largest, correlation = difference(engine, files, backbone)
    lines += [
        Line("opening the engine", opening, "s"),
        Line("images in a batch", engine.batch),
        Line("the network alone", alone, "images/s"),
        Line(f"decoding alone, {engine.threads} threads", decoded, "images/s"),
        Line(f"codes of {n:,} images", took, "s"),
        Line("codes", n / took, "images/s"),
        Line("codes, as a share of the network alone", n / took / alone),
        Line("codes, as a share of the slower of the two", n / took / min(alone, decoded), "", share_to_hold, True),
        Line("largest difference from the CPU's float32, of the largest code", largest),
        Line("least correlation with the CPU's float32", correlation, "", 0.99, True),
    ]
    if options.jpeg and kind.startswith("jpeg"):
        lines += gpu_jpeg(files, options.device)
    return [Line(f"{kind}: {line.what}", line.measured, line.unit, line.hold, line.at_least) for line in lines]


def main() -> int:
    """Measure, print and record; 1 where something did not hold."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1 or torch-cpu")
    parser.add_argument("--backbone", default=DEFAULT, help="as headstart train has it")
    parser.add_argument("--limit", type=int, metavar="N", help=f"so many images instead of {N_IMAGES:,}")
    parser.add_argument("--distinct", type=int, default=2000, metavar="N", help="so many different images (default: 2000)")
    parser.add_argument("--images", choices=[*KINDS, "all"], default="all", help="which images (default: all)")
    parser.add_argument("--precision", default="auto", help="auto or f32")
    parser.add_argument("--batch", type=int, metavar="N", help="images a batch")
    parser.add_argument("--threads", type=int, metavar="N", help="threads that decode")
    parser.add_argument("--compile", action="store_true", help="compile the network first")
    parser.add_argument("--jpeg", action="store_true", help="measure the GPU's JPEG decoder as well")
    options = parser.parse_args()
    about = machine() | about_gpu(options.device)
    with tempfile.TemporaryDirectory() as tmp:
        backbone = find_backbone(BackboneSpec(options.backbone), Path(tmp))
    kinds = list(KINDS) if options.images == "all" else [options.images]
    lines = [line for kind in kinds for line in measured(options, kind, backbone)]
    text = f"{options.backbone} on {about['gpu']}, torch {about['torch']}\n\n{lines_table(lines)}"
    report("gpu", options, about, {"backbone": options.backbone, "lines": lines}, text)
    return int(any(line.verdict == "MISSED" for line in lines))


if __name__ == "__main__":
    sys.exit(main())
