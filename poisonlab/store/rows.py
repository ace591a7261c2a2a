"""How values of a run become rows."""

from collections.abc import Sequence
from typing import Any

import duckdb

from poisonlab.config import ExperimentSpec
from poisonlab.records import finite


def append_points(
    cursor: duckdb.DuckDBPyConnection, run_id: str, points: Sequence[tuple[str, str, int, float | None]]
) -> None:
    """Rows of ``points``; a value that is not finite becomes NULL with its flag."""
    append_rows(cursor, "points", run_id, [(s, n, i, finite(v), finite(v) is None) for s, n, i, v in points])


# the types say how lists of values arrive; a None in them is NULL, which a data frame could not promise
_TYPES = {
    "points": ("VARCHAR", "VARCHAR", "BIGINT", "DOUBLE", "BOOLEAN"),
    "metrics": ("VARCHAR", "DOUBLE", "BOOLEAN"),
    "logs": ("VARCHAR", "VARCHAR", "VARCHAR"),
    "artifacts": ("VARCHAR", "VARCHAR", "VARCHAR"),
    "timings": ("VARCHAR", "DOUBLE", "BOOLEAN"),
}


def append_rows(cursor: duckdb.DuckDBPyConnection, table: str, run_id: str, rows: Sequence[Sequence[Any]]) -> None:
    """Many rows of one run in one statement, column by column."""
    if rows:
        columns = ", ".join(f"unnest(?::{kind}[])" for kind in _TYPES[table])
        cursor.execute(f"INSERT INTO {table} SELECT ?::UUID, {columns}", [run_id, *map(list, zip(*rows, strict=True))])


def spec_columns(spec: ExperimentSpec) -> dict[str, Any]:
    """The columns that jobs and runs share."""
    return {
        "spec": spec.model_dump_json(),
        "dataset": spec.dataset.name,
        "attack": spec.attack.name,
        "defense": spec.defense.name,
        "victim": spec.victim.name,
        "preset": spec.preset,
        "seed": spec.seed,
    }


def delete_run(cursor: duckdb.DuckDBPyConnection, run_id: str, *, keep_row: bool = False) -> None:
    """Forget what is known of a run; ``keep_row`` keeps its line in ``runs``, which is replaced."""
    for table in _TYPES if keep_row else ("runs", *_TYPES):
        cursor.execute(f"DELETE FROM {table} WHERE run_id = ?", [run_id])
