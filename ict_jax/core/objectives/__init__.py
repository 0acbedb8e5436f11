"""Training objectives: each says what it draws at random and what it minimises."""

from ict_jax.core.objectives.base import Draws as Draws
from ict_jax.core.objectives.base import Objective as Objective
from ict_jax.core.objectives.ict import ict_loss as ict_loss
from ict_jax.core.objectives.ict import ict_objective as ict_objective
