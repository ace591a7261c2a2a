"""How long a running job will take yet: its estimate, corrected by what its stages really take."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from poisonlab.events import Event, SetAside, StageFinished, StageStarted
from poisonlab.store.estimate import StageEstimate

MOST = 50.0  # times the estimate, and as many times less: a correction beyond that is an accident
ENOUGH = 0.5  # seconds, measured or expected, from which on a stage says how good the estimate is


@dataclass(frozen=True)
class Measured:
    """What is known of a running job.

    Attributes:
        seconds: stage -> its own so far, those of stages within it left out; also of the open ones.
        passes: stage -> how often it has ended.
        cached: stages that came from the cache.
        open: stages that are being computed, the outermost first.
        seconds_to_end: of the present pass of the innermost one, by its measured rate; ``None`` until that is known.
    """

    seconds: dict[str, float]
    passes: dict[str, int]
    cached: frozenset[str]
    open: tuple[str, ...]
    seconds_to_end: float | None = None


@dataclass(frozen=True)
class TimeLeft:
    """How far a job is, over all stages.

    Attributes:
        share: of the whole time, from 0 to 1. seconds: that are left.
        factor: times the estimate that the stages take.
    """

    share: float
    seconds: float
    factor: float


def time_left(expected: Sequence[StageEstimate], measured: Measured) -> TimeLeft | None:
    """What is left of a job; ``None`` where nothing alike was measured of a stage that is still to come.

    The running stage counts by its measured rate. What comes after it counts as estimated, times what the stages so
    far took beside their own estimates.

    Args:
        expected: all stages in their order.
    """
    spent = sum(measured.seconds.values())
    running = _of_running(expected, measured)
    factor = _factor(expected, measured, running)
    left = running or 0.0
    for each in _ahead(expected, measured):
        if each.seconds is None:
            return None
        done = measured.seconds.get(each.stage, 0.0)
        left += max(0.0, each.seconds * factor - done)
    whole = spent + left
    return TimeLeft(spent / whole if whole else 0.0, left, factor)


def _ahead(expected: Sequence[StageEstimate], measured: Measured) -> list[StageEstimate]:
    """Stages that are still to be computed, the innermost open one aside where its rate is known."""
    reached = _reached(expected, measured)
    found = []
    for position, each in enumerate(expected):
        by_rate = measured.seconds_to_end is not None and measured.open[-1:] == (each.stage,)
        if each.stage in measured.open and not by_rate:
            found.append(each)
        elif each.cached or by_rate or each.stage in measured.cached:
            continue
        elif position >= reached and measured.passes.get(each.stage, 0) < each.passes:
            found.append(each)
    return found


def _reached(expected: Sequence[StageEstimate], measured: Measured) -> int:
    """Position of the first stage that may still be computed: the outermost open one, or what follows the last.

    A stage stands where the one does in whose midst it is asked for.
    """
    names = [str(each.within or each.stage) for each in expected]
    if measured.open and measured.open[0] in names:
        return names.index(measured.open[0])
    ended = [position for position, name in enumerate(names) if name in measured.passes]
    if not ended:
        return 0
    last = expected[max(ended)]
    whole = last.stage in measured.cached or measured.passes.get(last.stage, 0) >= last.passes
    return max(ended) + whole


def _of_running(expected: Sequence[StageEstimate], measured: Measured) -> float | None:
    """Seconds that the innermost open stage takes yet, by its measured rate, over all its passes."""
    if not measured.open or measured.seconds_to_end is None:
        return None
    stage = measured.open[-1]
    passes = next((each.passes for each in expected if each.stage == stage), 1)
    ended = measured.passes.get(stage, 0)
    each_pass = (measured.seconds.get(stage, 0.0) + measured.seconds_to_end) / (ended + 1)
    return measured.seconds_to_end + each_pass * max(0, passes - ended - 1)


def _factor(expected: Sequence[StageEstimate], measured: Measured, running: float | None) -> float:
    """Measured seconds over estimated ones, of the stages that are whole and of the running one."""
    took = 0.0
    thought = 0.0
    for each in expected:
        whole = measured.seconds.get(each.stage, 0.0)
        if each.seconds is None or each.stage in measured.cached:
            continue
        if each.stage in measured.open[-1:] and running is not None:
            whole += running
        elif each.stage in measured.open or measured.passes.get(each.stage, 0) < each.passes:
            continue
        took += whole
        thought += each.seconds
    if max(took, thought) < ENOUGH or not took or not thought:
        return 1.0
    return min(MOST, max(1 / MOST, took / thought))


@dataclass
class _Open:
    stage: str
    started: float
    within: float = 0.0  # seconds of stages inside


@dataclass
class StageClock:
    """Hears the events of one run and knows how long its stages take."""

    now: Callable[[], float] = time.monotonic
    _open: list[_Open] = field(default_factory=list)
    _seconds: dict[str, float] = field(default_factory=dict)
    _passes: dict[str, int] = field(default_factory=dict)
    _cached: set[str] = field(default_factory=set)

    def hear(self, event: Event) -> None:
        """Take an event of the run."""
        match event:
            case StageStarted(stage):
                self._open.append(_Open(stage, self.now()))
            case StageFinished(stage, _, cached) if self._open:
                self._close(stage, cached)
            case SetAside(_, seconds, stage) if self._open:
                self._add(stage, seconds)
                self._open[-1].within += seconds

    def measured(self, seconds_to_end: float | None = None) -> Measured:
        """What is known now.

        Args:
            seconds_to_end: of the present pass of the innermost stage, by its rate.
        """
        opened = list(self._open)
        found = Measured(
            dict(self._seconds),
            dict(self._passes),
            frozenset(self._cached),
            tuple(each.stage for each in opened),
            seconds_to_end,
        )
        end = self.now()
        seconds = dict(found.seconds)
        for each in reversed(opened):
            whole = end - each.started
            seconds[each.stage] = seconds.get(each.stage, 0.0) + max(0.0, whole - each.within)
            end = each.started  # what lies outside of it was spent before it
        return replace(found, seconds=seconds)

    def _close(self, stage: str, cached: bool) -> None:
        closed = self._open.pop()
        whole = self.now() - closed.started
        self._add(stage, 0.0 if cached else max(0.0, whole - closed.within))
        self._passes[stage] = self._passes.get(stage, 0) + 1
        if cached:
            self._cached.add(stage)
        if self._open:
            self._open[-1].within += whole

    def _add(self, stage: str, seconds: float) -> None:
        self._seconds[stage] = self._seconds.get(stage, 0.0) + seconds
