"""Work directories as runs leave them, made without training."""

import base64
import json
import math
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
from etils import epath

from configs import digits
from ict_jax.config.objective import build_discretization
from ict_jax.evaluation.grids import save_png
from ict_jax.run.log import EventWriter
from ict_jax.run.provenance import record_start
from ict_jax.training.step import sigma_bin_names

SCORES = {
    "n": 300,
    "splits": 20,
    "pool": 300,
    "dataset": "digits",
    "classifier_accuracy": 0.97,
    "second_sigma": 3.42,
    "one_step": {"fd": 0.517, "fd_std": 0.104, "kid": 0.025, "kid_std": 0.01, "confident": 0.974},
    "two_step": {"fd": 0.476, "fd_std": 0.088, "kid": 0.024, "kid_std": 0.01, "confident": 0.976},
    "floor": {"fd": 0.25, "fd_std": 0.114, "kid": 0.001, "kid_std": 0.01, "confident": 0.963},
    "noise": {"fd": 14.8, "fd_std": 0.334, "kid": 1.491, "kid_std": 0.01, "confident": 0.557},
    "gaussian": {"fd": 1.64, "fd_std": 0.145, "kid": 0.115, "kid_std": 0.01, "confident": 0.618},
    "nearest_training_image": {
        "one_step": {"median": 1.82, "percentile_5": 1.2},
        "held_out": {"median": 2.14, "percentile_5": 1.4},
    },
    "step": 20,
}


def config(**changes):
    """The config of the quick start in its form of seconds, resolved."""
    made = digits.get_config("smoke")
    made.image_shape, made.precondition.sigma_data = (8, 8, 1), 0.5
    made.update(changes)
    return made.copy_and_resolve_references()


def picture(seed=0, side=67):
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)


def write_events(workdir, scalars):
    """One file of events; `scalars` holds names and values by step."""
    writer = EventWriter(epath.Path(workdir))
    for step, values in scalars.items():
        writer.write_scalars(step, values)
    writer.close()


def logged(step, disc):
    """What a run reports of a step, of no particular size."""
    rng = np.random.default_rng(step)
    levels = int(disc.num_scales[np.sum(disc.first_steps < step) - 1])
    by_sigma = {
        f"train/loss_by_sigma/{name}": float(10 ** (1 - index / 3) * rng.uniform(0.9, 1.1))
        for index, name in enumerate(sigma_bin_names())
    }
    return {
        "train/loss": 3 + 20 / math.sqrt(step) + rng.uniform(0, 0.1),
        "train/grad_norm": math.sqrt(levels) * rng.uniform(0.8, 1.2),
        "train/num_scales": levels,
        "perf/steps_per_sec": 20 * rng.uniform(0.8, 1.2),
        "perf/images_per_sec": 640 * rng.uniform(0.8, 1.2),
        **by_sigma,
    }


def make_run(
    workdir, *, total_steps=20, step=None, report_every=5, samples_every=10, validated=(), **changes
):
    """A run that has come to `step`, scored if that is the last one; returns its directory."""
    made = config(total_steps=total_steps, **changes)
    step = total_steps if step is None else step
    workdir.mkdir(parents=True, exist_ok=True)
    (workdir / "config.json").write_text(json.dumps(made.to_dict()))
    record_start(epath.Path(workdir), step=0, devices="1 cpu device(s)")
    save_png(workdir / "data.png", picture())
    disc = build_discretization(made)
    write_events(workdir, {k: logged(k, disc) for k in range(report_every, step + 1, report_every)})
    if validated:
        write_events(workdir, {k: {"eval/validation_fd": 1 + 100 / k} for k in validated})
    for k in range(samples_every, step + 1, samples_every):
        for kind in ("one_step", "two_step"):
            save_png(workdir / "samples" / f"{kind}_{k:08d}.png", picture(k))
    (workdir / "checkpoints" / str(step)).mkdir(parents=True)
    if step == total_steps:
        (workdir / "scores.json").write_text(json.dumps({**SCORES, "step": step}))
        for name in ("one_step", "two_step", "real"):
            save_png(workdir / f"{name}.png", picture(1))
    return workdir


VOID = {"meta", "link", "img"}


CHART = "data:image/svg+xml;base64,"


class Page(HTMLParser):
    """Tags and texts of a page and its charts; every element must be closed in order."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.words, self.within = [], [], []
        self.feed(page.decode() if isinstance(page, bytes) else page)
        assert not self.within

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.within.append(tag)
        source = dict(attributes).get("src") or ""
        if source.startswith(CHART):
            drawn = ElementTree.fromstring(base64.b64decode(source.removeprefix(CHART)))
            self.words += drawn.itertext()

    def handle_endtag(self, tag):
        assert self.within.pop() == tag

    def handle_data(self, data):
        if "style" not in self.within:
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    def images(self, charts=False):
        return [at for at in self.all("img") if at["src"].startswith(CHART) == charts]

    def alts(self, charts=False):
        return [attributes["alt"] for attributes in self.images(charts)]
