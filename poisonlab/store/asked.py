"""The leaderboard of a results folder, asked for once: by a command or by a program, without a dashboard."""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from poisonlab.measure import catalogue
from poisonlab.registry import KINDS
from poisonlab.store.store import Store


@dataclass(frozen=True)
class Answer:
    """Rows, and what could not be read: a table with a run less must not pass for the whole."""

    rows: pd.DataFrame
    skipped: Mapping[str, str]


def leaderboard(
    results: Path,
    *,
    dataset: str | None = None,
    attack: str | None = None,
    defense: str | None = None,
    preset: str | None = None,
    source: str | None = None,
    sort: str = catalogue.SUCCESS,
    descending: bool | None = None,
    run_ids: bool = True,
) -> Answer:
    """Rows as of :meth:`~poisonlab.store.leaderboard.Leaderboard.rows`.

    Args:
        run_ids: with the ids of the runs behind each row.

    Raises:
        UnknownName: a method that is not registered. ValueError: ``sort`` is no column.
        StoreLocked, StoreError: the database belongs to a dashboard, or cannot be read.
    """
    with closing(Store(results)) as store:
        recorded = store.runs.names()
        for kind, name in (("dataset", dataset), ("attack", attack), ("defense", defense)):
            if name is not None and name not in recorded[kind]:
                KINDS[kind][name]  # raises unless it is merely without runs
        rows = store.leaderboard.rows(dataset, attack, defense, preset, source, sort, descending)
        if run_ids:
            rows = store.leaderboard.with_run_ids(rows)
        return Answer(rows, store.skipped)
