"""A network as torch's exported program, which is loaded without headstart."""

import json
import subprocess
import sys

import numpy as np
import onnx
import pytest

from headstart.engines.hardware import Hardware
from headstart.engines.openvino_engine import OpenVINOEngine

torch = pytest.importorskip("torch")


def test_it_runs_without_headstart_and_carries_its_texts(tiny, tmp_path):
    from headstart.engines.torch_program import open_program, write_program

    file = tmp_path / "network.pt2"
    write_program(onnx.load_from_string(tiny.network), file, {"labels.txt": "a\nb\n"})
    size = tiny.preprocess.size
    pixels = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    expected = OpenVINOEngine(tiny.network, Hardware(precision="f32")).infer(pixels)["codes"]
    np.testing.assert_allclose(open_program(file, ("codes",))(pixels)["codes"], expected, atol=1e-4)
    np.save(tmp_path / "pixels.npy", pixels)
    script = (
        "import json, sys, numpy, torch\n"
        "texts = {'labels.txt': ''}\n"
        f"module = torch.export.load({str(file)!r}, extra_files=texts).module()\n"
        f"image = torch.from_numpy(numpy.load({str(tmp_path / 'pixels.npy')!r}))[None]\n"
        "print(json.dumps([module(image)[0][0].tolist(), str(texts['labels.txt']), 'headstart' in sys.modules]))\n"
    )
    told = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    codes, labels, has_headstart = json.loads(told.splitlines()[-1])
    np.testing.assert_allclose(codes, expected, atol=1e-4)
    assert "a" in labels and not has_headstart
