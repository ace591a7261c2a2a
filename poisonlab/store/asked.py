"""The leaderboard of a results folder, asked for once: by a command or by a program, without a dashboard."""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import pandas as pd

from poisonlab.measure import catalogue
from poisonlab.records.record import Source
from poisonlab.registry import KINDS
from poisonlab.spec.config import PRESETS
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
        UnknownName: a method that is not registered. ValueError: no such ``preset`` or ``source``, or ``sort`` is no
            column.
        StoreLocked, StoreError: the database belongs to a dashboard, or cannot be read.
    """
    for option, value, allowed in (("preset", preset, PRESETS), ("source", source, get_args(Source))):
        if value is not None and value not in allowed:
            raise ValueError(f"{option}: {value!r} is not one of {', '.join(allowed)}")
    with closing(Store(results)) as store:
        recorded = store.runs.names()
        for kind, name in (("dataset", dataset), ("attack", attack), ("defense", defense)):
            if name is not None and name not in recorded[kind]:
                KINDS[kind][name]  # raises unless it is merely without runs
        rows = store.leaderboard.rows(dataset, attack, defense, preset, source, sort, descending)
        if run_ids:
            rows = store.leaderboard.with_run_ids(rows)
        return Answer(rows, store.skipped)
