"""Checkpoints with Orbax: `load` reads them to sample, `store` writes and restores a run's.

`layout` is what lies where, `reading` tells whether it is what was saved, `kept` which stay, and
`save_barrier` how several processes save together.
"""

from ict_jax.checkpoints.weights import Loaded, load_consistency_fn, load_ema, locate

__all__ = ["Loaded", "load_consistency_fn", "load_ema", "locate"]
