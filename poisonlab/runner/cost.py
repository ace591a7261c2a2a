"""What runs will cost together: a stage that several of them share is computed once. In numbers and in words."""

from collections.abc import Sequence
from dataclasses import dataclass

from poisonlab.runner.known_stages import cached_stages
from poisonlab.spec import stages
from poisonlab.spec.config import ExperimentSpec
from poisonlab.spec.shared import decided_by, scope_of
from poisonlab.spec.stages import Scope, Stage
from poisonlab.store import Estimate, Store
from poisonlab.store.estimate import StageEstimate, measured_elsewhere
from poisonlab.words.numbers import duration

LONG = 1800.0  # seconds, from which on somebody without a GPU is asked twice
ELSEWHERE = "from shipped runs, measured on another machine"
NAMED = 4  # stages that a sentence lists


@dataclass(frozen=True)
class Cost:
    """What runs will cost.

    Attributes:
        computed: the stages that have to be computed, a shared one once.
        cached: stages that the cache holds.
        peak_memory_mb: the largest of similar runs.
    """

    computed: tuple[StageEstimate, ...]
    cached: tuple[Stage, ...]
    peak_memory_mb: float | None

    @property
    def seconds(self) -> float:
        """Of all stages of which something is known."""
        return sum(each.seconds for each in self.computed if each.seconds is not None)

    @property
    def unknown(self) -> tuple[Stage, ...]:
        """Stages of which nothing alike was ever measured."""
        return tuple(dict.fromkeys(each.stage for each in self.computed if each.seconds is None))

    @property
    def elsewhere(self) -> bool:
        """Whether most of the seconds were measured on another machine."""
        return measured_elsewhere(self.computed)


def estimate(store: Store, spec: ExperimentSpec, device_type: str) -> Estimate:
    """What one run will cost, with what the cache holds of it."""
    return store.estimates.of(spec, device_type, cached_stages(spec, device_type, store.results / "cache"))


def of(store: Store, specs: Sequence[ExperimentSpec], device_type: str, *, cache: bool = True) -> Cost:
    """What several runs will cost, one after the other.

    Args:
        cache: whether they use the cache of stages; without it nothing is at hand, and nothing shared.
    """
    computed: dict[tuple[object, ...], StageEstimate] = {}
    cached: list[Stage] = []
    peaks = []
    for number, spec in enumerate(specs):
        found = estimate(store, spec, device_type) if cache else store.estimates.of(spec, device_type)
        deciding: dict[Scope, str] = {}
        for each in found.computed:
            scope = scope_of(each.stage)
            if scope not in deciding:
                deciding[scope] = decided_by(spec, scope)
            shared = cache and each.stage.info.scope is not Scope.UNCACHED
            computed.setdefault((each.stage, deciding[scope], -1 if shared else number), each)
        cached += found.cached
        if found.peak_memory_mb is not None:
            peaks.append(found.peak_memory_mb)
    return Cost(tuple(computed.values()), tuple(dict.fromkeys(cached)), max(peaks, default=None))


def asks_twice(spec: ExperimentSpec, cost: Cost, device_type: str) -> bool:
    """Whether runs like this one are so long on a machine without a GPU that it is worth a question."""
    if device_type != "cpu" or spec.preset != "paper":
        return False
    return cost.seconds > LONG or (bool(cost.unknown) and spec.dataset.name != "digits")


# -- in words -------------------------------------------------------------------------------------


def time(cost: Cost) -> str:
    """``12 min 5 s``; of a part that is unknown, that it is."""
    known = [each for each in cost.computed if each.seconds is not None]
    if not known:
        return "unknown"
    total = "under 1 s" if cost.seconds < 1 else duration(cost.seconds)
    return f"{total} + unknown" if cost.unknown else total


def longest(cost: Cost) -> str:
    """``Undefended victim 4 min 0 s, Control 3 min 58 s``: the stages that take most of the time."""
    seconds: dict[Stage, float] = {}
    for each in cost.computed:
        seconds[each.stage] = seconds.get(each.stage, 0.0) + (each.seconds or 0.0)
    ranked = sorted(seconds, key=lambda stage: -seconds[stage])
    return ", ".join(
        f"{stages.label(stage)} {duration(seconds[stage])}" for stage in ranked[:NAMED] if seconds[stage] >= 1
    )


def origin(cost: Cost) -> list[str]:
    """Sentences: where the numbers are from, what they leave out, and what is at hand already."""
    said = []
    if cost.seconds:
        here = "The time is from runs on this machine."
        said.append(f"The time is {ELSEWHERE}." if cost.elsewhere else here)
    if cost.unknown:
        said.append(f"Nothing alike was ever measured of: {_labels(cost.unknown)}.")
    if cost.cached:
        said.append(f"Already in the cache: {_labels(cost.cached)}.")
    return said


def _labels(names: Sequence[Stage]) -> str:
    return ", ".join(stages.label(name) for name in names)
