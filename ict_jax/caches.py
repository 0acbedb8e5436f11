"""Where is kept what can be computed again."""

import os
from pathlib import Path


def cache_directory(name: str = "") -> Path:
    """~/.cache/ict_jax/NAME, or below XDG_CACHE_HOME; it need not exist."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "ict_jax" / name
