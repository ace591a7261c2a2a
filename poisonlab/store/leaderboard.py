"""Repeats over seeds as one row: mean, interval, and how many there were."""

from typing import Any

import numpy as np
import pandas as pd
from scipy import special  # scipy.stats, which takes a second to import, calls these two

from poisonlab.store.database import Database
from poisonlab.store.rows import COUNTED
from poisonlab.store.runs import where

SORTABLE = (
    "group",
    "dataset",
    "attack",
    "defense",
    "victim",
    "preset",
    "source",
    "n",
    "clean_accuracy",
    "clean_accuracy_undefended",
    "success",
    "success_undefended",
    "control",
    "robust_accuracy",
    "der",
    "targets",
    "seconds",
)
COLUMNS = [
    "group",
    "dataset",
    "attack",
    "defense",
    "settings",
    "victim",
    "preset",
    "source",
    "threat",
    "n",
    "clean_accuracy",
    "clean_accuracy_low",
    "clean_accuracy_high",
    "clean_accuracy_undefended",
    "success",
    "success_low",
    "success_high",
    "success_undefended",
    "control",
    "robust_accuracy",
    "der",
    "targets",
    "diverged",
    "collapsed",
    "seconds",
]

# Targets of all seeds are pooled, so a seed with more targets weighs more; a backdoor's seeds weigh the same.
_SQL = """
SELECT experiment AS "group", first(dataset) AS dataset, first(attack) AS attack, first(defense) AS defense,
    first(victim) AS victim, coalesce(arg_max(settings, preset), '') AS settings,
    max(preset) AS preset,  -- equal values under both presets: the humbler name
    source, first(threat) AS threat, count(*) FILTER (coalesce(collapsed, '') = '') AS n,
    avg(clean_accuracy) AS clean_accuracy, stddev_samp(clean_accuracy) AS _accuracy_spread,
    count(clean_accuracy) AS _accuracy_n,
    avg(clean_accuracy_undefended) AS clean_accuracy_undefended,
    coalesce(sum(success * targets) / sum(targets + 0 * success), avg(success)) AS success,
    stddev_samp(success) AS _success_spread, count(success) AS _success_n,
    sum(success * targets) AS _hits, sum(targets + 0 * success) AS _pooled,
    coalesce(sum(success_undefended * targets) / sum(targets + 0 * success_undefended),
        avg(success_undefended)) AS success_undefended,
    coalesce(sum(control * targets) / sum(targets + 0 * control), avg(control)) AS control,
    avg(robust_accuracy) AS robust_accuracy, avg(der) AS der, sum(targets) AS targets,
    count(*) FILTER (diverged) AS diverged, count(*) FILTER (collapsed <> '') AS collapsed, avg(seconds) AS seconds
FROM {counted} WHERE latest AND {where} GROUP BY experiment, source
ORDER BY "{sort}" {direction} NULLS LAST, "group", source
"""

_RUN_IDS = """
SELECT coalesce(experiment, spec_group) AS "group", source, list(run_id::VARCHAR ORDER BY seed) AS run_ids
FROM runs WHERE latest AND (coalesce(experiment, spec_group), source) IN (SELECT unnest(?), unnest(?))
GROUP BY "group", source
"""


class Leaderboard:
    """Finished runs compared: one row an experiment, its seeds together."""

    def __init__(self, db: Database) -> None:
        self.db = db

    def rows(
        self,
        dataset: str | None = None,
        attack: str | None = None,
        defense: str | None = None,
        preset: str | None = None,
        source: str | None = None,
        sort: str = "success",
        descending: bool = False,
    ) -> pd.DataFrame:
        """One row an experiment and source, its seeds together; see ``COLUMNS``.

        Intervals are 95 %, cut to what the measure can be: Student's over the seeds where there are at least two (else
        NaN), Wilson's over the pooled targets for the success of a targeted attack. Of several finished
        runs of one seed the newest counts. ``diverged`` counts runs with a number that is not finite, ``collapsed``
        those with a model that gives nearly one answer to everything: these are not among the ``n`` of the means.

        Raises:
            ValueError: ``sort`` is no column; names those that are.
        """
        if sort not in SORTABLE:
            raise ValueError(f"cannot sort by {sort!r}; choose one of: {', '.join(SORTABLE)}")
        asked = {"dataset": dataset, "attack": attack, "defense": defense, "preset": preset, "source": source}
        clauses, values = where(asked)
        sql = _SQL.format(
            counted=COUNTED, where=clauses, sort=sort, direction="DESC" if descending else "ASC"
        )
        board = self.db.arrow(sql, values).to_pandas()  # three times as fast as DuckDB's own frame of strings
        low, high = student(board["clean_accuracy"], board["_accuracy_spread"], board["_accuracy_n"])
        board["clean_accuracy_low"], board["clean_accuracy_high"] = low, high
        lost = (board["threat"] == "corruption").to_numpy(dtype=bool)  # a loss of accuracy may be a gain
        least = np.where(lost, -1.0, 0.0)
        seeds = student(board["success"], board["_success_spread"], board["_success_n"], least)
        pooled = wilson(board["_hits"], board["_pooled"])
        targeted = (board["threat"] == "targeted").to_numpy(dtype=bool)
        for side, by_target, by_seed in zip(("low", "high"), pooled, seeds, strict=True):
            board[f"success_{side}"] = np.where(targeted, by_target, by_seed)
        return board[COLUMNS]

    def with_run_ids(self, board: pd.DataFrame) -> pd.DataFrame:
        """``board``, any rows of :meth:`rows`, with the ids of the runs behind each in ``run_ids``, by seed.

        A question of its own: for all rows it costs as much as the leaderboard, and few are ever opened.
        """
        table = self.db.arrow(_RUN_IDS, [board["group"].tolist(), board["source"].tolist()])
        names = zip(table["group"].to_pylist(), table["source"].to_pylist(), strict=True)
        found = dict(zip(names, table["run_ids"].to_pylist(), strict=True))
        asked = zip(board["group"], board["source"], strict=True)
        return board.assign(run_ids=[found.get(row, []) for row in asked])


def plain(board: pd.DataFrame) -> pd.DataFrame:
    """Rows of :meth:`Leaderboard.with_run_ids` for a file: lists of ids as text, which every format knows."""
    return board.assign(run_ids=[" ".join(ids) for ids in board["run_ids"]])


def student(
    mean: Any, spread: Any, n: Any, least: Any = 0.0, confidence: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Student's interval of means over seeds, ``(groups,)`` each, cut to [``least``, 1]; NaN below two seeds."""
    mean, spread, n = (np.asarray(v, dtype=float) for v in (mean, spread, n))
    known, back = np.unique(n, return_inverse=True)  # few different n: the quantile is the slow part
    quantile = np.array([special.stdtrit(k - 1, (1 + confidence) / 2) if k >= 2 else np.nan for k in known])[
        back
    ]
    half = quantile * spread / np.sqrt(np.maximum(n, 1))
    return np.clip(mean - half, least, 1), np.clip(mean + half, least, 1)


def wilson(hits: Any, n: Any, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's interval of proportions, ``(groups,)`` each; NaN where nothing was tried."""
    hits, n = np.asarray(hits, dtype=float), np.asarray(n, dtype=float)
    n = np.where(n > 0, n, np.nan)
    z = special.ndtri((1 + confidence) / 2)
    p = hits / n
    center = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    return np.clip(center - half, 0, 1), np.clip(center + half, 0, 1)
