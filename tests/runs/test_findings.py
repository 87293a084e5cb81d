"""What a run knows of its photos survives the disk, and nothing that is not ours is read."""

import dataclasses
import pickle

import numpy as np
import pytest

from headstart.data.splits import TEST
from headstart.errors import DataError
from headstart.evaluation.multilabel import best_thresholds
from headstart.report.sprites import make_sprites
from headstart.runs.findings import FILE_NAME, Findings
from headstart.selection.cross_validation import cross_fitted_thresholds


def some(n: int = 4) -> Findings:
    rng = np.random.default_rng(0)
    odd = ["a b.jpg", 'x/"<script>".png', "\U0001f33b‮.jpg", "bad\udcff.jpg"]
    return Findings(
        names=tuple(odd[:n]),
        labels=np.arange(n) % 2,
        splits=np.zeros(n, np.int8),
        digests=rng.integers(0, 256, (n, 32), dtype=np.uint8),
        groups=np.arange(n),
        held_out=np.arange(n),
        probabilities=rng.random((n, 2)).astype(np.float32),
        unfamiliarity=rng.random(n).astype(np.float32),
        space=rng.normal(size=(n, 3)).astype(np.float16),
        space_mean=rng.normal(size=5).astype(np.float32),
        space_axes=rng.normal(size=(5, 3)).astype(np.float32),
        positions=np.full((n, 2), np.nan, np.float32),
    )


@pytest.mark.parametrize("n", [0, 1, 4])
def test_saved_and_loaded_they_are_the_same(n, tmp_path):
    findings = some(n)
    findings.save(tmp_path)
    again = Findings.load(tmp_path)
    assert again.names == findings.names
    for field in dataclasses.fields(Findings)[1:]:
        np.testing.assert_allclose(getattr(again, field.name), getattr(findings, field.name), atol=1e-3)


def test_what_is_not_there_or_not_whole_is_told(tmp_path):
    with pytest.raises(DataError, match="train again"):
        Findings.load(tmp_path)
    some().save(tmp_path)
    whole = (tmp_path / FILE_NAME).read_bytes()
    (tmp_path / FILE_NAME).write_bytes(whole[:-30])
    with pytest.raises(DataError, match="not whole"):
        Findings.load(tmp_path)


def test_nothing_in_the_file_is_ever_executed(tmp_path):
    (tmp_path / FILE_NAME).write_bytes(pickle.dumps({"names": 1}))
    with pytest.raises(DataError):
        Findings.load(tmp_path)
    np.savez(tmp_path / FILE_NAME, names=np.array([{"a": 1}], object))
    with pytest.raises(DataError):
        Findings.load(tmp_path)


def test_of_one_label_a_photo_the_surest_mistake_comes_first():
    rows = dataclasses.replace(
        some(), held_out=np.array([0, 1, 3]), probabilities=np.array([[0.2, 0.8], [0.1, 0.9], [0.95, 0.05]], np.float32)
    )
    outcomes = rows.outcomes()  # labels: 0, 1, 1
    assert outcomes.labels.tolist() == [0, 1, 1] and outcomes.predictions.tolist() == [1, 1, 0]
    assert outcomes.is_right.tolist() == [False, True, False]
    np.testing.assert_allclose(outcomes.confidence, [0.8, 0.9, 0.95])
    assert rows.mistakes().tolist() == [3, 0]


def test_of_several_labels_a_photo_the_worst_decision_counts():
    several = dataclasses.replace(
        some(),
        splits=np.full(4, TEST, np.int8),
        labels=np.array([[1, 0], [1, 0], [0, 0], [0, 1]], np.uint8),
        probabilities=np.array([[0.9, 0.7], [0.1, 0.6], [0.1, 0.2], [0.3, 0.45]], np.float32),
    )
    outcomes = several.outcomes()
    assert outcomes.predictions.tolist() == [[True, True], [False, True], [False, False], [False, False]]
    assert outcomes.labels.dtype == bool and outcomes.is_right.tolist() == [False, False, True, False]
    np.testing.assert_allclose(outcomes.confidence, [0.7, 0.9, 0.2, 0.55])  # where none is wrong, of what is likeliest
    assert several.mistakes().tolist() == [1, 0, 3]
    assert several.mistakes([0.5, 0.4]).tolist() == [1, 0] and several.mistakes([0.0, 0.4]).tolist() == [0, 1, 3, 2]


def test_photos_that_chose_the_thresholds_are_not_judged_by_them():
    """Of two labels nobody can tell one: by the threshold that they chose, its cross-validated photos look better told."""
    rng = np.random.default_rng(0)
    n = 60
    labels = np.stack([np.arange(n) % 2, rng.random(n) < 0.1], axis=1).astype(np.uint8)
    p = np.stack([labels[:, 0] * 0.8 + 0.1, rng.random(n)], axis=1).astype(np.float32)
    of_test = dataclasses.replace(
        some(),
        names=tuple(map(str, range(n))),
        labels=labels,
        splits=np.full(n, TEST, np.int8),
        groups=np.arange(n),
        held_out=np.arange(n),
        probabilities=p,
    )
    thresholds = best_thresholds(p, labels).tolist()
    of_learnt = dataclasses.replace(of_test, splits=np.zeros(n, np.int8))
    assert (of_test.outcomes(thresholds).predictions == (p >= np.float32(thresholds))).all()
    assert (of_learnt.outcomes(thresholds).predictions == (p >= cross_fitted_thresholds(p, labels, list(range(n))))).all()
    assert len(of_learnt.mistakes(thresholds)) != len(of_test.mistakes(thresholds))


@pytest.mark.parametrize("labels", [np.arange(4) % 2, np.eye(4, 2, dtype=np.uint8)])
def test_where_nothing_was_held_out_there_is_no_mistake(labels):
    none = dataclasses.replace(
        some(), labels=labels, held_out=np.zeros(0, np.int64), probabilities=np.zeros((0, 2), np.float32)
    )
    assert none.outcomes().is_right.shape == none.outcomes().confidence.shape == none.mistakes().shape == (0,)


def test_sprites_stand_in_the_order_of_their_pictures():
    import simplejpeg

    def plain(colour):
        return simplejpeg.encode_jpeg(np.full((40, 60, 3), colour, np.uint8), colorspace="RGB")

    colours = [(200, 0, 0), (0, 200, 0), (0, 0, 200)]
    pictures = [None if i == 5 else plain(colours[i % 3]) for i in range(70 * 70)]
    sprites = make_sprites(pictures, 32)
    assert (sprites.columns, sprites.per_sheet, len(sprites.sheets)) == (64, 4096, 2)
    for i in (0, 1, 5, 64, 4096, 4899):
        sheet = simplejpeg.decode_jpeg(sprites.sheets[i // 4096], "RGB").astype(int)
        row, column = divmod(i % 4096, 64)
        seen = sheet[row * 32 + 16, column * 32 + 16]
        expected = (128, 128, 128) if i == 5 else colours[i % 3]
        assert np.abs(seen - expected).max() < 30
    assert make_sprites([], 32).sheets == ()
