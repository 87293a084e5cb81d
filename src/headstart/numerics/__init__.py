"""Arithmetic on arrays: losses, intervals, principal axes, nearest neighbours. It knows nothing of photos."""
