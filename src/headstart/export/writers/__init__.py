"""Writes a classifier's file, and opens what was written: a file for each kind of format."""
