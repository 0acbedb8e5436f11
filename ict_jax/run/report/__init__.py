"""A page about a run: what it left, its charts, its HTML."""
