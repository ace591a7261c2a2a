"""Screens of inputs compared: every attack and every defense that screens, on one data set and one kind of victim."""

import pandas as pd

from poisonlab.records.record import check_run_id
from poisonlab.store.budget import line_names
from poisonlab.store.database import Database
from poisonlab.store.rows import COMPARED, ONCE, setting_without

# What of a run's metrics is averaged over seeds, in the order of the columns.
MEASURES = (
    "screen_auroc",
    "screen_auroc_control",
    "screen_auroc_working",
    "screen_false_alarms",
    "screen_caught",
    "screen_stopped",
    "screened_asr",
    "screened_accuracy",
    "asr_undefended",
)

_MEANS = ", ".join(f"avg(value) FILTER (name = '{name}') AS {name}" for name in MEASURES)
_ROWS = f"""
WITH named AS (
    SELECT run_id, latest, source, created, attack, defense, seed, alike,
        CAST(spec -> '$.attack' AS VARCHAR) AS attack_text, CAST(spec -> '$.defense' AS VARCHAR) AS defense_text,
        {setting_without("attack", "defense", "seed")} AS setting
    FROM {COMPARED} WHERE state = 'done'
), alike AS (
    SELECT * FROM named WHERE latest AND setting = (SELECT setting FROM named WHERE run_id = ?)
    {ONCE}
)
SELECT attack, attack_text, defense, defense_text, count(DISTINCT seed) AS seeds, {_MEANS}
FROM alike JOIN metrics USING (run_id)
GROUP BY attack, attack_text, defense, defense_text
HAVING screen_auroc IS NOT NULL
ORDER BY attack, attack_text, screen_auroc DESC
"""


class Screens:
    """How screens do against all attacks of a setting."""

    def __init__(self, db: Database) -> None:
        self.db = db

    def rows(self, run_id: str) -> pd.DataFrame:
        """A row for each attack and each screen that was measured in the setting of a run: all of its spec but attack,
        defense and seed.

        Columns: ``attack`` and ``defense``, named with the parameters in which they differ from others of their name,
        ``seeds`` (how many), and the mean over seeds of each of :data:`MEASURES`.
        """
        rows = self.db.frame(_ROWS, [check_run_id(run_id)])
        lines = line_names(rows.assign(variant=rows["defense_text"]))
        of_attack = rows.assign(defense=rows["attack"], defense_text=rows["attack_text"])
        attacks = line_names(of_attack.assign(variant=of_attack["attack_text"]))
        named = rows.assign(attack=attacks, defense=lines)
        return named.drop(columns=["attack_text", "defense_text"])
