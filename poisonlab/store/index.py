"""The index over run folders: what is new is read, checked and becomes rows."""

import contextlib
import hashlib
import logging
import os
import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from poisonlab.records import record as run_folder
from poisonlab.records.record import RECORD, RecordError, RunRecord, success_name, threat_of
from poisonlab.spec.overrides import written
from poisonlab.store.database import Database, StoreError
from poisonlab.store.job import parse_spec
from poisonlab.store.rows import append_rows, delete_runs, point_rows, spec_columns

BATCH = 200  # runs indexed in one transaction

log = logging.getLogger(__name__)


class RunIndex:
    """The index over run folders.

    Args:
        homes: the folders that are indexed, ``runs`` and ``reference``.

    Attributes:
        skipped: run folders that could not be indexed, and why.
    """

    def __init__(self, db: Database, homes: Mapping[str, Path]) -> None:
        self.db = db
        self.homes = homes
        self.skipped: dict[str, str] = {}
        self._looking = threading.Lock()
        self._seen: dict[str, int] = {}  # modification time of a home at the last look
        self._incomplete: set[str] = set()

    def refresh(self) -> int:
        """Index run folders that are new (from the command line, or shipped) and return how many.

        Cheap when nothing changed. A folder without a record is a run still at work; it is looked at again.
        """
        with self._looking:
            return self._index_runs() + self._index_reference()

    def fill_settings(self) -> None:
        """The column of runs that were indexed before there was one; a spec of another version stays without."""
        with self.db.transaction() as cursor:
            for run_id, text in cursor.execute(
                "SELECT run_id, spec FROM runs WHERE settings IS NULL"
            ).fetchall():
                with contextlib.suppress(StoreError):
                    settings = written(parse_spec(text))
                    cursor.execute("UPDATE runs SET settings = ? WHERE run_id = ?", [settings, run_id])

    def add(self, record: RunRecord, folder: Path | None = None) -> None:
        """Index a run, replacing what was known of it.

        Args:
            folder: the run's own folder under ``runs`` or ``reference``; by default the former.

        Raises:
            RecordError: a folder elsewhere, or one that does not hold this run.
        """
        folder = self.homes["runs"] / record.run_id if folder is None else folder
        home = next((h for h, root in self.homes.items() if folder.parent.resolve() == root.resolve()), None)
        if home is None or folder.name != record.run_id:
            raise RecordError(
                f"run {record.run_id} must lie in a folder of its own id under the results folder"
            )
        _, sha256 = run_folder.read_record(folder)
        self.db.write(lambda cursor: self.insert(cursor, [(record, sha256)], home))

    def insert(
        self, cursor: duckdb.DuckDBPyConnection, found: Sequence[tuple[RunRecord, str]], home: str
    ) -> None:
        """All rows of runs, within the caller's transaction; a statement a table, as a start indexes hundreds.

        Args:
            found: records, each with the SHA-256 of its file.
        """
        if not found:
            return
        lines = [run_columns(record, home, sha256) for record, sha256 in found]
        described = cursor.execute(
            "SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = 'runs'"
        )
        kinds = dict(described.fetchall())
        columns = ", ".join(f"unnest(?::{kinds[name]}[])" for name in lines[0])
        cursor.execute(
            f"INSERT OR REPLACE INTO runs ({', '.join(lines[0])}) SELECT {columns}",
            [[line[name] for line in lines] for name in lines[0]],
        )
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
            rows["timings"] += [
                (run_id, s, seconds, s in record.cached) for s, seconds in record.timings.items()
            ]
        for table, of_table in rows.items():
            append_rows(cursor, table, of_table)
        mark_latest(cursor, found[0][0].spec.group() if len(found) == 1 else None)

    # -- folders ------------------------------------------------------------------------------------

    def _index_runs(self) -> int:
        root = self.homes["runs"]
        if not root.is_dir():
            return 0
        modified = root.stat().st_mtime_ns
        candidates = set(self._incomplete if self._seen.get("runs") == modified else _subfolders(root))
        if candidates:
            candidates -= {i for (i,) in self.db.rows("SELECT run_id::VARCHAR FROM runs WHERE home = 'runs'")}
        complete = {name for name in candidates if is_run_folder(root / name)}
        self._incomplete = candidates - complete
        self._seen["runs"] = modified
        return self._index([root / name for name in sorted(complete - self.skipped.keys())], "runs")

    def _index_reference(self) -> int:
        """New and changed shipped runs; those that are shipped no more leave the index."""
        root = self.homes["reference"]
        modified = root.stat().st_mtime_ns if root.is_dir() else 0
        if self._seen.get("reference") == modified:
            return 0
        known = dict(self.db.rows("SELECT run_id::VARCHAR, record_hash FROM runs WHERE home = 'reference'"))
        folders = [root / name for name in _subfolders(root) if is_run_folder(root / name)]
        changed = [f for f in folders if _hash(f) != known.get(f.name)]
        gone = sorted(known.keys() - {f.name for f in folders})
        if gone:
            self._forget(gone)
        self._seen["reference"] = modified
        return self._index(changed, "reference")

    def _index(self, folders: list[Path], home: str) -> int:
        count = 0
        for start in range(0, len(folders), BATCH):
            good = []
            for folder in folders[start : start + BATCH]:
                try:
                    record, sha256 = run_folder.read_record(folder)
                    if record.run_id != folder.name:
                        raise RecordError(f"{folder.name} holds the record of run {record.run_id}")
                    good.append((record, sha256))
                except RecordError as error:
                    self.skipped[folder.name] = str(error)
                    log.warning("run folder skipped: %s", error)
            with self.db.transaction() as cursor:
                self.insert(cursor, good, home)
            count += len(good)
        return count

    def _forget(self, run_ids: list[str]) -> None:
        with self.db.transaction() as cursor:
            delete_runs(cursor, run_ids)
            mark_latest(cursor)


def mark_latest(cursor: duckdb.DuckDBPyConnection, spec_group: str | None = None) -> None:
    """Only the newest finished run of a seed counts: the same seed twice is one observation, not two."""
    scope, values = ("", []) if spec_group is None else (" WHERE spec_group = ?", [spec_group])
    cursor.execute(
        f"""UPDATE runs SET latest = ranked.newest FROM (
            SELECT run_id, state = 'done' AND row_number() OVER (
                PARTITION BY coalesce(experiment, spec_group), source, seed, state ORDER BY finished DESC, run_id DESC
            ) = 1 AS newest
            FROM runs{scope}) ranked
        WHERE runs.run_id = ranked.run_id AND runs.latest <> ranked.newest""",
        values,
    )


def run_columns(record: RunRecord, home: str, sha256: str) -> dict[str, Any]:
    """The row of a run: headline metrics under the same names for every kind of threat."""
    m = record.metrics
    name = success_name(m)
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
        "threat": threat_of(m),
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
        "clean_accuracy": m.get("clean_accuracy"),
        "clean_accuracy_undefended": m.get("clean_accuracy_undefended"),
        "clean_accuracy_control": m.get("clean_accuracy_control"),
        "success": m.get(name),
        "success_undefended": m.get(f"{name}_undefended"),
        "control": m.get(f"{name}_control"),
        "robust_accuracy": m.get("robust_accuracy"),
        "der": m.get("der"),
        "targets": m.get("targets"),
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


def _hash(folder: Path) -> str:
    try:
        return hashlib.sha256(
            run_folder.read_plain(folder / run_folder.RECORD, run_folder.MAX_RECORD_BYTES)
        ).hexdigest()
    except RecordError:
        return ""
