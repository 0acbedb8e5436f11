"""Configs of runs; each file has `get_config(form)`."""
