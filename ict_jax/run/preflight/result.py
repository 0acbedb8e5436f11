"""What was found out about a training step, and what follows from it."""

import dataclasses

MARGIN = 0.15
"""The quick settings overstate the memory by about a tenth: within this, they refuse nothing."""

UTILISATIONS = (0.2, 0.4)
"""Shares of the peak for which times are given; published runs of such networks reach 5 to 15%."""


@dataclasses.dataclass(frozen=True)
class Report:
    """What a preflight found. Bytes are of one device unless they say otherwise.

    Attributes:
      topology: its name, of one slice.
      num_slices: how many of them.
      devices: that take part.
      chips: of the whole topology, which are paid for.
      hosts: processes.
      mesh: sizes of its axes.
      batch_size: of the global batch.
      images_per_device: of it.
      accumulation_steps: parts in which a device works through them.
      parameters: of the network.
      parameter_bytes: parameters and their average.
      optimizer_bytes: its state.
      peak_bytes: at most in use at one time, as the compiler planned, or what it asked for where
        it refused; None if it did not say.
      memory_bytes: what a program may use; None if the device is not known.
      fits: None if the device is not known.
      flops_per_step: of all devices, counted from the traced program.
      compiler_flops_per_step: of all devices, the compiler's count.
      compiler_bytes_per_step: to and from memory.
      scanned: whether the two counts of the compiler see the body of a loop only once.
      remat: whether blocks are computed again; None if the network does not know how.
      collectives: kind -> bytes; what stands in a loop is counted once.
      compile_secs: that tracing, lowering and compiling took here.
      level: of optimisation.
      total_images: of the whole run.
      flops_per_sec: the device's peak.
      bytes_per_sec: of its memory.
      price_per_chip_hour: as given by the user.
      refusal: the compiler's words where it refused.
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
        """Whether it might fit at the default level of optimisation, and does not at this one."""
        if self.fits is not False or self.peak_bytes is None or self.memory_bytes is None:
            return False
        return self.peak_bytes <= self.memory_bytes * (1 + MARGIN)

    @property
    def has_bytes(self) -> bool:
        """Whether the bytes of the whole step to and from memory were counted."""
        return self.compiler_bytes_per_step is not None and not self.scanned

    @property
    def roofline_secs_per_step(self) -> float | None:
        """At the peak of operations, or of the memory where its bytes take longer.

        An estimate: how many bytes are moved depends on how the compiler optimises.
        """
        if self.flops_per_sec is None or self.bytes_per_sec is None:
            return None
        bounds = [self.flops_per_step / self.devices / self.flops_per_sec]
        if self.compiler_bytes_per_step is not None and self.has_bytes:
            bounds.append(self.compiler_bytes_per_step / self.bytes_per_sec)
        return max(bounds)

    def secs_per_step(self, utilisation: float) -> float | None:
        """At a share of the peak of operations."""
        if self.flops_per_sec is None:
            return None
        return self.flops_per_step / self.devices / self.flops_per_sec / utilisation

    def hours(self, secs_per_step: float) -> float:
        """Of the whole run."""
        return self.total_images / self.batch_size * secs_per_step / 3600
