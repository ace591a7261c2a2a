"""Who queued, cancelled, resumed, imported what, and when. Nothing in it is ever changed."""

import logging

import pandas as pd

from poisonlab.store.database import Database
from poisonlab.store.errors import StoreError
from poisonlab.store.job import utc_now

log = logging.getLogger(__name__)

MOST = 1000  # characters of what a line says


class Audit:
    """The log of what people did."""

    def __init__(self, db: Database) -> None:
        self.db = db

    def note(self, person: str, action: str, subject: str, detail: str = "") -> None:
        """Add a line; nothing is refused because that cannot be written.

        Args:
            person: empty where nobody signs in.
            action: a verb in the past, such as ``queued``.
            subject: id of a job or a run.
        """
        line = [utc_now(), *(text[:MOST] for text in (person, action, subject, detail))]
        try:
            self.db.write(
                lambda cursor: cursor.execute("INSERT INTO audit VALUES (?, ?, ?, ?, ?)", line), of_jobs=True
            )
        except StoreError as error:
            log.warning("not in the audit log: %s %s %s: %s", person, action, subject, error)

    def last(self, limit: int = 200) -> pd.DataFrame:
        """The newest lines first: ``time`` (UTC), ``person``, ``action``, ``subject``, ``detail``."""
        return self.db.frame("SELECT * FROM audit ORDER BY time DESC LIMIT ?", [limit])
