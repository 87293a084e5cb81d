"""The exported page and module in a real browser, against the same network in ONNX Runtime."""

import functools
import http.server
import json
import os
import shutil
import subprocess
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import headstart
from headstart.data.images import RESAMPLING, Preprocess, crop_and_resize
from headstart.errors import ExportError
from headstart.export.export_run import export_run
from headstart.export.writers import web
from support.photos import COLOURS, picture, write_photos

WEB = Path(headstart.__file__).parent / "export" / "web"
OWN_PAGE = """<!doctype html><meta charset="utf-8"><title>own</title><link rel="icon" href="data:,">
<p id="answer"></p><input id="file" type="file">
<script type="module">
import { load } from "./headstart.js";
const classifier = await load("./");
document.getElementById("file").addEventListener("change", async ({ target }) => {
  const answer = await classifier.predict(target.files[0]);
  const made = Object.assign(document.createElement("pre"), { textContent: JSON.stringify(answer) });
  document.body.append(made);
});
document.getElementById("answer").className = "ready";
</script>"""


@pytest.fixture(scope="module")
def runtime(tmp_path_factory):
    """The files of onnxruntime-web."""
    named = os.environ.get("HEADSTART_TEST_ORT")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(web, "SECONDS", 60)
        try:
            return web.find_runtime(named, tmp_path_factory.mktemp("downloads"))
        except ExportError as error:
            pytest.skip(f"onnxruntime-web is not there: {error}")


@pytest.fixture(scope="module")
def exported(tmp_path_factory, runtime):
    root = tmp_path_factory.mktemp("web")
    photos = write_photos(root / "photos", n=20)
    run = headstart.train(photos, root / "flags", cache=root / "cache", report="none", effort="quick")
    export = export_run(run.folder, format="web", output=root / "out", runtime=str(runtime))
    (export.folder / "own.html").write_text(OWN_PAGE)
    return export


class Quiet(http.server.SimpleHTTPRequestHandler):
    """`python -m http.server`, without its lines."""

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def address(exported):
    handler = functools.partial(Quiet, directory=str(exported.folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.fixture
def page(browser, address):
    context = browser.new_context(viewport={"width": 1000, "height": 800})
    page, said, asked = context.new_page(), [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    context.on("request", lambda request: asked.append(request.url))
    yield page
    context.close()
    assert said == []
    assert all(url.startswith((address, "blob:")) for url in asked), asked


@pytest.fixture
def pictures(tmp_path):
    """One of each colour, of many sizes and formats."""
    files = {}
    for i, (name, colour) in enumerate(COLOURS.items()):
        pixels = cv2.resize(picture(colour, 90 + i), (300 + 200 * i, 400))
        files[name] = tmp_path / f"{name}.{('jpg', 'png', 'webp')[i % 3]}"
        Image.fromarray(pixels).save(files[name])
    return files


def test_pictures_that_are_chosen_get_their_labels(page, address, pictures, tmp_path):
    page.goto(address)
    page.wait_for_selector("#loading.ready", timeout=60_000)
    assert "Nothing leaves this device" in page.inner_text("#state") and page.title() == "flags"
    for name, file in pictures.items():
        page.set_input_files("#files", str(file))
        page.wait_for_selector(f'.card:first-child .file[title="{file.name}"]')
        assert page.inner_text(".card:first-child h2") in (name, "I don't recognise this")
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    page.set_input_files("#files", str(broken))
    page.wait_for_selector(".card:first-child .note")
    assert page.inner_text(".card:first-child .note") == "broken.jpg: it cannot be read as a picture"
    assert page.locator(".card").count() == 4


def test_something_else_is_not_recognised(page, address, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    page.goto(address)
    page.wait_for_selector("#loading.ready", timeout=60_000)
    page.set_input_files("#files", str(tmp_path / "noise.png"))
    page.wait_for_selector('.card:first-child .file[title="noise.png"]')
    assert page.inner_text(".card:first-child h2") == "I don't recognise this"


def test_the_module_answers_as_headstart_does(page, address, exported, pictures):
    page.goto(f"{address}own.html")
    page.wait_for_selector("#answer.ready", timeout=60_000, state="attached")
    answers = runner_of(exported.file)
    about = json.loads((exported.folder / "classifier.json").read_text())
    for n, file in enumerate(pictures.values(), start=1):
        page.set_input_files("#file", str(file))
        page.wait_for_selector(f"pre:nth-of-type({n})", state="attached")
        answer = json.loads(page.locator("pre").nth(n - 1).text_content())
        expected = answers(file, Preprocess(about["preprocess"]["size"], crop=about["preprocess"]["crop"]))
        found = {row["label"]: row["probability"] for row in answer["top"]}
        assert [found[name] for name in about["classes"]] == pytest.approx(expected["probabilities"].tolist(), abs=0.005)
        assert answer["unfamiliarity"] == pytest.approx(float(expected["unfamiliarity"][0]), abs=0.03)
        assert answer["milliseconds"] > 0


def runner_of(file):
    """The exported network by ONNX Runtime, from a picture's file."""
    import onnxruntime

    session = onnxruntime.InferenceSession(file)

    def run(picture_file, preprocess):
        pixels = crop_and_resize(np.asarray(Image.open(picture_file).convert("RGB")), preprocess)
        names = [output.name for output in session.get_outputs()]
        return {name: rows[0] for name, rows in zip(names, session.run(names, {"image": pixels[None]}), strict=True)}

    return run


SCRIPT = """
import fs from "node:fs";
import { cropAndResize } from "./preprocess.mjs";
for (const [i, height, width, resample, size, crop] of JSON.parse(fs.readFileSync("cases.json"))) {
  const rgba = new Uint8ClampedArray(fs.readFileSync(`${i}.in`));
  fs.writeFileSync(`${i}.out`, cropAndResize(rgba, width, height, { size, crop, resample }));
}
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no node on the PATH")
def test_the_preprocessing_is_that_of_headstart(tmp_path):
    shapes = [(300, 200), (333, 500), (41, 37), (288, 400), (576, 600), (1153, 900), (64, 1)]
    cases = [(*shape, resample, *size) for shape in shapes for resample in RESAMPLING for size in ((288, 1.0), (96, 0.875))]
    random, images = np.random.default_rng(0), []
    for i, (height, width, *_) in enumerate(cases):
        images.append(random.integers(0, 256, (height, width, 3), dtype=np.uint8))
        np.dstack([images[-1], np.full((height, width), 255, np.uint8)]).tofile(tmp_path / f"{i}.in")
    (tmp_path / "cases.json").write_text(json.dumps([(i, *case) for i, case in enumerate(cases)]))
    shutil.copy(WEB / "preprocess.js", tmp_path / "preprocess.mjs")
    (tmp_path / "script.mjs").write_text(SCRIPT)
    subprocess.run(["node", "script.mjs"], cwd=tmp_path, check=True)
    for i, (height, width, resample, size, crop) in enumerate(cases):
        found = np.fromfile(tmp_path / f"{i}.out", np.uint8).reshape(size, size, 3).astype(int)
        expected = crop_and_resize(images[i], Preprocess(size, crop=crop, resample=resample))
        difference = np.abs(found - expected)
        is_cubic = resample == "bicubic" or (resample == "area" and min(height, width) * crop < size)
        assert difference.max() <= 1 and (difference == 0).mean() > (0.99 if is_cubic else 0.999999), cases[i]
