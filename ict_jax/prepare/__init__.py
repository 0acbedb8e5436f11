"""Making sets on disk that training reads by random access, in the format of TFDS."""

from ict_jax.prepare.official import prepare_official as prepare_official
from ict_jax.prepare.sets import prepare_cifar10 as prepare_cifar10
from ict_jax.prepare.sets import prepare_folder as prepare_folder
from ict_jax.prepare.sets import prepare_imagenet64 as prepare_imagenet64
