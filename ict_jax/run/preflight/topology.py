"""Devices by the usual names of slices and machines, which need not be present."""

import re
from typing import Any, NamedTuple

import jax
from jax.experimental import topologies

from ict_jax.core.errors import ArgumentError, require
from ict_jax.runtime.chips import CHIPS, Chip, find_chip

# Shapes of the torus or mesh by number of chips, as libtpu names them, from the slices that
# Google's documentation of each generation lists.
_FLAT = {1: "1x1", 4: "2x2", 8: "2x4", 16: "4x4", 32: "4x8", 64: "8x8", 128: "8x16", 256: "16x16"}
_CUBES = {
    4: "2x2x1",
    8: "2x2x2",
    16: "2x2x4",
    32: "2x4x4",
    64: "4x4x4",
    128: "4x4x8",
    256: "4x8x8",
    512: "8x8x8",
    1024: "8x8x16",
    2048: "8x16x16",
}
_SHAPES = {"v3": _FLAT, "v4": _CUBES, "v5e": _FLAT, "v5p": _CUBES, "v6e": _FLAT}
_CORES_IN_NAME = {"v3": 2, "v4": 2, "v5e": 1, "v5p": 2, "v6e": 1}
# Bounds of the slices whose host does not have four chips.
_ONE_HOST_OF = {kind: {1: (1, 1, 1), 8: (2, 4, 1)} for kind in ("v5e", "v6e")}
_GPUS_PER_NODE = 8

# Facts that XLA needs about an absent GPU, from the makers' data sheets and CUDA's limits.
_GPU = """gpu_device_info {{
  threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152
  shared_memory_per_core: {shared} threads_per_core_limit: 2048 core_count: {cores}
  fpus_per_core: {fpus} block_dim_limit_x: 2147483647 block_dim_limit_y: 65535
  block_dim_limit_z: 65535 memory_bandwidth: {bandwidth} l2_cache_size: {cache}
  clock_rate_ghz: {clock} device_memory_size: {memory} shared_memory_per_block_optin: {optin}
  cuda_compute_capability {{ major: {major} {features} }}
  registers_per_core_limit: 65536 registers_per_block_limit: 65536 }}
platform_name: "CUDA" dnn_version_info {{ major: 9 minor: 10 patch: 0 }}
runtime_version {{ major: 13 }} device_description_str: "{name}"
"""
_AMPERE = {
    "shared": 167936, "optin": 166912, "cores": 108, "fpus": 64, "cache": 41943040, "clock": 1.41,
    "major": 8, "features": "", "name": "sm_80",
}  # fmt: skip
_HOPPER = {
    "shared": 233472, "optin": 232448, "cores": 132, "fpus": 128, "cache": 52428800, "clock": 1.98,
    "major": 9, "features": "feature_extension: ACCELERATED_FEATURES", "name": "sm_90",
}  # fmt: skip
_GPUS = {"a100": _AMPERE, "h100": _HOPPER, "h200": _HOPPER}


class Topology(NamedTuple):
    """Devices to compile for.

    Attributes:
      name: as given by the user.
      devices: devices of all slices or nodes.
      chip: their peak and memory; None for an unknown device.
    """

    name: str
    devices: list[Any]
    chip: Chip | None

    @property
    def num_chips(self) -> int:
        """Number of chips, which are what is paid for."""
        return len(self.devices) // (self.chip.devices_per_chip if self.chip else 1)

    @property
    def num_hosts(self) -> int:
        """Number of processes of a job."""
        return len({device.process_index for device in self.devices})


def find_topology(name: str, num_slices: int = 1) -> Topology:
    """Find the devices of a name: v5e-16, v4-8, h100-8, local.

    The number counts chips for v5e and v6e, cores (two per chip) for v3, v4 and v5p, and GPUs,
    eight in a node.

    Args:
      name: name of one slice.
      num_slices: number of slices, connected by the data centre's network.

    Raises:
      ArgumentError: an unknown name, or no compiler for these devices.
    """
    require(num_slices >= 1, f"--num_slices={num_slices} must be at least 1.")
    if name == "local":
        require(num_slices == 1, "--num_slices is for slices that are not here; leave it out.")
        devices = jax.devices()
        return Topology(name, devices, find_chip(devices[0].device_kind))
    match = re.fullmatch(r"(v5litepod|[a-z]+\d+[a-z]?)-(\d+)", name)
    kind, number = (match[1].replace("v5litepod", "v5e"), int(match[2])) if match else ("", 0)
    if kind in _GPUS:
        require(num_slices == 1, "--num_slices is for TPUs; give the number of GPUs in all.")
        return Topology(name, _gpus(kind, number), CHIPS[kind])
    chips = number // _CORES_IN_NAME.get(kind, 1)
    require(
        kind in _SHAPES and chips in _SHAPES[kind] and number == chips * _CORES_IN_NAME[kind],
        f"--topology={name} is not known; use local, {', '.join(_names())}.",
    )
    options: dict[str, Any] = {"chip_config_name": "megacore"} if kind in ("v4", "v5p") else {}
    if kind in _ONE_HOST_OF and chips in _ONE_HOST_OF[kind]:
        options["chips_per_host_bounds"] = _ONE_HOST_OF[kind][chips]
    shape = f"{'v5' if kind == 'v5p' else kind}:{_SHAPES[kind][chips]}"
    return Topology(name, _describe("tpu", shape, num_slices=num_slices, **options), CHIPS[kind])


def enlarged(name: str, factor: int) -> str | None:
    """Return the name with `factor` times the devices, None if that is not offered."""
    kind, _, number = name.partition("-")
    kind = kind.replace("v5litepod", "v5e")
    if kind in _GPUS:
        larger = int(number) * factor
        return f"{kind}-{larger}" if larger <= 8 or larger % _GPUS_PER_NODE == 0 else None
    if kind not in _SHAPES:
        return None
    cores = int(number) * factor
    return f"{kind}-{cores}" if cores // _CORES_IN_NAME[kind] in _SHAPES[kind] else None


def _names() -> list[str]:
    """List the range of names of each kind."""
    cores = {kind: [n * _CORES_IN_NAME[kind] for n in _SHAPES[kind]] for kind in _SHAPES}
    ranges = [f"{kind}-{sizes[0]} to {kind}-{sizes[-1]}" for kind, sizes in cores.items()]
    return [*ranges, *(f"{kind}-1 and so on" for kind in _GPUS)]


def _gpus(kind: str, number: int) -> list[Any]:
    nodes = -(-number // _GPUS_PER_NODE)
    require(
        number >= 1 and (number <= _GPUS_PER_NODE or number == nodes * _GPUS_PER_NODE),
        f"--topology={kind}-{number} does not fill its nodes; use 1 to {_GPUS_PER_NODE} GPUs or a "
        "multiple of that.",
    )
    chip = CHIPS[kind]
    target = _GPU.format(
        **_GPUS[kind], memory=int(chip.memory_bytes), bandwidth=int(chip.bytes_per_sec)
    )
    shape = f"1x{nodes}x{number // nodes}"
    return _describe("cuda", "", topology=shape, target_config=target)


def _describe(platform: str, shape: str, **options: Any) -> list[Any]:
    try:
        return list(topologies.get_topology_desc(shape, platform, **options).devices)
    except Exception as error:  # plugins raise many types
        needed = {"tpu": "pip install 'ict_jax[tpu]'", "cuda": "pip install jax-cuda13-plugin"}
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ArgumentError(
            f"the compiler for {platform} is not available here ({first}); it comes with "
            f"{needed[platform]}, of the release that constraints.txt names."
        ) from error
