"""Measured numbers beside published ones, in one line of a terminal; all in percent."""

import statistics
from collections.abc import Sequence

from poisonlab.published.tables import Number
from poisonlab.records.record import RunRecord

SUCCESS = ("asr", "poison_success")


def compared(number: Number | None, records: Sequence[RunRecord]) -> str:
    """Mean over the runs of a cell, its deviation and the worst where there are several, and what is published."""
    quoted = number or Number.model_construct()
    accuracy = _published(quoted.accuracy, quoted.accuracy_sd, None, len(records))
    success = _published(quoted.success, quoted.success_sd, quoted.success_max, len(records))
    return (
        f"accuracy {_mean(_rates(records, 'clean_accuracy'))} ({accuracy} published), "
        f"success {_mean(_rates(records, *SUCCESS), worst=True)} ({success} published)"
    )


def measured(record: RunRecord) -> str:
    """One of the runs of a cell, with which nothing published can be compared."""
    return (
        f"accuracy {_mean(_rates([record], 'clean_accuracy'))}, success {_mean(_rates([record], *SUCCESS))}"
    )


def _rates(records: Sequence[RunRecord], *names: str) -> list[float | None]:
    """Of the first of the names that a run measured."""
    return [next((r.metrics[n] for n in names if n in r.metrics), None) for r in records]


def _mean(rates: list[float | None], worst: bool = False) -> str:
    finite = [100 * rate for rate in rates if rate is not None]
    if len(finite) < len(rates):
        return "diverged"
    return (
        _shown(finite[0])
        if len(finite) == 1
        else _spread(statistics.mean(finite), statistics.stdev(finite), max(finite) if worst else None)
    )


def _published(mean: float | None, sd: float | None, highest: float | None, runs: int) -> str:
    if mean is None:
        return "-"
    return _shown(mean) if runs == 1 else _spread(mean, sd, highest)


def _spread(mean: float, sd: float | None, highest: float | None) -> str:
    deviation = "" if sd is None else f" ± {_shown(sd)}"
    return f"{_shown(mean)}{deviation}" + ("" if highest is None else f", at most {_shown(highest)}")


def _shown(percent: float) -> str:
    return f"{percent:.2f}"
