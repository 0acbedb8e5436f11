"""State, step, optimizer and how they meet devices; no files, no config, no logging."""
