"""What commands that print tables of the store share: other forms than text, and what is missing in them."""

import argparse
import sys
from typing import Any

from poisonlab.cli.terminal import say
from poisonlab.store import Store
from poisonlab.store.asked import Answer


def written(rows: Any, options: argparse.Namespace) -> bool:
    """Write a data frame in the form that ``--parquet``, ``--csv`` or ``--json`` asks for; whether one did."""
    if options.parquet:
        rows.to_parquet(options.parquet, index=False)
        say(f"{len(rows)} rows in {options.parquet}")
    elif options.csv:
        rows.to_csv(sys.stdout, index=False)
    elif options.json:
        print(rows.to_json(orient="records"))
    return bool(options.parquet or options.csv or options.json)


def say_left_out(asked: Store | Answer) -> None:
    """Name what could not be read: a table with a run less must not pass for the whole."""
    for reason in asked.skipped.values():
        say(f"left out: {reason}")
