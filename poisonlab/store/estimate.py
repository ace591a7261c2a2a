"""What a run will cost, stage by stage, judged by finished ones."""

from collections.abc import Set
from dataclasses import dataclass

from poisonlab import registry
from poisonlab.spec.config import ExperimentSpec
from poisonlab.spec.stages import Stage
from poisonlab.store.database import Database
from poisonlab.store.flat_spec import FlatSpec
from poisonlab.store.nearest import nearest, speed
from poisonlab.store.past import PastRun, PastRuns
from poisonlab.store.plan import planned
from poisonlab.store.work import surrogates

_MATTERS = 0.5  # share of the seconds from elsewhere, from which on the estimate is said to come from there
# from alike to remotely alike, for the memory; the first with a run answers
_LEVELS = (
    ("dataset", "attack", "defense", "victim", "preset"),
    ("dataset", "attack", "defense"),
    ("dataset", "defense", "preset"),
    ("dataset", "attack", "preset"),
)


@dataclass(frozen=True)
class StageEstimate:
    """What one stage will cost.

    Attributes:
        seconds: were it computed; ``None`` where nothing alike was ever measured.
        cached: it is in the cache under exactly its key, or asked for only by one that is.
        here: whether this machine measured what ``seconds`` are made of.
        within: the stage in whose midst it is asked for.
        passes: how often it is run, for one trial after the other.
    """

    stage: Stage
    seconds: float | None
    cached: bool = False
    here: bool = True
    within: Stage | None = None
    passes: int = 1


@dataclass(frozen=True)
class Estimate:
    """Expected cost of a run.

    Attributes:
        stages: in their order.
        peak_memory_mb: the largest of similar runs; ``None`` without one.
    """

    stages: tuple[StageEstimate, ...]
    peak_memory_mb: float | None

    @property
    def computed(self) -> tuple[StageEstimate, ...]:
        """Stages that have to be computed."""
        return tuple(each for each in self.stages if not each.cached)

    @property
    def seconds(self) -> float | None:
        """Of the stages that have to be computed; ``None`` where nothing alike was measured of one of them."""
        known = [each.seconds for each in self.computed if each.seconds is not None]
        return sum(known) if len(known) == len(self.computed) else None

    @property
    def cached(self) -> list[Stage]:
        """Stages that the cache holds."""
        return [each.stage for each in self.stages if each.cached and each.within is None]

    @property
    def unknown(self) -> list[Stage]:
        """Stages of which nothing alike was ever measured."""
        return [each.stage for each in self.computed if each.seconds is None]

    @property
    def elsewhere(self) -> bool:
        """Whether most of the seconds were measured on another machine."""
        return measured_elsewhere(self.computed)


def measured_elsewhere(stages: tuple[StageEstimate, ...]) -> bool:
    """Whether most of the seconds of stages were measured on another machine."""
    known = [(each.seconds, each.here) for each in stages if each.seconds is not None]
    foreign = sum(seconds for seconds, here in known if not here)
    return foreign > _MATTERS * sum(seconds for seconds, _ in known)


class Estimates:
    """What runs will cost."""

    def __init__(self, db: Database) -> None:
        self.past = PastRuns(db)
        self._speed: tuple[tuple[PastRun, ...], float] = ((), 1.0)

    def of(self, spec: ExperimentSpec, device_type: str, cached: Set[Stage] = frozenset()) -> Estimate:
        """Each stage by the nearest finished runs on the same type of device, such as ``cpu``.

        Args:
            cached: stages that need not be computed, because the cache holds them under exactly their keys.
        """
        runs = self.past.on(device_type)
        flat = FlatSpec.of(spec.model_dump(mode="json"))
        pace = self._speed_by(runs)
        found = []
        for step in planned(spec, runs):
            near = nearest(step.stage, flat, runs, pace)
            found.append(
                StageEstimate(
                    step.stage,
                    near.seconds if near else None,
                    cached=step.stage in cached or step.within in cached,
                    here=near is None or near.here,
                    within=step.within,
                    passes=_passes(step.stage, spec, flat),
                )
            )
        return Estimate(tuple(found), _peak_memory(spec, runs))

    def _speed_by(self, runs: tuple[PastRun, ...]) -> float:
        """How fast this machine is, found out once for the same runs."""
        if self._speed[0] is not runs:
            self._speed = (runs, speed(runs))
        return self._speed[1]


def _passes(stage: Stage, spec: ExperimentSpec, flat: FlatSpec) -> int:
    """How often a stage is run: networks that are trained one by one are a stage each."""
    if stage is Stage.SURROGATE:
        return int(surrogates(flat))
    hooked = stage is Stage.DEFENDED_VICTIM and registry.defense[spec.defense.name].overrides("training_hook")
    one_by_one = spec.protocol != "linear_transfer" or hooked
    return int(flat.trials) if one_by_one and stage in (Stage.VICTIM, Stage.DEFENDED_VICTIM) else 1


def _peak_memory(spec: ExperimentSpec, runs: tuple[PastRun, ...]) -> float | None:
    wanted = {kind: getattr(spec, kind).name for kind in ("dataset", "attack", "defense", "victim")}
    wanted["preset"] = spec.preset
    for level in _LEVELS:
        peaks = [
            run.peak_memory_mb
            for run in runs
            if run.peak_memory_mb is not None
            and all(
                (run.spec.methods | {"preset": run.spec.values.get("preset")})[k] == wanted[k] for k in level
            )
        ]
        if peaks:
            return max(peaks)
    return None
