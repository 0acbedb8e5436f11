"""What `docs/evidence.md` rests on: runs, their results as JSON, tables and figures."""
