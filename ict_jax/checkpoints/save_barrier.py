"""Orbax's barrier between processes that save together, extended to report failures."""

import sys

import jax
import orbax.checkpoint as ocp

from ict_jax.runtime.processes import coordination_client

STAGES = ("_async_write_complete", "_async_commit_complete")
"""Orbax's names: every process has written its part; process 0 has renamed the directory."""

NOTIFY_SECS = 60
"""Time that a process which could not write its part waits for the others to hear of it."""


class PeerFailed(OSError):
    """Another process could not write its part of a checkpoint."""


class SaveBarrier:
    """Orbax's barrier, which a process that has failed passes as well and reports its failure.

    Orbax by itself makes the others wait for a timeout of many minutes.
    """

    def __init__(self) -> None:
        self.peers_unaware = False  # this process failed, and the others have not heard of it
        self._number = 0
        self._stages: list[str] = []

    def async_options(self) -> ocp.AsyncOptions | None:
        """Return the manager's options; None for a single process."""
        return ocp.AsyncOptions(barrier_sync_fn=self) if jax.process_count() > 1 else None

    def begin(self, step: int) -> None:
        """Prepare for a save; to be called by all processes."""
        self._number += 1
        self._stages = [f"{stage}.{step}" for stage in STAGES]

    def __call__(self, *, key: str, timeout_ms: int) -> None:
        """Wait until all processes have reached this barrier.

        Raises:
          PeerFailed: all have reached it, and one of them has failed.
        """
        failure = f"ict_jax/failed_save/{self._number}"
        error = sys.exception()  # Orbax's last barrier is in the `finally` of its thread
        if error is not None and self._stages and not isinstance(error, PeerFailed):
            coordination_client().key_value_set(failure, str(error)[:200], allow_overwrite=True)
            stage, self._stages, self.peers_unaware = self._stages[0], [], True
            coordination_client().wait_at_barrier(stage, NOTIFY_SECS * 1000)
            self.peers_unaware = False
        coordination_client().wait_at_barrier(key, timeout_ms)
        if self._stages and key == self._stages[0]:
            del self._stages[0]
            try:
                reason = coordination_client().key_value_try_get(failure)
            except jax.errors.JaxRuntimeError:  # no process has failed
                return
            self._stages = []
            raise PeerFailed(f"another process could not write its part: {reason}")
