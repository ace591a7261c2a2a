"""Runs that are trials of one attack: other targets of a targeted poison, other target classes of a backdoor."""

import re
from typing import Any

import numpy as np
import pandas as pd

from poisonlab.measure.intervals import bootstrap_interval, wilson
from poisonlab.store.budget import line_names
from poisonlab.store.database import Database
from poisonlab.store.rows import COMPARED, NAMED, ONCE

# the lines that every run measures, whatever its defense
CONTROL = "control"
UNDEFENDED = "undefended"

# A spec without what may differ between trials and lines: removed keys are null in a merge patch (RFC 7396).
_RUNS = f"""
WITH found AS (
    SELECT run_id::VARCHAR AS run_id, spec, spec_group AS "group", source, dataset, attack, defense, victim, preset,
        seed, threat, created, targets, clean_accuracy, clean_accuracy_undefended, clean_accuracy_control,
        success, success_undefended, control,
        CASE WHEN threat = 'backdoor' THEN TRY_CAST(spec ->> '$.attack.params.target_class' AS INTEGER) END
            AS target_class,
        CAST(json_merge_patch(spec, CASE WHEN threat = 'backdoor'
            THEN '{{"seed": null, "preset": null, "defense": null, "attack": {{"params": {{"target_class": null}}}}}}'
            ELSE '{{"seed": null, "preset": null, "defense": null}}' END::JSON) AS VARCHAR)
            || known_data AS setting_text,
        CAST(spec -> '$.defense' AS VARCHAR) AS defense_text
    FROM {COMPARED}
    WHERE latest AND threat IS NOT NULL AND coalesce(spec ->> '$.attack.params.mapping', '') <> 'all_to_all'
    {ONCE}
), named AS ({NAMED})
"""

_SETTINGS = """
SELECT setting, first(dataset) AS dataset, first(attack) AS attack, first(victim) AS victim, max(preset) AS preset,
    list_sort(list(DISTINCT defense)) AS defenses, count(DISTINCT target_class) AS classes, count(*) AS runs,
    arg_max(spec, created)::VARCHAR AS spec
FROM named WHERE threat = ? GROUP BY setting ORDER BY classes DESC, runs DESC, setting
"""

_OF_SETTING = """
SELECT run_id, "group", source, defense, variant, defense_text, seed, target_class, targets,
    clean_accuracy, clean_accuracy_undefended, clean_accuracy_control, success, success_undefended, control
FROM named WHERE setting = ? ORDER BY defense, variant, target_class, seed
"""


class Trials:
    """Runs grouped into trials of one attack: how sure a rate of success is."""

    def __init__(self, db: Database) -> None:
        self.db = db

    def settings(self, threat: str) -> pd.DataFrame:
        """Attacks with all their parameters, one row each; those with the most classes and runs first.

        Args:
            threat: ``targeted`` or ``backdoor``. Runs of a backdoor may differ in their target class; all-to-all
                backdoors, which have none, are left out.

        Columns: ``setting`` (its name), ``dataset``, ``attack``, ``victim``, ``preset``, ``defenses`` (names),
        ``classes`` (target classes measured), ``runs``, ``spec`` (of one of its runs, as JSON).
        """
        return self.db.frame(_RUNS + _SETTINGS, [threat])

    def rows(self, setting: str) -> pd.DataFrame:
        """Finished runs of a setting, one row for each defense with its parameters, target class and seed.

        Of equal runs from several sources the local one counts; ``line`` names the defense.
        """
        rows = self.db.frame(_RUNS + _OF_SETTING, [setting])
        return rows.assign(line=line_names(rows)).drop(columns=["variant", "defense_text"])


def by_line(rows: pd.DataFrame) -> pd.DataFrame:
    """Every measured model once: ``line``, ``target_class``, ``seed``, ``targets``, ``success``, ``clean_accuracy``.

    Control and undefended models, which all defenses of a trial share, count once a trial. Lines come in the order of
    reading: control, undefended, then the defenses by name.
    """
    trial = ["target_class", "seed"]
    shared = rows.sort_values("defense").drop_duplicates(trial)
    columns = [*trial, "targets", "success", "clean_accuracy"]

    def renamed(success: str, accuracy: str, line: str) -> pd.DataFrame:
        own = shared[[*trial, "targets", success, accuracy]].set_axis(columns, axis=1)
        return own.assign(line=line)

    defended = rows.loc[rows["defense"] != "none", [*columns, "line"]].sort_values(trial)
    defended = defended.sort_values("line", key=lambda lines: lines.map(_reading), kind="stable")
    parts = [
        renamed("control", "clean_accuracy_control", CONTROL),
        renamed("success_undefended", "clean_accuracy_undefended", UNDEFENDED),
        defended,
    ]
    return pd.concat([part for part in parts if len(part)], ignore_index=True)[["line", *columns]]


def _reading(line: str) -> tuple[str | int, ...]:
    """A key by which ``steps 50`` comes before ``steps 100``."""
    parts = re.split(r"(\d+)", line)  # a text, a number, a text, ...
    return tuple(int(part) if place % 2 else part for place, part in enumerate(parts))


def over_targets(models: pd.DataFrame) -> pd.DataFrame:
    """Of each line the targets of all seeds together: ``hits``, ``n``, ``success`` with Wilson's interval, accuracy."""
    models = models.dropna(subset=["success", "targets"])
    grouped = models.assign(hits=(models["success"] * models["targets"]).round()).groupby("line", sort=False)
    found = grouped.agg(hits=("hits", "sum"), n=("targets", "sum"), clean_accuracy=("clean_accuracy", "mean"))
    found["success"] = found["hits"] / found["n"]
    found["low"], found["high"] = wilson(found["hits"], found["n"])
    return found.astype({"hits": int, "n": int}).reset_index()


def over_seeds(models: pd.DataFrame) -> pd.DataFrame:
    """Of each line and target class the mean ``success`` and accuracy over ``n`` seeds."""
    grouped = models.dropna(subset=["success", "target_class"]).groupby(["line", "target_class"], sort=False)
    found = grouped.agg(
        success=("success", "mean"), clean_accuracy=("clean_accuracy", "mean"), n=("seed", "count")
    )
    return found.reset_index().astype({"target_class": int})


def over_classes(classes: pd.DataFrame) -> pd.DataFrame:
    """Of each line, from :func:`over_seeds`: every class weighs the same, however many seeds it has.

    Columns: ``classes``, ``n`` (runs), ``success`` (mean), ``deviation`` (NaN for one class), ``low`` and ``high``
    (bootstrap over classes, NaN below three), ``worst`` and ``worst_class``, ``clean_accuracy``.
    """

    def summary(part: pd.DataFrame) -> dict[str, Any]:
        low, high = bootstrap_interval(part["success"].tolist())
        worst = part.iloc[int(part["success"].to_numpy().argmax())]
        deviation = float(np.std(part["success"], ddof=1)) if len(part) > 1 else np.nan
        return {
            "classes": len(part),
            "n": int(part["n"].sum()),
            "success": part["success"].mean(),
            "deviation": deviation,
            "low": low,
            "high": high,
            "worst": worst["success"],
            "worst_class": int(worst["target_class"]),
            "clean_accuracy": part["clean_accuracy"].mean(),
        }

    return pd.DataFrame(
        [{"line": line} | summary(part) for line, part in classes.groupby("line", sort=False)]
    )
