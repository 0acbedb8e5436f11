"""Evidence of `docs/evidence.md`: runs, their results as JSON, tables and figures."""
