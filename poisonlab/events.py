"""What a run says about itself. Frozen, small, and the only way out of a run before it ends."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Progress:
    """``step`` of ``total`` in a stage; the reader of the stream derives rate and remaining time."""

    stage: str
    step: int
    total: int


@dataclass(frozen=True)
class Metric:
    """One point of a curve: ``value`` at ``step``. NaN means that the quantity diverged.

    ``seen_by`` is the key of the observer that measured it, see ``Context``; empty of what the stage itself says.
    """

    stage: str
    name: str
    step: int
    value: float
    seen_by: str = ""


@dataclass(frozen=True)
class ArtifactReady:
    """A typed artifact (see ``records/artifacts.py``) under a name that is unique within its trial.

    ``trial`` counts from 0; what a run shows once, for all its trials together, belongs to trial 0. Between processes
    only the name of its kind is sent, in place of the value.
    """

    stage: str
    name: str
    value: Any = field(repr=False)
    trial: int = 0

    @property
    def kind(self) -> str:
        """Name of the class of the artifact."""
        return self.value if isinstance(self.value, str) else type(self.value).__name__


@dataclass(frozen=True)
class Log:
    """A sentence for a person. ``level`` is ``info`` or ``warning``."""

    stage: str
    message: str
    level: str = "info"


@dataclass(frozen=True)
class StageStarted:
    stage: str


@dataclass(frozen=True)
class StageFinished:
    """A stage is whole; ``seconds`` is 0 and ``cached`` true when it came from the cache."""

    stage: str
    seconds: float
    cached: bool


@dataclass(frozen=True)
class SetAside:
    """In mid-stage something else was done: these ``seconds`` count as those of the stage ``of``."""

    stage: str
    seconds: float
    of: str


@dataclass(frozen=True)
class Kept:
    """All that a long stage has done so far is on disk: it can be left here and go on in another run."""

    stage: str


Event = Kept | Progress | Metric | ArtifactReady | Log | StageStarted | StageFinished | SetAside


class Cancelled(Exception):  # noqa: N818 - a request, not an error
    """Raised out of ``emit`` when somebody asked the run to stop."""
