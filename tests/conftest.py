"""Four virtual CPU devices, programs compiled quickly, and a quiet, deterministic JAX."""

import os
import shutil
import tempfile

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read where NumPy is imported; QUICK says why

from experiments.jobs import QUICK

# Many tests train the same small run, each in a process of its own: what one has compiled, the
# others read. The size limit is what makes JAX lock the files.
CACHE = "JAX_COMPILATION_CACHE_DIR"
MADE_HERE = CACHE not in os.environ
if MADE_HERE:
    os.environ[CACHE] = tempfile.mkdtemp(prefix="ict_jax_compiled_")
    os.environ["JAX_COMPILATION_CACHE_MAX_SIZE"] = str(2**31)
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    # So do they the classifier of a data set; and the user's own caches stay as they are.
    os.environ["XDG_CACHE_HOME"] = os.path.join(os.environ[CACHE], "home")

os.environ.setdefault("XLA_FLAGS", QUICK["XLA_FLAGS"])

import jax  # noqa: E402
import jaxtyping  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_rank_promotion", "raise")
# Commands read even small programs from the cache. A worker compiles those once, and storing one
# takes longer the more there are.
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


LONGEST = (
    *("test_faults", "test_docs", "test_quick_start", "test_loop", "test_commands", "test_unet"),
    *("test_parallel", "test_import_export", "test_prepare", "test_configs"),
)


def pytest_collection_modifyitems(items):
    """Files go to the workers in this order: the longest first, so that both end together."""
    order = {name: index for index, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


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
