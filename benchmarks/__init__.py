"""Measurements; each writes its record into `records/`."""
