"""What is not the same in several runs: metrics, and values of their specs."""

from collections.abc import Sequence
from typing import Any

from poisonlab.records.record import RunRecord


def differing_metrics(records: Sequence[RunRecord]) -> dict[str, list[float | None]]:
    """The values of each metric that is not the same in all records, one value a record."""
    names = dict.fromkeys(name for record in records for name in record.metrics)
    found = {name: [record.metrics.get(name) for record in records] for name in names}
    return {name: values for name, values in found.items() if _differ(values)}


def differing_settings(records: Sequence[RunRecord]) -> dict[str, list[Any]]:
    """The same of the specs, by dotted names as the command line writes them; ``None`` where a spec has no such."""
    specs = [settings(record) for record in records]
    names = dict.fromkeys(name for spec in specs for name in spec)
    found = {name: [spec.get(name) for spec in specs] for name in names}
    return {name: values for name, values in found.items() if _differ(values)}


def settings(record: RunRecord) -> dict[str, Any]:
    """All values of a run's spec by dotted names, a method's own under the part that it plays."""
    found: dict[str, Any] = {}
    for key, value in record.spec.model_dump(mode="json").items():
        if not isinstance(value, dict):
            found[key] = value
        elif "params" in value:
            found[key] = value["name"]
            found |= {f"{key}.{name}": setting for name, setting in value["params"].items()}
        else:
            found |= {f"{key}.{name}": setting for name, setting in value.items()}
    return found


def _differ(values: Sequence[Any]) -> bool:
    return any(value != values[0] for value in values)
