"""The store: an index over run folders, and the job queue, in one DuckDB file."""

from pathlib import Path

import poisonlab
from poisonlab.store.audit import Audit
from poisonlab.store.budget import Budgets
from poisonlab.store.database import Database
from poisonlab.store.estimate import Estimates
from poisonlab.store.flags import Flags
from poisonlab.store.index import RunIndex
from poisonlab.store.jobs import Jobs
from poisonlab.store.leaderboard import Leaderboard
from poisonlab.store.published import Published, copy_published
from poisonlab.store.purification import Purification
from poisonlab.store.ranking import Rankings
from poisonlab.store.runs import Runs
from poisonlab.store.screens import Screens
from poisonlab.store.shipped import open_shipped
from poisonlab.store.sweeps import Sweeps
from poisonlab.store.trials import Trials
from poisonlab.store.verified import Verified

DATABASE = "poisonlab.duckdb"
REFERENCE = poisonlab.reference_folder()


class Store:
    """All that pages and runner know of the past; for every thread of the one process that owns it.

    Raises:
        StoreLocked, StoreError: see :class:`Database`.
    """

    def __init__(self, results: Path, reference: Path = REFERENCE) -> None:
        self.results = Path(results)
        own = self.results / "runs"
        shipped = open_shipped(reference)
        self.db = Database(self.results / DATABASE, list(shipped.tables.values()))
        self.index = RunIndex(self.db, own)
        self.runs = Runs(self.db, own, shipped)
        self.jobs = Jobs(self.db, own)
        self.audit = Audit(self.db)
        self.verified = Verified(self.db, self.results, self.runs)
        self.leaderboard = Leaderboard(self.db, self.verified)
        self.rankings = Rankings(self.db)
        self.published = Published(self.db)
        self.trials = Trials(self.db)
        self.budgets = Budgets(self.db)
        self.flags = Flags(self.db)
        self.purification = Purification(self.db)
        self.screens = Screens(self.db)
        self.estimates = Estimates(self.db)
        self.sweeps = Sweeps(self.db, self.results)
        try:
            shipped.create_views(self.db)
            copy_published(self.db)
            self.index.fill_settings()
            self.index.clean()
            self.refresh()
            self.sweeps.index()
        except BaseException:
            self.db.close()
            raise

    @property
    def skipped(self) -> dict[str, str]:
        """Runs and sweeps that could not be indexed, and shipped results that could not be read, and why."""
        shipped = {"reference": self.runs.shipped.problem} if self.runs.shipped.problem else {}
        return shipped | self.index.skipped | self.sweeps.skipped

    @property
    def generation(self) -> int:
        """A number that changes with the results, see :class:`Database`."""
        return self.db.generation

    @property
    def jobs_generation(self) -> int:
        """A number that changes with the queue and with what jobs say, too."""
        return self.db.jobs_generation

    def refresh(self) -> None:
        """Take in runs that are new, and marks of those that were verified; cheap when nothing changed."""
        self.index.refresh()
        self.verified.index()

    def close(self) -> None:
        self.db.close()

    def counts(self) -> dict[str, int]:
        """How many finished runs there are (``done``), and how many jobs are ``queued`` and ``running``."""
        sql = """SELECT 'done', count(*) FROM runs WHERE state = 'done'
            UNION ALL SELECT state, count(*) FROM jobs WHERE state IN ('queued', 'running') GROUP BY state"""
        return {"done": 0, "queued": 0, "running": 0} | dict(self.db.rows(sql))
