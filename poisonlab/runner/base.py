"""What runs experiments, seen by those who ask for them."""

from collections.abc import Iterable
from typing import Protocol

from poisonlab.runner.parts import OWNER, Person
from poisonlab.runner.rules import Rules
from poisonlab.runner.time_left import TimeLeft
from poisonlab.spec.config import ExperimentSpec


class Runner(Protocol):
    """Runs experiments on this machine or on many; the engine is chosen at start, never by an experiment."""

    @property
    def devices(self) -> list[str]:
        """What an experiment may ask for, besides ``auto``."""
        ...

    @property
    def device_type(self) -> str:
        """``cpu`` or ``cuda``."""
        ...

    def start(self) -> None:
        """Mark what a dead process left behind as interrupted, then take jobs from the queue. Idempotent."""
        ...

    def stop(self, timeout: float = 10.0) -> bool:
        """Interrupt running jobs; whether all ended within ``timeout`` seconds."""
        ...

    @property
    def workers(self) -> int:
        """How many jobs can run at once."""
        ...

    @property
    def rules(self) -> Rules:
        """What people may do."""
        ...

    def submit_many(
        self, specs: Iterable[ExperimentSpec], device: str = "auto", person: Person = OWNER
    ) -> list[str]:
        """Queue all of ``specs``, in their order, or none; their ids."""
        ...

    def cancel(self, run_id: str, person: Person = OWNER) -> str | None:
        """Cancel a waiting job, ask a running one to stop; the state it is in then."""
        ...

    def resume(self, run_id: str, person: Person = OWNER) -> None:
        """Queue a job that did not finish again; finished stages are cached."""
        ...

    def live(self, run_id: str) -> list[tuple[str, str, int, float | None]]:
        """The latest points ``(stage, name, step, value)`` of a running job."""
        ...

    def time_left(self, run_id: str) -> TimeLeft | None:
        """How far a running job is over all its stages; ``None`` where nothing alike was ever measured."""
        ...
