"""Changes by which a run that does not fit would."""

from ict_jax.run.preflight.result import Report
from ict_jax.run.preflight.topology import enlarged


def suggestions(report: Report) -> list[str]:
    """List changes that would make a run fit, estimated from the compiler's peak memory."""
    if report.memory_bytes is None or report.peak_bytes is None:
        return []
    state = report.parameter_bytes + report.optimizer_bytes
    gradient = 4 * report.parameters
    room = 0.95 * report.memory_bytes
    activations = max(report.peak_bytes - state - gradient, 0)
    images = report.images_per_device // report.accumulation_steps
    found = []
    factors = [f for f in range(2, images + 1) if images % f == 0]
    fitting = [f for f in factors if state + gradient + activations / f <= room]
    if fitting:
        steps = report.accumulation_steps * fitting[0]
        found.append(
            f"training.accumulation_steps={steps} ({images // fitting[0]} images at a time)"
        )
    fsdp = report.mesh["fsdp"]
    for ways in (2, 4, 8, 16, 32, 64, 128, 256):
        sharded = state * fsdp / ways
        if ways <= report.devices and report.devices % ways == 0 and ways > fsdp:
            if sharded + 2 * gradient + activations <= room:
                found.append(f"mesh.fsdp={ways} (the state sharded over that many devices)")
                break
    for factor in fitting:
        if larger := enlarged(report.topology, factor):
            found.append(f"--topology={larger} ({images // factor} images on each device)")
            break
    if report.remat is False:
        found.append("model.remat=True (recomputes the inside of the blocks; try it)")
    if state + gradient <= room:
        found.append("a smaller batch_size")
    found.append("chips with more memory")
    return found
