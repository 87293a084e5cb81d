"""Measures how good a classifier is: accuracy, per-class scores, several labels, and comparisons."""
