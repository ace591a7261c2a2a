"""One process, one DuckDB file, one root connection; a cursor for every query.

DuckDB refuses concurrent use of a connection, so nobody but this class touches the root one.
"""

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import pandas as pd
import pyarrow as pa

from poisonlab.store.errors import Conflict, Invalidated, StoreError, StoreLocked, explained, not_a_folder

__all__ = ["Database", "StoreError", "StoreLocked"]

T = TypeVar("T")

MIGRATIONS = Path(__file__).parent / "migrations"
PAGE_LIMIT_MS = 60_000  # for a query of a page; opening, migrating and indexing take as long as they take
_changes = itertools.count(1)  # of all databases of this process, so that no two states have the same number
Config = dict[str, str | bool | int | float | list[str]]
CONFIG: Config = {
    "python_enable_replacements": False,  # SQL cannot name Python variables
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}


class Database:
    """The file, its schema, and the ways to read and to write. Whatever DuckDB raises leaves it as a ``StoreError``.

    Args:
        path: the file; ``None`` for a database in memory.
        readable: the only other files that SQL may read.
        folder: the only folder that SQL may write files to.

    Attributes:
        generation: another number after every change of the results, which no other database of this process has.
        jobs_generation: the same of the queue, and of what jobs said so far; it changes with the results, too.

    Raises:
        StoreLocked: another process owns the file.
        StoreError: it is damaged, not readable, or made by a newer version.
    """

    def __init__(self, path: Path | None, readable: Sequence[Path] = (), folder: Path | None = None) -> None:
        self.path = path or Path(":memory:")
        self._readable = [str(file) for file in readable]
        self._folder = folder
        self._guard = threading.Lock()  # making a cursor is a use of the root connection too
        self._writing = threading.RLock()
        self._invalid = False
        self._closed = False
        self._opening = True
        self.generation = next(_changes)
        self.jobs_generation = self.generation
        self._connection = self._connect()
        try:
            self._migrate()
        except BaseException:
            self._connection.close()
            raise
        self._opening = False

    def close(self) -> None:
        with self._writing, self._guard:
            self._closed = True
            self._connection.close()

    def _connect(self) -> duckdb.DuckDBPyConnection:
        if str(self.path) != ":memory:":
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            except (FileExistsError, NotADirectoryError):
                raise not_a_folder(self.path.parent) from None
            except OSError as error:
                raise explained(error, self.path, opening=True) from error
        try:
            connection = duckdb.connect(str(self.path), config=CONFIG)
            self._close_off(connection)
        except duckdb.Error as error:
            raise explained(error, self.path, opening=True) from error
        return connection

    def _close_off(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Let SQL read no file but the named ones. It cannot be undone, and cursors inherit it."""
        found = connection.execute("SELECT current_setting('enable_external_access')").fetchone()
        if found and found[0]:  # else another connection of this process did it
            folders = [f"{self._folder.absolute()}/"] if self._folder else []
            connection.execute(f"SET allowed_paths = {_literals(self._readable)}")
            connection.execute(f"SET allowed_directories = {_literals(folders)}")
            connection.execute("SET enable_external_access = false")

    # -- reading ------------------------------------------------------------------------------------

    @contextmanager
    def cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A cursor of one's own, closed at the end.

        Raises:
            StoreError: instead of whatever DuckDB raises inside.
        """
        cursor = self._new_cursor()
        try:
            yield cursor
        except duckdb.Error as error:
            problem = explained(error, self.path, opening=self._opening)
            self._invalid = self._invalid or isinstance(problem, Invalidated)
            raise problem from error
        finally:
            cursor.close()

    def _new_cursor(self) -> duckdb.DuckDBPyConnection:
        with self._guard:
            if self._closed:
                raise StoreError(f"{self.path} is closed: the program is ending")
            if self._invalid:
                # closing the root closes all cursors, so that DuckDB lets go of its dead instance
                self._connection.close()
                self._connection = self._connect()
                self._invalid = False
            try:
                return self._connection.cursor()
            except duckdb.Error as error:
                raise explained(error, self.path) from error

    def _read(self, ask: Callable[[duckdb.DuckDBPyConnection], T]) -> T:
        """``ask(cursor)``, once more on a new connection when DuckDB had given up the old one."""
        try:
            with self.cursor() as cursor:
                return ask(cursor)
        except Invalidated:
            with self.cursor() as cursor:
                return ask(cursor)

    def frame(self, sql: str, values: Sequence[Any] = ()) -> pd.DataFrame:
        """The answer to a page's query, which has a time limit."""
        return self._read(lambda cursor: _limited(cursor).execute(sql, list(values)).df())

    def arrow(self, sql: str, values: Sequence[Any] = ()) -> pa.Table:
        """The answer to a page's query, which has a time limit."""
        return self._read(lambda cursor: _limited(cursor).sql(sql, params=list(values)).to_arrow_table())

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The answer as tuples, however long it takes."""
        return self._read(lambda cursor: cursor.execute(sql, list(values)).fetchall())

    # -- writing ------------------------------------------------------------------------------------

    @contextmanager
    def transaction(self, *, of_jobs: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
        """A cursor whose statements all count or none; an exception rolls back and goes on its way.

        Args:
            of_jobs: the queue and what jobs say changes, no finished run: what is known of results stays true.
        """
        with self._writing, self.cursor() as cursor:
            cursor.begin()
            try:
                yield cursor
            except BaseException:
                # COMMIT on an aborted transaction would pass silently, so never go there from here
                with contextlib.suppress(duckdb.Error):
                    cursor.rollback()
                raise
            try:
                cursor.commit()
            finally:
                self._changed(of_jobs)

    def _changed(self, of_jobs: bool) -> None:
        """Count a change, only now: what somebody reads before the commit must not pass for the new state."""
        self.jobs_generation = next(_changes)
        if not of_jobs:
            self.generation = self.jobs_generation

    def write(
        self, change: Callable[[duckdb.DuckDBPyConnection], T], attempts: int = 20, *, of_jobs: bool = False
    ) -> T:
        """``change(cursor)`` in a transaction, tried again when another writer was faster."""
        for attempt in range(attempts):
            try:
                with self.transaction(of_jobs=of_jobs) as cursor:
                    return change(cursor)
            except Conflict:
                if attempt == attempts - 1:
                    raise
                time.sleep(0.01 * (attempt + 1))
        raise AssertionError("unreachable")

    def checkpoint(self) -> None:
        """Fold the write-ahead log into the file; skipped when somebody is in the middle of something."""
        with contextlib.suppress(StoreError), self.cursor() as cursor:
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


def _limited(cursor: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
    cursor.execute(f"SET max_execution_time = {PAGE_LIMIT_MS}")
    return cursor


def _literals(names: Sequence[str]) -> str:
    """Names as a list of SQL."""
    quoted = ("'" + name.replace("'", "''") + "'" for name in names)
    return f"[{', '.join(quoted)}]"
