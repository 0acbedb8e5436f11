"""Networks F(x, c_noise, labels, train), independent of sigma, loss, mesh and config.

Each has a field `num_classes`, 0 for an unconditional network, and a method
`check_image_shape(shape)` that raises `ValueError` for unsupported images (h, w, c). `LPIPS`
is a distance between images instead.
"""

from ict_jax.models.adm import ADM as ADM
from ict_jax.models.dense import DenseNet as DenseNet
from ict_jax.models.lpips import LPIPS as LPIPS
from ict_jax.models.ncsnpp import DDPMpp as DDPMpp
from ict_jax.models.ncsnpp import NCSNpp as NCSNpp
