"""The method as pure functions: it imports jax, numpy and jaxtyping and nothing else."""
