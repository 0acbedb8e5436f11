"""Flags, one-sentence errors, exit codes, seed and sigma lists that the commands share."""

import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import flags, logging

from ict_jax.core.errors import ArgumentError, Diverged, NotSaved, require

PINNED = {
    "jax_enable_x64": False,
    "jax_default_prng_impl": "threefry2x32",
    "jax_threefry_partitionable": True,
    "jax_random_seed_offset": 0,
    "jax_numpy_dtype_promotion": "standard",
    "jax_default_matmul_precision": None,  # set by config.matmul_precision
}
"""Process-wide settings of JAX that would change the results of a command."""

EXIT_ERROR = 1
EXIT_DIVERGED = 3
EXIT_KILLED = 130  # Ctrl-C where nothing is saved, or a second time
EXIT_DOES_NOT_FIT = 4
EXIT_NOT_SAVED = 74  # EX_IOERR
EXIT_INTERRUPTED = 75  # EX_TEMPFAIL: run the same command again


def run(
    main: Callable[..., int | None],
    define_flags: Callable[[flags.FlagValues, list[str]], None],
    doc: str,
    argv: list[str] | None = None,
    *,
    choices: tuple[str, ...] = (),
) -> int:
    """Parse flags and run a command; errors that a user can cause are printed as one sentence.

    Args:
      main: function of the parsed flags, and of the chosen argument if there are choices; returns
        an exit code, or None for success.
      define_flags: function that defines the command's own flags.
      doc: text above the flags in --help.
      argv: command line; default: that of the process.
      choices: values of the one argument that is not a flag; none: there is no such argument.

    Returns:
      The exit code.
    """
    argv = sys.argv if argv is None else argv
    logging.set_verbosity(logging.WARNING)
    # Orbax raises the errors of its threads as well; no need to log their tracebacks.
    logging.get_absl_logger().addFilter(
        lambda record: not (record.exc_info and "orbax" in record.pathname)
    )
    values = flags.FlagValues()
    flags.DEFINE_bool("help", False, "Show this text.", short_name="h", flag_values=values)
    if {"--help", "-h", "-help"} & set(argv[1:]):
        define_flags(values, argv[:1])
        print(f"{doc.strip()}\n\nflags:\n{_flag_help(values)}")
        return 0
    try:
        define_flags(values, argv)
        arguments = _parse(values, argv)[1:]
        chosen, rest = arguments[: bool(choices)], arguments[bool(choices) :]
        if choices:
            require(
                bool(chosen) and chosen[0] in choices,
                f"the first argument is {chosen}, expected one of {list(choices)}; write it before "
                f"the flags, as in {choices[0]}.",
            )
        require(not rest, f"unexpected argument {rest}; flags are written --name=value.")
        pin_settings()
        return main(values, *chosen) or 0
    except (ArgumentError, flags.Error) as error:
        return _failed("error", error, EXIT_ERROR)
    except Diverged as error:
        return _failed("diverged", error, EXIT_DIVERGED)
    except NotSaved as error:
        from ict_jax.runtime import processes  # late: it imports JAX

        if processes.coordination_client() is not None:  # the others may still wait
            processes.exit_now(EXIT_NOT_SAVED, f"not saved: {error}")
        return _failed("not saved", error, EXIT_NOT_SAVED)
    except KeyboardInterrupt:
        print("interrupted at once: what was not yet saved is lost", file=sys.stderr)
        return EXIT_KILLED


def pin_settings() -> None:
    """Set the settings in `PINNED`, with a note about each that had another value."""
    import jax  # late, as in the commands

    for name, pinned in PINNED.items():
        found = jax.config.values[name]
        if found != pinned:
            jax.config.update(name, pinned)
            sys.stderr.write(
                f"note: {name.upper()}={found} is not used: a seed, a checkpoint and its scores "
                f"mean the same everywhere, with {pinned}"
                + ("; training takes --config.matmul_precision.\n" if pinned is None else ".\n")
            )


def _failed(kind: str, error: Exception, code: int) -> int:
    # One write, since other threads may be writing too.
    sys.stderr.write(f"{kind}: {' '.join(str(error).split())}\n")
    return code


def start() -> None:
    """Join the job if this process is one of several; to be called before any use of JAX."""
    from ict_jax.runtime import processes, storage  # late: --help and mistakes answer at once

    processes.initialize()
    storage.enable_compilation_cache()


def define_config(values: flags.FlagValues, argv: list[str], text: str) -> None:
    """Define --config, and make the other configs of its directory importable.

    Raises:
      ArgumentError: the file does not exist.
    """
    from ml_collections import config_flags  # late: only some commands have a config

    for argument, following in zip(argv[1:], [*argv[2:], ""], strict=False):
        name, equals, value = argument.lstrip("-").partition("=")
        if name != "config" or not argument.startswith("-"):
            continue
        path = Path((value if equals else following).split(":")[0])
        require(path.is_file(), f"--config={path} is not a file; give one of configs/*.py.")
        let_import(path.resolve().parent)
    config_flags.DEFINE_config_file("config", None, text, flag_values=values, sys_argv=argv)


def let_import(directory: Path) -> None:
    """Make `import DIRECTORY.NAME` find the files of a directory, but nothing beside it.

    Config files import each other as configs.NAME. A directory of another name does not shadow
    other packages.
    """

    def find_spec(name: str, path: Any = None, target: Any = None) -> Any:
        if name != directory.name:
            return None
        if (file := directory / "__init__.py").is_file():
            return importlib.util.spec_from_file_location(
                name, file, submodule_search_locations=[str(directory)]
            )
        spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = [str(directory)]
        return spec

    finder: Any = types.SimpleNamespace(find_spec=find_spec)
    sys.meta_path.insert(0 if directory.name == "configs" else len(sys.meta_path), finder)


def define_checkpoint(values: flags.FlagValues) -> None:
    """Define --checkpoint and --step."""
    flags.DEFINE_string(
        "checkpoint",
        None,
        "Work directory of a run, its checkpoints directory, or one step in it.",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "step", None, "Step of the checkpoint (default: the newest).", flag_values=values
    )


def _parse(values: flags.FlagValues, argv: list[str]) -> list[str]:
    """Return the arguments that are not flags; mistakes in config overrides become sentences."""
    try:
        return values(argv)
    except (AttributeError, KeyError) as error:
        raise ArgumentError(
            f"the config has no key {str(error).strip(chr(34))}; the keys are those of the file "
            "given as --config and of configs/base.py."
        ) from error
    except flags.IllegalFlagValueError as error:
        if "Traceback" not in str(error):
            raise
        # The config file raised; the message is the whole traceback.
        last = str(error).strip().splitlines()[-1]
        raise ArgumentError(f"--config cannot be read: {last}") from error
    except (TypeError, ValueError, ImportError, SyntaxError) as error:
        raise ArgumentError(f"a value given to --config does not fit: {error}") from error


def _flag_help(values: flags.FlagValues) -> str:
    lines = []
    for name in sorted(name for name in values if len(name) > 1):
        flag = values[name]
        default = "" if flag.default in (None, False) else f" (default: {flag.default})"
        lines.append(f"  --{name}: {flag.help}{default}")
    return "\n".join(lines)


def value(values: flags.FlagValues, name: str) -> Any:
    """Return the value of a flag, None if it has none."""
    return values[name].value


def required(values: flags.FlagValues, name: str, example: str) -> Any:
    """Return the value of a flag that must be given."""
    given = value(values, name)
    require(given not in (None, ""), f"--{name} is missing; give it, as in {example}.")
    return given


def parse_seeds(text: str) -> range:
    """Parse '0-63' or '7' as a range of seeds."""
    first, dash, last = text.partition("-")
    require(
        first.isdecimal() and (last.isdecimal() if dash else True),
        f"--seeds={text} is not a range; write the first and last seed, as in 0-63.",
    )
    start, stop = int(first), int(last or first)
    require(
        start <= stop < 2**32,
        f"--seeds={text} must ascend and stay below 2^32; write the smaller seed first, as in "
        "0-63.",
    )
    return range(start, stop + 1)


def parse_sigmas(text: str) -> tuple[float, ...]:
    """Parse '80,0.8' as a tuple of noise levels."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise ArgumentError(
            f"--sigmas={text} is not a list of numbers; separate them by commas, as in 80,0.8."
        ) from error
