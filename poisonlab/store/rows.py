"""How values of a run become rows."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import duckdb
import pyarrow as pa

from poisonlab.records.record import finite
from poisonlab.records.recorded_spec import RecordedSpec
from poisonlab.spec.config import ExperimentSpec
from poisonlab.store.metric_columns import STORED


def point_rows(run_id: str, points: Iterable[tuple[str, str, int, float | None]]) -> list[tuple[Any, ...]]:
    """Rows of ``points``; a value that is not finite becomes NULL with its flag."""
    return [(run_id, s, n, i, finite(v), finite(v) is None) for s, n, i, v in points]


TUNED_ON = (
    10,
    11,
    12,
)  # seeds on which the presets' values were chosen: what is ranked is held out from them

_KEPT = ", ".join(f"CASE WHEN coalesce(collapsed, '') = '' THEN {name} END AS {name}" for name in STORED)
# Runs as they count in means: one with a collapsed model has no rates.
COUNTED = f"(SELECT * REPLACE ({_KEPT}, coalesce(experiment, spec_group) AS experiment) FROM runs)"
# The same with the data they were measured on in ``known_data``. A record that does not name its data is taken to be
# of the only data known of its dataset; where several are known it stands apart. Runs with equal ``alike`` and ``seed``
# are the same measurement.
COMPARED = f"""(SELECT *, spec_group || known_data AS alike FROM (
    SELECT *, coalesce(data, CASE WHEN min(data) OVER same = max(data) OVER same THEN min(data) OVER same END, '')
        AS known_data
    FROM {COUNTED} WINDOW same AS (PARTITION BY CAST(spec -> '$.dataset' AS VARCHAR))))"""
# Of runs of ``COMPARED`` that are the same measurement one alone: a local one before others, the newest before older.
ONCE = "QUALIFY row_number() OVER (PARTITION BY alike, seed ORDER BY source = 'local' DESC, created DESC) = 1"
# ``found`` with short names for its columns ``setting_text`` and ``defense_text``.
NAMED = "SELECT *, left(md5(setting_text), 12) AS setting, left(md5(defense_text), 12) AS variant FROM found"

# columns after the run's id
_TYPES = {
    "points": (pa.string(), pa.string(), pa.int64(), pa.float64(), pa.bool_()),
    "metrics": (pa.string(), pa.float64(), pa.bool_()),
    "logs": (pa.string(), pa.string(), pa.string()),
    "artifacts": (pa.string(), pa.string(), pa.string()),
    "timings": (pa.string(), pa.float64(), pa.bool_()),
}


def setting_without(*left_out: str) -> str:
    """SQL over ``COMPARED``: a spec without these parts of it, and its data, as a text; runs with an equal one differ
    in these parts alone."""
    removed = json.dumps(dict.fromkeys(left_out))  # null in a merge patch removes a key (RFC 7396)
    return f"CAST(json_merge_patch(spec, '{removed}') AS VARCHAR) || known_data"


def append_rows(cursor: duckdb.DuckDBPyConnection, table: str, rows: Sequence[Sequence[Any]]) -> None:
    """Many rows of one or several runs in one statement, column by column; each begins with the run's id."""
    if not rows:
        return
    types = (pa.string(), *_TYPES[table])
    columns = [pa.array(values, kind) for values, kind in zip(zip(*rows, strict=True), types, strict=True)]
    new = pa.table(columns, names=["run_id", *map(str, range(1, len(types)))])
    insert_from(
        cursor, new, f"INSERT INTO own_{table} SELECT * REPLACE (run_id::UUID AS run_id) FROM new_rows"
    )


def insert_from(cursor: duckdb.DuckDBPyConnection, new: pa.Table, statement: str) -> None:
    """Run a statement that reads ``new`` as ``new_rows``."""
    cursor.register("new_rows", new)
    cursor.execute(statement)
    cursor.unregister("new_rows")


def spec_columns(spec: ExperimentSpec | RecordedSpec) -> dict[str, Any]:
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


def delete_runs(
    cursor: duckdb.DuckDBPyConnection, run_ids: Sequence[str], *, keep_rows: bool = False
) -> None:
    """Forget what is known of runs; ``keep_rows`` keeps their lines in ``runs``, which are replaced."""
    for table in _TYPES if keep_rows else ("runs", *_TYPES):
        cursor.execute(f"DELETE FROM own_{table} WHERE run_id IN (SELECT unnest(?::UUID[]))", [list(run_ids)])
