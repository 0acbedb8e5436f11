"""Config sections: each is passed to one callable, whose keyword names are its keys."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from ict_jax.core.errors import require

Config: TypeAlias = Any
"""An `ml_collections.ConfigDict`, or one of its sections; its attributes have no static types."""


def build_section(config: Config, name: str, function: Callable, *args: Any, **more: Any) -> Any:
    """Return `function(*args, **config[name], **more)`.

    Raises:
      ArgumentError: the section has keys that the function does not take.
    """
    return splat(name, config[name], functools.partial(function, *args, **more))


def splat(name: str, section: Mapping[str, Any], function: Callable, *args: Any) -> Any:
    """Return `function(*args, **section)`; as `build_section`."""
    accepted = {
        key
        for key, parameter in inspect.signature(function).parameters.items()
        if parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    } - set(getattr(function, "keywords", ()))  # a partial's
    unknown = sorted(set(section) - accepted)
    require(
        not unknown,
        f"config.{name} has the unknown keys {unknown}; it takes "
        f"{sorted(accepted - {'parent', 'name'})}.",
    )
    return function(*args, **section)


def select_by_name(name: str, section: Config, table: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Return the callable that `section.name` selects, and the other keys of the section."""
    rest = dict(section)
    selected = rest.pop("name", None)
    require(
        selected in table,
        f"config.{name}.name={selected!r} is unknown; use one of {sorted(table)}.",
    )
    return table[selected], rest


def resolve_names(
    name: str, section: Mapping[str, Any], tables: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """Copy a section, replacing the names in it by their values in `tables[key]`."""
    values = dict(section)
    for key in tables.keys() & values.keys():
        require(
            values[key] in tables[key],
            f"config.{name}.{key}={values[key]!r} is unknown; use one of {sorted(tables[key])}.",
        )
        values[key] = tables[key][values[key]]
    return values


def override(config: Config, **values: Any) -> None:
    """Set top-level keys of a config, leaving out values that are None."""
    config.update({key: value for key, value in values.items() if value is not None})
