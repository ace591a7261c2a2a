"""The store: an index over run folders, and the job queue, in one DuckDB file."""

import hashlib
import logging
import os
import threading
from pathlib import Path

from poisonlab.machine import REPOSITORY
from poisonlab.records import record as run_folder
from poisonlab.records.record import RecordError
from poisonlab.store.budget import BudgetQueries
from poisonlab.store.database import Database
from poisonlab.store.estimate import EstimateQueries
from poisonlab.store.flags import FlagQueries
from poisonlab.store.jobs import JobQueries
from poisonlab.store.leaderboard import LeaderboardQueries
from poisonlab.store.published import ClaimQueries, copy_published
from poisonlab.store.purification import PurificationQueries
from poisonlab.store.rows import delete_runs
from poisonlab.store.runs import RunQueries, is_run_folder, mark_latest
from poisonlab.store.sweeps import SweepQueries
from poisonlab.store.trials import TrialQueries

DATABASE = "poisonlab.duckdb"
REFERENCE = REPOSITORY / "results" / "reference"
BATCH = 200  # runs indexed in one transaction

log = logging.getLogger(__name__)


class Store(
    JobQueries,
    RunQueries,
    LeaderboardQueries,
    BudgetQueries,
    FlagQueries,
    TrialQueries,
    PurificationQueries,
    ClaimQueries,
    EstimateQueries,
    SweepQueries,
):
    """All that pages and runner know of the past; for every thread of the one process that owns it.

    Attributes:
        skipped: run folders that could not be indexed, and why.

    Raises:
        StoreLocked, StoreError: see :class:`Database`.
    """

    def __init__(self, results: Path, reference: Path = REFERENCE) -> None:
        self.results = Path(results)
        self.homes = {"runs": self.results / "runs", "reference": reference}
        self.db = Database(self.results / DATABASE)
        self.skipped: dict[str, str] = {}
        self._looking = threading.Lock()
        self._seen: dict[str, int] = {}  # modification time of a home at the last look
        self._incomplete: set[str] = set()
        try:
            copy_published(self.db)
            self.fill_settings()
            self.refresh()
            self.index_sweeps()
        except BaseException:
            self.db.close()
            raise

    def close(self) -> None:
        self.db.close()

    def refresh(self) -> int:
        """Index run folders that are new (from the command line, or shipped) and return how many.

        Cheap when nothing changed. A folder without a record is a run still at work; it is looked at again.
        """
        with self._looking:
            return self._index_runs() + self._index_reference()

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
        if gone := sorted(known.keys() - {f.name for f in folders}):
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
