"""One training run: preflight before it, the loop, reports after it."""
