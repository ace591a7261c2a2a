"""Work in slices of a few minutes: a run is left at a stage that would not end in time, and goes on there next time.

A stage that keeps what it has done is left in its midst, at the last moment it was kept.
"""

import time
from collections.abc import Callable, Iterable

from poisonlab.events import Event, Kept, Progress, StageFinished, StageStarted
from poisonlab.records.recorded_spec import RecordedSpec
from poisonlab.runner.recorder import Interrupted, RunRecord
from poisonlab.spec import stages
from poisonlab.spec.config import ExperimentSpec
from poisonlab.spec.stages import Scope, Work

WARM_UP = 5.0  # seconds of a stage before its own speed says how long it will take


class SliceOver(Interrupted):
    """A stage, or what it does until it is kept next, would not end within the slice.

    Attributes:
        stage, seconds: which one, and how long that takes, as far as one can tell.
    """

    def __init__(self, stage: str, seconds: float) -> None:
        super().__init__(f"{stage} takes about {seconds:.0f} s")
        self.stage = stage
        self.seconds = seconds


class TimeSlice:
    """Listens to runs; raises :class:`SliceOver` out of a stage that would not end before the deadline.

    Whether a stage is cached shows only when it starts to work, so the first step of its progress is where it is
    judged: by what finished stages of the same kind took, and after a few seconds by its own speed. One that keeps its
    work goes on as long as the next piece fits, by what the longest one took.

    Attributes:
        computed: stages and kept pieces of stages that were computed in this slice, those from the cache not counted.
    """

    def __init__(
        self, seconds: float, send: Callable[[Event], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._deadline = clock() + seconds
        self._send = send
        self._took: dict[tuple[str, str], float] = {}
        self._spec: ExperimentSpec | None = None
        self._first: dict[str, tuple[float, int]] = {}  # stage -> time and step of its first progress
        self._kept: dict[
            str, tuple[float, float]
        ] = {}  # stage -> when it was last kept, seconds of its longest piece
        self.computed = 0

    @property
    def left(self) -> float:
        """Seconds until the deadline."""
        return self._deadline - self._clock()

    def learn(self, records: Iterable[RunRecord]) -> None:
        """What the stages of finished runs took; the longest of a kind counts. Those of several trials are sums."""
        for record in (r for r in records if (r.metrics.get("targets") or 1) == 1):
            for stage, seconds in record.timings.items():
                if stage not in record.cached:
                    self._remember(_kind(stage, record.spec), seconds)

    def begin(self, spec: ExperimentSpec) -> None:
        """Before each run: whose stages are heard from now on."""
        self._spec = spec
        self._first.clear()
        self._kept.clear()

    def __call__(self, event: Event) -> None:
        match event:
            case StageStarted(stage):
                self._first.pop(stage, None)
                self._kept.pop(stage, None)
            case Kept(stage):
                self._judge_next(stage)
            case Progress(stage, _, _) if stage in self._kept:
                if self.left < 0:
                    raise SliceOver(stage, self._clock() - self._kept[stage][0])
            case Progress(stage, step, total) if total > 0:
                self._judge(stage, step, total)
            case StageFinished(stage, seconds, False):
                self.computed += 1
                self._remember(self._kind(stage), seconds)
        self._send(event)

    def _judge_next(self, stage: str) -> None:
        """A stage says that it has kept its work: at its start, and after each piece."""
        now = self._clock()
        before, longest = self._kept.get(stage, (now, 0.0))
        self.computed += stage in self._kept
        self._kept[stage] = now, (longest := max(longest, now - before))
        if now + longest > self._deadline:
            raise SliceOver(stage, longest)

    def _judge(self, stage: str, step: int, total: int) -> None:
        now = self._clock()
        start, first = self._first.setdefault(stage, (now, step))
        if step < first:  # the next of several networks
            start, first = self._first[stage] = (now, step)
        if step >= total:
            return
        if now - start < WARM_UP or step == first:
            whole = self._took.get(self._kind(stage), 0.0)
            ahead = whole - (now - start)
        else:
            whole = (now - start) * (total - first) / (step - first)
            ahead = (now - start) * (total - step) / (step - first)
        if now + max(0.0, ahead) > self._deadline:
            raise SliceOver(stage, whole)

    def _remember(self, kind: tuple[str, str], seconds: float) -> None:
        self._took[kind] = max(seconds, self._took.get(kind, 0.0))

    def _kind(self, stage: str) -> tuple[str, str]:
        return (stage, "") if self._spec is None else _kind(stage, self._spec)


def _kind(stage: str, spec: ExperimentSpec | RecordedSpec) -> tuple[str, str]:
    """Stages that take about as long: a training is one whatever the attack, a repair is the defense's."""
    known = stages.find(stage)
    if known is None or known.info.scope in (Scope.BOTH, Scope.DEFENSE, Scope.PUBLIC):
        return stage, spec.defense.name
    if known.info.does is Work.TRAIN:
        return stage, spec.training.canonical()
    return stage, spec.attack.name
