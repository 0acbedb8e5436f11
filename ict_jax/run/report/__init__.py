"""The report: one HTML page about a run, from the files in its work directory."""
