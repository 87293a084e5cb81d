"""Figures for papers and slides, drawn with matplotlib."""
