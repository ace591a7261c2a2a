"""What runs experiments, seen by those who ask for them, and what its parts are called."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from poisonlab.spec.config import ExperimentSpec

if TYPE_CHECKING:  # it brings the database, which a command line that lists its options does without
    from poisonlab.runner.time_left import TimeLeft


class WorkerLost(RuntimeError):
    """What ran a job is gone: killed, or its machine is. The message says what is known of it."""


class EngineError(RuntimeError):
    """An engine cannot be used, or refuses a job; the message says what to do."""


@dataclass(frozen=True)
class Slot:
    """Room for one job at a time.

    Attributes:
        name: of the worker, for people; no two slots share one.
        device: that torch calls ``cpu`` or ``cuda:0``.
    """

    name: str
    device: str


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

    def submit_many(self, specs: Iterable[ExperimentSpec], device: str = "auto") -> list[str]:
        """Queue all of ``specs``, in their order, or none; their ids."""
        ...

    def cancel(self, run_id: str) -> str | None:
        """Cancel a waiting job, ask a running one to stop; the state it is in then."""
        ...

    def resume(self, run_id: str) -> None:
        """Queue a job that did not finish again; finished stages are cached."""
        ...

    def live(self, run_id: str) -> list[tuple[str, str, int, float | None]]:
        """The latest points ``(stage, name, step, value)`` of a running job."""
        ...

    def time_left(self, run_id: str) -> "TimeLeft | None":
        """How far a running job is over all its stages; ``None`` where nothing alike was ever measured."""
        ...
