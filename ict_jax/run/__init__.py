"""A training run: preflight before it, the loop, the report after it."""
