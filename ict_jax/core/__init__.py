"""The method as pure functions; imports only jax, numpy and jaxtyping."""
