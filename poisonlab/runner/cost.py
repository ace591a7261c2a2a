"""What runs will cost together: a stage that several of them share is computed once."""

from collections.abc import Sequence
from dataclasses import dataclass

from poisonlab.runner.known_stages import cached_stages
from poisonlab.spec.config import ExperimentSpec
from poisonlab.spec.shared import decided_by, scope_of
from poisonlab.spec.stages import Scope, Stage
from poisonlab.store import Estimate, Store
from poisonlab.store.estimate import StageEstimate, measured_elsewhere

LONG = 1800.0  # seconds, from which on somebody without a GPU is asked twice


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


def of(store: Store, specs: Sequence[ExperimentSpec], device_type: str) -> Cost:
    """What several runs will cost, one after the other."""
    computed: dict[tuple[object, ...], StageEstimate] = {}
    cached: list[Stage] = []
    peaks = []
    for number, spec in enumerate(specs):
        found = estimate(store, spec, device_type)
        deciding: dict[Scope, str] = {}
        for each in found.computed:
            scope = scope_of(each.stage)
            if scope not in deciding:
                deciding[scope] = decided_by(spec, scope)
            alone = number if each.stage.info.scope is Scope.UNCACHED else -1
            computed.setdefault((each.stage, deciding[scope], alone), each)
        cached += found.cached
        if found.peak_memory_mb is not None:
            peaks.append(found.peak_memory_mb)
    return Cost(tuple(computed.values()), tuple(dict.fromkeys(cached)), max(peaks, default=None))


def asks_twice(spec: ExperimentSpec, cost: Cost, device_type: str) -> bool:
    """Whether runs like this one are so long on a machine without a GPU that it is worth a question."""
    if device_type != "cpu" or spec.preset != "paper":
        return False
    return cost.seconds > LONG or (bool(cost.unknown) and spec.dataset.name != "digits")
