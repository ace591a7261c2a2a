"""Metrics of the catalogue as columns of runs: the table's own, and for metrics added since, read from ``metrics``."""

from collections.abc import Mapping

from poisonlab.measure import catalogue
from poisonlab.measure.metric import Metric

# Columns of the table ``runs`` by its migrations, so that the leaderboard needs no pivot for them. A metric that joins
# the catalogue later needs no column here.
STORED = (
    "clean_accuracy",
    "clean_accuracy_undefended",
    "clean_accuracy_control",
    "success",
    "success_undefended",
    "control",
    "robust_accuracy",
    "der",
    "targets",
)


def stored_metrics(measured: Mapping[str, float | None], threat: str | None) -> dict[str, float | None]:
    """The values of a run's metric columns."""
    return {name: v for name, v in catalogue.values(measured, threat).items() if name in STORED}


def added() -> list[Metric]:
    """Metrics of the leaderboard that are no column of ``runs``."""
    return [metric for metric in catalogue.board() if metric.name not in STORED]


def with_added(relation: str) -> str:
    """``relation``, of runs, with a column for each of :func:`added`; a run with a collapsed model has none of them."""
    names = [metric.name for metric in added()]
    if not names:
        return relation
    pivot = ", ".join(f"max(value) FILTER (name = '{name}') AS \"{name}\"" for name in names)
    asked = ", ".join(f"'{name}'" for name in names)
    return f"""({relation} AS measured LEFT JOIN
        (SELECT run_id AS added_to, {pivot} FROM metrics WHERE name IN ({asked}) GROUP BY run_id) AS added
        ON added_to = run_id AND coalesce(collapsed, '') = '')"""
