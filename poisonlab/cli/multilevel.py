"""``multilevel``: hyperparameters learned with and without a poisoning adversary, swept and kept."""

import argparse
import csv
import dataclasses
import sys
import time
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from poisonlab.cli.results import index
from poisonlab.cli.terminal import OK, ProgressLine, UsageError, one_line, say, table
from poisonlab.events import Progress, StageStarted
from poisonlab.multilevel.spec import Rules, SweepSpec
from poisonlab.spec.config import SpecError, explain
from poisonlab.spec.overrides import parse_settings

STAGE = "games"
CELL_COLUMNS = (
    "model",
    "penalty",
    "noise",
    "n",
    "test MSE",
    "low",
    "high",
    "minus bilevel",
    "low",
    "high",
)
COMPARISON_COLUMNS = ("penalty", "trilevel better", "crossing", "interval below 0 at noise", "unbounded")


def multilevel(options: argparse.Namespace) -> int:
    from poisonlab.multilevel import record as records  # noqa: PLC0415 - slow
    from poisonlab.multilevel.comparison import cells, comparisons  # noqa: PLC0415
    from poisonlab.multilevel.data import TableError, diabetes, read_table  # noqa: PLC0415
    from poisonlab.multilevel.sweep import sweep  # noqa: PLC0415

    spec = _spec(options)
    line = ProgressLine()
    line(StageStarted(STAGE))
    start = time.perf_counter()
    try:
        if options.target and not options.data:
            raise UsageError("--target names a column of --data FILE")
        data = (
            read_table(_read(options.data), options.data.name, options.target) if options.data else diabetes()
        )
        outcomes = sweep(data, spec, lambda step, total: line(Progress(STAGE, step, total)))
    except (TableError, ValueError) as error:
        raise UsageError(one_line(error)) from None
    found = records.make_record(data, spec, outcomes, time.perf_counter() - start)
    path = records.write(found, options.results)
    index(options.results)
    compared = comparisons(outcomes)
    if options.json:
        print(found.model_dump_json())
    elif options.csv:
        _print_csv(found)
    else:
        print(table(CELL_COLUMNS, [dataclasses.astuple(cell) for cell in cells(outcomes, spec.noises)]))
        print()
        print(table(COMPARISON_COLUMNS, [_comparison_row(comparison) for comparison in compared]))
    for comparison in compared:
        if comparison.warning():
            say(f"warning: {comparison.warning()}")
    say(f"{found.seconds:.1f} s, kept as {path}; in the dashboard: multilevel?sweep={found.sweep_id}")
    return OK


def _comparison_row(comparison: Any) -> tuple[object, ...]:
    c = comparison
    sure = "-" if c.sure is None else f"{c.sure[0]:g} to {c.sure[1]:g}"
    return c.penalty, c.verdict, c.crossing, sure, c.unbounded


def _spec(options: argparse.Namespace) -> Any:
    """The sweep that the options ask for.

    Raises:
        SpecError: a value that cannot be; the message says what can.
    """
    values: dict[str, Any] = {"order": options.order, "seeds": options.seeds}
    values |= {
        "penalties": _listed("--penalty", options.penalty),
        "noises": _listed("--noise", options.noise),
    }
    values = {name: value for name, value in values.items() if value is not None}
    for name, value in parse_settings(options.set).items():
        if name in Rules.model_fields:
            values.setdefault("rules", {})[name] = value
        elif name in ("train_rows", "validation_rows"):
            values[name] = value
        else:
            known = ", ".join(("train_rows", "validation_rows", *Rules.model_fields))
            raise SpecError(f"unknown parameter {name!r}; choose one of: {known}")
    try:
        return SweepSpec.model_validate(values)
    except ValidationError as error:
        raise SpecError(explain(error)) from None


def _listed(option: str, text: str | None) -> list[float] | None:
    try:
        return None if text is None else [float(part) for part in text.split(",") if part]
    except ValueError:
        raise UsageError(f"{option} takes numbers separated by commas, got {text!r}") from None


def _read(path: Path) -> bytes:
    """No more of a file than is ever used, so that its size can be complained about."""
    from poisonlab.multilevel.data import MAX_BYTES  # noqa: PLC0415

    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1)


def _print_csv(record: Any) -> None:
    out = csv.writer(sys.stdout)
    names = (
        "model",
        "penalty",
        "seed",
        "strength",
        "weight_norm",
        "perturbation",
        "validation_mse",
        "bounded",
        "steps",
    )
    out.writerow([*names, "noise", "test_mse"])
    for outcome in record.outcomes:
        for noise in record.spec.noises:
            out.writerow([*(getattr(outcome, name) for name in names), noise, outcome.mse(noise)])
