"""Learns how far a classifier can be believed: calibration, conformal sets, and photos that are unfamiliar."""
