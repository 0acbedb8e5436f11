"""Networks F(x, c_noise, labels, train); they know nothing of sigma, loss, mesh or config.

Each has a field `num_classes`, 0 for an unconditional network, and a method
`check_image_shape(shape)` that raises `ValueError` for images (h, w, c) it cannot take. `LPIPS`
alone is a distance between images.
"""

from ict_jax.models.adm import ADM as ADM
from ict_jax.models.dense import DenseNet as DenseNet
from ict_jax.models.lpips import LPIPS as LPIPS
from ict_jax.models.ncsnpp import DDPMpp as DDPMpp
from ict_jax.models.ncsnpp import NCSNpp as NCSNpp
