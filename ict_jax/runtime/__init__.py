"""What a job stands on: processes, launchers, preemption, storage, console, chips."""
