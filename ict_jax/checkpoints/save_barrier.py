"""Where the processes wait for each other's part of a checkpoint, and hear that one has failed."""

import sys

import jax
import orbax.checkpoint as ocp

from ict_jax.runtime.processes import coordination_client

STAGES = ("_async_write_complete", "_async_commit_complete")
"""Orbax's names: every process has written its part; the first has renamed the directory."""

TOLD_SECS = 60
"""A process that could not write its part waits so long for the others to hear of it."""


class PeerFailed(OSError):
    """Another process could not write its part of a checkpoint."""


class SaveBarrier:
    """Orbax's barrier, passed by a process that has failed as well, which says so.

    Orbax alone lets the others wait until a timeout of many minutes.
    """

    def __init__(self) -> None:
        self.untold = False  # this process failed, and the others have not come to hear of it
        self._number = 0
        self._stages: list[str] = []

    def async_options(self) -> ocp.AsyncOptions | None:
        """For the manager; None with one process."""
        return ocp.AsyncOptions(barrier_sync_fn=self) if jax.process_count() > 1 else None

    def begin(self, step: int) -> None:
        """To be called by all processes before a save."""
        self._number += 1
        self._stages = [f"{stage}.{step}" for stage in STAGES]

    def __call__(self, *, key: str, timeout_ms: int) -> None:
        """Returns when all processes have come here.

        Raises:
          PeerFailed: all have come, and one of them has failed.
        """
        failure = f"ict_jax/failed_save/{self._number}"
        error = sys.exception()  # Orbax's last barrier is in the `finally` of its thread
        if error is not None and self._stages and not isinstance(error, PeerFailed):
            coordination_client().key_value_set(failure, str(error)[:200], allow_overwrite=True)
            stage, self._stages, self.untold = self._stages[0], [], True
            coordination_client().wait_at_barrier(stage, TOLD_SECS * 1000)
            self.untold = False
        coordination_client().wait_at_barrier(key, timeout_ms)
        if self._stages and key == self._stages[0]:
            del self._stages[0]
            try:
                reason = coordination_client().key_value_try_get(failure)
            except jax.errors.JaxRuntimeError:  # there is none
                return
            self._stages = []
            raise PeerFailed(f"another process could not write its part: {reason}")
