"""The JSON form of scores, as every protocol writes it, and its table.

A record has what makes the scores comparable and, under `scores` by the name of each set of images,
`n` and each score as an object of `value` and its spread: `standard_error` from the draw of the
samples, or `std_of_splits`.
"""

import json
from collections.abc import Mapping
from typing import Any

from etils import epath

from ict_jax.runtime.storage import write_atomically

HELD_OUT_FILE = "scores.json"
DISTANCES = ("fid", "fd_")
"""Names of Fréchet distances: `fid`, or `fd_` and the name of the extractor."""
SPREADS = ("standard_error", "std_of_splits")

OLD_ROWS = {"one step": "one_step", "two steps": "two_step", "real": "floor"}
OLD_HELD_OUT = {"one_step", "two_step", "heun", "floor", "gaussian", "noise"}


def score_file(protocol: str) -> str:
    """Return the name of the file of a protocol's scores."""
    return HELD_OUT_FILE if protocol == "held-out" else f"scores_{protocol}.json"


def write_json(path: epath.Path, content: Mapping[str, Any]) -> None:
    """Write an object as indented JSON, as `write_atomically` does."""
    write_atomically(path, (json.dumps(content, indent=2) + "\n").encode())


def as_record(found: dict[str, Any]) -> dict[str, Any]:
    """Convert the content of a score file of any version to today's form."""
    if "scores" not in found and found.keys() & OLD_HELD_OUT:
        return _from_flat(found)
    if not isinstance(found.get("scores"), dict):
        return found
    rows = {OLD_ROWS.get(name, name): row for name, row in found["scores"].items()}
    return {**found, "scores": rows}


def _from_flat(found: dict[str, Any]) -> dict[str, Any]:
    """Convert held-out scores of the first versions: values by name, rows at the top level."""
    nearest = found.get("nearest_training_image")
    nearest = nearest if isinstance(nearest, dict) else {}
    n, rows = found.get("n"), {}
    for name, row in found.items():
        if name in OLD_HELD_OUT and isinstance(row, dict):
            rows[name] = {
                "n": n,
                "fd_classifier": {"value": row.get("fd"), "std_of_splits": row.get("fd_std")},
                "kid": {"value": row.get("kid"), "std_of_splits": row.get("kid_std")},
                "confident": {"value": row.get("confident")},
                "nearest_training_image": nearest.get("held_out" if name == "floor" else name),
            }
    return {
        "protocol": "held-out",
        "step": found.get("step"),
        "extractor": {"name": "classifier", "accuracy": found.get("classifier_accuracy")},
        "reference": {
            "name": f"{found.get('dataset', 'the data set')}, test split",
            "n": n,
            "splits": found.get("splits"),
        },
        **({"second_sigma": found["second_sigma"]} if "second_sigma" in found else {}),
        "scores": rows,
    }


def distance_of(row: Mapping[str, Any]) -> float | None:
    """Return the Fréchet distance of a row of scores; None if it has no such number."""
    for name, score in row.items():
        value = score.get("value") if isinstance(score, Mapping) else None
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if name.startswith(DISTANCES) and is_number:
            return value
    return None


def score_table(record: Mapping[str, Any]) -> str:
    """Format the scores of all sets of images as a table, with ratios to the floor."""
    rows = record["scores"]
    columns = dict.fromkeys(
        key
        for row in rows.values()
        for key, score in row.items()
        if isinstance(score, dict) and "value" in score
    )
    floor = distance_of(rows.get("floor", {}))
    lines = [f"{'':10} {'n':>7} {'/ floor':>8} " + " ".join(f"{name:>20}" for name in columns)]
    for name, row in rows.items():
        distance = distance_of(row)
        ratio = f"{distance / floor:8.2f}" if distance is not None and floor else f"{'':8}"
        cells = " ".join(_cell(row.get(column)) for column in columns)
        lines.append(f"{name:10} {row['n']:>7,} {ratio} {cells}".rstrip())
    nearest = {name: row.get("nearest_training_image") for name, row in rows.items()}
    medians = [f"{name} {found['median']:.3f}" for name, found in nearest.items() if found]
    if medians:
        lines.append(f"distance to the nearest training image (median): {', '.join(medians)}")
    return "\n".join(lines)


def _cell(score: Mapping[str, float] | None) -> str:
    if score is None:
        return f"{'':>20}"
    spread = next((score[key] for key in SPREADS if key in score), None)
    text = f"{score['value']:.4f}" if spread is None else f"{score['value']:.4f} +- {spread:.4f}"
    return f"{text:>20}"
