"""Preparation of sets on disk for random access, in the format of TFDS."""

from ict_jax.data.prepare.recipes import prepare_cifar10 as prepare_cifar10
from ict_jax.data.prepare.recipes import prepare_folder as prepare_folder
from ict_jax.data.prepare.recipes import prepare_imagenet64 as prepare_imagenet64
from ict_jax.data.prepare.tfds_official import prepare_tfds as prepare_tfds
