"""Repeats over seeds as one row: mean, interval, and how many there were."""

import numpy as np
import pandas as pd

from poisonlab.measure import catalogue
from poisonlab.measure.intervals import student, wilson
from poisonlab.measure.metric import Metric
from poisonlab.store.database import Database
from poisonlab.store.metric_columns import with_added
from poisonlab.store.rows import COUNTED, TUNED_ON
from poisonlab.store.runs import where
from poisonlab.store.verified import Verified

_LEADING = ["group", "dataset", "attack", "defense", "settings", "victim", "preset", "source", "threat", "n"]
_TRAILING = ["diverged", "collapsed", "tuned_on", "verified", "seconds"]

_SQL = """
SELECT experiment AS "group", first(dataset) AS dataset, first(attack) AS attack, first(defense) AS defense,
    first(victim) AS victim, coalesce(arg_max(settings, preset), '') AS settings,
    max(preset) AS preset,  -- equal values under both presets: quick, which promises less
    source, first(threat) AS threat, count(*) FILTER (coalesce(collapsed, '') = '') AS n, {metrics},
    count(*) FILTER (diverged) AS diverged, count(*) FILTER (collapsed <> '') AS collapsed,
    count(*) FILTER (seed IN ({tuned_on})) AS tuned_on,
    count(*) FILTER (list_contains(?::UUID[], run_id)) AS verified, avg(seconds) AS seconds
FROM {runs} WHERE latest AND {where} GROUP BY experiment, source
ORDER BY "{sort}" {direction} NULLS LAST, "group", source
"""

_RUN_IDS = """
SELECT coalesce(experiment, spec_group) AS "group", source, list(run_id::VARCHAR ORDER BY seed) AS run_ids
FROM runs WHERE latest AND (coalesce(experiment, spec_group), source) IN (SELECT unnest(?), unnest(?))
GROUP BY "group", source
"""


def columns() -> list[str]:
    """Names of the columns of :meth:`Leaderboard.rows`, in their order."""
    names = list(_LEADING)
    for metric in catalogue.board():
        names += [metric.name, *(interval_columns(metric) if metric.interval else ())]
    return names + _TRAILING


def sortable() -> list[str]:
    """Columns that rows can be sorted by."""
    named = [name for name in _LEADING if name not in ("settings", "threat")]
    return [*named, *(metric.name for metric in catalogue.board()), "seconds"]


def interval_columns(metric: Metric) -> tuple[str, str]:
    """The columns that hold both ends of a metric's interval."""
    return f"{metric.name}_low", f"{metric.name}_high"


class Leaderboard:
    """Finished runs compared: one row an experiment, its seeds together."""

    def __init__(self, db: Database, verified: Verified) -> None:
        self.db = db
        self.verified = verified

    def rows(
        self,
        dataset: str | None = None,
        attack: str | None = None,
        defense: str | None = None,
        preset: str | None = None,
        source: str | None = None,
        sort: str = catalogue.SUCCESS,
        descending: bool | None = None,
    ) -> pd.DataFrame:
        """One row an experiment and source, its seeds together; see :func:`columns`.

        Intervals are 95 %, cut to what the measure can be: Student's over the seeds where there are at least two (else
        NaN), Wilson's over the pooled targets for the success of a targeted attack. Of several finished
        runs of one seed the newest counts. ``diverged`` counts runs with a number that is not finite, ``collapsed``
        those with a model that gives nearly one answer to everything: these are not among the ``n`` of the means.
        ``verified`` counts runs that were measured again from their weights on this machine.

        Args:
            descending: largest first; by default where large values are good, see the catalogue of metrics.

        Raises:
            ValueError: ``sort`` is no column; names those that are.
        """
        if sort not in sortable():
            raise ValueError(f"cannot sort by {sort!r}; choose one of: {', '.join(sortable())}")
        if descending is None:
            descending = catalogue.largest_first(sort)
        asked = {"dataset": dataset, "attack": attack, "defense": defense, "preset": preset, "source": source}
        clauses, values = where(asked)
        sql = _SQL.format(
            metrics=",\n    ".join(_over_seeds(metric) for metric in catalogue.board()),
            runs=with_added(COUNTED),
            tuned_on=", ".join(map(str, TUNED_ON)),
            where=clauses,
            sort=sort,
            direction="DESC" if descending else "ASC",
        )
        marked = self.verified.run_ids()
        board = self.db.arrow(
            sql, [marked, *values]
        ).to_pandas()  # three times as fast as DuckDB's own frame of strings
        for metric in catalogue.board():
            if metric.interval:
                low, high = _interval(board, metric)
                board[f"{metric.name}_low"] = low
                board[f"{metric.name}_high"] = high
        return pd.DataFrame(board[columns()])

    def with_run_ids(self, board: pd.DataFrame) -> pd.DataFrame:
        """``board``, any rows of :meth:`rows`, with the ids of the runs behind each in ``run_ids``, by seed.

        A question of its own: for all rows it costs as much as the leaderboard, and few are ever opened.
        """
        table = self.db.arrow(_RUN_IDS, [board["group"].tolist(), board["source"].tolist()])
        names = zip(table["group"].to_pylist(), table["source"].to_pylist(), strict=True)
        found = dict(zip(names, table["run_ids"].to_pylist(), strict=True))
        asked = zip(board["group"], board["source"], strict=True)
        return board.assign(run_ids=[found.get(row, []) for row in asked])


def _over_seeds(metric: Metric) -> str:
    """SQL of a metric's value over the seeds of an experiment, and of what its interval needs.

    Where units are pooled, a seed with more targets weighs more; else all seeds weigh the same.
    """
    name = f'"{metric.name}"'
    by = metric.pooled_by
    value = f"sum({name})" if metric.total else f"avg({name})"
    if by:
        value = f'coalesce(sum({name} * "{by}") / sum("{by}" + 0 * {name}), {value})'
    parts = [f"{value} AS {name}"]
    if metric.interval:
        parts += [
            f'stddev_samp({name}) AS "_{metric.name}_spread"',
            f'count({name}) AS "_{metric.name}_n"',
        ]
    if metric.interval and by:
        parts += [
            f'sum({name} * "{by}") AS "_{metric.name}_hits"',
            f'sum("{by}" + 0 * {name}) AS "_{metric.name}_pooled"',
        ]
    return ", ".join(parts)


def _interval(board: pd.DataFrame, metric: Metric) -> tuple[np.ndarray, np.ndarray]:
    """Both ends of a metric's 95 % interval in each row, cut to the range of what is measured under its threat."""
    name = metric.name
    codes, kinds = pd.factorize(board["threat"])  # -1, the last of ``measured``, where there is none
    measured = [_measured(metric, kind) for kind in (*kinds, None)]
    lowest = np.array([found.lowest for found in measured])[codes]
    low, high = student(board[name], board[f"_{name}_spread"], board[f"_{name}_n"], lowest)
    if metric.pooled_by:
        pooled = np.array([bool(found.pooled_by) for found in measured])[codes]
        low_pooled, high_pooled = wilson(board[f"_{name}_hits"], board[f"_{name}_pooled"])
        low = np.where(pooled, low_pooled, low)
        high = np.where(pooled, high_pooled, high)
    return low, high


def _measured(metric: Metric, threat: str | None) -> Metric:
    """The metric itself, or the headline metric that it stands for."""
    return metric if metric.stands_for is None else catalogue.headline(threat)


def verified_words(board: pd.DataFrame) -> pd.Series:
    """What a reader is told of the runs of each row that were verified here: ``verified``, ``2 of 3``, or nothing."""
    runs = board["n"] + board["collapsed"]
    words = [
        None if not marked else "verified" if marked == count else f"{marked} of {count} verified"
        for marked, count in zip(board["verified"], runs, strict=True)
    ]
    return pd.Series(words, index=board.index, dtype=object)


def plain(board: pd.DataFrame) -> pd.DataFrame:
    """Rows of :meth:`Leaderboard.with_run_ids` for a file: lists of ids as text, which every format knows."""
    return board.assign(run_ids=[" ".join(ids) for ids in board["run_ids"]])
