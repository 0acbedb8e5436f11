"""Training objectives: each defines its random draws and its loss."""

from ict_jax.core.objectives.base import Draws as Draws
from ict_jax.core.objectives.base import Objective as Objective
from ict_jax.core.objectives.cd import cd_objective as cd_objective
from ict_jax.core.objectives.ct import ct_objective as ct_objective
from ict_jax.core.objectives.ect import ect_objective as ect_objective
from ict_jax.core.objectives.edm import edm_objective as edm_objective
from ict_jax.core.objectives.ict import ict_loss as ict_loss
from ict_jax.core.objectives.ict import ict_objective as ict_objective
from ict_jax.core.objectives.sct import scd_objective as scd_objective
from ict_jax.core.objectives.sct import sct_objective as sct_objective
