"""Stopping a run on request, after it has saved."""

import signal
from typing import Any

from absl import logging

from ict_jax.console import say


class Interrupted(RuntimeError):
    """The run was asked to stop (SIGTERM or Ctrl-C) and its state is saved."""


class StopSignal:
    """Within it, SIGTERM and Ctrl-C set `requested`; a second Ctrl-C interrupts at once.

    While `saved` is true there is nothing to lose, and the request raises `Interrupted` itself.
    """

    def __init__(self) -> None:
        self.requested = False
        self.saved = False
        self._previous: dict[int, Any] = {}

    def _handle(self, number: int, frame: Any) -> None:
        if self.saved:
            self.stop_here()
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True
        say(f"{signal.Signals(number).name}: finishing this step and saving")

    def stop_here(self) -> None:
        """Raises `Interrupted` for a run that is trained and saved, but not scored."""
        raise Interrupted(
            "stopped after the last step was saved; to score the run, run the same command again."
        )

    def __enter__(self) -> "StopSignal":
        for number in (signal.SIGTERM, signal.SIGINT):
            try:
                self._previous[number] = signal.signal(number, self._handle)
            except ValueError:  # signals can only be handled in the main thread
                logging.warning("not in the main thread: SIGTERM will not save")
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
