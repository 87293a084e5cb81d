"""Exports a finished classifier to other programs' formats, and compares every file with the original on held-out photos."""
