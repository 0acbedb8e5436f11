"""Whether a run fits on devices that are not there, how long it takes and what it costs."""
