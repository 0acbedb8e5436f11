"""What would fit where a run does not."""

from ict_jax.run.preflight.result import Report
from ict_jax.run.preflight.topology import enlarged


def suggestions(report: Report) -> list[str]:
    """What would fit, by estimates from the bytes that the compiler asked for."""
    if report.memory_bytes is None or report.peak_bytes is None:
        return []
    held = report.parameter_bytes + report.optimizer_bytes
    gradient = 4 * report.parameters
    room = 0.95 * report.memory_bytes
    activations = max(report.peak_bytes - held - gradient, 0)
    part = report.images_per_device // report.accumulation_steps
    found = []
    factors = [f for f in range(2, part + 1) if part % f == 0]
    for factor in factors:
        if held + gradient + activations / factor <= room:
            steps = report.accumulation_steps * factor
            found.append(f"training.accumulation_steps={steps} ({part // factor} images at a time)")
            break
    for ways in (2, 4, 8, 16, 32, 64, 128, 256):
        cut = held * report.mesh["fsdp"] / ways
        if ways <= report.devices and report.devices % ways == 0 and ways > report.mesh["fsdp"]:
            if cut + 2 * gradient + activations <= room:
                found.append(f"mesh.fsdp={ways} (the state cut over so many devices)")
                break
    for factor in factors:
        larger = enlarged(report.topology, factor)
        if larger is not None and held + gradient + activations / factor <= room:
            found.append(f"--topology={larger} ({part // factor} images on each device)")
            break
    if report.remat is False:
        found.append("model.remat=True (recomputes the inside of the blocks; try it)")
    if held + gradient <= room:
        found.append("a smaller batch_size")
    found.append("chips with more memory")
    return found
