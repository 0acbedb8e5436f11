"""Consistency training in JAX: the method as pure functions.

Importing this package loads only jax, numpy and jaxtyping. The trainer, networks and
commands live in the sub-packages `training`, `models`, `data`, `evaluation` and `cli`.
"""

from ict_jax.core.discretization import Discretization as Discretization
from ict_jax.core.discretization import draw_sigma_pair as draw_sigma_pair
from ict_jax.core.discretization import make_discretization as make_discretization
from ict_jax.core.discretization import num_scales_at as num_scales_at
from ict_jax.core.errors import ArgumentError as ArgumentError
from ict_jax.core.losses import consistency_loss as consistency_loss
from ict_jax.core.losses import default_huber_c as default_huber_c
from ict_jax.core.losses import inverse_gap as inverse_gap
from ict_jax.core.losses import mean_absolute_distance as mean_absolute_distance
from ict_jax.core.losses import mean_squared_distance as mean_squared_distance
from ict_jax.core.losses import pseudo_huber as pseudo_huber
from ict_jax.core.losses import squared_distance as squared_distance
from ict_jax.core.objectives import Objective as Objective
from ict_jax.core.objectives import ict_loss as ict_loss
from ict_jax.core.objectives import ict_objective as ict_objective
from ict_jax.core.precondition import Scalings as Scalings
from ict_jax.core.precondition import as_consistency_fn as as_consistency_fn
from ict_jax.core.precondition import as_denoiser as as_denoiser
from ict_jax.core.precondition import boundary_scalings as boundary_scalings
from ict_jax.core.precondition import edm_scalings as edm_scalings
from ict_jax.core.sampling import heun_sample as heun_sample
from ict_jax.core.sampling import sample as sample
from ict_jax.core.sampling import seed_keys as seed_keys
from ict_jax.core.schedules import Stage as Stage
from ict_jax.core.schedules import doubling_curriculum as doubling_curriculum
from ict_jax.core.schedules import karras_sigmas as karras_sigmas
from ict_jax.core.schedules import lognormal_law as lognormal_law
from ict_jax.core.schedules import uniform_law as uniform_law

__version__ = "0.1.0"
