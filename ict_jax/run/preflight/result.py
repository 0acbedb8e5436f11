"""Result of a preflight, and the times that follow from it."""

import dataclasses

MARGIN = 0.15
"""The quick level overstates the memory by about a tenth: within this it refuses nothing."""

MFUS = (0.2, 0.4)
"""MFUs for which times are given; published runs of such networks reach 5 to 15%."""


@dataclasses.dataclass(frozen=True)
class Report:
    """Result of a preflight. Bytes are per device unless stated otherwise.

    Attributes:
      topology: name of one slice.
      devices: devices of the mesh.
      chips: chips of the whole topology, which are paid for.
      hosts: processes.
      mesh: sizes of its axes.
      batch_size: images per step, over all devices.
      accumulation_steps: microbatches per step.
      parameters: parameters of the network.
      parameter_bytes: parameters, EMA parameters and teachers.
      optimizer_bytes: state of the optimizer.
      peak_bytes: peak memory as the compiler planned it, or required when it refused; None if it
        did not say.
      memory_bytes: memory that a program may use; None for an unknown device.
      fits: None for an unknown device.
      flops_per_step: FLOPs over all devices, counted from the traced program.
      compiler_flops_per_step: FLOPs over all devices, counted by the compiler.
      compiler_bytes_per_step: memory traffic, counted by the compiler.
      scanned: whether the compiler's counts include the body of a loop only once.
      remat: whether blocks are recomputed; None if the network cannot.
      collectives: bytes by kind; those in a loop count once.
      compile_secs: duration of tracing, lowering and compiling here.
      total_images: images of the whole run.
      flops_per_sec: peak of the device.
      bytes_per_sec: memory bandwidth of the device.
      refusal: message of the compiler that refused.
    """

    topology: str
    num_slices: int
    devices: int
    chips: int
    hosts: int
    mesh: dict[str, int]
    batch_size: int
    images_per_device: int
    accumulation_steps: int
    parameters: int
    parameter_bytes: int
    optimizer_bytes: int
    peak_bytes: float | None
    memory_bytes: float | None
    fits: bool | None
    flops_per_step: float
    compiler_flops_per_step: float | None
    compiler_bytes_per_step: float | None
    scanned: bool
    remat: bool | None
    collectives: dict[str, int]
    compile_secs: float
    level: str
    total_images: int
    flops_per_sec: float | None
    bytes_per_sec: float | None
    price_per_chip_hour: float | None
    refusal: str | None

    @property
    def nearly_fits(self) -> bool:
        """True if the step does not fit, but might at the default level of optimization."""
        if self.fits is not False or self.peak_bytes is None or self.memory_bytes is None:
            return False
        return self.peak_bytes <= self.memory_bytes * (1 + MARGIN)

    @property
    def has_bytes(self) -> bool:
        """True if the compiler counted the memory traffic of the whole step."""
        return self.compiler_bytes_per_step is not None and not self.scanned

    @property
    def roofline_secs_per_step(self) -> float | None:
        """Seconds per step at peak FLOPs, or at peak memory bandwidth if that takes longer.

        An estimate: the memory traffic depends on the compiler's optimization.
        """
        if self.flops_per_sec is None or self.bytes_per_sec is None:
            return None
        bounds = [self.flops_per_step / self.devices / self.flops_per_sec]
        if self.compiler_bytes_per_step is not None and self.has_bytes:
            bounds.append(self.compiler_bytes_per_step / self.bytes_per_sec)
        return max(bounds)

    def secs_per_step(self, mfu: float) -> float | None:
        """Return the seconds per step at an MFU."""
        if self.flops_per_sec is None:
            return None
        return self.flops_per_step / self.devices / self.flops_per_sec / mfu

    def hours(self, secs_per_step: float) -> float:
        """Return the hours of the whole run."""
        return self.total_images / self.batch_size * secs_per_step / 3600
