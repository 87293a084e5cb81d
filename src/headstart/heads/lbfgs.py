"""L-BFGS: minimises smooth functions by a preconditioned quasi-Newton method with little memory, several side by side."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

MEMORY = 10  # pairs of steps that the quasi-Newton method remembers
MAX_STEPS = 300


class _Pair(NamedTuple):
    """A step, the change of the gradient by it, that change whitened, and 1 / (step · gradient_change), (p,)."""

    step: np.ndarray
    gradient_change: np.ndarray
    whitened_change: np.ndarray
    inverse: np.ndarray


def minimise(
    objective: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    start: np.ndarray,
    whiten: Callable[[np.ndarray], np.ndarray],
    tolerance: float,
    watch: Callable[[np.ndarray], None],
) -> np.ndarray:
    """Minimise p functions by preconditioned L-BFGS (Nocedal & Wright 2006, algorithm 7.4), with backtracking (Armijo).

    Each function has a place of its own, start[:, i]; side by side they share the passes over their data. objective: gives
    the (p,) values at (d, p, k) places, and their gradients, (d, p, k). whiten: multiplies by an approximate inverse of the
    Hessian, linear. tolerance: a function stops where the next step promises to lower it by less than this part of its
    value. watch: called with the start and with each step's end.
    """
    x = start
    values, gradient = objective(x)
    watch(x)
    whitened = whiten(gradient)
    pairs: list[_Pair] = []
    is_done = np.zeros(len(values), bool)
    for _ in range(MAX_STEPS):
        direction = -_two_loops(gradient, whitened, pairs)
        slope = _dots(gradient, direction)
        is_done |= -slope <= tolerance * np.maximum(values, 1e-3)
        if is_done.all():
            break
        direction[:, is_done] = 0
        candidate, new_values, new_gradient = _search(objective, x, values, direction, np.where(is_done, 0, slope))
        is_stuck = ~is_done & ~(new_values < values)  # rounding: no step lowers it any more
        if is_stuck.any():
            is_done |= is_stuck
            if is_done.all():
                break
            candidate[:, is_stuck] = x[:, is_stuck]
            new_values[is_stuck], new_gradient[:, is_stuck] = values[is_stuck], gradient[:, is_stuck]
        new_whitened = whiten(new_gradient)
        pairs = [*pairs[1 - MEMORY :], _pair(candidate - x, new_gradient - gradient, new_whitened - whitened)]
        x, values, gradient, whitened = candidate, new_values, new_gradient, new_whitened
        watch(x)
    return x


def _search(
    objective: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    x: np.ndarray,
    values: np.ndarray,
    direction: np.ndarray,
    slope: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Go along the directions as far as pays, each function for itself; gives the places, values and gradients there."""
    lengths = np.ones(len(values), x.dtype)
    while True:
        candidate = x + lengths[:, None] * direction
        new_values, new_gradient = objective(candidate)
        is_too_far = (new_values > values + 1e-4 * lengths * slope) & (slope < 0) & (lengths >= 1e-4)
        if not is_too_far.any():
            return candidate, new_values, new_gradient
        lengths[is_too_far] *= x.dtype.type(0.3)


def _dots(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The inner products of the functions' columns, (p,) float64."""
    return np.einsum("dpk,dpk->p", a, b, dtype=np.float64)


def _pair(step: np.ndarray, gradient_change: np.ndarray, whitened_change: np.ndarray) -> _Pair:
    """Remember a step; of a function that has not moved, or along which it curves down, with no say in what follows."""
    curvature = _dots(step, gradient_change)
    inverse = np.divide(1.0, curvature, out=np.zeros_like(curvature), where=curvature > 0)
    return _Pair(step, gradient_change, whitened_change, inverse)


def _two_loops(gradient: np.ndarray, whitened: np.ndarray, pairs: list[_Pair]) -> np.ndarray:
    """The quasi-Newton directions. Whitening is linear, so it is carried along instead of being done again here."""
    q, whitened = gradient.copy(), whitened.copy()
    shares = []
    for pair in reversed(pairs):
        share = (pair.inverse * _dots(pair.step, q)).astype(q.dtype)[:, None]
        q -= share * pair.gradient_change
        whitened -= share * pair.whitened_change
        shares.append(share)
    whitened *= _first_scale(pairs, len(gradient[0])).astype(q.dtype)[:, None]
    for pair, share in zip(pairs, reversed(shares), strict=True):
        turn = (pair.inverse * _dots(pair.gradient_change, whitened)).astype(q.dtype)[:, None]
        whitened += (share - turn) * pair.step
    return whitened


def _first_scale(pairs: list[_Pair], n: int) -> np.ndarray:
    """How long the whitened gradient is taken to be, (n,), by the last step of each function that curved up."""
    scale = np.ones(n)
    for pair in pairs:
        along = pair.inverse * _dots(pair.gradient_change, pair.whitened_change)
        scale = np.where(along > 0, 1 / np.maximum(along, 1e-30), scale)
    return scale
