"""Config sections: each is splatted into one callable, whose keyword names are its keys."""

import inspect
from collections.abc import Callable
from typing import Any, TypeAlias

from ml_collections import ConfigDict

from ict_jax.core.errors import require

Config: TypeAlias = Any
"""An `ml_collections.ConfigDict`, or one of its sections; its attributes have no static types."""


def splat(name: str, section: Config, function: Callable, *args: Any) -> Any:
    """`function(*args, **section)`, with a sentence for keys that it does not take."""
    accepted = {
        key
        for key, parameter in inspect.signature(function).parameters.items()
        if parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    } - set(getattr(function, "keywords", ()))  # what a partial has been given
    unknown = sorted(set(section) - accepted)
    require(
        not unknown,
        f"config.{name} has the unknown keys {unknown}; it takes "
        f"{sorted(accepted - {'parent', 'name'})}.",
    )
    return function(*args, **section)


def select_by_name(name: str, section: Config, table: dict[str, Any]) -> tuple[Any, Config]:
    """The callable that `section.name` selects, and the other keys of the section."""
    require(
        section.get("name") in table,
        f"config.{name}.name={section.get('name')!r} is unknown; use one of {sorted(table)}.",
    )
    rest = ConfigDict({key: value for key, value in section.items() if key != "name"})
    return table[section["name"]], rest


def resolve_names(name: str, section: Config, tables: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """A copy of a section in which names are replaced by what they mean.

    Args:
      name: of the section.
      section: of the config.
      tables: by key, what its values mean.
    """
    values = dict(section)
    for key in tables.keys() & values.keys():
        require(
            values[key] in tables[key],
            f"config.{name}.{key}={values[key]!r} is unknown; use one of {sorted(tables[key])}.",
        )
        values[key] = tables[key][values[key]]
    return values
