"""What a runner is made of, and what can go wrong with its parts. Nothing heavy is imported."""

from dataclasses import dataclass

RULES = "POISONLAB_RULES"  # names the file of rules of a shared server


class WorkerLost(RuntimeError):
    """What ran a job is gone: killed, or its machine is. The message says what is known of it."""


class EngineError(RuntimeError):
    """An engine cannot be used, or refuses a job; the message says what to do."""


class NoWorker(EngineError):
    """No worker can be had at present, which says nothing about the job that it was for."""


@dataclass(frozen=True)
class Person:
    """Somebody at the dashboard.

    Attributes:
        name: as the sign-in gives it; empty where nobody signs in.
        administrator: may do everything.
    """

    name: str
    administrator: bool


OWNER = Person("", True)  # of a laptop, and whoever has a shell on the machine


@dataclass(frozen=True)
class Slot:
    """Room for one job at a time.

    Attributes:
        name: of the worker, for people; no two slots share one.
        device: that torch calls ``cpu`` or ``cuda:0``.
    """

    name: str
    device: str
