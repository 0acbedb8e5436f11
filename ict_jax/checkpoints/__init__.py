"""Checkpoints with Orbax: `weights` reads them for sampling, `store` saves and restores a run's.

`directory` knows their layout on disk, `integrity` verifies them, `retention` chooses which to
keep, and `save_barrier` lets several processes save together.
"""

from ict_jax.checkpoints.weights import Loaded, load_consistency_fn, load_ema, locate

__all__ = ["Loaded", "load_consistency_fn", "load_ema", "locate"]
