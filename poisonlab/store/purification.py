"""Runs that purified the same poisons otherwise: with another defense, or harder."""

import json

import pandas as pd

from poisonlab.measure.intervals import student, wilson
from poisonlab.records.record import check_run_id
from poisonlab.store.budget import line_names
from poisonlab.store.database import Database
from poisonlab.store.rows import COMPARED

# Specs are compared without what may differ: removed keys are null in a merge patch (RFC 7396).
_FREE = {"preset": None, "clean_images": None}

_OTHERS = f"""
WITH compared AS {COMPARED}, asked AS (SELECT * FROM compared WHERE run_id = ?), found AS (
    SELECT r.run_id::VARCHAR AS run_id, r.defense, r.source, r.created, CAST(r.spec -> '$.defense' AS VARCHAR)
        AS defense_text, r.run_id = asked.run_id AS own
    FROM compared r JOIN asked ON r.dataset = asked.dataset AND r.attack = asked.attack AND r.seed = asked.seed
        AND r.known_data = asked.known_data
        AND json_merge_patch(r.spec, ?::JSON) = json_merge_patch(asked.spec, ?::JSON)
    WHERE r.run_id = asked.run_id
        OR r.latest AND r.run_id IN (SELECT run_id FROM artifacts WHERE kind = ? AND present)
)
SELECT *, left(md5(defense_text), 12) AS variant FROM found
QUALIFY row_number() OVER (PARTITION BY defense_text ORDER BY own DESC, source = 'local' DESC, created DESC) = 1
ORDER BY own DESC, defense, created DESC
"""

_STRENGTHS = f"""
WITH compared AS {COMPARED}, asked AS (SELECT * FROM compared WHERE run_id = ?)
SELECT r.run_id::VARCHAR AS run_id, r.spec_group AS "group", r.source, r.seed, r.threat, r.targets,
    r.clean_accuracy, r.success, r.clean_accuracy_undefended, r.success_undefended, r.control,
    TRY_CAST(json_extract_string(r.spec, ?) AS BIGINT) AS value, m.value AS surviving_share
FROM compared r JOIN asked ON r.dataset = asked.dataset AND r.attack = asked.attack AND r.defense = asked.defense
    AND r.known_data = asked.known_data AND json_merge_patch(r.spec, ?::JSON) = json_merge_patch(asked.spec, ?::JSON)
LEFT JOIN metrics m ON m.run_id = r.run_id AND m.name = 'surviving_share'
WHERE r.latest
QUALIFY row_number() OVER (PARTITION BY r.alike, r.seed ORDER BY r.source = 'local' DESC, r.created DESC) = 1
ORDER BY value, r.seed
"""


class Purification:
    """Runs beside which a purification can be judged."""

    def __init__(self, db: Database) -> None:
        self.db = db

    def beside(self, run_id: str, kind: str) -> pd.DataFrame:
        """The run itself, then those that agree with it in all but the defense and recorded ``kind``.

        Each defense with its parameters comes once. Columns: ``run_id``, ``defense``, ``source``, ``line`` (its name,
        with the parameters in which it differs from others of that name). Empty for an unknown run.
        """
        patch = json.dumps(_FREE | {"defense": None})
        rows = self.db.frame(_OTHERS, [check_run_id(run_id), patch, patch, kind])
        return rows.assign(line=line_names(rows))[["run_id", "defense", "source", "line"]]

    def strengths(self, run_id: str, knob: str) -> pd.DataFrame:
        """Runs that agree with this one in all but a whole-numbered parameter of its defense and the seed.

        Of equal runs from several sources the local one counts. Columns: ``run_id``, ``group``, ``source``, ``seed``,
        ``threat``, ``targets``, ``value`` (of the parameter), the rates, ``surviving_share``.
        """
        patch = json.dumps(_FREE | {"seed": None, "defense": {"params": {knob: None}}})
        return self.db.frame(_STRENGTHS, [check_run_id(run_id), f"$.defense.params.{knob}", patch, patch])


def by_strength(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a value: ``n`` seeds, ``clean_accuracy`` and ``success`` with 95 % intervals, ``surviving_share``.

    Student's intervals over the seeds, Wilson's over the targets of all seeds for the success of targeted poisons.
    """
    rows = rows.assign(hits=rows["success"] * rows["targets"])
    grouped = rows.groupby("value", sort=True)
    found = grouped.agg(n=("seed", "count"), hits=("hits", "sum"), targets=("targets", "sum"))
    for name in ("clean_accuracy", "success"):
        values = grouped[name]
        found[name] = values.mean()
        found[f"{name}_low"], found[f"{name}_high"] = student(values.mean(), values.std(), values.count())
    found["surviving_share"] = grouped["surviving_share"].mean()
    pooled = found["targets"] > 0
    found.loc[pooled, "success"] = found["hits"] / found["targets"]
    low, high = wilson(found["hits"], found["targets"])
    found["success_low"], found["success_high"] = (
        found["success_low"].where(~pooled, low),
        found["success_high"].where(~pooled, high),
    )
    return found.drop(columns="hits").reset_index()
