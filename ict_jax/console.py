"""What is said on the console."""


def format_secs(secs: float) -> str:
    """3725 -> '1h02m'; below an hour '2m05s'."""
    minutes, seconds = divmod(round(secs), 60)
    if minutes < 60:
        return f"{minutes}m{seconds:02d}s"
    return f"{minutes // 60}h{minutes % 60:02d}m"


def say(text: str) -> None:
    """Prints a line of progress at once."""
    print(text, flush=True)
