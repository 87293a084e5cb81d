"""Standardised codes and the span of a few rows: the way there and back."""

import numpy as np
import pytest

from headstart.heads.scaling import Span, Standardised
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


def test_the_coordinates_of_a_span_have_the_products_of_its_rows():
    rows = codes_of(6, 40).astype(np.float32)
    span = Span(rows)
    np.testing.assert_allclose(span.coordinates @ span.coordinates.T, rows @ rows.T, rtol=1e-3, atol=1e-3)
    assert span.coordinates.shape == (6, 6)


def test_a_solution_in_coordinates_gives_the_same_scores_from_codes():
    rows = np.random.default_rng(0).normal(size=(6, 40)).astype(np.float32)
    span, solution = Span(rows), np.random.default_rng(1).normal(size=(6, 3)).astype(np.float32)
    np.testing.assert_allclose(rows @ span.weight(solution), span.coordinates @ solution, atol=1e-3)


def test_rows_that_repeat_each_other_span_a_space_as_well():
    rows = np.repeat(np.random.default_rng(0).normal(size=(2, 40)), 5, axis=0).astype(np.float32)
    span = Span(rows)
    assert np.isfinite(span.coordinates).all()
    np.testing.assert_allclose(span.coordinates @ span.coordinates.T, rows @ rows.T, atol=0.1)
