"""Runs that differ in how many images a repair flags, and in their seeds: what over-flagging costs."""

import pandas as pd

from poisonlab.records.record import check_run_id
from poisonlab.store.budget import line_names
from poisonlab.store.database import Database
from poisonlab.store.rows import COMPARED, ONCE, setting_without

_ALIKE = f"""
WITH named AS (
    SELECT run_id, latest, spec_group, source, created, defense, seed, clean_accuracy, clean_accuracy_undefended,
        clean_accuracy_control, spec,
        {setting_without("seed", "preset", "defense")} AS setting,
        alike
    FROM {COMPARED} WHERE state = 'done'
), alike AS (
    SELECT * FROM named WHERE latest AND setting = (SELECT setting FROM named WHERE run_id = ?)
    {ONCE}
)
SELECT run_id::VARCHAR AS run_id, defense, seed,
    TRY_CAST(spec ->> '$.defense.params.flag_share' AS DOUBLE) AS flag_share,
    CAST(json_merge_patch(spec -> '$.defense', '{{"params": {{"flag_share": null}}}}') AS VARCHAR) AS defense_text,
    clean_accuracy, clean_accuracy_undefended, clean_accuracy_control,
    (SELECT value FROM metrics m WHERE m.run_id = alike.run_id AND m.name = 'clean_accuracy_retrained')
        AS clean_accuracy_retrained,
    (SELECT value FROM metrics m WHERE m.run_id = alike.run_id AND m.name = 'corrupted') AS corrupted
FROM alike ORDER BY defense, defense_text, flag_share, seed
"""


class Flags:
    """What becomes of a model when more images are flagged."""

    def __init__(self, db: Database) -> None:
        self.db = db

    def rows(self, run_id: str) -> pd.DataFrame:
        """Finished runs that share everything with this one but the defense and the seed, one row each.

        Columns: ``run_id``, ``line`` (the defense, named with the parameters in which it differs from others of its
        name), ``defense``, ``flag_share`` (NaN of a defense that flags nothing), ``seed``, ``clean_accuracy``, the same
        ``_undefended``, ``_control`` and ``_retrained``, and ``corrupted`` (the true share; NaN where unknown).
        """
        rows = self.db.frame(_ALIKE, [check_run_id(run_id)])
        rows = rows.assign(variant=rows["defense_text"])
        return rows.assign(line=line_names(rows)).drop(columns=["variant", "defense_text"])
