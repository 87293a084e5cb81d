"""Principal axes, against NumPy's singular value decomposition."""

import numpy as np
import pytest

from headstart.numerics import pca
from headstart.numerics.losses import unit_rows
from headstart.numerics.pca import along_axes, first_axes, principal_axes


def rows_of(n=300, d=40, seed=0):
    """Rows whose variance falls along the axes, as that of codes does."""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, d)) / np.arange(1, d + 1) @ np.linalg.qr(rng.normal(size=(d, d)))[0]).astype(np.float32)


def test_the_first_axes_and_their_lengths_are_those_of_an_exact_decomposition():
    rows = rows_of()
    axes, lengths = first_axes(rows, 5)
    exact_lengths, exact_axes = np.linalg.svd(rows, full_matrices=False)[1:]
    np.testing.assert_allclose(lengths, exact_lengths[:5], rtol=1e-3)
    assert (np.abs(np.einsum("ed,de->e", exact_axes[:5], axes)) > 0.999).all()  # the same lines, either way round
    np.testing.assert_allclose(axes.T @ axes, np.eye(5), atol=1e-5)


@pytest.mark.parametrize(("n", "d", "n_axes", "expected"), [(3, 40, 10, 3), (50, 4, 10, 4), (1, 1, 1, 1), (50, 20, 2, 2)])
def test_there_are_no_more_axes_than_rows_or_codes(n, d, n_axes, expected):
    axes, lengths = first_axes(rows_of(n, d), n_axes)
    assert axes.shape == (d, expected) and lengths.shape == (expected,)


def test_the_same_seed_gives_the_same_axes():
    assert (first_axes(rows_of(), 5, seed=3)[0] == first_axes(rows_of(), 5, seed=3)[0]).all()


def test_the_space_is_centred_and_its_axes_point_the_same_way_on_every_machine():
    space, mean, axes = principal_axes(rows_of(), n_axes=6)
    np.testing.assert_allclose(space.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(mean, unit_rows(rows_of(), (40,)).mean(axis=0), atol=1e-6)
    assert (axes.sum(axis=0) >= 0).all()
    variances = space.var(axis=0)
    assert (np.diff(variances) <= 1e-6).all()  # the longest first


def test_what_was_learnt_from_lies_where_it_lay_when_it_comes_again():
    codes, parts = rows_of().astype(np.float16), (10, 30)
    space, mean, axes = principal_axes(codes, widths=parts, n_axes=6)
    np.testing.assert_allclose(along_axes(codes[:7], mean, axes, widths=parts), space[:7], atol=1e-5)
    assert along_axes(codes[:0], mean, axes, widths=parts).shape == (0, 6)


def test_an_axis_that_nothing_differs_along_is_nothing():
    one_line = np.outer(np.linspace(1, 2, 30), np.eye(5)[0]).astype(np.float32) + np.eye(5, dtype=np.float32)[1]
    _, _, axes = principal_axes(one_line, n_axes=5)
    assert np.abs(axes[:, 0]).sum() > 0 and np.abs(axes[:, 2:]).sum() == 0


@pytest.mark.parametrize("n", [0, 1])
def test_no_photo_and_one_photo_have_no_axes_and_no_trouble(n):
    space, mean, axes = principal_axes(rows_of(5)[:n], n_axes=3)
    assert space.shape == (n, min(3, n)) and mean.shape == (40,) and not axes.any() and not space.any()


def test_many_rows_are_projected_a_block_at_a_time(monkeypatch):
    whole = principal_axes(rows_of(), n_axes=4)
    monkeypatch.setattr(pca, "BLOCK", 7)
    for one, other in zip(whole, principal_axes(rows_of(), n_axes=4), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
