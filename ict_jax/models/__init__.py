"""Networks F(x, c_noise, labels, train); they know nothing of sigma, loss, mesh or config.

Each has a field `num_classes`, 0 for an unconditional network.
"""

from ict_jax.models.small import DenseNet as DenseNet
