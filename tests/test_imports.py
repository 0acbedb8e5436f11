"""What importing the package loads."""

import subprocess
import sys

from tests.helpers import ROOT


def loaded(code):
    """Top-level modules that a fresh interpreter has after running `code`."""
    script = f"{code}\nimport sys\nprint(*sorted({{m.split('.')[0] for m in sys.modules}}))"
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(run.stdout.split())


def test_the_method_needs_jax_numpy_and_jaxtyping_only():
    ours = loaded("import ict_jax") - loaded("import jax, numpy, jaxtyping")
    standard = ours & set(sys.stdlib_module_names)
    assert ours - standard == {"ict_jax"}
    heavy = {"flax", "optax", "orbax", "clu", "tensorflow", "ml_collections", "PIL", "sklearn"}
    assert not ours & heavy
    assert "flax" in loaded("import ict_jax.models")  # the test can tell


def test_commands_do_not_load_tensorflow():
    modules = loaded(
        "import ict_jax.cli.train, ict_jax.cli.sample, ict_jax.cli.evaluate\n"
        "import ict_jax.run.loop, ict_jax.checkpoints, ict_jax.evaluation.evaluator\n"
        "import ict_jax.data.sets.tfds, tensorflow_datasets"
    )
    assert "tensorflow" not in modules and "clu" in modules


def test_public_names_are_documented():
    import ict_jax

    for name in dir(ict_jax):
        value = getattr(ict_jax, name)
        if callable(value) and not name.startswith("_"):
            assert value.__doc__, name
