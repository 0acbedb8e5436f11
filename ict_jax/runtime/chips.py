"""Accelerator specifications per JAX device."""

from typing import NamedTuple


class Chip(NamedTuple):
    """Published specifications of one device."""

    name: str
    flops_per_sec: float  # peak of dense bfloat16 matrix products
    memory_bytes: float  # HBM size; on TPUs, the part that the compiler makes available
    bytes_per_sec: float  # HBM bandwidth
    devices_per_chip: int = 1  # as JAX counts them
    usable_fraction: float = 1.0  # of the memory, allocated by JAX by default

    @property
    def usable_bytes(self) -> float:
        """Memory available to a program."""
        return self.usable_fraction * self.memory_bytes


_GPU_FRACTION = 0.75
"""JAX's default; the environment variable XLA_PYTHON_CLIENT_MEM_FRACTION overrides it."""

# Peaks and bandwidths: vendor data sheets. TPU memory: as libtpu 0.0.42 reports it.
CHIPS = {
    "v3": Chip("TPU v3", 61.5e12, 16 * 2**30, 450e9, devices_per_chip=2),
    "v4": Chip("TPU v4", 275e12, 30.75 * 2**30, 1200e9),
    "v5e": Chip("TPU v5e", 197e12, 15.75 * 2**30, 819e9),
    "v5p": Chip("TPU v5p", 459e12, 95.73 * 2**30, 2765e9),
    "v6e": Chip("TPU v6e", 918e12, 31.24 * 2**30, 1638e9),
    "a100": Chip("NVIDIA A100 80GB", 312e12, 80e9, 2039e9, usable_fraction=_GPU_FRACTION),
    "h100": Chip("NVIDIA H100 SXM", 989e12, 80e9, 3350e9, usable_fraction=_GPU_FRACTION),
    "h200": Chip("NVIDIA H200 SXM", 989e12, 141e9, 4800e9, usable_fraction=_GPU_FRACTION),
}

# Matched in this order: "TPU v5" is a prefix of "TPU v5 lite".
_KINDS = {
    "TPU v3": "v3",
    "TPU v4": "v4",
    "TPU v5 lite": "v5e",
    "TPU v5": "v5p",
    "TPU v6": "v6e",
    "A100-SXM4-80GB": "a100",
    "A100 80GB": "a100",
    "H100 80GB HBM3": "h100",
    "H200": "h200",
}


def find_chip(device_kind: str) -> Chip | None:
    """Return the chip of a `jax.Device.device_kind`, or None if it is unknown."""
    for part, name in _KINDS.items():
        if part in device_kind and "NVL" not in device_kind:
            return CHIPS[name]
    return None
