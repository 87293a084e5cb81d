"""Figures show the run's own numbers, whatever the classes are called, and leave the user's matplotlib as it was."""

import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import simplejpeg

from headstart.errors import DataError, MissingExtra, OutputError
from headstart.report.plots import photos, style, table
from support.maps import findings_of
from support.records import declared

matplotlib = pytest.importorskip("matplotlib")

CLASSES = ["daisy", "roses", "tulips"]
ODD = ["<script>alert('x')</script>", "שושנה אדומה 🌹", '_ $x^2$\t"ドラゴン" \udcff']
N = 24
WRONG = (4, 7, 19)  # places in held_out
STEPS = [
    {
        "step": s,
        "train_accuracy": 0.5 + s / 40,
        "train_cross_entropy": 1 / (s + 1),
        "validation_accuracy": 0.4 + s / 40,
        "validation_cross_entropy": 2 / (s + 1),
    }
    for s in range(0, 20, 2)
]
EPOCHS = [
    {"epoch": e, "train_loss": 0.5 / e if e else None, "validation_loss": 0.6 - e / 10, "validation_accuracy": 0.8 + e / 50}
    for e in range(4)
]
CURVE = {
    "points": [
        {"n_images": n, "accuracy": 0.5 + i / 10, "interval": [0.4 + i / 10, 0.55 + i / 10]}
        for i, n in enumerate((3, 6, 15, 30))
    ],
    "forecast": {"n_more": 10, "accuracy": 0.8, "interval": [0.82, 0.9]},
    "sentence": "With 10 more photos of each class the accuracy would probably rise.",
}
BINS = [
    {"probability": p, "accuracy": p - 0.05, "n": n, "interval": [p - 0.2, min(1, p + 0.1)]}
    for p, n in ((0.4, 5), (0.6, 10), (0.9, 85))
]
CALIBRATION = {
    "n_images": 100,
    "error_before": 0.08,
    "error_after": 0.05,
    "bias": 0.03,
    "bins": BINS,
    "bins_before": [{**b, "accuracy": b["accuracy"] - 0.1} for b in BINS],
}


def about(**more):
    """The parts of run.json that plots read."""
    return declared(
        {
            "classes": CLASSES,
            "arguments": {"seed": 0},
            "evaluation": {"split": "test", "confusion": [[8, 0, 0], [1, 6, 0], [0, 4, 5]]},
            "fitting": {"steps": STEPS},
            "learning_curve": CURVE,
            "calibration": CALIBRATION,
            **more,
        }
    )


def findings(n_classes=3, **more):
    """24 photos; the last 20 were held out, three of them labelled wrongly, the surest in the middle."""
    labels, held_out = np.arange(N) % n_classes, np.arange(4, N)
    told = labels[held_out].copy()
    told[list(WRONG)] = (told[list(WRONG)] + 1) % n_classes
    probabilities = np.full((len(held_out), n_classes), 0.1 / max(1, n_classes - 1))
    probabilities[np.arange(len(held_out)), told] = 0.9
    probabilities[WRONG[1], told[WRONG[1]]] = 0.95
    probabilities[WRONG[2], told[WRONG[2]]] = 0.6
    names = [f"{i}.jpg" for i in range(N)]
    known = findings_of(names, labels, held_out=held_out, probabilities=probabilities.astype(np.float32))
    return replace(known, **{"splits": np.array([0] * 14 + [1] * 2 + [2] * 8, np.int8), **more})


def several():
    """As findings(), but photos may have several labels: all have the first, the second has none."""
    labels = np.eye(3, dtype=np.uint8)[np.arange(N) % 3]
    labels[:, 0] = 1
    labels[1] = 0
    probabilities = labels[4:] * 0.8 + 0.1
    probabilities[[0, 5], 2] = 0.7, 0.8
    return findings(labels=labels, probabilities=probabilities.astype(np.float32))


def pixels(i, side=32):
    return np.full((side, side + 10, 3), 10 * i, np.uint8)


def texts(figure):
    """All that can be read in a figure."""
    found = figure.findobj(matplotlib.text.Text)
    return [t.get_text() for t in found if t.get_text() and t.get_visible()]


def lines(axis):
    return {line.get_label(): line.get_xydata() for line in axis.lines if not line.get_label().startswith("_")}


# ---- how it was learnt


def test_curves_are_the_steps_numbers():
    figure = table.curves(about(learning_curve=None))
    assert [a.get_ylabel() for a in figure.axes] == ["accuracy", "cross entropy"]
    for axis, key in zip(figure.axes, ("accuracy", "cross_entropy"), strict=True):
        drawn = lines(axis)
        assert set(drawn) == {"train", "validation"}
        for split, xy in drawn.items():
            np.testing.assert_allclose(xy, [(s["step"], s[f"{split}_{key}"]) for s in STEPS])
    assert figure.axes[0].get_title("left") == "Accuracy at the end: train 95.0 %, validation 85.0 %"


def test_fine_tuning_goes_on_behind_a_line():
    figure = table.curves(about(fine_tuning={"history": EPOCHS}, learning_curve=None))
    accuracy, entropy = figure.axes
    assert set(lines(accuracy)["fine-tuning starts"][:, 0]) == {18}
    behind = [
        line.get_xydata() for line in entropy.lines if line.get_xydata()[:, 0].min() >= 18 and len(line.get_xdata()) > 2
    ]
    train, validation = behind
    np.testing.assert_allclose(train[:, 1], [e["train_loss"] for e in EPOCHS[1:]])
    np.testing.assert_allclose(validation[:, 1], [e["validation_loss"] for e in EPOCHS])
    assert validation[0, 0] == 18 and validation[-1, 0] == 36 and train[0, 0] == validation[1, 0]
    labels = dict(zip(accuracy.get_xticks(), (t.get_text() for t in accuracy.get_xticklabels()), strict=True))
    assert labels[18 + 2 * 6] == "2"  # epochs are counted from 0 again
    assert "validation 86.0 %" in accuracy.get_title("left")


def test_only_fine_tuning_is_drawn_where_there_are_no_steps():
    figure = table.curves(about(fine_tuning={"history": EPOCHS}, fitting=None, learning_curve=None))
    assert set(lines(figure.axes[1])) == {"train", "validation"}


def test_the_learning_curve_has_intervals_and_looks_ahead():
    axis = table.curves(about(fitting=None)).axes[0]
    np.testing.assert_allclose(lines(axis)["measured"], [(p["n_images"], p["accuracy"]) for p in CURVE["points"]])
    (band,) = (c for c in axis.collections if c.get_label() == "95 % interval")
    corners = {tuple(np.round(v, 6)) for v in band.get_paths()[0].vertices}
    assert {(p["n_images"], round(y, 6)) for p in CURVE["points"] for y in p["interval"]} <= corners
    ((segment,),) = (c.get_segments() for c in axis.collections if hasattr(c, "get_segments"))
    np.testing.assert_allclose(segment, [(60, 0.82), (60, 0.9)])  # 10 more of each of 3 classes
    assert axis.get_title("left").replace("\n", " ") == CURVE["sentence"]


def test_a_run_without_curves_says_so():
    with pytest.raises(DataError, match="no curve"):
        table.curves({"classes": CLASSES})


# ---- how good it is


def test_the_confusion_matrix_counts():
    figure = table.confusion(about())
    (axis,) = figure.axes
    cells = {tuple(map(int, t.get_position()[::-1])): int(t.get_text()) for t in axis.texts}
    assert cells == {(0, 0): 8, (1, 0): 1, (1, 1): 6, (2, 1): 4, (2, 2): 5}
    right, wrong = (image.get_array() for image in axis.images)
    assert right[1, 1] == pytest.approx(6 / 7) and wrong[2, 1] == pytest.approx(4 / 9)
    assert wrong.mask[1, 1] and right.mask[2, 1] and wrong.mask[0, 1]
    assert [t.get_text() for t in axis.get_yticklabels()] == CLASSES == [t.get_text() for t in axis.get_xticklabels()]
    title = "5 of 24 photos are labelled wrongly (test); most often: tulips taken for roses (4)."
    assert figure.get_suptitle().replace("\n", " ") == title


def test_of_a_thousand_classes_the_worst_are_shown():
    counts = np.eye(1000, dtype=int) * 9
    bad = np.arange(30) * 33 + 5
    counts[bad, np.roll(bad, 1)] = 2
    names = [f"class {i}" for i in range(1000)]
    figure = table.confusion(about(classes=names, evaluation={"split": "test", "confusion": counts.tolist()}))
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == [f"class {i}" for i in bad]
    assert "30 classes of 1,000 with the most mistakes" in figure.get_suptitle().replace("\n", " ")
    assert figure.get_suptitle().startswith("60 of 9,060 photos")


def test_no_mistake_is_told_and_several_labels_have_no_table():
    perfect = table.confusion(about(classes=["one"], evaluation={"split": "test", "confusion": [[7]]}))
    assert perfect.get_suptitle() == "All 7 photos are labelled rightly (test)."
    single = table.confusion(about(classes=["one"], evaluation={"split": "test", "confusion": [[1]]}))
    assert single.get_suptitle() == "The one photo is labelled rightly (test)."
    with pytest.raises(DataError, match="several labels"):
        table.confusion(about(evaluation={"split": "test"}))


def test_the_reliability_diagram_shows_bins_intervals_and_counts():
    figure = table.calibration(about())
    axis, below = figure.axes
    drawn = lines(axis)
    np.testing.assert_allclose(drawn["after calibration"], [(b["probability"], b["accuracy"]) for b in BINS])
    np.testing.assert_allclose(drawn["before calibration"][:, 1], [b["accuracy"] - 0.1 for b in BINS])
    (intervals,) = (c.get_segments() for c in axis.collections)
    np.testing.assert_allclose([s[:, 1] for s in intervals], [b["interval"] for b in BINS])
    assert [bar.get_height() for bar in below.patches] == [5, 10, 85]
    assert [bar.get_center()[0] for bar in below.patches] == pytest.approx([0.4, 0.6, 0.9])
    title = axis.get_title("left").replace("\n", " ")
    assert title == (
        "Probabilities are off by 5.0 % on average, 8.0 % before calibration; "
        "of 100 photos even perfect ones would seem off by 3.0 %."
    )


def test_calibration_takes_what_there_is():
    bare = {"n_images": 5, "error_after": 0.1, "bins": BINS[:1]}
    assert "before" not in "".join(texts(table.calibration(about(calibration=bare))))
    same = {**CALIBRATION, "bins_before": BINS, "error_before": 0.05}
    assert "before" not in "".join(texts(table.calibration(about(calibration=same))))  # nothing was corrected
    for nothing in (None, {"bins": []}):
        with pytest.raises(DataError, match="no calibration"):
            table.calibration(about(calibration=nothing))


# ---- the photos


def points(axis):
    return {c.get_label().strip(): np.asarray(c.get_offsets()) for c in axis.collections}


def test_the_map_has_a_colour_for_each_label_and_a_ring_for_each_mistake():
    known = findings()
    axis = table.map_(about(), known).axes[0]
    drawn = points(axis)
    assert list(drawn) == [*CLASSES, "labelled wrongly (3)"]
    for i, name in enumerate(CLASSES):
        np.testing.assert_allclose(drawn[name], known.positions[known.labels == i])
    ringed = {tuple(p) for p in drawn["labelled wrongly (3)"].round(5)}
    assert ringed == {tuple(known.positions[4 + j].astype(float).round(5)) for j in WRONG}
    assert len({tuple(c.get_facecolor()[0]) for c in axis.collections[:3]}) == 3


def test_photos_that_are_not_on_the_map_are_left_out():
    positions = findings().positions.copy()
    positions[WRONG[0] + 4] = np.nan
    drawn = points(table.map_(about(), findings(positions=positions)).axes[0])
    assert sum(map(len, drawn.values())) == N - 1 + 2
    with pytest.raises(DataError, match="no map"):
        table.map_(about(), findings(positions=positions * np.nan))


def test_many_classes_share_colours_but_not_colour_and_shape():
    known = findings(labels=np.arange(N), held_out=np.zeros(0, np.int64), probabilities=np.zeros((0, 24), np.float32))
    axis = table.map_(about(classes=[f"class {i}" for i in range(24)]), known).axes[0]
    looks = {(tuple(c.get_facecolor()[0]), c.get_paths()[0].vertices.tobytes()) for c in axis.collections}
    assert len(looks) == 24
    assert len(axis.get_legend().get_texts()) == photos.MOST_IN_LEGEND


def test_several_labels_are_a_colour_of_their_own():
    drawn = points(table.map_(about(), several()).axes[0])
    assert {name: len(xy) for name, xy in drawn.items()} == {
        "daisy": 8,
        "several labels": 15,
        "no label": 1,
        "labelled wrongly (2)": 2,
    }


def shown(figure):
    """Of each photo its title, colour and pixels."""
    return [(a.get_title(), a.title.get_color(), np.asarray(a.images[0].get_array())) for a in figure.axes if a.images]


def test_mistakes_are_shown_the_surest_first():
    assert photos.mistake_rows(about(), findings()) == [4 + WRONG[1], 4 + WRONG[0], 4 + WRONG[2]]
    drawn = shown(table.predictions(about(), findings(), {i: pixels(i) for i in range(N)}, "mistakes"))
    assert [title for title, _, _ in drawn] == [
        "✗ daisy (95 %)\nlabel: tulips",
        "✗ daisy (90 %)\nlabel: tulips",
        "✗ daisy (60 %)\nlabel: tulips",
    ]
    assert {colour for _, colour, _ in drawn} == {style.WRONG_TEXT}
    assert [int(p[0, 0, 0]) for _, _, p in drawn] == [110, 80, 230]
    assert all(p.shape == (32, 32, 3) for _, _, p in drawn)


def test_random_predictions_are_of_the_test_split_and_steady():
    rows = photos.held_out_rows(about(), findings())
    assert len(set(rows)) == 6 and set(rows) <= set(range(16, 24)) and rows == photos.held_out_rows(about(), findings())
    assert rows != photos.held_out_rows(about(arguments={"seed": 1}), findings())
    figure = table.predictions(about(), findings(), {i: pixels(i) for i in rows})
    for (title, colour, image), i in zip(shown(figure), rows, strict=True):
        is_right = i - 4 not in WRONG
        mark, expected = ("✓ ", style.RIGHT_TEXT) if is_right else ("✗ ", style.WRONG_TEXT)
        assert title.startswith(mark) and colour == expected
        assert (f"{CLASSES[i % 3]} (90 %)" in title) == is_right and image[0, 0, 0] == 10 * i
    assert "3 of 20 photos were labelled wrongly" in figure.get_suptitle()


@pytest.mark.parametrize("kind", ["mistakes", "random"])
def test_a_title_is_not_cut_off(kind):
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = table.predictions(about(), findings(), {}, kind)
    FigureCanvasAgg(figure).draw()
    assert figure._suptitle.get_window_extent().x1 <= figure.bbox.x1
    assert figure.get_suptitle().replace("\n", " ").endswith(("the surest of them:", "some at random, right and wrong:"))


def test_of_several_labels_one_told_wrongly_is_a_mistake():
    figure = table.predictions(about(), several(), {}, "mistakes")
    assert [title for title, _, _ in shown(figure)] == [
        "✗ daisy|tulips\nlabel: daisy",  # for sure by 0.8
        "✗ daisy|roses|tulips\nlabel: daisy|roses",  # by 0.7
    ]
    strict = about(thresholds=[0.5, 0.5, 0.75])
    assert photos.mistake_rows(strict, several()) == [9]


def test_no_mistake_is_told():
    perfect = findings(held_out=np.zeros(0, np.int64), probabilities=np.zeros((0, 3), np.float32))
    with pytest.raises(DataError, match="labelled wrongly"):
        table.predictions(about(), perfect, {}, "mistakes")
    with pytest.raises(DataError, match="none was held out"):
        table.predictions(about(), perfect, {})


def test_a_photo_may_be_a_jpeg_or_gone():
    jpeg = simplejpeg.encode_jpeg(np.full((64, 48, 3), (200, 40, 30), np.uint8))
    (_, _, red), (_, _, grey), (_, _, array) = shown(table.photos(["a", "b", "c"], [jpeg, None, pixels(5)]))
    assert red.shape == (48, 48, 3) and np.abs(red.astype(int) - (200, 40, 30)).max() < 8
    assert (grey == grey[0, 0]).all() and (array == 50).all()


@pytest.mark.parametrize("n", [1, 2, 9, 12])
def test_a_preview_shows_nine_at_most(n):
    figure = table.photos([f"label {i}" for i in range(n)], [pixels(i) for i in range(n)])
    assert [title for title, _, _ in shown(figure)] == [f"label {i}" for i in range(min(n, 9))]


def test_a_preview_of_nothing_says_so():
    with pytest.raises(DataError, match="no photo"):
        table.photos([], [])


# ---- all of them


@pytest.mark.parametrize(("kind", "suffix"), [*((kind, ".svg") for kind in table.PLOTS), ("map", ".png"), ("map", ".pdf")])
def test_every_plot_is_written_whatever_classes_are_called(kind, suffix, tmp_path):
    """No letter is missing from a font (a warning, which is an error here), and the same figure is the same file."""
    plot, said, known = table.PLOTS[kind], about(classes=ODD, fine_tuning={"history": EPOCHS}), findings()
    files = []
    for name in "ab":
        pictures = {i: pixels(i) for i in plot.rows(said, known)}
        table.save(plot.draw(said, known, pictures), tmp_path / f"{name}{suffix}")
        files.append((tmp_path / f"{name}{suffix}").read_bytes())
    assert files[0] == files[1]
    assert files[0].startswith({".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}[suffix])
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"a{suffix}", f"b{suffix}"]


@pytest.mark.parametrize("kind", ["map", "mistakes", "predictions", "photos"])
def test_every_plot_of_photos_takes_several_labels_and_one_class(kind, tmp_path):
    for said, known in ((about(), several()), (about(classes=["one"]), findings(labels=np.zeros(N, np.int64)))):
        if len(said["classes"]) == 1:
            known = findings(labels=np.zeros(N, np.int64), probabilities=np.ones((20, 1), np.float32))
            if kind == "mistakes":
                continue
        figure = table.PLOTS[kind].draw(said, known, {})
        assert len(figure.axes) >= 1
        table.save(figure, tmp_path / f"{kind}.png")
        assert (tmp_path / f"{kind}.png").read_bytes().startswith(b"\x89PNG")


def test_names_are_drawn_as_they_are_but_for_what_no_font_has():
    figure = table.photos(["$x^2$ and $5", "a\nb", "", "x" * 99 + " y", "🌹"], [None] * 5)
    titles = [title for title, _, _ in shown(figure)]
    assert titles[:3] == [r"\$x^2\$ and \$5", "a b", "(no name)"]
    assert titles[3] == "x" * (style.MOST_LETTERS - 1) + "…" and titles[4] in ("🌹", style.MISSING)


def test_the_users_own_style_neither_shows_nor_changes(tmp_path):
    table.save(table.confusion(about()), tmp_path / "before.png")
    with matplotlib.rc_context({"figure.facecolor": "black", "font.size": 30, "axes.grid": False}):
        before = dict(matplotlib.rcParams)
        table.save(table.confusion(about()), tmp_path / "after.png")
        assert dict(matplotlib.rcParams) == before
    assert (tmp_path / "before.png").read_bytes() == (tmp_path / "after.png").read_bytes()


def test_pyplot_is_never_imported(tmp_path):
    code = (
        "import sys\nfrom headstart.report.plots import table as plots\nfrom pathlib import Path\n"
        "assert 'matplotlib' not in sys.modules\n"
        "plots.save(plots.photos(['a'], [None]), Path(sys.argv[1]))\n"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    command = [sys.executable, "-W", "error", "-c", code, str(tmp_path / "a.svg")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "False"


def test_other_suffixes_and_places_that_cannot_be_written_are_told(tmp_path):
    figure = table.photos(["a"], [None])
    for name in ("plot.gif", "plot"):
        with pytest.raises(OutputError, match=re.escape(".png, .svg, .pdf")):
            table.save(figure, tmp_path / name)
    table.save(figure, tmp_path / "new folder" / "PLOT.PNG")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        table.save(figure, tmp_path / "file" / "plot.png")
    assert not list(tmp_path.rglob("*.tmp"))


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtra, match=r"headstart\[plot\]"):
        table.curves(about())
