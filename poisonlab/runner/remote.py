"""What passes between the program and a worker in another process: an order, what the job says, and what it is told.

All of it is JSON. A worker imports neither database nor browser: it runs on a bare GPU node.
"""

import logging
import math
import os
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Protocol, get_args

import torch

from poisonlab import __version__
from poisonlab.events import ArtifactReady, Cancelled, Event, Log, Progress, StageFinished, StageStarted
from poisonlab.records.recorded_spec import RecordedSpec
from poisonlab.records.revision import LOADED
from poisonlab.runner.failures import TimeLimit
from poisonlab.runner.parts import WorkerLost
from poisonlab.runner.recorder import Interrupted, run_and_record
from poisonlab.runner.wire import CANCEL, GO_ON, LATE, STOP, Row

PATIENCE = 8.0  # seconds that a job has to stop when the program ends
SHORTEST = 0.004  # seconds between two looks
HASTE = 0.03  # of the time waited so far, that the next look may be late
EVERY = 1.0  # seconds between two posts of a job, a beginning or ending stage aside

Post = Callable[[list[Row]], str]
_EVENTS = {kind.__name__: kind for kind in get_args(Event)}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Order:
    """One attempt at a job.

    Attributes:
        number: counts the orders of a worker.
        spec: in JSON form.
        results: the results folder, as the program that orders sees it.
        program: its version and revision.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        memory_share: of a GPU's memory, where several jobs share one.
    """

    number: int
    run_id: str
    spec: dict[str, Any]
    results: str
    program: str
    device: str = "auto"
    memory_share: float = 1.0

    def json(self) -> dict[str, Any]:
        """Every field by its name."""
        return asdict(self)


@dataclass(frozen=True)
class Ending:
    """How an order ended.

    Attributes:
        state: of the run's record; ``interrupted`` where it left none, ``refused`` where it never began.
        message: what a person should know.
    """

    state: str
    message: str = ""


def program() -> str:
    """Version and revision of this program, as it was when it was loaded."""
    return f"{__version__} ({LOADED})"


def carry_out(order: Order, post: Post, runs: Path, cache: Path) -> Ending:
    """Run a job where the worker is; how it ended.

    Args:
        post: takes what the job says and returns what it is told.
        runs: gets the folder of the run.
        cache: holds whole stages.
    """
    if order.program != program():
        other = f"the worker runs poisonlab {program()} and was asked by {order.program}"
        return Ending("refused", f"{other}: install the same version on both")
    if order.memory_share < 1 and torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(order.memory_share)
    outbox = Outbox(post)
    outbox(Log("", f"runs on {socket.gethostname()}, process {os.getpid()}"))
    try:
        record = run_and_record(
            RecordedSpec.of(order.spec).experiment(),
            runs,
            run_id=order.run_id,
            device=order.device,
            cache_root=cache,
            send=outbox,
        )
    except Interrupted:
        return Ending("interrupted")
    with suppress(Cancelled, TimeLimit):  # told so too late: the record is there
        outbox.flush()
    return Ending(record.state, record.message)


class Outbox:
    """Posts what a job says about once a second, and does what it is told in return.

    Of progress within a stage only the latest step is posted.
    """

    def __init__(self, post: Post) -> None:
        self._post = post
        self._rows: list[Row] = []
        self._posted = 0.0

    def __call__(self, event: Event) -> None:
        """Take an event; raises ``Cancelled`` or ``Interrupted`` when the job should stop."""
        if isinstance(event, Progress) and self._rows and self._rows[-1][:2] == ["Progress", event.stage]:
            self._rows.pop()
        self._rows.append(to_row(event))
        changes = isinstance(event, StageStarted | StageFinished)
        if changes or time.monotonic() - self._posted >= EVERY:
            self.flush()

    def flush(self) -> None:
        """Post what is kept."""
        rows = self._rows
        self._rows = []
        self._posted = time.monotonic()
        told = self._post(rows)
        if told == CANCEL:
            raise Cancelled
        if told == LATE:
            raise TimeLimit
        if told == STOP:
            raise Interrupted


def to_row(event: Event) -> Row:
    """An event in JSON; of an artifact, which lies in the run's folder, the name of its kind."""
    values = [getattr(event, field.name) for field in fields(event)]
    if isinstance(event, ArtifactReady):
        values = [event.stage, event.name, event.kind, event.trial]
    return [type(event).__name__, *values]


def to_event(row: Row) -> Event:
    """The event of a row."""
    name, *values = row
    event: Event = _EVENTS[name](*values)
    return event


class Line(Protocol):
    """How the program hears of one attempt at a job, and speaks to it."""

    def said(self) -> Iterable[Row]:
        """What the job said since last asked."""
        ...

    def tell(self, word: str) -> None:
        """What it shall do: ``CANCEL``, ``LATE`` or ``STOP``."""
        ...

    def wait(self, seconds: float) -> None:
        """Let that much time pass, or less where it ends before."""
        ...

    def ended(self) -> Ending | None:
        """How it ended; ``None`` while it goes on.

        Raises:
            WorkerLost: the worker is gone.
        """
        ...


def follow(line: Line, hear: Callable[[Event], None], wanted: Callable[[], str], poll: float) -> Ending:
    """Hear a job until it ends; how it did.

    Args:
        hear: takes each event; what it raises to stop the job is said by ``wanted`` as well.
        wanted: what the job shall do: ``GO_ON``, ``CANCEL``, ``LATE`` or ``STOP``.
        poll: seconds between two looks, at most.

    Raises:
        Interrupted: the program goes down. WorkerLost: by ``line``, or the worker stopped and nobody had told it to.
    """
    told = GO_ON
    begun = time.monotonic()
    deadline = math.inf
    while True:
        ending = line.ended()  # before the last words are read: none come after it
        for row in line.said():
            _understand(row, hear)
        if ending is None:
            word = wanted()
            if word != told:
                line.tell(word)
                told = word
                deadline = time.monotonic() + PATIENCE if word == STOP else math.inf
            if time.monotonic() < deadline:
                line.wait(pause(time.monotonic() - begun, poll))
                continue
        if ending is None or ending.state == "interrupted":
            if told != STOP:
                raise WorkerLost("the worker stopped: it had heard nothing of the program for too long")
            raise Interrupted
        return ending


def pause(waited: float, longest: float) -> float:
    """Seconds until the next look for something: few where the waiting is young, as brief work may end soon."""
    return min(longest, max(SHORTEST, HASTE * waited))


def _understand(row: Row, hear: Callable[[Event], None]) -> None:
    """Hear what a row says. Half of one, or one out of its order, is left out: the run's record holds it all."""
    try:
        hear(to_event(row))
    except (Cancelled, TimeLimit):
        return
    except Exception:
        log.warning("a worker said what nobody understands: %.200r", row, exc_info=True)
