"""The index over run folders: what is new is read, checked and becomes rows."""

import contextlib
import logging
import os
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from poisonlab.measure import recorded
from poisonlab.records import writing
from poisonlab.records.record import RECORD, RecordError, RunRecord
from poisonlab.spec.overrides import written
from poisonlab.store.database import Database, StoreError
from poisonlab.store.errors import Refused
from poisonlab.store.job import parse_spec
from poisonlab.store.metric_columns import stored_metrics
from poisonlab.store.rows import append_rows, delete_runs, insert_from, point_rows, spec_columns

BATCH = 200  # runs indexed in one transaction
BATCH_ROWS = 100_000  # points and lines of logs in one: they are held in memory until it ends

log = logging.getLogger(__name__)


class RunIndex:
    """The index over run folders.

    Args:
        runs: the folder that holds them.

    Attributes:
        skipped: run folders that could not be indexed, and why.
    """

    def __init__(self, db: Database, runs: Path) -> None:
        self.db = db
        self.runs = runs
        self.skipped: dict[str, str] = {}
        self._looking = threading.Lock()
        self._seen: int | None = None  # modification time of the folder at the last look
        self._incomplete: set[str] = set()

    def refresh(self) -> int:
        """Index run folders that are new, from the command line for example, and return how many.

        Cheap when nothing changed. A folder without a record is a run still at work; it is looked at again.
        """
        with self._looking:
            if not self.runs.is_dir():
                return 0
            modified = self.runs.stat().st_mtime_ns
            candidates = set(self._incomplete if self._seen == modified else _subfolders(self.runs))
            if candidates:
                candidates -= {i for (i,) in self.db.rows("SELECT run_id::VARCHAR FROM own_runs")}
            complete = {name for name in candidates if is_run_folder(self.runs / name)}
            count = self._index([self.runs / name for name in sorted(complete - self.skipped.keys())])
            # only now: what could not be written, on a full disk for example, is looked for again
            self._incomplete = candidates - complete
            self._seen = modified
            return count

    def fill_settings(self) -> None:
        """The column of runs that were indexed before there was one; a spec of another version stays without."""
        with self.db.transaction() as cursor:
            for run_id, text in cursor.execute(
                "SELECT run_id, spec FROM own_runs WHERE settings IS NULL"
            ).fetchall():
                with contextlib.suppress(StoreError):
                    settings = written(parse_spec(text))
                    cursor.execute("UPDATE own_runs SET settings = ? WHERE run_id = ?", [settings, run_id])

    def clean(self) -> list[str]:
        """Remove what dead processes left of runs that no job of the queue can go on with; its run ids."""
        jobs = {run_id for (run_id,) in self.db.rows("SELECT run_id::VARCHAR FROM jobs")}
        removed = writing.remove_left_behind(self.runs, jobs)
        if removed:
            log.info("%d run folders without a record removed: their processes are dead", len(removed))
        return removed

    def add(self, record: RunRecord) -> None:
        """Index a run whose folder is written, replacing what was known of it.

        Raises:
            RecordError: its folder is missing or damaged.
        """
        _, sha256 = recorded.read_record(self.runs / record.run_id)
        self.db.write(lambda cursor: insert(cursor, [(record, sha256)]))

    def _index(self, folders: Iterable[Path]) -> int:
        """Index run folders; one that cannot be is named in ``skipped`` and stops nothing."""
        count = 0
        for found in self._batches(folders):
            try:
                self.db.write(partial(insert, found=found))
                count += len(found)
            except Exception as error:
                if not _lies_in_a_run(error):
                    raise
                count += sum(self._index_one(*one) for one in found)
        return count

    def _batches(self, folders: Iterable[Path]) -> Iterator[list[tuple[RunRecord, str]]]:
        """The records that can be read, as many at once as a transaction takes."""
        found: list[tuple[RunRecord, str]] = []
        rows = 0
        for folder in folders:
            try:
                record, sha256 = _read(folder)
            except Exception as error:  # whatever a folder from anybody makes the readers raise
                self._skip(folder.name, error)
                continue
            found.append((record, sha256))
            rows += len(record.points) + len(record.logs)
            if len(found) == BATCH or rows >= BATCH_ROWS:
                yield found
                found = []
                rows = 0
        if found:
            yield found

    def _index_one(self, record: RunRecord, sha256: str) -> bool:
        try:
            self.db.write(partial(insert, found=[(record, sha256)]))
        except Exception as error:
            if not _lies_in_a_run(error):
                raise
            self._skip(record.run_id, error)
            return False
        return True

    def _skip(self, run_id: str, error: Exception) -> None:
        self.skipped[run_id] = f"{run_id} cannot be indexed: {error}"
        log.warning("run folder skipped: %s", self.skipped[run_id])


def _lies_in_a_run(error: Exception) -> bool:
    """Whether a run's values are the reason, not the database or the disk, which would refuse every other run, too."""
    return isinstance(error, Refused) or not isinstance(error, StoreError | OSError)


def _read(folder: Path) -> tuple[RunRecord, str]:
    record, sha256 = recorded.read_record(folder)
    if record.run_id != folder.name:
        raise RecordError(f"it holds the record of run {record.run_id}")
    return record, sha256


def insert(
    cursor: duckdb.DuckDBPyConnection, found: Sequence[tuple[RunRecord, str]], home: str = "runs"
) -> None:
    """All rows of runs, within the caller's transaction; a statement a table, as a start indexes hundreds.

    Args:
        home: ``runs``, or ``reference`` for results that are packed.
        found: records, each with the SHA-256 of its file.
    """
    if not found:
        return
    lines = [run_columns(record, home, sha256) for record, sha256 in found]
    new = pa.Table.from_pylist(lines)
    insert_from(cursor, new, "INSERT OR REPLACE INTO own_runs BY NAME SELECT * FROM new_rows")
    delete_runs(cursor, [record.run_id for record, _ in found], keep_rows=True)
    rows: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
    for record, _ in found:
        run_id = record.run_id
        rows["points"] += point_rows(run_id, record.points)
        rows["metrics"] += [
            (run_id, name, value, value is None and name not in record.undefined)
            for name, value in record.metrics.items()
        ]
        rows["logs"] += [(run_id, *log) for log in record.logs]
        rows["artifacts"] += [(run_id, a.name, a.kind, a.stage) for a in record.artifacts]
        rows["timings"] += [(run_id, s, seconds, s in record.cached) for s, seconds in record.timings.items()]
    for table, of_table in rows.items():
        append_rows(cursor, table, of_table)
    mark_latest(cursor, found[0][0].spec.group() if len(found) == 1 else None)


def mark_latest(cursor: duckdb.DuckDBPyConnection, spec_group: str | None = None) -> None:
    """Only the newest finished run of a seed counts: the same seed twice is one observation, not two."""
    scope, values = ("", []) if spec_group is None else (" WHERE spec_group = ?", [spec_group])
    cursor.execute(
        f"""UPDATE own_runs SET latest = ranked.newest FROM (
            SELECT run_id, state = 'done' AND row_number() OVER (
                PARTITION BY coalesce(experiment, spec_group), source, seed, state ORDER BY finished DESC, run_id DESC
            ) = 1 AS newest
            FROM own_runs{scope}) ranked
        WHERE own_runs.run_id = ranked.run_id AND own_runs.latest <> ranked.newest""",
        values,
    )


def run_columns(record: RunRecord, home: str, sha256: str) -> dict[str, Any]:
    """The row of a run: headline metrics under the same names for every kind of threat."""
    return {
        "run_id": record.run_id,
        "home": home,
        "source": "reference" if home == "reference" else record.source,
        "record_hash": sha256,
        **spec_columns(record.spec),
        "spec_group": record.spec.group(),
        "experiment": record.group(),
        "data": record.data,
        "collapsed": None if record.collapsed is None else " ".join(record.collapsed),
        "settings": written(record.spec),
        "state": record.state,
        "threat": record.threat,
        "revision": record.revision,
        "version": record.version,
        "device": record.device,
        "torch": record.torch,
        "created": _utc(record.created),
        "started": _utc(record.started),
        "finished": _utc(record.finished),
        "seconds": record.seconds,
        "peak_memory_mb": record.peak_memory_mb,
        "message": record.message,
        "diverged": record.diverged,
        **stored_metrics(record.metrics, record.threat),
    }


def _utc(time: datetime) -> datetime:
    """In UTC, without its zone: what a TIMESTAMP column holds."""
    return time.astimezone(UTC).replace(tzinfo=None)


def is_run_folder(folder: Path) -> bool:
    return (folder / RECORD).is_file() and not folder.is_symlink()


def _subfolders(root: Path) -> list[str]:
    """Names of real folders in ``root``; links are left out."""
    if not root.is_dir():
        return []
    with os.scandir(root) as entries:
        return sorted(e.name for e in entries if e.is_dir(follow_symlinks=False))
