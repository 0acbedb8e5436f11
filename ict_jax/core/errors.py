"""The one exception for arguments that break a rule."""


class ArgumentError(ValueError):
    """An argument breaks a rule.

    The message is one sentence: what was got, what was expected, what to do. The commands
    print it without a traceback.
    """


def require(ok: bool, message: str) -> None:
    """Raises `ArgumentError(message)` unless `ok`."""
    if not ok:
        raise ArgumentError(message)
