"""Nearest neighbours by similarity: exact, whatever the number of rows, their groups and the threads."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from headstart.numerics.neighbours import most_similar


def rows_of_length_1(n, d=16, seed=0):
    rows = np.random.default_rng(seed).standard_normal((n, d), np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("n", [3, 31, 33, 500])
@pytest.mark.parametrize("k", [1, 3])
def test_they_are_those_of_a_full_sort(n, k):
    rows, queries = rows_of_length_1(n), rows_of_length_1(40, seed=1)
    positions, products = most_similar(queries, rows, k, block=16)
    expected = np.argsort(-(queries @ rows.T), axis=1)[:, :k]
    assert (positions == expected).all()
    assert np.allclose(products, np.take_along_axis(queries @ rows.T, expected, axis=1))


def test_a_row_is_not_its_own_neighbour():
    rows = rows_of_length_1(200)
    queries = np.arange(50, 120)
    positions, products = most_similar(rows[queries], rows, 4, own=queries)
    assert not (positions == queries[:, None]).any() and (products < 0.999).all()


def test_rows_of_the_same_group_do_not_count():
    rows, group = rows_of_length_1(200), np.arange(200) % 7
    positions, _ = most_similar(rows, rows, 5, groups=(group, group))
    assert (group[positions] != group[:, None]).all()


def test_where_too_few_rows_count_the_product_says_so():
    rows, group = rows_of_length_1(10), np.zeros(10, int)
    group[7] = 1
    positions, products = most_similar(rows, rows, 3, groups=(group, group))
    assert positions[0, 0] == 7 and np.isfinite(products[0]).tolist() == [True, False, False]
    assert ((0 <= positions) & (positions < 10)).all()


def test_threads_and_blocks_change_nothing():
    rows = rows_of_length_1(300)
    rows[100:] = rows[:200]  # ties
    alone = most_similar(rows, rows, 6)
    with ThreadPoolExecutor(3) as pool:
        shared = most_similar(rows, rows, 6, block=300, run=pool.map)
    assert (alone[0] == shared[0]).all() and (alone[1] == shared[1]).all()


def test_no_queries_have_no_neighbours():
    positions, products = most_similar(rows_of_length_1(0), rows_of_length_1(9), 2)
    assert positions.shape == products.shape == (0, 2)
