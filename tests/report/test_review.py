"""What lies between a finished run and its report: review, saved, retest, fitting, likeness, probes, heat pictures."""

import hashlib
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import simplejpeg
from PIL import Image

import headstart
from headstart.checks import photo_groups
from headstart.classifier.classifier import Classifier
from headstart.codes.representation import Representation
from headstart.codes.workspace import Workspace
from headstart.data.datasets import load_dataset
from headstart.data.decoding import Failure
from headstart.data.images import load_image
from headstart.data.splits import N_FOLDS, TEST, TRAIN
from headstart.engines.hardware import Hardware
from headstart.errors import BackboneError, DataError, OutputError
from headstart.evaluation.metrics import evaluate
from headstart.heads.labelled_codes import LabelledCodes
from headstart.report import review
from headstart.report.heat_image import overlaid, write_heat
from headstart.report.probes import probes
from headstart.report.review import N_EXPLAINED, pictures_of, with_probes, write_issues, write_report
from headstart.report.sentences.trust import unfamiliar
from headstart.runs.findings import Findings
from headstart.runs.folder import reserve
from headstart.runs.open import open_run
from headstart.runs.photo_paths import may_open
from headstart.selection.loss_curve import MOST_WATCHED, loss_curve
from headstart.training.evaluate_run import evaluate_run
from support.photos import COLOURS, picture, write_photos


@pytest.fixture(scope="module")
def run(tmp_path_factory, deep_onnx):
    """A run whose photos of one class are labelled as another's, so that it makes mistakes; never changed by these tests."""
    root = tmp_path_factory.mktemp("review")
    photos = write_photos(root / "photos", n=8)
    for i in range(6):
        shutil.move(photos / "red" / f"red {i}.png", photos / "blue" / f"no blue {i}.png")
    return headstart.train(
        photos, root / "run", backbone=str(deep_onnx), budget=0, cache=root / "cache", precision="f32"
    ).folder


@pytest.fixture
def opened(run):
    return open_run(run)


def reviewed(saved, images=None, **options):
    pictures = pictures_of(saved.findings, saved.images, None)
    return review.review(saved.classifier(), saved.findings, saved.images if images is None else images, pictures, **options)


# ---- review


def test_a_review_explains_the_surest_mistakes(opened):
    told = []
    seen = reviewed(opened, progress=lambda *a: told.append(a))
    mistakes = opened.findings.mistakes().tolist()
    assert len(mistakes) >= 2 and [e.row for e in seen.explained] == mistakes[:N_EXPLAINED]
    assert told == [("explain", i, len(seen.explained)) for i in range(len(seen.explained))]
    first, findings = seen.explained[0], opened.findings
    square = simplejpeg.decode_jpeg(first.square)
    assert square.shape == (32, 32, 3) and 0 <= first.heat.min() <= first.heat.max() <= 1
    assert len(first.nearest) == 3 and (findings.splits[list(first.nearest)] != TEST).all()
    assert all(picture[:2] == b"\xff\xd8" for picture in (*seen.pictures, *seen.probe_pictures))
    assert [p["name"] for p in seen.probes] == list(probes()) and len(seen.probe_pictures) == len(seen.probes)


def test_photos_that_are_gone_or_others_by_now_are_not_explained(opened, tmp_path):
    gone, changed, *others = opened.findings.mistakes().tolist()
    other = tmp_path / "other.png"
    Image.fromarray(picture((1, 2, 3), 1)).save(other)
    images = [*opened.images]
    images[gone], images[changed] = None, other
    assert [e.row for e in reviewed(opened, images).explained] == others[:N_EXPLAINED]
    everything = reviewed(opened, [None] * len(images))
    assert everything.explained == () and len(everything.probes) == 6


def test_a_network_that_cannot_be_explained_leaves_a_review_without_heat(opened, tmp_path, monkeypatch):
    class Broken:
        def __init__(self, _):
            raise BackboneError("not in 32 bits")

    monkeypatch.setattr(review, "Explainer", Broken)
    seen = reviewed(opened)
    assert (seen.explained, seen.probes, seen.probe_pictures) == ((), (), ())
    write_report(tmp_path, with_probes(opened.record, seen), opened.findings, opened.issues, seen)
    assert "something else" not in unfamiliar(with_probes(opened.record, seen))
    assert (tmp_path / "report.html").stat().st_size > 10_000


def test_probes_are_told_in_a_sentence(opened):
    seen = reviewed(opened)
    rows = tuple({**probe, "unfamiliarity": u} for probe, u in zip(seen.probes, (2, 1.5, 1.0, 0.2, None, 3), strict=True))
    about = with_probes({"unfamiliar": {"method": "distance"}}, replace(seen, probes=rows))
    assert about["unfamiliar"]["method"] == "distance" and about["unfamiliar"]["probes"] == list(rows)
    assert unfamiliar(about) == "Of 5 pictures of something else altogether it noticed 3."
    for nothing in ({}, {"unfamiliar": None}):
        assert with_probes(nothing, seen) == nothing


def test_small_pictures_come_from_the_store_where_photos_are_gone(opened, store):
    nobody = [None] * len(opened.images)
    assert set(pictures_of(opened.findings, nobody, store)) == {None}
    there = pictures_of(opened.findings, opened.images, store)
    assert None not in there and pictures_of(opened.findings, nobody, store) == there
    assert set(pictures_of(opened.findings, nobody, None)) == {None}


def test_issues_and_report_are_written_or_the_reason_is_told(opened, tmp_path):
    issues = [{"kind": "label", "path": "caf\udce9", "paths": ["caf\udce9"], "sentence": "</script>"}]
    write_issues(tmp_path, issues)
    assert json.loads((tmp_path / "issues.json").read_text())["issues"] == issues
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"issues\.json cannot be written"):
        write_issues(tmp_path / "file", [])


# ---- probes


def test_probes_are_the_same_pictures_every_time():
    first, second = probes(), probes()
    assert len(first) == 6 and list(first) == list(second)
    for name, pixels in first.items():
        assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3 and min(pixels.shape[:2]) > 200
        np.testing.assert_array_equal(pixels, second[name])
        assert pixels.std() > 5  # there is something to see on each


# ---- saved


def a_run(folder, names, photos, *, classes=("a", "b")):
    """A run folder that knows of photos by these names."""
    folder.mkdir()
    n = len(names)
    labels, p = np.arange(n) % 2, np.full((n, len(classes)), 1 / len(classes), np.float32)
    Findings(
        names=tuple(names),
        labels=labels,
        splits=np.full(n, TRAIN, np.int8),
        digests=np.zeros((n, 32), np.uint8),
        groups=np.arange(n),
        held_out=np.arange(n),
        probabilities=p,
        unfamiliarity=np.zeros(n, np.float32),
        space=np.zeros((n, 2), np.float16),
        space_mean=np.zeros(4, np.float32),
        space_axes=np.zeros((4, 2), np.float32),
        positions=np.zeros((n, 2), np.float32),
    ).save(folder)
    about = {
        "classes": list(classes),
        "photos": str(photos),
        "images": {"used": n},
        "evaluation": evaluate(p, labels, classes).to_json(),
    }
    (folder / "run.json").write_text(json.dumps(about))
    return folder


def lie(root, *names):
    """Put files there; what they hold does not matter to where they are."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"\xff\xd8\xff")
    return root


FILES = ("a/1.jpg", "a/deeper/2.jpg", "b/1.jpg", "b/caf\udce9.jpg")


@pytest.mark.parametrize(
    "typed", ["{root}/photos", "photos", ".", "..", "../photos", "./x/../photos", "root/photos", "../root/photos"]
)
def test_photos_are_found_wherever_the_run_was_made_and_they_lie_now(tmp_path, typed):
    root = tmp_path / "root"
    lie(root / "photos", *FILES)
    typed = typed.format(root=root)
    run = a_run(tmp_path / "run", [os.path.join(typed, name) for name in FILES], root / "photos")
    assert list(map(str, open_run(run).images)) == [str(root / "photos" / name) for name in FILES]
    assert open_run(run).issues == [] and open_run(run).n_gone == 0
    (root / "photos").rename(tmp_path / "elsewhere")
    assert open_run(run).images == [None] * 4 and open_run(run).n_gone == 4
    found = open_run(run, photos=tmp_path / "elsewhere").images
    assert list(map(str, found)) == [str(tmp_path / "elsewhere" / name) for name in FILES]


def test_a_class_that_is_called_as_the_folder_is_found(tmp_path):
    lie(tmp_path / "cat", "cat/1.jpg", "dog/1.jpg")
    for i, typed in enumerate((".", "cat", str(tmp_path / "cat"))):
        run = a_run(tmp_path / f"run{i}", [f"{typed}/cat/1.jpg", f"{typed}/dog/1.jpg"], tmp_path / "cat")
        assert [Path(image).parent.name for image in open_run(run).images] == ["cat", "dog"]


def test_a_folder_that_could_not_be_learnt_from_any_more_still_holds_its_photos(tmp_path):
    lie(tmp_path / "photos", *FILES)
    run = a_run(tmp_path / "run", [str(tmp_path / "photos" / name) for name in FILES], tmp_path / "photos")
    shutil.rmtree(tmp_path / "photos" / "b")
    assert [image is not None for image in open_run(run).images] == [True, True, False, False]


def test_photos_of_a_table_are_found_beside_it_or_where_they_were(tmp_path):
    lie(tmp_path / "data", "photos/1.jpg", "photos/2.jpg", "t.csv")
    lie(tmp_path / "far", "3.jpg")
    names = [*(f"data/photos/{i}.jpg" for i in (1, 2)), str(tmp_path / "far" / "3.jpg")]
    run = a_run(tmp_path / "run", names, tmp_path / "data" / "t.csv")
    assert open_run(run).n_gone == 0
    (tmp_path / "data").rename(tmp_path / "moved")
    assert open_run(run).n_gone == 2
    assert open_run(run, photos=tmp_path / "moved" / "t.csv").n_gone == 0


REMOTE = (r"\\host\share\photos", "//host/share/photos", r"\\?\UNC\host\share")


@pytest.mark.parametrize("remote", REMOTE)
def test_another_machine_is_asked_for_nothing_because_a_run_names_it(tmp_path, monkeypatch, remote):
    lie(tmp_path / "photos", "a/1.jpg", "b/1.jpg")
    asked = []

    def is_file(path, isfile=os.path.isfile):
        asked.append(os.fspath(path))
        return isfile(path)

    monkeypatch.setattr(os.path, "isfile", is_file)
    run = a_run(tmp_path / "by name", [str(tmp_path / "photos" / "a" / "1.jpg"), f"{remote}/b/1.jpg"], tmp_path / "photos")
    assert [image is None for image in open_run(run).images] == [False, True]
    run = a_run(tmp_path / "by folder", ["a/1.jpg", "b/1.jpg"], remote)
    assert open_run(run).images == [None, None]
    assert asked and not [path for path in asked if path.startswith(("\\\\", "//"))]
    assert open_run(run, photos=tmp_path / "photos").n_gone == 0  # where the user says that they lie


@pytest.mark.parametrize(
    ("name", "photos", "opens"),
    [
        ("/p/a.jpg", "/p", True), ("/p/a/b c.jpg", "/p/", True), ("/p", "/p", False), ("/pa/b.jpg", "/p", False),
        ("/p/../a.jpg", "/p", False), ("/p/./a.jpg", "/p", False), ("/p//a.jpg", "/p", False), ("//p/a.jpg", "//p", False),
        ("/p/a\\b.jpg", "/p", False), ("/p/.../a.jpg", "/p", False), ("/p/a.jpg", "/p/t.csv", True), ("a.jpg", "/p", False),
        (r"C:\p\a.jpg", r"C:\p", True), ("c:/P/a.jpg", r"C:\p", True), (r"D:\p\a.jpg", r"C:\p", False),
        (r"C:\p\..\a.jpg", r"C:\p", False), (r"C:\p\.. \a.jpg", r"C:\p", False), (r"C:\p\a.jpg", r"C:\p\t.parquet", True),
        (r"\\host\p\a.jpg", r"\\host\p", False), ("http://h/a.jpg", "http://h", False), ("", "", False), ("/", "/", False),
    ],
)  # fmt: skip
def test_a_page_opens_what_lies_in_the_runs_own_folder(name, photos, opens):
    assert may_open(name, photos) is opens


@pytest.mark.parametrize(
    ("name", "opens"),
    [("a/b.jpg", True), ("../a.jpg", False), ("http:x", False), (r"\\h\a", False), ("a//b", False), ("", False)],
)
def test_with_a_base_names_may_be_relative(name, opens):
    assert may_open(name, "/p", has_base=True) is opens


def test_a_place_that_is_not_there_is_refused(tmp_path):
    run = a_run(tmp_path / "run", ["a/1.jpg", "b/1.jpg"], tmp_path / "photos")
    with pytest.raises(DataError, match=r"there is no .*nowhere; --photos names"):
        open_run(run, photos=tmp_path / "nowhere")


@pytest.mark.parametrize("lacking", ["classes", "photos", "images", "evaluation"])
def test_a_run_json_that_says_too_little_is_told(tmp_path, lacking):
    run = a_run(tmp_path / "run", ["a/1.jpg", "b/1.jpg"], tmp_path)
    about = json.loads((run / "run.json").read_text())
    for value in (None, 3):
        (run / "run.json").write_text(json.dumps({**about, lacking: value}))
        with pytest.raises(DataError, match=lacking):
            open_run(run)


# ---- retest


def test_an_evaluation_may_leave_nothing_behind(run, opened, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photos, told = opened.record["photos"], []
    tested = evaluate_run(run, photos, write=False, precision="f32", progress=lambda *a: told.append(a))
    assert tested.folder is None and not list(tmp_path.iterdir())
    assert [list(row) for row in tested.evaluation.confusion] == opened.record["evaluation"]["confusion"]
    assert ("evaluate", 24, 24) in told and tested.comparison is None
    with pytest.raises(OutputError, match="never overwritten"):
        evaluate_run(run, "nowhere", output=run)  # told before any work
    with reserve(tmp_path / "taken", photos), pytest.raises(OutputError, match="another run writes"):
        evaluate_run(run, "nowhere", output=tmp_path / "taken")


def test_the_photos_of_an_evaluation_lie_where_their_likes_lie(run, opened, tmp_path):
    folder = evaluate_run(run, opened.record["photos"], output=tmp_path / "again", precision="f32").folder
    again, known = Findings.load(folder), opened.findings
    (rows,) = np.nonzero(known.splits == TEST)
    rows = np.array(sorted(rows, key=lambda i: known.names[i]))  # as they are listed; a run has the order of their content
    assert again.names == tuple(known.names[i] for i in rows) and (again.splits == TEST).all()
    np.testing.assert_array_equal(again.digests, known.digests[rows])
    np.testing.assert_array_equal(again.labels, known.labels[rows])
    np.testing.assert_allclose(again.space.astype(float), known.space[rows].astype(float), atol=5e-3)
    of_test = np.searchsorted(known.held_out, rows)
    np.testing.assert_allclose(again.probabilities, known.probabilities[of_test], atol=5e-3)
    np.testing.assert_allclose(again.unfamiliarity, known.unfamiliarity[rows], rtol=0.1)
    assert np.isfinite(again.positions).all()


def test_an_evaluation_copes_with_a_run_that_has_no_place_for_photos(run, opened, tmp_path):
    copy = shutil.copytree(run, tmp_path / "copy")
    replace(opened.findings, positions=np.full_like(opened.findings.positions, np.nan)).save(copy)
    folder = evaluate_run(copy, opened.record["photos"], output=tmp_path / "again").folder
    assert np.isnan(Findings.load(folder).positions).all()


# ---- fitting


def clouds(n, k=3, d=8, *, seed=0, apart=3.0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % k
    codes = (rng.normal(size=(n, d)) + apart * np.eye(d)[labels]).astype(np.float32)
    return codes, labels, [hashlib.sha256(b"%d" % i).digest() for i in range(n)]


def watched(codes, labels, digests, *, kind="softmax", strength=0.01, n_classes=3):
    return loss_curve(
        LabelledCodes(codes, labels, n_classes, digests, (codes.shape[1],)), kind=kind, strength=strength, threads=1
    )


def test_what_can_be_learnt_is_learnt_step_by_step():
    codes, labels, digests = clouds(150)
    told = watched(codes, labels, digests)
    assert told["n_train"] + told["n_validation"] == 150 and 15 < told["n_validation"] < 45
    steps = told["steps"]
    assert [s["step"] for s in steps] == list(range(len(steps))) and len(steps) > 2
    assert steps[-1]["train_cross_entropy"] < steps[0]["train_cross_entropy"] - 0.3
    assert steps[-1]["train_accuracy"] > 0.9 and steps[-1]["validation_accuracy"] > 0.8
    assert watched(codes, labels, digests) == told


def test_what_is_learnt_by_heart_shows_as_a_gap():
    codes, _, digests = clouds(90, d=64, apart=0)
    labels = np.random.default_rng(1).integers(0, 3, 90)
    last = watched(codes, labels, digests, strength=1e-5)["steps"][-1]
    assert last["train_accuracy"] > 0.9 and last["validation_accuracy"] < 0.65
    assert last["validation_cross_entropy"] > last["train_cross_entropy"] + 1


def test_several_labels_an_image_are_watched_too():
    codes, labels, digests = clouds(120)
    many = np.eye(3, dtype=np.uint8)[labels] | np.eye(3, dtype=np.uint8)[:, [1, 2, 0]][labels]
    last = watched(codes, many, digests, kind="sigmoid")["steps"][-1]
    assert last["train_accuracy"] > 0.7 and last["train_cross_entropy"] < np.log(2) * 3


def test_copies_never_stand_on_both_sides():
    codes, labels, digests = clouds(100)
    same = [digests[i % 10] for i in range(100)]  # ten photos, ten times each
    told = watched(codes, labels, same)
    assert told["n_train"] % 10 == 0 and told["n_validation"] % 10 == 0


@pytest.mark.parametrize("kind", ["hidden", "nearest", "class-mean", "fine-tuned"])
def test_heads_without_steps_have_no_curve(kind):
    assert watched(*clouds(60), kind=kind) is None


def test_too_few_photos_have_no_curve_and_too_many_are_drawn_by_content():
    codes, labels, digests = clouds(3)
    assert watched(codes, labels, [digests[0]] * 3) is None
    codes, labels, digests = clouds(MOST_WATCHED + 500)
    told = watched(codes, labels, digests)
    assert told["n_train"] + told["n_validation"] == MOST_WATCHED
    order = np.random.default_rng(0).permutation(len(labels))
    again = watched(codes[order], labels[order], [digests[i] for i in order])
    assert (again["n_train"], again["n_validation"]) == (told["n_train"], told["n_validation"])
    assert again["steps"][-1]["validation_accuracy"] == pytest.approx(told["steps"][-1]["validation_accuracy"], abs=0.02)
    assert told["n_validation"] == pytest.approx(MOST_WATCHED / N_FOLDS, rel=0.2)


# ---- near duplicates


@pytest.fixture
def workspace(tmp_path):
    with Workspace(tmp_path / "workspace", Hardware()) as workspace:
        yield workspace


@pytest.fixture
def compared(photos, tiny, workspace):
    """Compare the photos of the folder, as they are now."""

    def compare():
        dataset = load_dataset(photos)
        codes = workspace.represent(dataset.images, Representation((tiny,)))
        return photo_groups.group_photos(dataset, codes, workspace)

    return compare


def test_near_duplicates_are_one_group(photos, compared):
    with Image.open(photos / "red" / "red 3.png") as image:
        image.save(photos / "red" / "smaller.jpg", quality=90)
    shutil.copy(photos / "blue" / "blue 0.png", photos / "green" / "no green.png")
    found = compared()
    names = [os.path.basename(found.dataset.images[i]) for i in found.codes.index]
    group = dict(zip(names, found.groups, strict=True))
    assert group["red 3.png"] == group["smaller.jpg"] and group["blue 0.png"] == group["no green.png"]
    assert len(set(found.groups)) == 60 and found.notes == () and None not in found.image_stats.pictures
    notes = []
    issues = found.issues(notes)
    assert {"near-duplicate", "duplicate"} <= {issue["kind"] for issue in issues} and notes == []  # no split is given
    assert [i["score"] for i in issues] == sorted(i["score"] for i in issues)


def test_unreadable_files_are_among_the_issues(photos, compared):
    (photos / "red" / "note.jpg").write_text("no photo")
    assert any(i["kind"] == "unreadable" and i["path"].endswith("note.jpg") for i in compared().issues([]))


def test_a_photo_that_changes_before_it_is_compared_is_told(photos, tiny, workspace):
    dataset = load_dataset(photos)
    codes = workspace.represent(dataset.images, Representation((tiny,)))
    shutil.copy(photos / "blue" / "blue 0.png", photos / "red" / "red 3.png")
    (note,) = photo_groups.group_photos(dataset, codes, workspace).notes
    assert note.startswith("1 photo changed or vanished before") and note.endswith("red 3.png")


def test_too_many_photos_are_not_compared_and_that_is_told(photos, compared, monkeypatch):
    monkeypatch.setattr(photo_groups, "MAX_COMPARED", 59)
    shutil.copy(photos / "red" / "red 0.png", photos / "red" / "the same.png")
    found = compared()
    assert "61 photos are too many to compare" in found.notes[0] and found.pairs == []
    assert [issue["kind"] for issue in found.issues([])] == ["duplicate"]  # what needs no comparing is found all the same
    assert len(set(found.groups)) == 60  # what is the same byte for byte still is one


# ---- pictures of heat


def test_evidence_is_seen_where_it_is():
    photo = np.full((448, 448, 3), (200, 40, 40), np.uint8)
    heat = np.zeros((7, 7), np.float32)
    heat[1, 5] = 1
    drawn = overlaid(photo, heat).astype(int)
    assert drawn.shape == photo.shape
    changed = np.abs(drawn - overlaid(photo, np.zeros((7, 7), np.float32))).sum(axis=2)
    y, x = np.unravel_index(changed.argmax(), changed.shape)
    assert (y // 64, x // 64) == (1, 5) and changed[300:, :300].max() == 0
    assert np.ptp(overlaid(photo, np.zeros((1, 1), np.float32)).reshape(-1, 3), axis=0).max() == 0


def test_a_heat_picture_is_written_with_its_likes(tmp_path):
    square = picture(COLOURS["red"], 0, (32, 32))
    likes = []
    for i, colour in enumerate([*COLOURS.values()] * 2):
        likes.append(str(tmp_path / f"{i}.png"))
        Image.fromarray(picture(colour, i, (300, 100))).save(likes[-1])
    heat = np.random.default_rng(0).random((4, 4), np.float32)
    for name, nearest, size in (
        ("a.png", (), (912, 448)),
        ("b.JPG", likes[:3], (912, 608)),
        ("c.jpeg", [likes[0], "nowhere.png", str(tmp_path)], (912, 608)),
        ("d.png", likes * 2, (912, 608)),
        ("e.png", ["nowhere.png"], (912, 448)),
    ):
        write_heat(tmp_path / name, square, heat, nearest)
        assert cv2.imread(str(tmp_path / name)).shape[1::-1] == size
    drawn = cv2.cvtColor(cv2.imread(str(tmp_path / "b.JPG")), cv2.COLOR_BGR2RGB)
    assert np.abs(drawn[100:300, 100:300].mean((0, 1)) - square.mean((0, 1))).max() < 12  # red stays red
    for i, colour in enumerate(COLOURS.values()):
        small = drawn[448 + 16 + 40 : 448 + 16 + 100, i * 160 + 40 : i * 160 + 100].mean((0, 1))
        assert small.argmax() == np.argmax(colour)
    for name, match in (("x.gif", "name it .png or .jpg"), ("x", "name it .png or .jpg"), ("a.png/x.png", "cannot be")):
        with pytest.raises(OutputError, match=match):
            write_heat(tmp_path / name, square, heat, ())


# ---- the photo that a classifier sees is the one that it explains


def test_an_explained_photo_is_the_classifiers_own_square(run, opened):
    classifier = Classifier.load(run)
    seen = reviewed(opened)
    row = seen.explained[0].row
    square = load_image(opened.images[row], classifier.preprocess)
    assert not isinstance(square, Failure)
    difference = np.abs(simplejpeg.decode_jpeg(seen.explained[0].square).astype(int) - square).mean()
    assert difference < 20  # JPEG of noise
