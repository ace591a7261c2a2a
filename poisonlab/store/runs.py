"""Recorded runs: what pages ask of them."""

from pathlib import Path
from typing import Any

import pandas as pd

from poisonlab.measure import recorded
from poisonlab.records import record as run_folder
from poisonlab.records.record import RecordError, RunRecord, check_run_id
from poisonlab.store.database import Database
from poisonlab.store.metric_columns import STORED
from poisonlab.store.shipped import NOT_SHIPPED, NotShipped, Shipped

_COLUMNS = f"""run_id::VARCHAR AS run_id, dataset, attack, defense, victim, preset, seed, source, state,
    {", ".join(STORED)}, success_undefended AS undefended, threat, diverged, seconds, peak_memory_mb,
    device, revision, message, spec_group AS "group", created, started, finished"""
_FILTERS = ("dataset", "attack", "defense", "preset", "source", "state")


class Runs:
    """Recorded runs, as their records and as rows.

    Args:
        own: the folder of the runs that were recorded or imported here.
        shipped: the runs that come with the program.
    """

    def __init__(self, db: Database, own: Path, shipped: Shipped) -> None:
        self.db = db
        self.own = own
        self.shipped = shipped

    def find(
        self,
        dataset: str | None = None,
        attack: str | None = None,
        defense: str | None = None,
        preset: str | None = None,
        kind: str | None = None,
        source: str | None = None,
        state: str | None = "done",
        limit: int = 500,
    ) -> pd.DataFrame:
        """One row a run, newest first; ``None`` filters nothing.

        Args:
            kind: only runs that have an artifact of this kind here, such as ``LangevinTrace``.
        """
        asked = dict(zip(_FILTERS, (dataset, attack, defense, preset, source, state), strict=True))
        clauses, values = where(asked)
        if kind is not None:
            clauses += " AND run_id IN (SELECT run_id FROM artifacts WHERE kind = ? AND present)"
            values.append(kind)
        sql = f"SELECT {_COLUMNS} FROM runs WHERE {clauses} ORDER BY created DESC LIMIT ?"
        return self.db.frame(sql, [*values, limit])

    def record(self, run_id: str) -> RunRecord | None:
        """The whole record, read from its folder or from the shipped files, or ``None`` for an unknown run.

        Raises:
            RecordError: its folder is gone or damaged.
        """
        match self.home(run_id):
            case "runs":
                return recorded.read_record(self.own / run_id)[0]
            case "reference":  # it calls itself local, as it did where it was measured
                return self.shipped.record(self.db, run_id).model_copy(update={"source": "reference"})
        return None

    def home(self, run_id: str) -> str:
        """Where a run lies: ``runs`` or ``reference``; empty for an unknown run.

        Raises:
            RecordError: not an id.
        """
        found = self.db.rows("SELECT home FROM runs WHERE run_id = ?", [check_run_id(run_id)])
        return str(found[0][0]) if found else ""

    def own_ids(self) -> frozenset[str]:
        """Ids of the runs that were recorded or imported here."""
        return frozenset(run_id for (run_id,) in self.db.rows("SELECT run_id::VARCHAR FROM own_runs"))

    def points(self, run_id: str) -> pd.DataFrame:
        """The curves of a run, finished or running: stage, name, step, value (NaN where it diverged)."""
        return self.db.frame(
            "SELECT stage, name, step, value FROM points WHERE run_id = ?", [check_run_id(run_id)]
        )

    def artifacts(self, run_id: str) -> pd.DataFrame:
        """What there is to look at: name, kind, stage."""
        return self.db.frame(
            "SELECT DISTINCT name, kind, stage FROM artifacts WHERE run_id = ? ORDER BY name",
            [check_run_id(run_id)],
        )

    def load_artifact(self, run_id: str, name: str, sha256: str | None = None, trial: int = 0) -> Any:
        """An artifact of a trial of a run, also of one that still runs and has no record that names its ``sha256``.

        Raises:
            NotShipped: a shipped run whose artifacts were left out of the download.
            RecordError: an id, a name or a trial that is none, or a file that is missing or damaged.
        """
        reference = self.home(run_id) == "reference"
        if reference and run_id not in self.shipped.showcase:
            raise NotShipped(NOT_SHIPPED)
        home = self.shipped.folder if reference else self.own
        path = (home / run_id / run_folder.artifact_file(name, trial)).resolve()
        if not path.is_relative_to(home.resolve()):
            raise RecordError(f"artifact {name!r} of run {run_id} does not lie in the results folder")
        return run_folder.load_artifact(path, sha256)

    def has_pictures(self, run_id: str) -> bool:
        """Whether the artifacts of a run are here; of a shipped run they may not be."""
        return run_id in self.shipped.showcase or self.home(run_id) != "reference"

    def names(self) -> dict[str, list[str]]:
        """The values present among finished runs: dataset, attack, defense, victim, preset, source."""
        columns = ("dataset", "attack", "defense", "victim", "preset", "source")
        listed = ", ".join(f"coalesce(list_sort(list(DISTINCT {c})), [])" for c in columns)
        (row,) = self.db.rows(f"SELECT {listed} FROM runs WHERE state = 'done'")
        return dict(zip(columns, row, strict=True))


def where(asked: dict[str, str | None]) -> tuple[str, list[Any]]:
    """SQL and its values for the filters that are set; the names come from code, never from a person."""
    given = {name: value for name, value in asked.items() if value is not None}
    return " AND ".join(["true", *(f"{name} = ?" for name in given)]), list(given.values())
