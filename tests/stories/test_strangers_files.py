"""Runs that strangers made: whatever their files hold, it is shown or refused, and nothing else happens."""

import contextlib
import copy
import io
import json
import random
import shutil
import zipfile

import numpy as np
import onnx
import pytest

from headstart.classifier.classifier import Classifier
from headstart.classifier.model_file import seal
from headstart.cli import main
from headstart.errors import DataError, HeadstartError
from headstart.report.maps.image import map_picture
from headstart.report.maps.page import MapContents, map_page
from headstart.report.page import report_page
from headstart.report.plots import table
from headstart.runs.findings import FILE_NAME
from headstart.runs.open import open_run
from headstart.safety import npz_arrays
from support.photos import write_photos

N_TRIALS = 80
ODD = (
    None, True, 0, -1, 3, 10**30, 2**63, -0.5, 1e308, float("nan"), float("inf"), "", "x", "\0", "\ud800", "\x1b[31m",
    [], {}, [None], [[]], [1, "a"], {"a": None}, {"": {}}, [[1, 2], [3]],
)  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory, deep_onnx):
    """A run with all that a run may hold: a ladder, a learning curve, calibration, issues."""
    root = tmp_path_factory.mktemp("run")
    photos = write_photos(root / "photos", n=10)
    arguments = ["train", photos, "-o", root / "run", "--backbone", deep_onnx, "--budget", 1, "--quiet"]
    assert main.main([str(a) for a in (*arguments, "--precision", "f32", "--cache", root / "cache")]) == 0
    return root / "run"


def places(value, path=()):
    """Every place in JSON, the outermost first."""
    yield path
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield from places(part, (*path, key))


def changed(about, draw):
    """JSON with something else at one to three of its places."""
    about = copy.deepcopy(about)
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        path = draw.choice(list(places(about)))
        inner = about
        for key in path[:-1]:
            inner = inner[key]
        if not path:
            return draw.choice(ODD)
        kind = draw.randrange(4)
        if kind == 0 and isinstance(inner, dict):
            del inner[path[-1]]
        elif kind == 1 and isinstance(inner[path[-1]], list):
            inner[path[-1]] = inner[path[-1]][: draw.randrange(3)] * draw.randrange(4)
        elif kind == 2:
            nested = []
            for _ in range(draw.choice((3, 30))):
                nested = [nested]
            inner[path[-1]] = nested
        else:
            inner[path[-1]] = draw.choice(ODD)
    return about


def changed_array(array, draw):
    """An array with other values, another shape or another type."""
    kind = draw.randrange(8)
    if kind == 0:
        return array[: len(array) // 2]
    if kind == 1:
        return array.astype(draw.choice(("float64", "int8", "uint8", "int64", "complex128", "S3", "U2", "M8[s]", "bool")))
    if kind == 2:
        return array.reshape(-1) if array.ndim > 1 else array[:, None]
    if kind == 3:
        return np.concatenate([array, array])
    if kind == 4:
        return np.zeros(draw.choice(((), (0,), (3, 0), (1, 1, 1), (7, 2))), array.dtype)
    if array.size:
        array = array.copy()
        odd = (-1, -(2**31), 2**31, 2**62, 127, 255) if array.dtype.kind in "iu" else (np.nan, np.inf, -1e30, 1e30, 2.0)
        with np.errstate(all="ignore"):
            array.flat[:: draw.choice((1, 3, array.size))] = np.array(draw.choice(odd)).astype(array.dtype)
    return array


def everything_drawn(folder, kinds=tuple(table.PLOTS)):
    """All that is made of a run: the report, the map as a page and a picture, and of these plots those it has.

    Raises what they raise.
    """
    saved = open_run(folder)
    contents = MapContents(saved.record, saved.findings, (), saved.issues)
    pages = report_page(saved.record, saved.findings, issues=saved.issues), map_page(contents)
    picture, drawn = map_picture(contents, size=(300, 300)), []
    for kind in kinds:
        table.PLOTS[kind].rows(saved.record, saved.findings)
        with contextlib.suppress(HeadstartError):  # what this run has no plot of
            table.PLOTS[kind].draw(saved.record, saved.findings, {})
            drawn.append(kind)
    return *pages, picture, drawn


def outcome(folder, draw):
    """Whether a changed run is drawn or refused; anything else goes through to the test."""
    try:
        everything_drawn(folder, [draw.choice(tuple(table.PLOTS))])
    except HeadstartError:
        return "refused"
    return "drawn"


def test_a_whole_run_is_drawn(run):
    report, page, picture, drawn = everything_drawn(run)
    assert all(name in shown for name in ("blue", "green", "red") for shown in (report, page))
    assert picture.startswith(b"\x89PNG") and drawn == [kind for kind in table.PLOTS if kind != "mistakes"]  # it made none


@pytest.mark.parametrize("file", ["run.json", "issues.json"])
def test_whatever_json_says_a_run_is_drawn_or_refused(run, tmp_path, file):
    folder, draw = shutil.copytree(run, tmp_path / "run"), random.Random(0)
    about, outcomes = json.loads((run / file).read_text()), []
    for _ in range(N_TRIALS):
        (folder / file).write_text(json.dumps(changed(about, draw)))
        outcomes.append(outcome(folder, draw))
    assert outcomes.count("refused") > N_TRIALS / 4 and "drawn" in outcomes


def test_whatever_arrays_hold_a_run_is_drawn_or_refused(run, tmp_path):
    folder, draw, outcomes = shutil.copytree(run, tmp_path / "run"), random.Random(0), []
    with np.load(run / FILE_NAME) as file:
        whole = dict(file)
    for _ in range(N_TRIALS):
        odd = dict(whole)
        for name in draw.sample(sorted(odd), draw.choice((1, 1, 2))):
            odd[name] = changed_array(odd[name], draw)
        np.savez(folder / FILE_NAME, **odd)
        outcomes.append(outcome(folder, draw))
    assert outcomes.count("refused") > N_TRIALS / 4 and "drawn" in outcomes


def zipped(folder, run, **members_of):
    """findings.npz with some members replaced: arrays, or the bytes of a member as they stand there."""
    with np.load(run / FILE_NAME) as whole:
        members = {**{name: whole[name] for name in whole.files}, **members_of}
    with zipfile.ZipFile(folder / FILE_NAME, "w", zipfile.ZIP_DEFLATED) as file:
        for name, value in members.items():
            content = io.BytesIO()
            if isinstance(value, bytes):
                content.write(value)
            else:
                np.lib.format.write_array(content, value)
            file.writestr(f"{name}.npy", content.getvalue())


def header(shape, descr="<i8"):
    content = io.BytesIO()
    np.lib.format.write_array_header_1_0(content, {"descr": descr, "fortran_order": False, "shape": shape})
    return content.getvalue()


HUGE = 10**12


@pytest.mark.parametrize(
    "odd",
    [
        {"digests": header((HUGE, 32), "|u1")},
        {"held_out": header((HUGE,)) + bytes(800)},
        {"labels": header((HUGE, HUGE))},
        {"names": header((2**70,), "|u1")},
        {"splits": header((-5,), "|i1")},
        {"space": header((), "|O")},
        {"labels": np.array([{"a": 1}] * 30, object)},
        {"labels": header((30,), [("a", "<i8")]) + bytes(240)},
        {"digests": np.zeros((30, 31), np.uint8)},
        {"labels": header((30,)).replace(b"(30,)", b"-" * 60 + b"9")},
        {"labels": b"\x93NUMPY\x01\x00\xff\xff" + b" " * 65_535},
        {"labels": b""},
    ],
)
def test_headers_that_lie_are_refused_before_anything_is_made_room_for(run, tmp_path, odd):
    folder = shutil.copytree(run, tmp_path / "run")
    zipped(folder, run, **odd)
    with pytest.raises(DataError, match="not whole, or not headstart's"):
        open_run(folder)


def test_a_file_that_unfolds_out_of_all_proportion_is_refused(run, tmp_path, monkeypatch):
    folder = shutil.copytree(run, tmp_path / "run")
    monkeypatch.setattr(npz_arrays, "MOST_BYTES", 100_000)
    open_run(folder)
    zipped(folder, run, names=np.zeros(30_000_000, np.uint8))
    with pytest.raises(DataError, match="unfolds to 30,0"):
        open_run(folder)


def test_a_name_that_no_system_takes_is_refused(run, tmp_path):
    folder = shutil.copytree(run, tmp_path / "run")
    zipped(folder, run, names=np.frombuffer(b"a\0" * 29 + b"/a" * 100_000 + b"\0", np.uint8))
    with pytest.raises(DataError, match="too long"):
        open_run(folder)


@pytest.fixture(scope="module")
def other(tmp_path_factory, deep_onnx):
    """A run on the same number of photos, of other classes."""
    root = tmp_path_factory.mktemp("other")
    photos = write_photos(root / "photos", n=10)
    (photos / "blue").rename(photos / "indigo")
    arguments = ["train", photos, "-o", root / "run", "--backbone", deep_onnx, "--budget", 0, "--quiet"]
    assert main.main([str(a) for a in (*arguments, "--precision", "f32")]) == 0
    return root / "run"


@pytest.mark.parametrize("name", ["report", "evaluate", "explain", "map"])
def test_a_classifier_of_other_classes_than_the_run_is_refused(run, other, tmp_path, capsys, name):
    folder = shutil.copytree(run, tmp_path / "run")
    shutil.copy(other / "model.onnx", folder)
    photo = next((other.parent / "photos" / "red").iterdir())
    more = {
        "evaluate": [photo.parents[1], "-o", tmp_path / "e"],
        "explain": [photo],
        "map": ["--add", photo, "-o", tmp_path / "m.html"],
    }
    assert main.main([str(a) for a in (name, folder, *more.get(name, []), "--quiet")]) == 1
    assert "not of one run" in capsys.readouterr().err
    assert not (tmp_path / "e").exists() and not (tmp_path / "m.html").exists()


def test_a_network_that_is_put_together_in_another_way_explains_nothing(run, tmp_path, capsys):
    folder, photo = shutil.copytree(run, tmp_path / "run"), next((run.parent / "photos" / "red").iterdir())
    classifier = Classifier.load(run)
    model = onnx.load_from_string(classifier.content)
    del model.metadata_props[:]
    for part in (*model.graph.node, *model.graph.initializer):
        for names in (getattr(part, "input", []), getattr(part, "output", [])):
            names[:] = [name.replace("head.", "foot.") for name in names]
        part.name = part.name.replace("head.", "foot.")
    (folder / "model.onnx").write_bytes(seal(model, classifier.about))
    assert main.main(["explain", str(folder), str(photo)]) == 1
    assert "not put together as headstart does it" in capsys.readouterr().err
