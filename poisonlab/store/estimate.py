"""What a run will cost, stage by stage, judged by finished ones."""

from collections.abc import Set
from dataclasses import dataclass, field, replace

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
        self._by_device: dict[str, _Experience] = {}

    def of(self, spec: ExperimentSpec, device_type: str, cached: Set[Stage] = frozenset()) -> Estimate:
        """Each stage by the nearest finished runs on the same type of device, such as ``cpu``.

        Args:
            cached: stages that need not be computed, because the cache holds them under exactly their keys.
        """
        runs = self.past.on(device_type)
        known = self._by_device.get(device_type)
        if known is None or known.runs is not runs:
            known = _Experience(runs, speed(runs))
            self._by_device[device_type] = known
        found = known.of(spec)
        stages = [
            replace(each, cached=each.stage in cached or each.within in cached) for each in found.stages
        ]
        return replace(found, stages=tuple(stages))


@dataclass(frozen=True, eq=False)
class _Experience:
    """The finished runs of one type of device, and what followed from them so far: a page asks again and again.

    Attributes:
        pace: seconds of this machine for one second of the runs that were measured elsewhere.
    """

    runs: tuple[PastRun, ...]
    pace: float
    _found: dict[tuple[str, str], Estimate] = field(default_factory=dict)

    def of(self, spec: ExperimentSpec) -> Estimate:
        """The estimate of a run with nothing in the cache; the seed changes nothing."""
        key = (spec.group(), spec.preset)
        if key not in self._found:
            self._found[key] = self._estimate(spec)
        return self._found[key]

    def _estimate(self, spec: ExperimentSpec) -> Estimate:
        flat = FlatSpec.of(spec.model_dump(mode="json"))
        found = []
        for step in planned(spec, self.runs):
            near = nearest(step.stage, flat, self.runs, self.pace)
            passes = _passes(step.stage, spec, flat)
            if near is None:
                found.append(StageEstimate(step.stage, None, within=step.within, passes=passes))
            else:
                found.append(StageEstimate(step.stage, near.seconds, False, near.here, step.within, passes))
        return Estimate(tuple(found), _peak_memory(spec, self.runs))


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
            run.peak_memory_mb for run in runs if all(_named(run, kind) == wanted[kind] for kind in level)
        ]
        known = [peak for peak in peaks if peak is not None]
        if known:
            return max(known)
    return None


def _named(run: PastRun, kind: str) -> str:
    return str(run.spec.values.get("preset")) if kind == "preset" else run.spec.methods[kind]
