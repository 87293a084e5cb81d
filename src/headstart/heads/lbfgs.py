"""L-BFGS: minimises a smooth function by a preconditioned quasi-Newton method with little memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

MEMORY = 10  # pairs of steps that the quasi-Newton method remembers
MAX_STEPS = 300


class _Pair(NamedTuple):
    """A step, the change of the gradient by it, that change whitened, and 1 / (step · gradient_change)."""

    step: np.ndarray
    gradient_change: np.ndarray
    whitened_change: np.ndarray
    inverse: float


def minimise(
    objective: Callable[[np.ndarray], tuple[float, np.ndarray]],
    start: np.ndarray,
    whiten: Callable[[np.ndarray], np.ndarray],
    tolerance: float,
    watch: Callable[[np.ndarray], None],
) -> np.ndarray:
    """Minimise by preconditioned L-BFGS (Nocedal & Wright 2006, algorithm 7.4) with a backtracking line search (Armijo).

    objective: gives the function's value and gradient. whiten: multiplies by an approximate inverse of the Hessian, linear.
    tolerance: stop where the next step promises to lower the value by less than this part of it. watch: called with the
    start and with each step's end.
    """
    x, (loss, gradient) = start, objective(start)
    watch(x)
    whitened = whiten(gradient)
    pairs: list[_Pair] = []
    for _ in range(MAX_STEPS):
        direction = -_two_loops(gradient, whitened, pairs)
        slope = float(np.vdot(gradient, direction))
        if -slope <= tolerance * max(loss, 1e-3):
            break
        length = 1.0
        while True:
            candidate = x + np.float32(length) * direction
            new_loss, new_gradient = objective(candidate)
            if new_loss <= loss + 1e-4 * length * slope or length < 1e-4:
                break
            length *= 0.3
        if not new_loss < loss:  # rounding: no step lowers the loss any more
            break
        new_whitened = whiten(new_gradient)
        step, gradient_change = candidate - x, new_gradient - gradient
        curvature = float(np.vdot(step, gradient_change))
        if curvature > 0:
            pairs = [*pairs[1 - MEMORY :], _Pair(step, gradient_change, new_whitened - whitened, 1 / curvature)]
        x, loss, gradient, whitened = candidate, new_loss, new_gradient, new_whitened
        watch(x)
    return x


def _two_loops(gradient: np.ndarray, whitened: np.ndarray, pairs: list[_Pair]) -> np.ndarray:
    """The quasi-Newton direction. Whitening is linear, so it is carried along instead of being done again here."""
    q, whitened = gradient.copy(), whitened.copy()
    shares = []
    for pair in reversed(pairs):
        share = np.float32(pair.inverse * float(np.vdot(pair.step, q)))
        q -= share * pair.gradient_change
        whitened -= share * pair.whitened_change
        shares.append(share)
    if pairs:
        last = pairs[-1]
        whitened *= np.float32(1 / (last.inverse * max(float(np.vdot(last.gradient_change, last.whitened_change)), 1e-30)))
    for pair, share in zip(pairs, reversed(shares), strict=True):
        whitened += (share - np.float32(pair.inverse * float(np.vdot(pair.gradient_change, whitened)))) * pair.step
    return whitened
