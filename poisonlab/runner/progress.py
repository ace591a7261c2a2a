"""From a stream of events to a few rows a second."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from poisonlab.events import (
    ArtifactReady,
    Cancelled,
    Event,
    Log,
    Metric,
    Progress,
    StageFinished,
    StageStarted,
)
from poisonlab.records.record import finite
from poisonlab.runner.failures import TimeLimit
from poisonlab.runner.recorder import Interrupted
from poisonlab.runner.time_left import StageClock, TimeLeft, time_left
from poisonlab.runner.wire import CANCEL, GO_ON, LATE, STOP
from poisonlab.spec.shared import needs
from poisonlab.store import Estimate, Job, Store

FLUSH_SECONDS = 1.0
TICK = 0.25  # seconds between two looks for what is to be written
UNKNOWN_SECONDS = 1.0  # of a job without an estimate of the rest
RECENT = 2000  # points of a running job kept in memory

log = logging.getLogger(__name__)


class Rate:
    """Steps a second and remaining seconds of a stage, from the steps seen so far."""

    def __init__(self) -> None:
        self._step = 0
        self._time = time.monotonic()
        self.step = 0
        self.total = 0

    def see(self, step: int, total: int) -> None:
        if step < self.step or total != self.total:  # another pass of the same stage
            self._step = min(step, 0)
            self._time = time.monotonic()
        self.step = step
        self.total = total

    @property
    def rate(self) -> float | None:
        seconds = time.monotonic() - self._time
        done = self.step - self._step
        return done / seconds if done > 0 and seconds > 0.05 else None

    @property
    def eta_seconds(self) -> float | None:
        return (self.total - self.step) / self.rate if self.rate and self.total else None


class Listener:
    """Buffers what one job says, and carries a cancel back into it.

    The job never waits for the database: what it said is written by whoever calls :meth:`tick`, about once a second,
    and soon after another stage has begun, as that may be silent for long.

    Args:
        stopping: set when the whole program goes down.
        expect: says what the job will cost; asked once it has taken a second, since a shorter one is over by then.
        limit: seconds that the job may take from its first word on; 0 for any.
    """

    def __init__(
        self,
        store: Store,
        job: Job,
        stopping: threading.Event,
        expect: Callable[[], Estimate | None] | None = None,
        limit: float = 0.0,
    ) -> None:
        self.store = store
        self.run_id = job.run_id
        self.stopping = stopping
        self.expected: Estimate | None = None
        self._expect = expect
        self.limit = limit
        self._begun: float | None = None  # it may have to wait for its place on a cluster
        self.clock = StageClock()
        self.cancelled = threading.Event()
        self.recent: deque[tuple[str, str, int, float | None]] = deque(maxlen=RECENT)
        self.stages: list[str] = []  # open stages, outermost first
        self._needs = needs(job.spec.experiment())
        self._held = self._needs.all()
        self._rates: dict[str, Rate] = {}
        self._points: list[tuple[str, str, int, float | None]] = []
        self._logs: list[tuple[str, str, str]] = []
        self._artifacts: list[tuple[str, str, str]] = []
        self._flushed = 0.0
        self._new = False  # whether anything was said since the last flush
        self._turned = False  # whether another stage has begun since then
        self._buffers = threading.Lock()
        self._writing = threading.Lock()
        self._closed = False

    def __call__(self, event: Event) -> None:
        """Take an event; raises ``Cancelled`` or ``Interrupted`` when the job should stop."""
        if self.stopping.is_set():
            raise Interrupted
        if self._begun is None:
            self._begun = time.monotonic()
        self.clock.hear(event)
        with self._buffers:
            self._keep(event)
            self._new = True
            self._turned = self._turned or isinstance(event, StageStarted)
        if self.cancelled.is_set():
            raise Cancelled
        if self._late():
            raise TimeLimit

    def _late(self) -> bool:
        if not self.limit or self._begun is None:
            return False
        return time.monotonic() - self._begun > self.limit

    def wanted(self) -> str:
        """What the job shall do, to be told to one that runs elsewhere: ``GO_ON``, ``CANCEL``, ``LATE`` or ``STOP``."""
        if self.stopping.is_set():
            return STOP
        if self.cancelled.is_set():
            return CANCEL
        return LATE if self._late() else GO_ON

    def _keep(self, event: Event) -> None:
        match event:
            case Metric(stage, name, step, value):
                point = (stage, name, step, finite(value))
                self._points.append(point)
                self.recent.append(point)
            case Progress(stage, step, total):
                self._rates.setdefault(stage, Rate()).see(step, total)
            case Log(stage, message, level):
                self._logs.append((stage, level, message))
            case ArtifactReady(stage, name):
                self._artifacts.append((name, event.kind, stage))
            case StageStarted(stage):
                self._held = [key for key in self._needs.held(stage) if key in self._held]
                self.stages.append(stage)
                self._rates[stage] = Rate()
            case StageFinished(stage, _, cached):
                self.stages.pop()
                if cached:
                    self._logs.append((stage, "info", "taken from the cache"))

    def time_left(self) -> TimeLeft | None:
        """How far the job is over all its stages; ``None`` where nothing alike was ever measured."""
        if self.expected is None:
            return None
        rate = self._rates.get(self.stages[-1]) if self.stages else None
        return time_left(self.expected.stages, self.clock.measured(rate.eta_seconds if rate else None))

    def tick(self) -> None:
        """Write what is due, and find out what the job will cost once it has taken a second."""
        if self._expect and self._begun and time.monotonic() - self._begun > UNKNOWN_SECONDS:
            self.expected = self._expect()
            self._expect = None
        due = self._turned or time.monotonic() - self._flushed >= FLUSH_SECONDS
        if self._new and due:
            self.flush()

    def flush(self) -> None:
        """Write what was buffered, unless the job is over."""
        with self._writing:
            if self._closed:
                return
            with self._buffers:
                shown = self._taken()
            try:
                if self.store.jobs.update_progress(self.run_id, **shown):
                    self.cancelled.set()
            except Exception:  # the record holds it all: a busy database is no reason to lose a run
                log.warning("progress of run %s was not stored", self.run_id, exc_info=True)

    def close(self) -> None:
        """Nothing is written from now on: the record of the run takes the place of what it said."""
        with self._writing:
            self._closed = True

    def _taken(self) -> dict[str, Any]:
        """What is to be written now, out of the buffers."""
        self._flushed = time.monotonic()
        self._new = False
        self._turned = False
        stage = self.stages[-1] if self.stages else ""
        shown: dict[str, Any] = {"stage": stage}
        rate = self._rates.get(stage)
        if rate:
            shown |= {
                "step": rate.step,
                "total": rate.total,
                "rate": rate.rate,
                "eta_seconds": rate.eta_seconds,
            }
        shown |= {
            "points": self._points,
            "logs": self._logs,
            "artifacts": self._artifacts,
            "held": self._held,
        }
        self._points = []
        self._logs = []
        self._artifacts = []
        return shown
