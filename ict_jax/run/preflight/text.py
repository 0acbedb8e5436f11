"""Preflight reports as text and as JSON."""

import dataclasses
from typing import Any

from ict_jax.run.preflight.result import MFUS, Report
from ict_jax.run.preflight.suggestions import suggestions
from ict_jax.runtime.console import format_secs

GIB = 2**30


def as_text(report: Report) -> str:
    """Format all figures, one per line."""
    slices = f"{report.num_slices} x " if report.num_slices > 1 else ""
    microbatch = report.images_per_device // report.accumulation_steps
    rows = [
        (
            "devices",
            f"{report.devices} of {slices}{report.topology}: {report.chips} chips, "
            f"{report.hosts} host(s); mesh {report.mesh}",
        ),
        (
            "batch",
            f"{report.batch_size:,} images, {report.images_per_device:,} per device, "
            f"{microbatch:,} at a time",
        ),
        ("parameters", f"{report.parameters:,}"),
        (
            "state per device",
            f"{report.parameter_bytes / GIB:.3f} GiB parameters, EMA and teachers, "
            f"{report.optimizer_bytes / GIB:.3f} GiB optimizer",
        ),
        ("peak memory", _memory(report)),
        ("FLOP per step", _flops(report)),
        ("collectives", _collectives(report)),
        ("compiled in", f"{format_secs(report.compile_secs)} here, with --level={report.level}"),
        *_times(report),
    ]
    return "\n".join(f"{name:34} {value}" for name, value in rows)


def as_json(report: Report) -> dict[str, Any]:
    """Return all fields, and the estimates and suggestions that follow from them."""
    secs = {"roofline": report.roofline_secs_per_step}
    secs |= {f"estimate_at_{mfu:.0%}_of_peak": report.secs_per_step(mfu) for mfu in MFUS}
    return {
        **dataclasses.asdict(report),
        "images_per_sec": {k: report.batch_size / v for k, v in secs.items() if v},
        "hours": {k: report.hours(v) for k, v in secs.items() if v},
        "would_fit": suggestions(report) if report.fits is False else [],
    }


def refusal(report: Report) -> str:
    """Say in one sentence what does not fit, and what would."""
    if report.peak_bytes is None or report.memory_bytes is None:
        return f"the compiler refused the training step for {report.topology}: {report.refusal}"
    return (
        f"the training step needs {report.peak_bytes / GIB:.2f} GiB of the "
        f"{report.memory_bytes / GIB:.2f} GiB that a device of {report.topology} has; by estimate "
        f"these would fit: {'; '.join(suggestions(report))}."
    )


def _memory(report: Report) -> str:
    if report.peak_bytes is None:
        return f"more than available: {report.refusal}"
    text = f"{report.peak_bytes / GIB:.2f} GiB"
    if report.memory_bytes is None:
        return f"{text} (the memory of the device is not known)"
    share = report.peak_bytes / report.memory_bytes
    verdict = "fits" if report.fits else "DOES NOT FIT"
    return f"{text} of {report.memory_bytes / GIB:.2f} GiB per device ({share:.0%}): {verdict}"


def _flops(report: Report) -> str:
    text = f"{report.flops_per_step:.4g}, counted from the program"
    if report.compiler_flops_per_step is not None:
        once = ", the bodies of loops once" if report.scanned else ""
        text += f"; {report.compiler_flops_per_step:.4g} as the compiler counts{once}"
    return text


def _collectives(report: Report) -> str:
    if not report.collectives:
        return "none"
    parts = [f"{kind} {size / 2**20:,.1f} MiB" for kind, size in report.collectives.items()]
    once = " (those in loops counted once)" if report.scanned else ""
    return f"{', '.join(parts)} per step and device{once}"


def _times(report: Report) -> list[tuple[str, str]]:
    roofline = report.roofline_secs_per_step
    if roofline is None:
        return [("times", "not estimated: the peak of these devices is not known")]
    what = "FLOP and bytes" if report.has_bytes else "FLOP alone"
    rows = [(f"estimate by roofline ({what})", roofline)]
    rows += [
        (f"estimate at {mfu:.0%} of peak", secs)
        for mfu in MFUS
        if (secs := report.secs_per_step(mfu)) is not None
    ]
    return [(name, _time(report, secs)) for name, secs in rows]


def _time(report: Report, secs: float) -> str:
    hours = report.hours(secs)
    text = f"{report.batch_size / secs:,.0f} images/s, {hours:,.1f} h for the whole run"
    if report.price_per_chip_hour is not None:
        text += f", {hours * report.chips * report.price_per_chip_hour:,.0f} for it"
    return text
