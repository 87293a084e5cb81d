"""Reads what strangers wrote, and writes what others open, so that it does no harm: JSON, arrays, CSV, terminal text."""
