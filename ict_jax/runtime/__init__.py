"""Foundation of a job: processes, launchers, preemption, storage, locks, console, chips."""
