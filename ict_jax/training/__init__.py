"""State, step, optimizer and shardings; no files, no config, no logging."""
