"""Estimates before a run: whether it fits on devices, how long it takes and what it costs."""
