"""L-BFGS on functions whose minimum is known, and beside SciPy's."""

import numpy as np
import pytest
from scipy.optimize import minimize

from headstart.heads import lbfgs
from headstart.heads.lbfgs import minimise


def as_it_is(gradient):
    return gradient.copy()


def quadratic(scales, minimum):
    return lambda x: (0.5 * float((scales * (x - minimum) ** 2).sum()), scales * (x - minimum))


def rosenbrock(x):
    a, b = x
    gradient = np.array([-2 * (1 - a) - 400 * a * (b - a * a), 200 * (b - a * a)])
    return float((1 - a) ** 2 + 100 * (b - a * a) ** 2), gradient


def run(objective, start, *, whiten=as_it_is, tolerance=1e-12):
    """The minimum that is found, and every place on the way, of one function of (d,)."""
    places = []

    def of_column(x):
        value, gradient = objective(x[:, 0, 0])
        return np.array([value]), gradient[:, None, None]

    column = np.asarray(start, float)[:, None, None]
    x = minimise(
        of_column,
        column,
        lambda gradient: whiten(gradient[:, 0, 0])[:, None, None],
        tolerance,
        lambda place: places.append(place[:, 0, 0].copy()),
    )
    return x[:, 0, 0], places


@pytest.mark.parametrize("condition", [1, 100, 10_000])
def test_the_minimum_of_a_quadratic_is_found(condition):
    scales, minimum = np.geomspace(1, condition, 12), np.linspace(-1, 1, 12)
    x, _ = run(quadratic(scales, minimum), np.zeros(12))
    np.testing.assert_allclose(x, minimum, atol=1e-3)


def test_a_curved_valley_is_followed_as_scipy_follows_it():
    x, places = run(rosenbrock, [-1.2, 1.0])
    scipys = minimize(rosenbrock, [-1.2, 1.0], jac=True, method="L-BFGS-B")
    np.testing.assert_allclose(x, scipys.x, atol=1e-2)
    assert len(places) < 3 * scipys.nit


def test_the_loss_never_rises_and_every_place_is_watched():
    x, places = run(rosenbrock, [-1.2, 1.0])
    losses = [rosenbrock(place)[0] for place in places]
    assert (np.diff(losses) < 0).all() and places[0].tolist() == [-1.2, 1.0] and (places[-1] == x).all()


def test_at_the_minimum_no_step_is_made():
    x, places = run(quadratic(np.ones(3), np.zeros(3)), np.zeros(3))
    assert not x.any() and len(places) == 1


def test_whitening_that_knows_the_curvature_leads_there_at_once():
    scales, minimum = np.geomspace(1, 1e3, 12), np.ones(12)
    x, places = run(quadratic(scales, minimum), np.zeros(12), whiten=lambda gradient: gradient / scales)
    np.testing.assert_allclose(x, minimum, rtol=1e-6)
    assert len(places) == 2 < len(run(quadratic(scales, minimum), np.zeros(12))[1])


def test_a_loose_tolerance_ends_sooner():
    assert len(run(rosenbrock, [-1.2, 1.0], tolerance=0.1)[1]) < len(run(rosenbrock, [-1.2, 1.0])[1])


def test_a_gradient_that_is_wrong_ends_the_search_instead_of_going_round():
    x, places = run(lambda x: (float(x @ x), -2 * x), np.ones(4))
    assert (x == 1).all() and len(places) == 1


def test_it_ends_after_so_many_steps(monkeypatch):
    monkeypatch.setattr(lbfgs, "MAX_STEPS", 5)
    assert len(run(rosenbrock, [-1.2, 1.0])[1]) == 6


def both(x):
    """Two functions side by side, of (2, 2, 1) places: a curved valley, and a bowl that is left at once."""
    (valley, its_slope), bowl = rosenbrock(x[:, 0, 0]), x[:, 1, 0] - 3
    return np.array([valley, 0.5 * float(bowl @ bowl)]), np.stack([its_slope, bowl], axis=1)[:, :, None]


def test_functions_side_by_side_end_where_each_ends_alone():
    start = np.stack([[-1.2, 1.0], [0.0, 0.0]], axis=1)[:, :, None]
    places = []
    x = minimise(both, start, as_it_is, 1e-12, lambda place: places.append(place.copy()))
    np.testing.assert_allclose(x[:, 0, 0], run(rosenbrock, [-1.2, 1.0])[0], atol=1e-6)
    np.testing.assert_allclose(x[:, 1, 0], 3, atol=1e-6)
    assert (places[3][:, 1] == places[-1][:, 1]).all()  # the bowl's minimum is found, and left alone from then on


def test_one_function_that_cannot_go_on_does_not_stop_the_others():
    start = np.stack([[-1.2, 1.0], [1.0, 1.0]], axis=1)[:, :, None]

    def with_a_wrong_gradient(x):
        values, gradient = both(x)
        gradient[:, 1] *= -1
        return values, gradient

    x = minimise(with_a_wrong_gradient, start, as_it_is, 1e-12, lambda _: None)
    np.testing.assert_allclose(x[:, 0, 0], 1, atol=1e-2)
    assert (x[:, 1, 0] == 1).all()
