"""The coordinates that heads are fitted in: the same scores there and on codes, and a preconditioner that is one."""

import numpy as np
import pytest

from headstart.heads import coordinates
from headstart.heads.coordinates import coordinates_of


def rows_of(n, d, *, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, d)) * np.geomspace(3, 0.1, d)).astype(np.float32)


def solution_for(own, k=3, seed=1):
    return np.random.default_rng(seed).normal(size=(own.rows.shape[1], k)).astype(np.float32)


@pytest.fixture
def few(monkeypatch):
    """What many images go through, with few."""
    monkeypatch.setattr(coordinates, "FEW_ROWS", 20)
    monkeypatch.setattr(coordinates, "N_SPANNING", 64)
    monkeypatch.setattr(coordinates, "WIDE", 30)


@pytest.mark.parametrize(("n", "d"), [(6, 40), (60, 12), (1, 5)])
def test_a_solution_in_coordinates_gives_the_same_scores_from_codes(n, d):
    rows = rows_of(n, d)
    for (start, end), own in zip([(0, d // 2), (0, d)], coordinates_of(rows, [(0, d // 2), (0, d)]), strict=True):
        solution = solution_for(own)
        np.testing.assert_allclose(rows[:, start:end] @ own.weight(solution), own.rows @ solution, atol=2e-2)
        assert own.rows.shape[1] <= end - start


def test_the_coordinates_of_few_images_have_the_products_of_their_rows():
    rows = rows_of(6, 40)
    for (start, end), own in zip(
        [(0, 10), (0, 40), (20, 40)], coordinates_of(rows, [(0, 10), (0, 40), (20, 40)]), strict=True
    ):
        part = rows[:, start:end]
        np.testing.assert_allclose(own.rows @ own.rows.T, part @ part.T, rtol=1e-3, atol=1e-3)
        assert own.rows.shape == (6, 6)


def test_rows_that_repeat_each_other_span_a_space_as_well():
    rows = np.repeat(rows_of(2, 40), 5, axis=0)
    (own,) = coordinates_of(rows, [(0, 40)])
    assert np.isfinite(own.rows).all()
    np.testing.assert_allclose(own.rows @ own.rows.T, rows @ rows.T, atol=0.1)


def test_of_many_images_a_wide_part_is_searched_in_the_span_of_some(few):
    rows = rows_of(200, 100)
    members = [(0, 10), (0, 25), (0, 100)]
    of_members = coordinates_of(rows, members)
    assert [own.rows.shape[1] for own in of_members] == [10, 25, 25 + 64]
    for (start, end), own in zip(members, of_members, strict=True):
        solution = solution_for(own)
        np.testing.assert_allclose(rows[:, start:end] @ own.weight(solution), own.rows @ solution, atol=2e-2)


def test_members_may_begin_where_other_backbones_end(few):
    rows = rows_of(100, 90)
    members = [(0, 20), (0, 40), (40, 60), (40, 90)]
    for (start, end), own in zip(members, coordinates_of(rows, members), strict=True):
        solution = solution_for(own)
        np.testing.assert_allclose(rows[:, start:end] @ own.weight(solution), own.rows @ solution, atol=2e-2)


@pytest.mark.parametrize(("n", "d"), [(30, 12), (12, 30)])
@pytest.mark.parametrize("l2", [1e-3, 1.0])
def test_of_few_images_the_whitener_is_the_inverse_of_the_hessian(n, d, l2):
    (own,) = coordinates_of(rows_of(n, d), [(0, d)])
    hessian = 0.2 * own.rows.T @ own.rows / n + l2 * np.eye(own.rows.shape[1])
    step = own.whitener(l2, 0.2)(np.concatenate([hessian, np.ones((1, len(hessian)))]).astype(np.float32)[:, None])
    np.testing.assert_allclose(step[:-1, 0], np.eye(len(hessian)), atol=0.05)
    assert step[-1] == pytest.approx(5)


def test_of_many_images_the_whitener_takes_most_of_the_spread_out_of_the_hessian(few):
    (own,) = coordinates_of(rows_of(400, 25), [(0, 25)])
    hessian = (0.2 * own.rows.T @ own.rows / 400 + 1e-3 * np.eye(25)).astype(np.float32)
    whitened = own.whitener(1e-3, 0.2)(np.concatenate([hessian, np.ones((1, 25), np.float32)])[:, None])[:-1, 0]
    assert np.linalg.cond(whitened) < np.linalg.cond(hessian) / 50
