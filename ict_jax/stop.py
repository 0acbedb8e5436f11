"""Stopping a run on request, after it has saved."""

import signal
from typing import Any

from absl import logging

from ict_jax.metrics import say


class Interrupted(RuntimeError):
    """The run was asked to stop (SIGTERM or Ctrl-C) and has saved its state."""


class StopSignal:
    """Within it, SIGTERM and a first Ctrl-C only set `requested`; a second Ctrl-C interrupts."""

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[int, Any] = {}

    def _handle(self, number: int, frame: Any) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True
        say(f"{signal.Signals(number).name}: finishing this step and saving")

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
