"""Runs that were measured again from their weights on this machine: the index over ``results/verified``."""

import logging
from collections.abc import Iterator
from datetime import UTC
from pathlib import Path

import duckdb

from poisonlab.measure import recorded
from poisonlab.records.record import RecordError, RunRecord, check_run_id
from poisonlab.records.verified import FOLDER, Mark, claim_of, read_mark
from poisonlab.store.database import Database
from poisonlab.store.runs import Runs

log = logging.getLogger(__name__)

Row = tuple[str, str, str, object, str]


class Verified:
    """The marks that ``verify`` left, each compared with the record that is here under its run's id."""

    def __init__(self, db: Database, results: Path, runs: Runs) -> None:
        self.db = db
        self.folder = results / FOLDER
        self.runs = runs
        self._seen: tuple[int, int] | None = (
            None  # the folder's time and the state of the results at the last look
        )

    def run_ids(self) -> list[str]:
        """Ids of the runs that are marked; one whose record was replaced since is none of them."""
        sql = "SELECT run_id::VARCHAR FROM verified SEMI JOIN runs USING (run_id, record_hash) ORDER BY ALL"
        return [run_id for (run_id,) in self.db.rows(sql)]

    def has(self, run_id: str) -> bool:
        """Whether a run is marked.

        Raises:
            RecordError: not an id.
        """
        return check_run_id(run_id) in self.run_ids()

    def index(self) -> None:
        """Take in marks that are new, and forget those that are gone; cheap when nothing changed."""
        if self._state() == self._seen:
            return
        rows = list(self._rows())
        known = self.db.rows("SELECT run_id::VARCHAR, record_hash, submission FROM verified ORDER BY ALL")
        if known != sorted(row[:3] for row in rows):
            self.db.write(lambda cursor: _replace(cursor, rows))
        self._seen = self._state()

    def _state(self) -> tuple[int, int]:
        modified = self.folder.stat().st_mtime_ns if self.folder.is_dir() else 0
        return modified, self.db.generation

    def _rows(self) -> Iterator[Row]:
        for path in sorted(self.folder.glob("*.json")):
            try:
                found = read_mark(path)
                record, sha256 = self._record(found.run_id)
            except (RecordError, OSError) as error:
                log.warning("mark of a verified run passed over: %s", error)
                continue
            if record is not None and claim_of(record) == found.claim:
                yield _row(found, sha256)

    def _record(self, run_id: str) -> tuple[RunRecord | None, str]:
        """The record that is here under an id, and the hash under which it is indexed."""
        known = self.db.rows("SELECT home, record_hash FROM runs WHERE run_id = ?", [run_id])
        if not known:
            return None, ""
        home, sha256 = known[0]
        if home == "reference":
            return self.runs.record(run_id), sha256
        record, found = recorded.read_record(self.runs.own / run_id)
        return (record, sha256) if found == sha256 else (None, "")


def _row(found: Mark, sha256: str) -> Row:
    time = found.time.astimezone(UTC).replace(tzinfo=None)
    return found.run_id, sha256, found.submission, time, found.device


def _replace(cursor: duckdb.DuckDBPyConnection, rows: list[Row]) -> None:
    cursor.execute("DELETE FROM verified")
    for row in rows:
        cursor.execute("INSERT INTO verified VALUES (?, ?, ?, ?, ?)", list(row))
