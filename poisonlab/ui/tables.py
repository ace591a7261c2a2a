"""Tables of runs and groups: numbers stay numbers, shares are bars, what is missing shows as missing."""

from typing import Any, Literal

import pandas as pd
import streamlit as st

from poisonlab.figures.style import CLEAN, POISONED
from poisonlab.ui import glossary
from poisonlab.ui.wording import NONE

COLUMN = st.column_config
# One row's height and the header's, so that a table is as tall as its rows and no page has a table in a scroll box.
ROW = 36
HEADER = 40
TALLEST = 14
RUN_COLUMNS = [
    "dataset",
    "attack",
    "defense",
    "seed",
    "clean_accuracy",
    "success",
    "undefended",
    "control",
    "source",
]


def dicts(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table, each by the names of its columns."""
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def share(name: str, label: str | None = None, color: str = CLEAN) -> Any:
    """A rate in [0, 1] as a bar with its percentage, defined on hover."""
    definition = glossary.define(name)
    return COLUMN.ProgressColumn(
        label or definition.label,
        help=definition.text,
        format="percent",
        min_value=0,
        max_value=1,
        color=color,
    )


def percentage(name: str, label: str, width: Literal["small"] | int | None = None) -> Any:
    """A rate as plain text in percent, for what is beside a bar."""
    return COLUMN.NumberColumn(label, help=glossary.help_for(name), format="percent", width=width)


def height(rows: int) -> int:
    return HEADER + ROW * min(max(rows, 1), TALLEST)


def runs(frame: pd.DataFrame, key: str) -> None:
    """Single runs, newest first."""
    st.dataframe(
        frame[RUN_COLUMNS],
        column_config={
            "clean_accuracy": share("clean_accuracy"),
            "success": share("success", color=POISONED),
            "undefended": percentage("undefended", "Undefended"),
            "control": percentage("control", "Control"),
            "source": COLUMN.TextColumn("Source", help=glossary.help_for("source")),
            "seed": COLUMN.NumberColumn("seed", format="%d", width="small"),
        },
        hide_index=True,
        placeholder=NONE,
        height=height(len(frame)),
        key=key,
        alt="Latest finished runs with their accuracy and attack success",
    )
