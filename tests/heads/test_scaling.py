"""Standardised codes: the way there and back."""

import numpy as np
import pytest

from headstart.heads import scaling
from headstart.heads.kinds import make_fitter
from headstart.heads.scaling import Standardised
from headstart.numerics.losses import unit_rows


def codes_of(n=30, d=8, seed=0):
    rng = np.random.default_rng(seed)
    return np.maximum(rng.normal(0.3, 1, (n, d)) * np.arange(1, d + 1), 0).astype(np.float16)


@pytest.mark.parametrize("parts", [(), (8,), (3, 5)])
def test_a_layer_on_standardised_codes_gives_the_same_scores_on_unit_rows(parts):
    codes, rng = codes_of(), np.random.default_rng(1)
    standardised = Standardised(codes, parts)
    weight, bias = rng.normal(size=(8, 3)).astype(np.float32), rng.normal(size=3).astype(np.float32)
    back, back_bias = standardised.unscaled(weight, bias)
    units = unit_rows(codes.astype(np.float32), parts or (8,))
    np.testing.assert_allclose(units @ back + back_bias, standardised.rows @ weight + bias, atol=1e-4)
    assert back.dtype == back_bias.dtype == np.float32


def test_every_part_has_the_same_variance_and_no_code_more_than_half_of_plain_standardising():
    standardised = Standardised(codes_of(400), (3, 5))
    np.testing.assert_allclose(standardised.rows.mean(axis=0), 0, atol=1e-5)
    variance = standardised.rows.var(axis=0)
    assert (variance < 1).all() and variance[:3].mean() == pytest.approx(variance[3:].mean(), rel=0.25)


def test_the_codes_that_are_given_stay_as_they_are():
    codes = codes_of().astype(np.float32)
    before = codes.copy()
    Standardised(codes)
    assert (codes == before).all()


@pytest.mark.parametrize("codes", [np.zeros((5, 4)), np.ones((1, 4))])
def test_codes_that_say_nothing_stay_finite(codes):
    standardised = Standardised(codes.astype(np.float32))
    assert np.isfinite(standardised.rows).all() and np.isfinite(standardised.scale).all() and (standardised.scale > 0).all()


@pytest.mark.parametrize("parts", [(8,), (3, 5)])
@pytest.mark.parametrize("n", [101, 96])
def test_rows_that_are_made_block_by_block_are_the_same(n, parts, monkeypatch):
    whole = Standardised(codes_of(n), parts)
    monkeypatch.setattr(scaling, "BLOCK", 32)
    blocks = Standardised(codes_of(n), parts)
    np.testing.assert_allclose(blocks.scale, whole.scale, rtol=1e-5)
    assert blocks.rows.shape == whole.rows.shape and len(blocks.rows) == n
    for rows in (slice(None), slice(5, 40), np.array([7, 0, n - 1])):
        np.testing.assert_allclose(blocks.rows[rows], whole.rows[rows], atol=1e-4)


@pytest.mark.parametrize("kind", ["softmax", "hidden", "class-mean", "nearest"])
def test_a_head_learnt_block_by_block_is_the_same(kind, monkeypatch):
    from headstart.heads import coordinates, mlp

    codes, labels = codes_of(300, seed=3), np.arange(300) % 3
    codes[:, :3] += 4 * np.eye(3, dtype=np.float16)[labels]
    strength = 0.5 if kind == "hidden" else 5 if kind == "nearest" else 0.01

    def learnt() -> tuple[np.ndarray, np.ndarray]:
        fitter = make_fitter(kind, codes, labels, 3, (3, 5), ())
        solution = fitter.fit(strength)
        return fitter.head(solution).probabilities(codes), fitter.logits(solution)

    whole, whole_logits = learnt()
    for module in (scaling, coordinates, mlp):
        monkeypatch.setattr(module, "BLOCK", 64)
    monkeypatch.setattr(coordinates, "FEW_ROWS", 100)
    blocks, logits = learnt()
    np.testing.assert_allclose(blocks, whole, atol=0.02)
    assert logits.shape == whole_logits.shape == (300, 3)
