"""The run folder: its files, its record, and what it knows of each photo."""
