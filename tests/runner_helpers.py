"""Waiting for jobs."""

import time

from poisonlab.store import Store


def wait_for(store: Store, run_id: str, *states: str, seconds: float = 60) -> str:
    """The state of a job once it is one of ``states``."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        state = store.jobs.get(run_id).state
        if state in states:
            return state
        time.sleep(0.02)
    raise AssertionError(f"job is {store.jobs.get(run_id)}")
