"""The exceptions: for arguments that break a rule, and for numbers that are not finite."""


class ArgumentError(ValueError):
    """An argument breaks a rule.

    The message is one sentence: what was got, what was expected, what to do. The commands
    print it without a traceback.
    """


class Diverged(RuntimeError):
    """A loss, gradient, parameter or sample is NaN or infinite; the commands exit with 3."""


def require(ok: bool, message: str) -> None:
    """Raises `ArgumentError(message)` unless `ok`."""
    if not ok:
        raise ArgumentError(message)
