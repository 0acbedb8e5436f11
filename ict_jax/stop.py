"""Stopping a run on request, after it has saved."""

import os
import signal
from typing import Any

import jax
from absl import logging
from jax.experimental import multihost_utils

from ict_jax.console import say


class Interrupted(RuntimeError):
    """The run was asked to stop (SIGTERM or Ctrl-C) and its state is saved."""


class StopSignal:
    """Within it, SIGTERM and Ctrl-C ask the run to stop; a second Ctrl-C interrupts at once.

    While `saved` is true there is nothing to lose, and the request raises `Interrupted` itself.

    Several processes must stop at the same step. JAX's preemption service, which catches SIGTERM
    in each of them, agrees on one; Ctrl-C is turned into SIGTERM.
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
        if jax.process_count() > 1:
            os.kill(os.getpid(), signal.SIGTERM)

    def due(self, step: int) -> bool:
        """Whether to save after this step and stop; to be asked after every step."""
        if jax.process_count() == 1:
            return self.requested
        return multihost_utils.reached_preemption_sync_point(step)

    def nothing_to_lose(self) -> None:
        """From here on a request raises `Interrupted` at once, in each process by itself."""
        if self.requested:
            self.stop_here()
        self.saved = True
        self._catch(signal.SIGTERM)

    def stop_here(self) -> None:
        """Raises `Interrupted` for a run that is trained and saved, but not scored."""
        raise Interrupted(
            "stopped after the last step was saved; to score the run, run the same command again."
        )

    def __enter__(self) -> "StopSignal":
        self._catch(signal.SIGINT)
        if jax.process_count() == 1:
            self._catch(signal.SIGTERM)
        return self

    def _catch(self, number: signal.Signals) -> None:
        try:
            before = signal.signal(number, self._handle)
        except ValueError:  # signals can only be handled in the main thread
            logging.warning("not in the main thread: %s will not save", number.name)
        else:
            self._previous.setdefault(number, before)

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._previous.items():
            if handler is not None:  # one that was not set from Python cannot be set back
                signal.signal(number, handler)
