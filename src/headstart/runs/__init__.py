"""The run folder: its files, run.json, and the findings about each photo."""
