"""Runs that differ in the defender's clean images and their seeds: what a budget buys."""

import json
from typing import Any

import pandas as pd

from poisonlab.measure.intervals import student
from poisonlab.store.database import Database
from poisonlab.store.rows import COMPARED, NAMED, ONCE, setting_without

MEASURES = ("clean_accuracy", "success", "der")

_RUNS = f"""
WITH found AS (
    SELECT run_id::VARCHAR AS run_id, spec, spec_group AS "group", source, dataset, attack, defense, victim, preset,
        seed, threat, clean_accuracy, success, der, clean_accuracy_undefended, success_undefended, created,
        TRY_CAST(spec ->> '$.clean_images' AS BIGINT) AS clean_images,
        {setting_without("clean_images", "seed", "preset", "defense")} AS setting_text,
        CAST(spec -> '$.defense' AS VARCHAR) AS defense_text
    FROM {COMPARED} WHERE latest
    {ONCE}
), named AS ({NAMED})
"""

_SETTINGS = """
SELECT setting, first(dataset) AS dataset, first(attack) AS attack, first(victim) AS victim, max(preset) AS preset,
    list_sort(list(DISTINCT defense)) AS defenses, max(budgets) AS points, count(*) AS runs,
    arg_max(spec, created)::VARCHAR AS spec
FROM (SELECT *, count(DISTINCT clean_images) OVER (PARTITION BY setting, variant) AS budgets FROM named)
GROUP BY setting ORDER BY points DESC, runs DESC, setting
"""

_OF_SETTING = """
SELECT run_id, "group", source, defense, variant, defense_text, seed, threat, clean_images,
    clean_accuracy, success, der, clean_accuracy_undefended, success_undefended
FROM named WHERE setting = ? ORDER BY defense, variant, clean_images, seed
"""


class Budgets:
    """How many clean images a defense needs."""

    def __init__(self, db: Database) -> None:
        self.db = db

    def settings(self) -> pd.DataFrame:
        """Everything but defense, clean images and seed, one row each; those with the longest lines first.

        Columns: ``setting`` (its name), ``dataset``, ``attack``, ``victim``, ``preset``, ``defenses`` (names),
        ``points`` (most budgets that one defense was measured with), ``runs``, ``spec`` (of one of its runs, as JSON).
        """
        return self.db.frame(_RUNS + _SETTINGS)

    def rows(self, setting: str) -> pd.DataFrame:
        """Finished runs of a setting, one row for each defense with its parameters, budget and seed.

        Of equal runs from several sources the local one counts. ``line`` is the defense's name, with the parameters in
        which it differs from the others of that name where there are several.
        """
        rows = self.db.frame(_RUNS + _OF_SETTING, [setting])
        return rows.assign(line=line_names(rows)).drop(columns=["variant", "defense_text"])


def means(rows: pd.DataFrame) -> pd.DataFrame:
    """One row for each ``line`` and budget: ``n`` and, of each of ``MEASURES``, the mean and its 95 % interval."""
    grouped = rows.groupby(["line", "clean_images"], sort=True)
    found = grouped.size().rename("n").to_frame()
    for name in MEASURES:
        values = grouped[name]
        found[name] = values.mean()
        found[f"{name}_low"], found[f"{name}_high"] = student(values.mean(), values.std(), values.count())
    return found.reset_index()


def line_names(rows: pd.DataFrame) -> list[str]:
    """``rnp``, or ``rnp (recover_epochs 5)`` where several settings of it were measured."""
    texts = dict(zip(rows["variant"], rows["defense_text"], strict=True))
    params = {variant: json.loads(text)["params"] for variant, text in texts.items()}
    alike: dict[str, list[str]] = {}
    for name, variant in zip(rows["defense"], rows["variant"], strict=True):
        if variant not in alike.setdefault(name, []):
            alike[name].append(variant)

    def named(name: str, variant: str) -> str:
        others: list[dict[str, Any]] = [params[v] for v in alike[name]]
        differing = [k for k, v in params[variant].items() if any(other.get(k) != v for other in others)]
        return (
            f"{name} ({', '.join(f'{k} {params[variant][k]}' for k in differing)})"
            if differing
            else str(name)
        )

    return [named(name, variant) for name, variant in zip(rows["defense"], rows["variant"], strict=True)]
