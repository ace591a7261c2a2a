"""What a run will cost, judged by past ones."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from poisonlab.spec.config import ExperimentSpec
from poisonlab.spec.stages import Scope, Stage
from poisonlab.store.database import Database
from poisonlab.store.rows import spec_columns
from poisonlab.store.runs import where

# from alike to remotely alike; the first level with a finished run answers
_LEVELS = (
    ("spec_group",),
    ("dataset", "attack", "defense", "victim", "preset"),
    ("dataset", "attack", "defense"),
    ("dataset", "defense", "preset"),
    ("dataset", "attack", "preset"),
)
# what decides the poison and the undefended victim
_ATTACK_SIDE = (
    "dataset",
    "victim",
    "protocol",
    "training",
    "head",
    "fine_tune",
    "attack",
    "seed",
    "precision",
)


@dataclass(frozen=True)
class Estimate:
    """Expected cost of a run.

    Attributes:
        seconds: of the stages that have to be computed; ``None`` without a similar past run.
        cached: stages that the cache most likely holds.
        peak_memory_mb: the largest of the past runs that ``seconds`` are the median of.
    """

    seconds: float | None
    cached: list[str]
    peak_memory_mb: float | None


class Estimates:
    """What runs will cost.

    Args:
        cache: the stage cache, whose entries say what will not be computed again.
    """

    def __init__(self, db: Database, cache: Path) -> None:
        self.db = db
        self.cache = cache

    def of(self, spec: ExperimentSpec, device_type: str) -> Estimate:
        """Medians of the stages of similar finished runs on the same type of device, such as ``cpu``."""
        columns = spec_columns(spec) | {"spec_group": spec.group()}
        cached = self._likely_cached(spec)
        for level in _LEVELS:
            clauses, values = where({name: columns[name] for name in level})
            found = self.db.rows(
                f"""WITH alike AS (SELECT run_id, peak_memory_mb FROM runs
                    WHERE state = 'done' AND starts_with(device, ?) AND {clauses}
                    ORDER BY source = 'local' DESC, created DESC LIMIT 50)
                SELECT stage, median(seconds) FILTER (NOT cached), (SELECT max(peak_memory_mb) FROM alike)
                FROM timings JOIN alike USING (run_id) GROUP BY stage""",
                [device_type, *values],
            )
            if found:
                # cached in all of them: its price is unknown, and most likely it is cached again
                seconds = sum(median or 0.0 for stage, median, _ in found if stage not in cached)
                present = [stage for stage, *_ in found if stage in cached]
                return Estimate(float(seconds), present, found[0][2])
        return Estimate(None, [], None)

    def _likely_cached(self, spec: ExperimentSpec) -> set[str]:
        """Stages that a past run computed from the same values, as far as the cache still holds any such."""
        wanted = spec.model_dump(mode="json")
        past = self.db.rows(
            """SELECT spec FROM runs WHERE home = 'runs' AND dataset = ? AND (attack = ? OR defense = ?)
            ORDER BY created DESC LIMIT 200""",
            [spec.dataset.name, spec.attack.name, spec.defense.name],
        )
        scopes: set[Scope] = set()
        for (text,) in past:
            scopes |= _shared(wanted, json.loads(text))
        cached = {stage for stage in Stage if stage.info.scope in scopes}
        return {stage for stage in cached if next(self.cache.glob(f"{stage}-*"), None)}


def _shared(wanted: dict[str, Any], past: dict[str, Any]) -> set[Scope]:
    """The scopes in which two specs agree, so that stages of the one serve the other."""

    def agree(*parts: str) -> bool:
        return all(past.get(part) == wanted[part] for part in parts)

    found = set()
    same_attack = agree(*_ATTACK_SIDE)
    same_defense = agree("dataset", "protocol", "defense")
    if same_attack:
        found.add(Scope.ATTACK)
    if same_attack and agree("clean_images"):
        found.add(Scope.ATTACK_AND_CLEAN)
    if same_defense:
        found.add(Scope.PUBLIC)
    if same_defense and agree("seed"):
        found.add(Scope.DEFENSE)
    if same_attack and same_defense and agree("clean_images"):
        found.add(Scope.BOTH)
    return found
