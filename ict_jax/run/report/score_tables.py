"""The scores of a run as tables."""

from typing import Any

from ict_jax.evaluation.score_file import DISTANCES, SPREADS
from ict_jax.run.report.html import paragraph, section, table, unfolding
from ict_jax.run.report.read_run import Left

ROWS = {
    "one_step": "one step",
    "two_step": "two steps",
    "heun": "Heun's steps",
    "floor": "floor: real against real",
    "gaussian": "moment-matched Gaussian",
    "noise": "pure noise",
}
FORMS = {"confident": ".1%"}
NO_SCORES = (
    "There are no scores in this work directory yet.",
    "They are written at the end of a run with evaluation.at_end, and by "
    "python -m ict_jax.cli.evaluate.",
)


def scores_section(left: Left) -> str:
    """The content of the files of scores, or how to get them."""
    parts = []
    for file, record in left.scores.items():
        parts += [*_distances(record), *_nearest(record), unfolding(file, record)]
    if not left.scores:
        parts = [paragraph(text) for text in NO_SCORES]
    return section("Scores", *parts)


def rows_of(record: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The scores of each set of images, by its name, in the order of `ROWS`."""
    found = record.get("scores")
    rows = found if isinstance(found, dict) else {}
    rows = {name: row for name, row in rows.items() if isinstance(row, dict)}
    return {name: rows[name] for name in sorted(rows, key=lambda n: [*ROWS, n].index(n))}


def distance_of(row: dict[str, Any]) -> float | None:
    """The Fréchet distance of a row, None if there is no such number."""
    values = [score.get("value") for score in _scores(row, DISTANCES).values()]
    return next((value for value in values if _is_number(value)), None)


def _scores(row: dict[str, Any], prefix: str | tuple[str, ...] = "") -> dict[str, dict[str, Any]]:
    return {
        name: score
        for name, score in row.items()
        if isinstance(score, dict) and "value" in score and name.startswith(prefix)
    }


def _distances(record: dict[str, Any]) -> list[str]:
    """All scores of each set of images, beside the floor and the baselines."""
    rows = rows_of(record)
    if not rows:
        return []
    columns = list(dict.fromkeys(name for row in rows.values() for name in _scores(row)))
    floor = distance_of(rows.get("floor", {}))
    cells = []
    for name, row in rows.items():
        distance = distance_of(row)
        ratio = distance / floor if distance is not None and floor else None
        scores = [_cell(_scores(row).get(column), column) for column in columns]
        shown = [ROWS.get(name, name), number(row.get("n"), ","), number(ratio, ".2f"), *scores]
        cells.append(shown)
    head = ["", "n", "÷ floor", *(column.replace("_", " ") for column in columns)]
    caption = f"Scores by the protocol {record.get('protocol')}; lower distances are better"
    return [table(head, cells, caption=caption), paragraph(_note(record))]


def _note(record: dict[str, Any]) -> str:
    extractor, reference = (
        at if isinstance(at := record.get(key), dict) else {} for key in ("extractor", "reference")
    )
    note = (
        f"At step {number(record.get('step'), ',')}, in features of {extractor.get('name')}, "
        f"against {reference.get('name')}; "
    )
    if "splits" in reference:
        note += (
            f"± standard deviations of {number(reference['splits'], ',')} random splits, second "
            f"sigma {number(record.get('second_sigma'), 'g')}. The network of the features was "
            "trained on the same data set: good for comparing runs on it, and no FID."
        )
    else:
        note += "± standard errors."
    if record.get("as_the_protocol") is False:
        note += " Not with the number of samples or the seeds of the protocol."
    return note


def _cell(score: dict[str, Any] | None, name: str) -> str:
    if score is None:
        return "-"
    form = FORMS.get(name, ".4f")
    spread = next((score[key] for key in SPREADS if key in score), None)
    text = number(score["value"], form)
    return text + (f" ± {spread:{form}}" if _is_number(spread) else "")


def _nearest(record: dict[str, Any]) -> list[str]:
    """How far samples are from the training images."""
    rows = [
        ["held-out real images" if name == "floor" else ROWS.get(name, name)]
        + [number(found.get(key), ".3f") for key in ("median", "percentile_5")]
        for name, row in rows_of(record).items()
        if isinstance(found := row.get("nearest_training_image"), dict)
    ]
    if not rows:
        return []
    caption = "Distance to the nearest training image, in pixels of [-1, 1]; copies have 0"
    return [table(["", "median", "5th percentile"], rows, caption=caption)]


def number(value: Any, form: str) -> str:
    """A number as text, a dash for anything else."""
    return format(value, form) if _is_number(value) else "-"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
