"""The results that come with the program: a few Parquet files, and the artifacts of some runs, read where they lie."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from poisonlab.records.record import (
    RECORD,
    RecordError,
    RunId,
    RunRecord,
    parse_record,
    read_plain,
    write_atomically,
)
from poisonlab.spec.config import explain
from poisonlab.store.database import Database

MANIFEST = "pack.json"
RECORDS = "records"
TABLES = ("runs", "metrics", "points", "logs", "artifacts", "timings")
MAX_FILE_BYTES = 64 * 2**20
NOT_SHIPPED = "pictures of this run are not part of the download; run it again to see them"


class NotShipped(RecordError):
    """An artifact of a shipped run that was left out of the download."""


class Shown(BaseModel):
    """A run whose artifacts are shipped too, and what of it was not shown by those before it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run_id: RunId
    shows: list[str]


class Manifest(BaseModel):
    """``pack.json``: the files with their SHA-256, and the runs whose artifacts are there.

    ``openers`` names for a page the run on which it opens, one of the showcase.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    runs: int
    files: dict[str, str]
    showcase: list[Shown]
    openers: dict[str, RunId] = {}


@dataclass(frozen=True)
class Shipped:
    """A folder of packed results.

    Attributes:
        folder: holds the files, and a folder for each run whose artifacts are shipped.
        tables: the Parquet file of each table; empty where there is no pack.
        showcase: ids of the runs whose artifacts are shipped.
        openers: the run on which a page opens, by the page's name.
        problem: why a pack that is there cannot be used; empty if it can.
    """

    folder: Path
    tables: Mapping[str, Path] = field(default_factory=dict)
    showcase: frozenset[str] = frozenset()
    openers: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""

    def create_views(self, db: Database) -> None:
        """Define ``runs``, ``metrics`` and so on: what this machine recorded, and what is shipped beside it."""
        with db.transaction() as cursor:
            for table in TABLES:
                cursor.execute(f"CREATE OR REPLACE VIEW {table} AS {self._view(table)}")

    def _view(self, table: str) -> str:
        present = ", true AS present" if table == "artifacts" else ""
        own = f"SELECT *{present} FROM own_{table}"
        if not self.tables:
            return own
        typed = " REPLACE (spec::JSON AS spec)" if table == "runs" else ""
        return f"""{own} UNION ALL BY NAME SELECT *{typed} FROM read_parquet({_quoted(self.tables[table])})
            WHERE run_id NOT IN (SELECT run_id FROM own_runs)"""

    def run_ids(self, db: Database) -> set[str]:
        """Ids of all runs of the pack."""
        if not self.tables:
            return set()
        found = db.rows(f"SELECT run_id::VARCHAR FROM read_parquet({_quoted(self.tables['runs'])})")
        return {run_id for (run_id,) in found}

    def values(self, db: Database, run_id: str) -> dict[str, Any]:
        """A run's record as it was written, with its curves and its log.

        Raises:
            RecordError: the pack holds no such run.
        """
        found = self._read(db, RECORDS, "record", run_id)
        if not found:
            raise RecordError(f"run {run_id} is not among the shipped results")
        values: dict[str, Any] = json.loads(found[0][0])
        return values | {
            "points": [list(row) for row in self._read(db, "points", "stage, name, step, value", run_id)],
            "logs": [list(row) for row in self._read(db, "logs", "stage, level, message", run_id)],
        }

    def record(self, db: Database, run_id: str) -> RunRecord:
        """A run's record.

        Raises:
            RecordError: the pack holds no such run, or not a record.
        """
        return parse_record(self.values(db, run_id), f"shipped run {run_id}")

    def extract(self, db: Database, run_id: str, target: Path) -> None:
        """Write a run as a folder of its own; its record then names only the artifacts that are shipped.

        Raises:
            RecordError: the pack holds no such run, or an artifact is missing.
        """
        values = self.values(db, run_id)
        # an older record may name artifacts of kinds that no page shows any more, and that are not shipped
        shown = {item.file for item in parse_record(values, f"shipped run {run_id}").artifacts}
        kept = [item for item in values["artifacts"] if item["file"] in shown and run_id in self.showcase]
        folder = target / run_id
        folder.mkdir(parents=True)
        for item in kept:
            (folder / item["file"]).write_bytes(
                read_plain(self.folder / run_id / item["file"], MAX_FILE_BYTES)
            )
        write_atomically(folder / RECORD, json.dumps(values | {"artifacts": kept}).encode())

    def _read(self, db: Database, table: str, columns: str, run_id: str) -> list[tuple[Any, ...]]:
        file = _quoted(self.tables[table])
        return db.rows(f"SELECT {columns} FROM read_parquet({file}) WHERE run_id = ?", [run_id])


def open_shipped(folder: Path) -> Shipped:
    """The pack in ``folder``, each of its files checked against its hash; empty where there is none."""
    folder = folder.absolute()
    try:
        manifest = Manifest.model_validate_json(read_plain(folder / MANIFEST, MAX_FILE_BYTES))
        tables = {table: _checked(folder, f"{table}.parquet", manifest.files) for table in (*TABLES, RECORDS)}
    except (RecordError, ValidationError) as error:
        there = (folder / MANIFEST).exists()
        text = explain(error) if isinstance(error, ValidationError) else str(error)
        return Shipped(folder, problem=f"the shipped results cannot be read: {text[:300]}" if there else "")
    showcase = frozenset(shown.run_id for shown in manifest.showcase)
    openers = {page: run_id for page, run_id in manifest.openers.items() if run_id in showcase}
    return Shipped(folder, tables, showcase, openers)


def shipped_ids(folder: Path) -> set[str]:
    """Ids of the runs packed in ``folder``."""
    with _reading(folder) as (shipped, db):
        return shipped.run_ids(db)


def extract(run_ids: Iterable[str], folder: Path, target: Path) -> None:
    """Write those of ``run_ids`` that are packed in ``folder`` as run folders below ``target``."""
    with _reading(folder) as (shipped, db):
        for run_id in sorted(shipped.run_ids(db) & set(run_ids)):
            shipped.extract(db, run_id, target)


@contextmanager
def _reading(folder: Path) -> Iterator[tuple[Shipped, Database]]:
    """A pack with a database in memory to read it by: the one on disk may belong to a running dashboard."""
    shipped = open_shipped(folder)
    db = Database(None, list(shipped.tables.values()))
    try:
        yield shipped, db
    finally:
        db.close()


def _checked(folder: Path, name: str, hashes: Mapping[str, str]) -> Path:
    if hashlib.sha256(read_plain(folder / name, MAX_FILE_BYTES)).hexdigest() != hashes.get(name):
        raise RecordError(f"{folder.name}/{name} does not have the hash that {MANIFEST} names")
    return folder / name


def _quoted(path: Path) -> str:
    """A path as a literal of SQL."""
    return "'" + str(path).replace("'", "''") + "'"
