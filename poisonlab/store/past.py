"""What the stages of finished runs took, where they were really computed."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from poisonlab.spec import stages
from poisonlab.spec.stages import Stage
from poisonlab.store.database import Database
from poisonlab.store.flat_spec import FlatSpec
from poisonlab.store.work import work

MOST = 2000  # runs that are looked at, those of this machine first
RESUMED = "goes on after %"  # what a stage says that went on after an interruption: its seconds are not all


@dataclass(frozen=True, eq=False)
class PastRun:
    """A finished run.

    Attributes:
        here: whether it was measured on this machine; others were shipped or imported.
        seconds: of each stage that was computed as a whole.
        stages: all that it passed through, cached ones too.
    """

    spec: FlatSpec
    here: bool
    peak_memory_mb: float | None
    seconds: dict[Stage, float] = field(default_factory=dict)
    stages: set[Stage] = field(default_factory=set)
    _work: dict[Stage, float | None] = field(default_factory=dict)

    def work(self, stage: Stage) -> float | None:
        """The work of a stage of it; ``None`` where its values, which may be anybody's, make no sense of it."""
        if stage not in self._work:
            self._work[stage] = self._measurable(stage)
        return self._work[stage]

    def _measurable(self, stage: Stage) -> float | None:
        try:
            found = work(stage, self.spec)
        except Exception:  # whatever values out of all bounds make of the arithmetic
            return None
        sound = isinstance(found, int | float) and 0 <= found < math.inf
        return found if sound else None


class PastRuns:
    """The finished runs of one type of device, read once; those of the results folder again when there are others.

    A run that failed or was cancelled is none of them, however many of its stages are whole.
    """

    def __init__(self, db: Database) -> None:
        self.db = db
        self._own: dict[str, tuple[object, tuple[PastRun, ...]]] = {}
        self._shipped: dict[str, tuple[PastRun, ...]] = {}

    def on(self, device_type: str) -> tuple[PastRun, ...]:
        """Those measured on a type of device, such as ``cpu``; those of this machine first, shipped ones last."""
        (state,) = self.db.rows("SELECT count(*), max(finished) FROM own_runs WHERE state = 'done'")
        known = self._own.get(device_type)
        if known is None or known[0] != state:
            known = (state, tuple(self._runs(device_type, shipped=False)))
            self._own[device_type] = known
        if device_type not in self._shipped:
            self._shipped[device_type] = tuple(self._runs(device_type, shipped=True))
        return (known[1] + self._shipped[device_type])[:MOST]

    def _runs(self, device_type: str, *, shipped: bool) -> Iterator[PastRun]:
        found = self.db.rows(
            f"""WITH finished AS (SELECT run_id, spec, created, peak_memory_mb,
                    home = 'runs' AND source = 'local' AS here FROM runs
                WHERE state = 'done' AND starts_with(device, ?) AND (home = 'reference') = ?
                ORDER BY here DESC, created DESC LIMIT {MOST}),
            resumed AS (SELECT DISTINCT run_id, stage FROM logs WHERE message LIKE ?)
            SELECT any_value(spec)::VARCHAR, any_value(here), any_value(peak_memory_mb), list(stage), list(seconds),
                list(cached OR EXISTS (FROM resumed WHERE resumed.run_id = timings.run_id
                    AND resumed.stage = timings.stage))
            FROM finished JOIN timings USING (run_id) GROUP BY run_id
            ORDER BY any_value(here) DESC, any_value(created) DESC""",
            [device_type, shipped, RESUMED],
        )
        for spec, here, peak, names, seconds, incomplete in found:
            run = PastRun(FlatSpec.of(json.loads(spec)), here, peak)
            for name, taken, unknown in zip(names, seconds, incomplete, strict=True):
                stage = stages.find(name)
                if stage is None:
                    continue
                run.stages.add(stage)
                if not unknown:
                    run.seconds[stage] = taken
            yield run
