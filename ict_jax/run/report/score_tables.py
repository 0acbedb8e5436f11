"""The scores of a run as tables."""

from typing import Any

from ict_jax.run.report.html import paragraph, section, table, unfolding
from ict_jax.run.report.read_run import HELD_OUT_FILE, Left

ROWS = {
    "one_step": "one step",
    "two_step": "two steps",
    "heun": "Heun's steps",
    "floor": "floor: real against real",
    "gaussian": "moment-matched Gaussian",
    "noise": "pure noise",
}
NEAREST = {**ROWS, "held_out": "held-out real images"}
NO_SCORES = (
    "There are no scores in this work directory yet.",
    "They are written at the end of a run with evaluation.at_end, and by "
    "python -m ict_jax.cli.evaluate.",
)


def scores_section(left: Left) -> str:
    """The content of the files of scores, or how to get them."""
    parts = []
    for file, scores in left.scores.items():
        if file == HELD_OUT_FILE:
            parts += [*_held_out(scores), *_nearest(scores)]
        else:
            parts += _by_protocol(scores)
        parts.append(unfolding(file, scores))
    if not left.scores:
        parts = [paragraph(text) for text in NO_SCORES]
    return section("Scores", *parts)


def _held_out(scores: dict[str, Any]) -> list[str]:
    """Distances to held-out images, of each set beside the floor and the ceilings."""
    floor = value_of(scores, "floor", "fd")
    rows = []
    for name in sorted(scores, key=lambda name: [*ROWS, name].index(name)):
        fd = value_of(scores, name, "fd")
        if fd is not None:
            kid = number(value_of(scores, name, "kid"), ".4f")
            rows.append(
                [
                    ROWS.get(name, name),
                    number(fd, ".3f") + _spread(value_of(scores, name, "fd_std"), ".3f"),
                    number(fd / floor, ".2f") if floor else "-",
                    kid + _spread(value_of(scores, name, "kid_std"), ".4f"),
                    number(value_of(scores, name, "confident"), ".1%"),
                ]
            )
    if not rows:
        return []
    head = ["", "Fréchet distance", "÷ floor", "KID", "confident"]
    note = (
        f"At step {number(scores.get('step'), ',')}, against {number(scores.get('n'), ',')} "
        f"held-out real images of {scores.get('dataset', 'the data set')} at a time; mean ± "
        f"standard deviation of {number(scores.get('splits'), ',')} random splits; second sigma "
        f"{number(scores.get('second_sigma'), 'g')}. Distances are measured in features of a small "
        "classifier of the same data set: good for comparing runs on it, and no FID."
    )
    return [
        table(head, rows, caption="Distance to held-out real images; lower is better"),
        paragraph(note),
    ]


def _by_protocol(scores: dict[str, Any]) -> list[str]:
    """What is stated as a value with its standard error, of each set of samples."""
    found = scores.get("scores")
    sets = found if isinstance(found, dict) else {}
    sets = {name: row for name, row in sets.items() if isinstance(row, dict)}
    columns = dict.fromkeys(
        key
        for row in sets.values()
        for key, score in row.items()
        if isinstance(score, dict) and "value" in score
    )
    rows = [
        [name, number(row.get("n"), ","), *(_with_error(row.get(key)) for key in columns)]
        for name, row in sets.items()
    ]
    extractor, reference = (
        at.get("name") if isinstance(at := scores.get(key), dict) else None
        for key in ("extractor", "reference")
    )
    note = (
        f"At step {number(scores.get('step'), ',')}, in features of {extractor}, against "
        f"{reference}; ± standard errors."
    )
    if scores.get("as_the_protocol") is False:
        note += " Not with the number of samples or the seeds of the protocol."
    head = ["", "n", *(key.replace("_", " ") for key in columns)]
    return [
        table(head, rows, caption=f"Scores by the protocol {scores.get('protocol')}"),
        paragraph(note),
    ]


def _with_error(score: Any) -> str:
    if not isinstance(score, dict):
        return "-"
    error = score.get("standard_error", score.get("std_of_splits"))
    return number(score.get("value"), ".4f") + _spread(error, ".4f")


def _nearest(scores: dict[str, Any]) -> list[str]:
    """How far samples are from the training images."""
    nearest = scores.get("nearest_training_image")
    if not isinstance(nearest, dict):
        return []
    rows = [
        [
            NEAREST.get(name, name),
            *(number(value_of(nearest, name, key), ".3f") for key in ("median", "percentile_5")),
        ]
        for name in nearest
    ]
    caption = "Distance to the nearest training image, in pixels of [-1, 1]; copies have 0"
    return [table(["", "median", "5th percentile"], rows, caption=caption)]


def _spread(value: Any, form: str) -> str:
    return f" ± {value:{form}}" if _is_number(value) else ""


def value_of(scores: dict[str, Any], name: str, key: str) -> float | None:
    """The number `scores[name][key]`, None if there is no such number."""
    row = scores.get(name)
    value = row.get(key) if isinstance(row, dict) else None
    return value if _is_number(value) else None


def number(value: Any, form: str) -> str:
    """A number as text, a dash for anything else."""
    return format(value, form) if _is_number(value) else "-"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
