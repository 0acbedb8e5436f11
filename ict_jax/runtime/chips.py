"""What the chips can do, per device as JAX sees it."""

from typing import NamedTuple


class Chip(NamedTuple):
    """Published figures of one device.

    Attributes:
      name: as users say it.
      flops_per_sec: peak of bfloat16 matrix products, dense.
      memory_bytes: of its HBM; of TPUs, what the compiler lets a program use.
      bytes_per_sec: to and from HBM.
      devices_per_chip: how many JAX devices one chip is.
      usable_share: of the memory, that JAX takes for programs if not told otherwise.
    """

    name: str
    flops_per_sec: float
    memory_bytes: float
    bytes_per_sec: float
    devices_per_chip: int = 1
    usable_share: float = 1.0

    @property
    def usable_bytes(self) -> float:
        """What a program may use."""
        return self.usable_share * self.memory_bytes


_OF_A_GPU = 0.75
"""JAX's default; the environment variable XLA_PYTHON_CLIENT_MEM_FRACTION sets another."""

# Peaks and bandwidths: the makers' data sheets. Memory of TPUs: what libtpu 0.0.42 says of them.
CHIPS = {
    "v3": Chip("TPU v3", 61.5e12, 16 * 2**30, 450e9, devices_per_chip=2),
    "v4": Chip("TPU v4", 275e12, 30.75 * 2**30, 1200e9),
    "v5e": Chip("TPU v5e", 197e12, 15.75 * 2**30, 819e9),
    "v5p": Chip("TPU v5p", 459e12, 95.73 * 2**30, 2765e9),
    "v6e": Chip("TPU v6e", 918e12, 31.24 * 2**30, 1638e9),
    "a100": Chip("NVIDIA A100 80GB", 312e12, 80e9, 2039e9, usable_share=_OF_A_GPU),
    "h100": Chip("NVIDIA H100 SXM", 989e12, 80e9, 3350e9, usable_share=_OF_A_GPU),
    "h200": Chip("NVIDIA H200 SXM", 989e12, 141e9, 4800e9, usable_share=_OF_A_GPU),
}

# In the order in which they are looked for: "TPU v5" is also in "TPU v5 lite".
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
    """The chip of `jax.Device.device_kind`, None if it is not known."""
    for part, name in _KINDS.items():
        if part in device_kind and "NVL" not in device_kind:
            return CHIPS[name]
    return None
