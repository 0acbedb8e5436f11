"""Four virtual CPU devices, programs compiled quickly, and a quiet, deterministic JAX."""

import os
import shutil
import tempfile

# Many tests train the same small run, each in a process of its own: what one has compiled, the
# others read. The size limit is what makes JAX lock the files.
CACHE = "JAX_COMPILATION_CACHE_DIR"
MADE_HERE = CACHE not in os.environ
if MADE_HERE:
    os.environ[CACHE] = tempfile.mkdtemp(prefix="ict_jax_compiled_")
    os.environ["JAX_COMPILATION_CACHE_MAX_SIZE"] = str(2**31)
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"

# Compiling takes most of the time of the tests; unoptimised programs compile twice as fast.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

import jax  # noqa: E402
import jaxtyping  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def user_errors():
    """Switches the annotation checks of the tests off, so that users' errors are seen."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)


def pytest_unconfigure():
    """The process that made the cache removes it; the workers inherit its environment."""
    if MADE_HERE:
        shutil.rmtree(os.environ[CACHE], ignore_errors=True)
