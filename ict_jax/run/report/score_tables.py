"""The scores of a run as tables."""

from typing import Any

from ict_jax.evaluation.score_file import SPREADS, distance_of
from ict_jax.run.report.html import details, paragraph, section, table
from ict_jax.run.report.read_run import KINDS, RunRecord

ROWS = KINDS | {
    "floor": "floor: real against real",
    "gaussian": "moment-matched Gaussian",
    "noise": "pure noise",
}
FORMATS = {"confident": ".1%"}
NO_SCORES = (
    "There are no scores in this work directory yet.",
    "They are written at the end of a run with evaluation.at_end, and by "
    "python -m ict_jax.cli.evaluate.",
)


def scores_section(run: RunRecord) -> str:
    """Show the content of the score files, or how to get them."""
    parts = []
    for file, record in run.scores.items():
        parts += [*_score_table(record), *_nearest_table(record), details(file, record)]
    return section("Scores", *(parts or map(paragraph, NO_SCORES)))


def rows_of(record: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the scores of each set of images by name, in the order of `ROWS`."""
    found = record.get("scores")
    rows = found if isinstance(found, dict) else {}
    rows = {name: row for name, row in rows.items() if isinstance(row, dict)}
    return {name: rows[name] for name in sorted(rows, key=lambda n: [*ROWS, n].index(n))}


def ratios_to_floor(rows: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Return each row's Fréchet distance over that of the floor, where both are numbers."""
    distances = {}
    for name, row in rows.items():
        values = {key: s for key, s in _scores(row).items() if _is_number(s["value"])}
        distances[name] = distance_of(values)
    floor = distances.get("floor")
    return {name: d / floor for name, d in distances.items() if floor and d is not None}


def _scores(row: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: s for name, s in row.items() if isinstance(s, dict) and "value" in s}


def _score_table(record: dict[str, Any]) -> list[str]:
    """Show all scores of each set of images, samples beside the floor and the baselines."""
    rows = rows_of(record)
    if not rows:
        return []
    columns = list(dict.fromkeys(name for row in rows.values() for name in _scores(row)))
    ratios = ratios_to_floor(rows)
    lines = [
        [
            ROWS.get(name, name),
            number(row.get("n"), ","),
            number(ratios.get(name), ".2f"),
            *(_cell(_scores(row).get(column), FORMATS.get(column, ".4f")) for column in columns),
        ]
        for name, row in rows.items()
    ]
    head = ["", "n", "÷ floor", *(column.replace("_", " ") for column in columns)]
    caption = f"Scores by the protocol {record.get('protocol')}; lower distances are better"
    return [table(head, lines, caption), paragraph(_note(record))]


def _note(record: dict[str, Any]) -> str:
    """Say what makes the scores of a record comparable."""
    extractor, reference = (
        value if isinstance(value := record.get(key), dict) else {}
        for key in ("extractor", "reference")
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


def _cell(score: dict[str, Any] | None, form: str) -> str:
    if score is None:
        return "-"
    spread = next((score[key] for key in SPREADS if key in score), None)
    text = number(score["value"], form)
    return f"{text} ± {spread:{form}}" if _is_number(spread) else text


def _nearest_table(record: dict[str, Any]) -> list[str]:
    """Show how far samples are from the training images."""
    names = ROWS | {"floor": "held-out real images"}
    lines = [
        [
            names.get(name, name),
            *(number(found.get(key), ".3f") for key in ("median", "percentile_5")),
        ]
        for name, row in rows_of(record).items()
        if isinstance(found := row.get("nearest_training_image"), dict)
    ]
    caption = "Distance to the nearest training image, in pixels of [-1, 1]; copies have 0"
    return [table(["", "median", "5th percentile"], lines, caption)] if lines else []


def number(value: Any, form: str) -> str:
    """Format a number; anything else becomes a dash."""
    return format(value, form) if _is_number(value) else "-"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
