"""Does every exported file answer as the classifier does, how large is it, and how fast? On all the shared sets.

    python benchmarks/export.py [--sets flowers ...] [--chromium /usr/bin/chromium] [--record]

A classifier is trained on each set, and on the flowers with each built-in backbone, and exported to every format whose
packages are installed; each is compared on the set's photos. Beside that: what `predict` answers with its usual precision
against f32; 8 bits and f32 in OpenVINO, photos a second; and the exported page in Chromium: how long until the first answer,
how long a photo takes, and how far its probabilities are from `predict`'s.
"""

from __future__ import annotations

import functools
import http.server
import json
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import headstart
from headstart.backbones.builtin import BACKBONES
from headstart.engines.hardware import Hardware
from headstart.engines.openvino_engine import OpenVINOEngine
from headstart.errors import HeadstartError
from headstart.export.export_run import export_run
from headstart.export.formats import FORMATS
from headstart.export.original import MOST, JudgingPhotos, Original, judging_photos, open_original, stacked
from headstart.trust.unfamiliarity import roc_auc
from machine import Line, arguments, lines_table, machine, report, table

SETS = ("flowers", "alpaca", "ants_bees", "star_clusters", "trash", "dtd10")
HIGH = 0.99  # of photos
MARGIN = 0.02  # of the two highest probabilities, above which no label may move
N_RATE = 200
FIRST = 8  # photos in the browser, before the time of one is taken
PAGE = """<!doctype html><meta charset="utf-8"><title>benchmark</title><link rel="icon" href="data:,">
<input id="files" type="file" multiple><p id="state"></p><script type="module">
import { load } from "./headstart.js";
const started = performance.now();
const classifier = await load("./");
const opened = performance.now() - started;
document.getElementById("files").addEventListener("change", async ({ target }) => {
  const answers = [];
  for (const file of target.files) answers.push(await classifier.predict(file));
  document.getElementById("state").textContent = JSON.stringify({ opened, answers });
  document.getElementById("state").className = "done";
});
document.getElementById("state").className = "ready";
</script>"""


def runs(shared: Path, tmp: Path, sets: list[str]) -> Iterator[tuple[str, Path]]:
    """A training of each set with the default backbone, and of flowers with the others."""
    for name in sets:
        yield name, headstart.train(shared / "data" / name, tmp / name, cache=tmp / "cache", report="none").folder
    for backbone in list(BACKBONES)[1:]:
        place = tmp / f"flowers, {backbone}"
        options: dict[str, Any] = {"backbone": backbone, "cache": tmp / "cache", "report": "none"}
        yield place.name, headstart.train(shared / "data" / "flowers", place, **options).folder


def exports(name: str, run: Path, tmp: Path) -> Iterator[dict[str, Any]]:
    """A row for each format that is installed."""
    for row in FORMATS.values():
        if row.missing:
            continue
        try:
            made = export_run(run, format=row.name, output=tmp / "exports" / name / row.name, accept_loss=True)
        except HeadstartError as error:
            yield {"set": name, "format": row.name, "error": str(error)}
            continue
        yield {"set": name, **made.to_json(), "least_same": row.least_same}


def answers(engine: OpenVINOEngine, original: Original, photos: JudgingPhotos) -> dict[str, np.ndarray]:
    """What an engine says of photos."""
    return stacked(engine.infer(pixels) for pixels in original.all_pixels(photos))


def precision(name: str, run: Path) -> dict[str, Any]:
    """The usual precision against f32, on all photos of a set."""
    original = open_original(run)
    photos = judging_photos(original, None)
    exact = original.answers(photos)["probabilities"]
    usual = answers(OpenVINOEngine(original.classifier.content), original, photos)["probabilities"]
    apart, best = np.abs(exact - usual).max(axis=1), np.sort(exact, axis=1)
    is_moved = exact.argmax(axis=1) != usual.argmax(axis=1)
    is_clear = best[:, -1] - best[:, -2] > MARGIN
    return {
        "set": name,
        "n": len(exact),
        "largest": float(apart.max()),
        "high": float(np.quantile(apart, HIGH)),
        "moved": int(is_moved.sum()),
        "moved_clear": int((is_moved & is_clear).sum()),
    }


def in_8_bits(run: Path, folder: Path, strangers: Path) -> dict[str, float]:
    """Photos a second in f32 and 8 bits, and how well photos of another set are told from familiar ones, in both."""
    original, other = open_original(run), open_original(strangers)
    photos = judging_photos(original, None)
    pixels = [original.pixels(content) for content in photos.contents[:N_RATE]]
    strange = [original.pixels(content) for content in judging_photos(other, None).contents[:N_RATE]]
    is_strange = np.arange(len(pixels) + len(strange)) >= len(pixels)
    told = {}
    for name, network in (("f32", original.classifier.content), ("int8", folder / "classifier.xml")):
        engine = OpenVINOEngine(network, Hardware(precision="f32"))
        start = time.perf_counter()
        rows = [result.outputs for result in engine.stream(pixels + strange, lambda _, image: image)]
        told[f"{name}, images/s"] = len(rows) / (time.perf_counter() - start)
        values = np.array([row["unfamiliarity"][0] for row in rows if row is not None])
        told[f"{name}, AUROC"] = float(roc_auc(values, is_strange))
    return told


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder as `python -m http.server` does."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


def in_browser(run: Path, folder: Path, chromium: str) -> dict[str, Any]:
    """The page in Chromium, one thread: seconds to the first answer, milliseconds a photo, and agreement with predict."""
    from playwright.sync_api import sync_playwright

    original = open_original(run)
    assert original.saved is not None
    files = [str(image) for image in original.saved.images if isinstance(image, str)][:MOST]
    (folder / "benchmark.html").write_text(PAGE)
    with served(folder) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        start = time.perf_counter()
        page.goto(f"{address}benchmark.html")
        page.wait_for_selector("#state.ready", state="attached")
        page.set_input_files("#files", files[0])
        page.wait_for_selector("#state.done", state="attached")
        first = time.perf_counter() - start
        page.evaluate("document.getElementById('state').className = ''")
        page.set_input_files("#files", files)
        page.wait_for_selector("#state.done", state="attached", timeout=600_000)
        told = json.loads(page.inner_text("#state"))
        browser.close()
    apart = {precision: _apart(told["answers"], run, files, precision) for precision in ("f32", "auto")}
    milliseconds = [answer["milliseconds"] for answer in told["answers"][FIRST:]]
    sizes = json.loads((folder / "classifier.json").read_text())["bytes"]
    return {
        "first": first,
        "milliseconds": float(np.median(milliseconds)),
        "high": float(np.quantile(apart["f32"], HIGH)),
        "high_usual": float(np.quantile(apart["auto"], HIGH)),
        "bytes": sum(sizes.values()),
        "n": len(files),
    }


def _apart(told: list[dict[str, Any]], run: Path, files: list[str], precision: str) -> list[float]:
    """How far each photo's probabilities in the browser are from predict's."""
    classifier, apart = headstart.load(run, precision=precision), []
    for answer, prediction in zip(told, classifier.stream(files, top=len(classifier.classes)), strict=True):
        ours = dict(prediction.top)
        apart.append(max(abs(row["probability"] - ours[row["label"]]) for row in answer["top"]))
    return apart


def lines_of(result: dict[str, Any]) -> Iterator[Line]:
    """What is to hold."""
    rows = [row for row in result["exports"] if "error" not in row]
    for row in result["precision"]:
        yield Line(f"predict against f32, {row['set']}: 99 % of photos within", row["high"], "", 0.01)
        yield Line(f"predict against f32, {row['set']}: clear labels moved", row["moved_clear"], "", 0)
    yield Line("export, the slowest format, default backbone", max(row["seconds"] for row in rows), "s", 60)
    for name in sorted({row["format"] for row in rows}):
        same = [row["parity"]["same_share"] for row in rows if row["format"] == name]
        least = next(row["least_same"] for row in rows if row["format"] == name)
        yield Line(f"{name}: the same label, the least of {len(same)} classifiers", min(same), "", least, at_least=True)
    for name in ("int8", "int8-openvino"):
        some = [row["parity"]["accuracy"] for row in rows if row["format"] == name and row["parity"]["accuracy"]]
        if some:
            lost = sum(row["original"]["n_correct"] - row["export"]["n_correct"] for row in some)
            n = sum(row["original"]["n_correct"] / max(row["original"]["share"], 1e-9) for row in some)
            yield Line(f"{name}: accuracy lost on all test photos", 100 * lost / n, "points", 1)
    if told := result.get("int8"):
        yield Line(
            "8 bits against f32 in OpenVINO, photos/s", told["int8, images/s"] / told["f32, images/s"], "x", 1.3, True
        )
        yield Line("8 bits: AUROC of unfamiliar photos lost", told["f32, AUROC"] - told["int8, AUROC"], "", 0.01)
    for name, told in result["web"].items():
        yield Line(f"web, {name}: from opening the page to the first answer", told["first"], "s", 2.5)
        yield Line(f"web, {name}: a photo, one thread", told["milliseconds"], "ms", 150)
        yield Line(f"web, {name}: 99 % of photos within, of predict in f32", told["high"], "", 0.005)
        yield Line(f"web, {name}: the same of predict as it is", told["high_usual"])
        yield Line(f"web, {name}: to load", told["bytes"] / 1e6, "MB", 25)


def text_of(result: dict[str, Any], lines: list[Line]) -> str:
    """The tables."""
    rows = []
    for row in result["exports"]:
        if "error" in row:
            rows.append((row["set"], row["format"], row["error"][:60], *[""] * 6))
            continue
        told = row["parity"]
        accuracy = told["accuracy"]
        shares = " to ".join(f"{accuracy[key]['share']:.1%}" for key in ("original", "export")) if accuracy else ""
        strange = "" if told["unfamiliarity"] is None else f"{told['unfamiliarity']['largest']:.3f}"
        numbers = f"{told['probability']['largest']:.4f}", f"{told['probability']['high']:.4f}", strange
        took = f"{row['milliseconds']['original']:.1f} to {row['milliseconds']['export']:.1f}"
        size = f"{row['bytes'] / 1e6:.1f}"
        rows.append((row["set"], row["format"], f"{told['same_share']:.1%}", *numbers, shares, size, took))
    header = ("set", "format", "same label", "largest dp", "99 % dp", "largest du", "accuracy", "MB", "ms")
    return f"{table(header, rows)}\n\n{lines_table(lines)}"


def main() -> None:
    """Measure, print, record."""
    parser = arguments("Exported classifiers against the original, format by format.")
    parser.add_argument(
        "--sets", nargs="*", default=list(SETS), help=f"which of the shared sets (default: {' '.join(SETS)})"
    )
    parser.add_argument("--chromium", default="/usr/bin/chromium", help="the browser (default: /usr/bin/chromium)")
    options = parser.parse_args()
    about, result = machine(), {"exports": [], "precision": [], "web": {}}
    with tempfile.TemporaryDirectory() as name:
        tmp, made = Path(name), {}
        for what, run in runs(options.shared, tmp, options.sets):
            made[what] = run
            result["exports"] += exports(what, run, tmp)
            result["precision"].append(precision(what, run))
            web = tmp / "exports" / what / "web"
            if web.is_dir() and Path(options.chromium).exists():
                result["web"][what] = in_browser(run, web, options.chromium)
        eight = tmp / "exports" / options.sets[0] / "int8-openvino"
        if eight.is_dir() and len(options.sets) > 1:
            result["int8"] = in_8_bits(made[options.sets[0]], eight, made[options.sets[1]])
    lines = list(lines_of(result))
    report("export", options, about, {**result, "lines": lines}, text_of(result, lines))


if __name__ == "__main__":
    main()
