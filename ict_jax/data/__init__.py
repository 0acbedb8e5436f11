"""Image sets and the order in which training reads them."""

from ict_jax.data.batches import Batches as Batches
from ict_jax.data.images import Dataset as Dataset
from ict_jax.data.images import Examples as Examples
from ict_jax.data.images import ImageSet as ImageSet
from ict_jax.data.images import root_mean_square as root_mean_square
from ict_jax.data.images import statistics_subset as statistics_subset
from ict_jax.data.sets import load_data as load_data
