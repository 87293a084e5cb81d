"""L-BFGS: minimises a smooth function by a quasi-Newton method with little memory. It knows nothing of codes."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

MEMORY = 10  # pairs of steps that the quasi-Newton method remembers
MAX_STEPS = 300


class _Step(NamedTuple):
    """A step that was made, what it changed in the gradient, the same whitened, and the inverse of their product."""

    moved: np.ndarray
    turned: np.ndarray
    whitened: np.ndarray
    inverse: float


def minimise(
    objective: Callable[[np.ndarray], tuple[float, np.ndarray]],
    start: np.ndarray,
    whiten: Callable[[np.ndarray], np.ndarray],
    tolerance: float,
    watch: Callable[[np.ndarray], None],
) -> np.ndarray:
    """Preconditioned L-BFGS (Nocedal & Wright 2006, algorithm 7.4) with a backtracking line search (Armijo)."""
    x, (loss, gradient) = start, objective(start)
    watch(x)
    whitened = whiten(gradient)
    steps: list[_Step] = []
    for _ in range(MAX_STEPS):
        direction = -_two_loops(gradient, whitened, steps)
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
        moved, turned = candidate - x, new_gradient - gradient
        curvature = float(np.vdot(moved, turned))
        if curvature > 0:
            steps = [*steps[1 - MEMORY :], _Step(moved, turned, new_whitened - whitened, 1 / curvature)]
        x, loss, gradient, whitened = candidate, new_loss, new_gradient, new_whitened
        watch(x)
    return x


def _two_loops(gradient: np.ndarray, whitened: np.ndarray, steps: list[_Step]) -> np.ndarray:
    """The quasi-Newton direction. Whitening is linear, so it is carried along instead of being done again here."""
    q, whitened = gradient.copy(), whitened.copy()
    shares = []
    for step in reversed(steps):
        share = np.float32(step.inverse * float(np.vdot(step.moved, q)))
        q -= share * step.turned
        whitened -= share * step.whitened
        shares.append(share)
    if steps:
        last = steps[-1]
        whitened *= np.float32(1 / (last.inverse * max(float(np.vdot(last.turned, last.whitened)), 1e-30)))
    for step, share in zip(steps, reversed(shares), strict=True):
        whitened += (share - np.float32(step.inverse * float(np.vdot(step.turned, whitened)))) * step.moved
    return whitened
