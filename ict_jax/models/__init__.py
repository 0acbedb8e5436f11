"""Networks F(x, c_noise, labels, train); they know nothing of sigma, loss, mesh or config."""

from ict_jax.models.small import DenseNet as DenseNet
