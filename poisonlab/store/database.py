"""One process, one DuckDB file, one root connection; a cursor for every query.

DuckDB refuses concurrent use of a connection, so nobody but this class touches the root one.
"""

import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import pandas as pd
import pyarrow as pa

T = TypeVar("T")

MIGRATIONS = Path(__file__).parent / "migrations"
CONFIG = {
    "max_execution_time": 5000,  # ms, for every statement
    "python_enable_replacements": False,  # SQL cannot name Python variables
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}


class StoreError(RuntimeError):
    """The database cannot be used; the message says why and what to do."""


class StoreLocked(StoreError):
    """Another process has the database open; ``pid`` names it where it is known."""

    def __init__(self, path: Path, pid: int | None) -> None:
        holder = f"another process (PID {pid})" if pid else "another process"
        super().__init__(
            f"{path} is open in {holder}, most likely the dashboard: use that one, or stop it first, "
            "or choose another folder with --results"
        )
        self.pid = pid


class Database:
    """The file, its schema, and the ways to read and to write.

    Raises:
        StoreLocked: another process owns the file.
        StoreError: it is damaged, not readable, or made by a newer version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._guard = threading.Lock()  # making a cursor is a use of the root connection too
        self._writing = threading.RLock()
        self._connection = _connect(path)
        try:
            self._connection.execute(
                "SET enable_external_access = false"
            )  # cannot be undone; cursors inherit it
            self._migrate()
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        with self._writing, self._guard:
            self._connection.close()

    # -- reading ------------------------------------------------------------------------------------

    @contextmanager
    def cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        with self._guard:
            cursor = self._connection.cursor()
        try:
            yield cursor
        finally:
            cursor.close()

    def frame(self, sql: str, values: Sequence[Any] = ()) -> pd.DataFrame:
        with self.cursor() as cursor:
            return cursor.execute(sql, list(values)).df()

    def arrow(self, sql: str, values: Sequence[Any] = ()) -> pa.Table:
        with self.cursor() as cursor:
            return cursor.sql(sql, params=list(values)).to_arrow_table()

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self.cursor() as cursor:
            return cursor.execute(sql, list(values)).fetchall()

    # -- writing ------------------------------------------------------------------------------------

    @contextmanager
    def transaction(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A cursor whose statements all count or none; an exception rolls back and goes on its way."""
        with self._writing, self.cursor() as cursor:
            cursor.begin()
            try:
                yield cursor
            except BaseException:
                # COMMIT on an aborted transaction would pass silently, so never go there from here
                with contextlib.suppress(duckdb.Error):
                    cursor.rollback()
                raise
            cursor.commit()

    def write(self, change: Callable[[duckdb.DuckDBPyConnection], T], attempts: int = 20) -> T:
        """``change(cursor)`` in a transaction, tried again when another writer was faster."""
        for attempt in range(attempts):
            try:
                with self.transaction() as cursor:
                    return change(cursor)
            except duckdb.TransactionException:
                if attempt == attempts - 1:
                    raise
                time.sleep(0.01 * (attempt + 1))
        raise AssertionError("unreachable")

    def checkpoint(self) -> None:
        """Fold the write-ahead log into the file; skipped when somebody is in the middle of something."""
        with contextlib.suppress(duckdb.Error), self.cursor() as cursor:
            cursor.execute("CHECKPOINT")

    # -- schema -------------------------------------------------------------------------------------

    def _migrate(self) -> None:
        files = {int(f.name[:4]): f for f in sorted(MIGRATIONS.glob("[0-9]*.sql"))}
        with self.transaction() as cursor:
            cursor.execute(
                "CREATE TABLE IF NOT EXISTS migrations (number INTEGER PRIMARY KEY, name VARCHAR NOT NULL)"
            )
            done = {number for (number,) in cursor.execute("SELECT number FROM migrations").fetchall()}
        unknown = done - set(files)
        if unknown:
            raise StoreError(
                f"{self.path} was made by a newer version (migration {max(unknown)}): update this program, "
                "or choose another folder with --results"
            )
        for number in sorted(set(files) - done):
            with self.transaction() as cursor:
                cursor.execute(files[number].read_text())
                cursor.execute("INSERT INTO migrations VALUES (?, ?)", [number, files[number].stem])
            self.checkpoint()  # a changed table in the log may ask for functions that its replay has not got yet


def _connect(path: Path) -> duckdb.DuckDBPyConnection:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return duckdb.connect(str(path), config=CONFIG)
    except (duckdb.Error, OSError) as error:
        text = str(error)
        if "lock" in text.lower():
            found = re.search(r"PID (\d+)", text)
            raise StoreLocked(path, int(found[1]) if found else None) from None
        raise StoreError(
            f"{path} cannot be opened ({text.splitlines()[0][:300]}): move the file away and start again; "
            "all runs are indexed anew from their folders"
        ) from error
