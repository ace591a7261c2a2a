"""Recorded runs: the index over their folders, and what pages ask of it."""

import contextlib
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd

from poisonlab.records import record as run_folder
from poisonlab.records.record import RECORD, RecordError, RunRecord, check_run_id, success_name, threat_of
from poisonlab.spec.overrides import written
from poisonlab.store.database import Database, StoreError
from poisonlab.store.job import parse_spec
from poisonlab.store.rows import append_rows, delete_runs, point_rows, spec_columns

_COLUMNS = """run_id::VARCHAR AS run_id, dataset, attack, defense, victim, preset, seed, source, state,
    clean_accuracy, clean_accuracy_undefended, clean_accuracy_control,
    success, success_undefended, success_undefended AS undefended, control, robust_accuracy, der,
    targets, threat, diverged, seconds, peak_memory_mb,
    device, revision, message, spec_group AS "group", created, started, finished"""
_FILTERS = ("dataset", "attack", "defense", "preset", "source", "state")


class RunQueries:
    """The part of the store that concerns recorded runs."""

    db: Database
    homes: dict[str, Path]  # "runs" and "reference" -> folder

    # -- asking -------------------------------------------------------------------------------------

    def runs(
        self,
        dataset: str | None = None,
        attack: str | None = None,
        defense: str | None = None,
        preset: str | None = None,
        kind: str | None = None,
        source: str | None = None,
        state: str | None = "done",
        limit: int = 500,
    ) -> pd.DataFrame:
        """One row a run, newest first; ``None`` filters nothing.

        Args:
            kind: only runs that have an artifact of this kind, such as ``LangevinTrace``.
        """
        asked = dict(zip(_FILTERS, (dataset, attack, defense, preset, source, state), strict=True))
        clauses, values = where(asked)
        if kind is not None:
            clauses += " AND run_id IN (SELECT run_id FROM artifacts WHERE kind = ?)"
            values.append(kind)
        sql = f"SELECT {_COLUMNS} FROM runs WHERE {clauses} ORDER BY created DESC LIMIT ?"
        return self.db.frame(sql, [*values, limit])

    def run(self, run_id: str) -> RunRecord | None:
        """The whole record, read from its folder, or ``None`` for a run that is not indexed.

        Raises:
            RecordError: its folder is gone or damaged.
        """
        folder = self.folder(run_id)
        if folder is None:
            return None
        # a shipped run calls itself local, as it did where it was measured: the index knows better
        source = self.db.rows("SELECT source FROM runs WHERE run_id = ?", [run_id])[0][0]
        return run_folder.read_record(folder)[0].model_copy(update={"source": source})

    def folder(self, run_id: str) -> Path | None:
        """Where an indexed run lies. The path is built from the checked id alone."""
        found = self.db.rows("SELECT home FROM runs WHERE run_id = ?", [check_run_id(run_id)])
        return self.homes[found[0][0]] / run_id if found else None

    def points(self, run_id: str) -> pd.DataFrame:
        """The curves of a run, finished or running: stage, name, step, value (NaN where it diverged)."""
        return self.db.frame(
            "SELECT stage, name, step, value FROM points WHERE run_id = ?", [check_run_id(run_id)]
        )

    def artifacts(self, run_id: str) -> pd.DataFrame:
        """What there is to look at: name, kind, stage."""
        return self.db.frame(
            "SELECT DISTINCT name, kind, stage FROM artifacts WHERE run_id = ? ORDER BY name",
            [check_run_id(run_id)],
        )

    def load_artifact(self, run_id: str, name: str) -> Any:
        """An artifact of a run, also of one that still runs.

        Raises:
            RecordError: an id or a name that is none, or a file that is missing or damaged.
        """
        folder = self.folder(run_id) or self.homes["runs"] / run_id
        path = (folder / run_folder.artifact_file(name)).resolve()
        if not any(path.is_relative_to(home.resolve()) for home in self.homes.values()):
            raise RecordError(f"artifact {name!r} of run {run_id} does not lie in the results folder")
        return run_folder.load_artifact(path)

    def names(self) -> dict[str, list[str]]:
        """The values present among finished runs: dataset, attack, defense, victim, preset, source."""
        columns = ("dataset", "attack", "defense", "victim", "preset", "source")
        listed = ", ".join(f"coalesce(list_sort(list(DISTINCT {c})), [])" for c in columns)
        (row,) = self.db.rows(f"SELECT {listed} FROM runs WHERE state = 'done'")
        return dict(zip(columns, row, strict=True))

    def counts(self) -> dict[str, int]:
        """How many finished runs there are (``done``), and how many jobs are ``queued`` and ``running``."""
        sql = """SELECT 'done', count(*) FROM runs WHERE state = 'done'
            UNION ALL SELECT state, count(*) FROM jobs WHERE state IN ('queued', 'running') GROUP BY state"""
        return {"done": 0, "queued": 0, "running": 0} | dict(self.db.rows(sql))

    # -- indexing -----------------------------------------------------------------------------------

    def fill_settings(self) -> None:
        """The column of runs that were indexed before there was one; a spec of another version stays without."""
        with self.db.transaction() as cursor:
            for run_id, text in cursor.execute(
                "SELECT run_id, spec FROM runs WHERE settings IS NULL"
            ).fetchall():
                with contextlib.suppress(StoreError):
                    settings = written(parse_spec(text))
                    cursor.execute("UPDATE runs SET settings = ? WHERE run_id = ?", [settings, run_id])

    def add_run(self, record: RunRecord, folder: Path | None = None) -> None:
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
                (run_id, name, value, value is None) for name, value in record.metrics.items()
            ]
            rows["logs"] += [(run_id, *log) for log in record.logs]
            rows["artifacts"] += [(run_id, a.name, a.kind, a.stage) for a in record.artifacts]
            rows["timings"] += [
                (run_id, s, seconds, s in record.cached) for s, seconds in record.timings.items()
            ]
        for table, of_table in rows.items():
            append_rows(cursor, table, of_table)
        mark_latest(cursor, found[0][0].spec.group() if len(found) == 1 else None)


def where(asked: dict[str, str | None]) -> tuple[str, list[Any]]:
    """SQL and its values for the filters that are set; the names come from code, never from a person."""
    given = {name: value for name, value in asked.items() if value is not None}
    return " AND ".join(["true", *(f"{name} = ?" for name in given)]), list(given.values())


def mark_latest(cursor: duckdb.DuckDBPyConnection, spec_group: str | None = None) -> None:
    """Only the newest finished run of a seed counts: the same seed twice is one observation, not two."""
    scope, values = ("", []) if spec_group is None else (" WHERE spec_group = ?", [spec_group])
    cursor.execute(
        f"""UPDATE runs SET latest = ranked.newest FROM (
            SELECT run_id, state = 'done' AND row_number() OVER (
                PARTITION BY spec_group, source, seed, state ORDER BY finished DESC, run_id DESC
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
