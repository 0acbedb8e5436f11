"""Stopping a run on request, after it has saved a checkpoint."""

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
"""Exit code of a process that has saved and stopped on request."""

LATER = "stopped after the last step was saved; to score the run, run the same command again."


class Interrupted(RuntimeError):
    """The run was asked to stop (SIGTERM or Ctrl-C) and has saved its state."""


class StopSignal:
    """Context in which SIGTERM and Ctrl-C ask the run to stop; a second Ctrl-C interrupts it.

    While `saved` is true there is nothing to lose, and a request raises `Interrupted` at once. Of
    several processes, which may be waiting for each other, all exit instead.
    """

    def __init__(self) -> None:
        self.requested = False
        self.saved = False
        self._agreement: StopAgreement | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "StopSignal":
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._previous[number] = signal.signal(number, self._handle)
            except ValueError:  # only the main thread can handle signals
                logging.warning("not in the main thread: %s will not save", number.name)
        if jax.process_count() > 1:
            self._agreement = StopAgreement(self._exit_if_saved)
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._previous.items():
            if handler is not None:  # one that was not set from Python cannot be restored
                signal.signal(number, handler)
        if self._agreement is not None:
            self._agreement.close()

    def _handle(self, number: int, frame: Any) -> None:
        if self.saved and self._agreement is None:
            raise Interrupted(LATER)
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True
        say(f"{signal.Signals(number).name}: finishing this step and saving")

    def should_stop(self, step: int) -> bool:
        """Return whether to save and stop after this step; to be called after every step."""
        return self.requested if self._agreement is None else self._agreement.should_stop(step)

    def stop_without_saving(self) -> None:
        """Stop at once on a request from now on, since everything is saved."""
        self.saved = True
        if self._agreement is not None:
            if self._agreement.reached:
                self._exit_if_saved()
        elif self.requested:
            raise Interrupted(LATER)

    def _exit_if_saved(self) -> None:
        if self.saved:
            processes.exit_now(EXIT_CODE, f"interrupted: {LATER}")


class StopAgreement:
    """Agreement of several processes to stop after the same step once one of them gets a signal.

    A thread of each process listens to its signals, even while the main thread waits for the
    devices, and asks JAX's coordination service whether another process got one. All then exchange
    the steps that they have reached, and stop after the next one.

    `jax.experimental.multihost_utils.reached_preemption_sync_point` agrees in the same way, but
    only on SIGTERM, which it takes from Python's handlers, and only while steps are made.
    """

    POLL_SECS = 0.5
    WAIT_SECS = 600
    _numbers = itertools.count()

    def __init__(self, on_agreement: Callable[[], None]):
        """Start to listen; `on_agreement` is called in the thread once a step is agreed on."""
        self.reached = False
        self._on_agreement = on_agreement
        self._key = f"ict_jax/stop/{next(self._numbers)}"
        self._lock = threading.Lock()
        self._step = 0
        self._last: int | None = None
        self._received, self._signals = os.pipe()
        os.set_blocking(self._signals, False)
        try:
            self._previous = signal.set_wakeup_fd(self._signals, warn_on_full_buffer=False)
        except ValueError:  # not in the main thread, of which StopSignal warns
            self._previous = None
        self._thread = threading.Thread(target=self._listen, name="stop", daemon=True)
        self._thread.start()

    def should_stop(self, step: int) -> bool:
        """Return whether to stop after this step."""
        with self._lock:  # waits while the processes agree
            self._step = step
            return self._last is not None and step >= self._last

    def close(self) -> None:
        """Stop listening."""
        if self._previous is not None:
            signal.set_wakeup_fd(self._previous)
        os.write(self._signals, b"\0")
        self._thread.join(5)

    def _listen(self) -> None:
        client = processes.coordination_client()
        while not self.reached:
            ready, _, _ = select.select([self._received], [], [], self.POLL_SECS)
            received = os.read(self._received, 64) if ready else b""
            if 0 in received:
                return
            if signal.SIGTERM in received or signal.SIGINT in received:
                client.key_value_set(self._key, "asked", allow_overwrite=True)
            try:
                client.key_value_try_get(self._key)
            except jax.errors.JaxRuntimeError:  # no process was asked to stop
                continue
            self._agree(client)
            self.reached = True
        self._on_agreement()

    def _agree(self, client: Any) -> None:
        with self._lock:
            step = f"{self._key}/step"
            client.key_value_set(f"{step}/{jax.process_index()}", str(self._step))
            client.wait_at_barrier(step, self.WAIT_SECS * 1000)
            self._last = 1 + max(int(found) for _, found in client.key_value_dir_get(step))
