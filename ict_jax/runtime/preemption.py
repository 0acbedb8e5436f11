"""Stopping a run on request, after it has saved."""

import itertools
import os
import select
import signal
import threading
from collections.abc import Callable
from typing import Any

import jax
from absl import logging

from ict_jax.runtime import processes
from ict_jax.runtime.console import say

EXIT_CODE = 75  # EX_TEMPFAIL: run the same command again
"""Of a process that was asked to stop and has saved."""

LATER = "stopped after the last step was saved; to score the run, run the same command again."


class Interrupted(RuntimeError):
    """The run was asked to stop (SIGTERM or Ctrl-C) and its state is saved."""


class StopSignal:
    """Within it, SIGTERM and Ctrl-C ask the run to stop; a second Ctrl-C interrupts at once.

    While `saved` is true there is nothing to lose, and the request raises `Interrupted` itself;
    one of several processes ends at once, with all others, since it may be waiting for them.
    """

    def __init__(self) -> None:
        self.requested = False
        self.saved = False
        self._agreement: Agreement | None = None
        self._previous: dict[int, Any] = {}

    def _handle(self, number: int, frame: Any) -> None:
        if self.saved and self._agreement is None:
            self.stop_here()
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True
        say(f"{signal.Signals(number).name}: finishing this step and saving")

    def due(self, step: int) -> bool:
        """Whether to save after this step and stop; to be asked after every step."""
        return self.requested if self._agreement is None else self._agreement.due(step)

    def nothing_to_lose(self) -> None:
        """From here on a request stops the run at once."""
        self.saved = True
        if self._agreement is not None:
            if self._agreement.asked:
                self._leave()
        elif self.requested:
            self.stop_here()

    def stop_here(self) -> None:
        """Raises `Interrupted` for a run that is trained and saved, but not scored."""
        raise Interrupted(LATER)

    def _leave(self) -> None:
        processes.exit_now(EXIT_CODE, f"interrupted: {LATER}")

    def _asked(self) -> None:
        """Called in the agreement's thread."""
        if self.saved:
            self._leave()

    def __enter__(self) -> "StopSignal":
        for number in (signal.SIGINT, signal.SIGTERM):
            self._catch(number)
        if jax.process_count() > 1:
            self._agreement = Agreement(self._asked)
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
        if self._agreement is not None:
            self._agreement.close()


class Agreement:
    """By which several processes stop after the same step, when one of them gets a signal.

    A thread of each listens to the signals of its process, even while the main thread waits for
    the devices, and asks JAX's coordination service whether another process got one. Then all
    tell each other the steps that they have come to, and stop after the next one.
    """

    POLL_SECS = 0.5
    WAIT_SECS = 600
    _numbers = itertools.count()

    def __init__(self, on_asked: Callable[[], None]):
        """Starts to listen.

        Args:
          on_asked: called in the thread once a process was asked to stop and a step is agreed on.
        """
        self.asked = False
        self._on_asked = on_asked
        self._key = f"ict_jax/stop/{next(self._numbers)}"
        self._lock = threading.Lock()
        self._step = 0
        self._last: int | None = None
        self._received, self._signals = os.pipe()
        os.set_blocking(self._signals, False)
        try:
            self._previous = signal.set_wakeup_fd(self._signals, warn_on_full_buffer=False)
        except ValueError:  # not in the main thread, which has been said
            self._previous = None
        self._thread = threading.Thread(target=self._listen, name="stop", daemon=True)
        self._thread.start()

    def due(self, step: int) -> bool:
        """Whether to stop after this step."""
        with self._lock:  # is held while the processes agree
            self._step = step
            return self._last is not None and step >= self._last

    def close(self) -> None:
        """Listens no longer."""
        if self._previous is not None:
            signal.set_wakeup_fd(self._previous)
        os.write(self._signals, b"\0")
        self._thread.join(5)

    def _listen(self) -> None:
        client = processes.coordination_client()
        while not self.asked:
            ready, _, _ = select.select([self._received], [], [], self.POLL_SECS)
            received = os.read(self._received, 64) if ready else b""
            if 0 in received:
                return
            if signal.SIGTERM in received or signal.SIGINT in received:
                client.key_value_set(self._key, "asked", allow_overwrite=True)
            try:
                client.key_value_try_get(self._key)
            except jax.errors.JaxRuntimeError:  # nobody was asked
                continue
            self._agree(client)
            self.asked = True
        self._on_asked()

    def _agree(self, client: Any) -> None:
        with self._lock:
            step = f"{self._key}/step"
            client.key_value_set(f"{step}/{jax.process_index()}", str(self._step))
            client.wait_at_barrier(step, self.WAIT_SECS * 1000)
            self._last = 1 + max(int(found) for _, found in client.key_value_dir_get(step))
