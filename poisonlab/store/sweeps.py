"""Sweeps of the games of several players: the index over ``results/sweeps``, and what pages ask of it."""

import logging
from pathlib import Path

import duckdb
import pandas as pd

from poisonlab.multilevel import record as records
from poisonlab.multilevel.record import SweepRecord
from poisonlab.records.record import RecordError, check_run_id
from poisonlab.store.database import Database

_INSERT = """INSERT INTO sweep_results SELECT ?::UUID, unnest(?::VARCHAR[]), unnest(?::DOUBLE[]), unnest(?::INTEGER[]),
    unnest(?::DOUBLE[]), unnest(?::DOUBLE[]), unnest(?::DOUBLE[]), unnest(?::DOUBLE[]), unnest(?::DOUBLE[]),
    unnest(?::DOUBLE[]), unnest(?::BOOLEAN[]), unnest(?::INTEGER[])"""

log = logging.getLogger(__name__)


class Sweeps:
    """Recorded sweeps.

    Attributes:
        skipped: sweeps that could not be indexed, and why.
    """

    def __init__(self, db: Database, results: Path) -> None:
        self.db = db
        self.results = results
        self.skipped: dict[str, str] = {}

    def find(self, limit: int = 200) -> pd.DataFrame:
        """One row a sweep, newest first: ``sweep_id``, ``created``, ``table``, ``rows``, ``order``, ``seeds``."""
        return self.db.frame(
            """SELECT sweep_id::VARCHAR AS sweep_id, created, "table", "rows", "order", seeds, seconds FROM sweeps
            ORDER BY created DESC, sweep_id DESC LIMIT ?""",
            [limit],
        )

    def record(self, sweep_id: str) -> SweepRecord | None:
        """The whole record, read from its file, or ``None`` for a sweep that is not indexed.

        Raises:
            RecordError: an id that is none, or a file that is gone or damaged.
        """
        if not self.db.rows("SELECT 1 FROM sweeps WHERE sweep_id = ?", [check_run_id(sweep_id)]):
            return None
        return records.read(sweep_id, self.results)[0]

    def results_of(self, sweep_id: str) -> pd.DataFrame:
        """One row a game and noise; NaN where the game diverged."""
        order = "ORDER BY penalty NULLS FIRST, noise, seed"
        sql = f"SELECT * EXCLUDE sweep_id FROM sweep_results WHERE sweep_id = ? {order}"
        return self.db.frame(sql, [check_run_id(sweep_id)])

    def index(self) -> int:
        """Take in files that are new, from the command line or from elsewhere; how many."""
        known = {i for (i,) in self.db.rows("SELECT sweep_id::VARCHAR FROM sweeps")}
        count = 0
        for path in sorted((self.results / records.FOLDER).glob("*.json")):
            if path.stem in known or path.stem in self.skipped:
                continue
            try:
                self.add(records.read(path.stem, self.results)[0])
                count += 1
            except RecordError as error:
                self.skipped[path.stem] = str(error)
                log.warning("sweep skipped: %s", error)
        return count

    def add(self, record: SweepRecord) -> None:
        """Index a sweep whose file is written; one that is indexed already stays as it is."""
        note = record.table
        spec = record.spec
        rows = [
            (
                o.model,
                o.penalty,
                o.seed,
                noise,
                o.mse(noise),
                o.validation_mse,
                o.strength,
                o.weight_norm,
                o.perturbation,
                o.bounded,
                o.steps,
            )
            for o in record.outcomes
            for noise in spec.noises
        ]

        def change(cursor: duckdb.DuckDBPyConnection) -> None:
            if cursor.execute("SELECT 1 FROM sweeps WHERE sweep_id = ?", [record.sweep_id]).fetchone():
                return
            cursor.execute(
                "INSERT INTO sweeps VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    record.sweep_id,
                    record.created,
                    note.name,
                    note.sha256,
                    note.rows,
                    spec.order,
                    spec.seeds,
                    spec.model_dump_json(),
                    record.seconds,
                    record.revision,
                ],
            )
            cursor.execute(_INSERT, [record.sweep_id, *map(list, zip(*rows, strict=True))])

        self.db.write(change)
