"""Published numbers beside measured ones."""

from collections.abc import Sequence
from typing import Any

import duckdb
import pandas as pd

from poisonlab.measure.intervals import student
from poisonlab.published.tables import Number, PublishedTable, published_tables
from poisonlab.spec.config import Preset, digest
from poisonlab.store.database import Database

_INSERT = """INSERT INTO published SELECT unnest(?::VARCHAR[]), unnest(?::VARCHAR[]), unnest(?::VARCHAR[]),
    unnest(?::VARCHAR[]), unnest(?::VARCHAR[]), unnest(?::VARCHAR[]), unnest(?::DOUBLE[]), unnest(?::DOUBLE[]),
    unnest(?::VARCHAR[]), unnest(?::VARCHAR[]), ?"""

# Of several finished runs of a seed, wherever they come from, the newest counts; quick results never do.
_CLAIMS = """
WITH said AS (
    SELECT attack, defense, first(provenance) AS provenance,
        max(value) FILTER (metric = 'clean_accuracy') AS clean_accuracy_published,
        max(spread) FILTER (metric = 'clean_accuracy') AS clean_accuracy_published_sd,
        max(value) FILTER (metric <> 'clean_accuracy') AS success_published,
        max(spread) FILTER (metric <> 'clean_accuracy') AS success_published_sd
    FROM published WHERE table_id = ? GROUP BY attack, defense
), asked AS (
    SELECT unnest(?::VARCHAR[]) AS attack, unnest(?::VARCHAR[]) AS defense, unnest(?::VARCHAR[]) AS spec_group
), seeds AS (
    SELECT spec_group, clean_accuracy, success FROM runs
    WHERE latest AND preset = ? AND spec_group IN (SELECT spec_group FROM asked)
    QUALIFY row_number() OVER (PARTITION BY spec_group, seed ORDER BY finished DESC, run_id DESC) = 1
), found AS (
    SELECT attack, defense, count(*) AS n, avg(clean_accuracy) AS clean_accuracy, avg(success) AS success,
        stddev_samp(clean_accuracy) AS clean_accuracy_sd, stddev_samp(success) AS success_sd,
        max(success) AS success_max
    FROM asked JOIN seeds USING (spec_group) GROUP BY attack, defense
), cells AS (
    SELECT DISTINCT attack, defense FROM asked
)
SELECT attack, defense, provenance, clean_accuracy_published, clean_accuracy_published_sd, success_published,
    success_published_sd, coalesce(n, 0) AS n, clean_accuracy, success, clean_accuracy_sd, success_sd, success_max
FROM said FULL JOIN cells USING (attack, defense) LEFT JOIN found USING (attack, defense)
"""


class Published:
    """The published numbers, and what runs measured beside them."""

    def __init__(self, db: Database) -> None:
        self.db = db

    def claims(
        self, table_id: str, groups: Sequence[tuple[str, str, str]], preset: Preset = "paper"
    ) -> pd.DataFrame:
        """One row a cell of a published table: what it reports, and what runs of ``preset`` measured.

        Args:
            groups: attack and defense by the table's own keys, and the ``group()`` of a spec that measures the cell;
                several for a cell that is a mean over several specs, none of them twice.

        Returns:
            ``attack``, ``defense``, ``provenance``, ``clean_accuracy`` and ``success`` (means over ``n`` runs, 95 %
            intervals as ``_low`` and ``_high``, deviations as ``_sd``), ``success_max``, the same as ``_published``
            with ``_published_sd``; NaN where there is none. A cell that is only published, or only measured, has one
            half.
        """
        columns = [list(column) for column in zip(*groups, strict=True)] if groups else [[], [], []]
        rows = self.db.frame(_CLAIMS, [table_id, *columns, preset])
        for name in ("clean_accuracy", "success"):
            rows[f"{name}_low"], rows[f"{name}_high"] = student(rows[name], rows[f"{name}_sd"], rows["n"])
        return rows


def copy_published(db: Database) -> None:
    """Bring the table ``published`` up to the files it is a copy of.

    Raises:
        PublishedError: a file that does not fit the format.
    """
    tables = published_tables()
    now = digest([table.model_dump(mode="json") for table in tables.values()])
    if db.rows("SELECT DISTINCT digest FROM published") == [(now,)]:
        return
    rows = [row for table in tables.values() for cell in table.numbers() for row in _rows(table, *cell)]

    def replace(cursor: duckdb.DuckDBPyConnection) -> None:
        cursor.execute("DELETE FROM published")
        if rows:
            cursor.execute(_INSERT, [*map(list, zip(*rows, strict=True)), now])

    db.write(replace)


def _rows(table: PublishedTable, attack: str, defense: str, number: Number) -> list[tuple[Any, ...]]:
    """A cell's accuracy and success, those that it has."""
    method = f"{table.attacks[attack].label}, {table.defenses[defense].label}"
    setting = "; ".join(table.setting.model_dump().values())
    provenance = table.provenance_of(number)
    reported = (
        ("clean_accuracy", number.accuracy, number.accuracy_sd),
        (table.success, number.success, number.success_sd),
    )
    return [
        (
            table.id,
            attack,
            defense,
            method,
            setting,
            metric,
            value / 100,
            None if sd is None else sd / 100,
            provenance,
            table.source,
        )
        for metric, value, sd in reported
        if value is not None
    ]
