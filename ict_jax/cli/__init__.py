"""The commands: thin shells around importable functions."""
