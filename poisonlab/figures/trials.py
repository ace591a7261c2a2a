"""How sure a rate of success is, over targets and over classes."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from poisonlab.figures.style import CATEGORICAL, CLEAN, CONTROL, POISONED, SYMBOLS, layout

ROW_HEIGHT = 46
_SHARED = {"control": (CONTROL, "x"), "undefended": (POISONED, "square")}
_DEFENDED = [(c, s) for c, s in zip(CATEGORICAL[2:], SYMBOLS[3:], strict=False) if c != CONTROL]


def _marks(lines: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Color and symbol of each line; control and undefended look the same in every figure."""
    defenses = [line for line in lines if line not in _SHARED]
    own = [(CLEAN, "circle"), *_DEFENDED]
    return _SHARED | {line: own[i % len(own)] for i, line in enumerate(defenses)}


def target_intervals(lines: pd.DataFrame) -> go.Figure:
    """A disc a line where its share of targets is, a bar for its interval.

    Args:
        lines: ``line``, ``success``, ``low``, ``high``, ``hits`` and ``n``.
    """
    figure = go.Figure()
    marks = _marks(list(lines["line"]))
    for row in lines.to_dict("records"):
        color, symbol = marks[row["line"]]
        up = row["high"] - row["success"]
        down = row["success"] - row["low"]
        figure.add_scatter(
            x=[row["success"]],
            y=[row["line"]],
            mode="markers+text",
            showlegend=False,
            marker={"color": color, "symbol": symbol, "size": 12},
            text=[f"{row['hits']} of {row['n']}"],
            textposition="top center",
            error_x={"type": "data", "array": [up], "arrayminus": [down], "symmetric": False, "width": 7},
            hovertemplate=f"{row['line']}: {row['hits']} of {row['n']} targets<br>"
            f"95 % interval {row['low']:.0%} to {row['high']:.0%}<extra></extra>",
        )
    layout(figure, "share of targets given the adversarial class", "", 110 + ROW_HEIGHT * len(lines))
    figure.update_layout(margin_t=20)
    figure.update_xaxes(tickformat=".0%", range=[-0.03, 1.03])
    order = list(lines["line"])[::-1]  # the first on top
    figure.update_yaxes(categoryorder="array", categoryarray=order, range=[-0.6, len(order) - 0.3])
    return figure


def class_success(classes: pd.DataFrame, lines: pd.DataFrame, names: Sequence[str]) -> go.Figure:
    """Success against each target class, and beside it the mean of each line with its interval and its worst class.

    Args:
        classes: one row a line and class: ``line``, ``target_class``, ``success``, ``n``.
        lines: one row a line: ``line``, ``success``, ``low``, ``high`` (NaN where there is none), ``worst``,
            ``worst_class``.
        names: of the classes.
    """
    figure = make_subplots(
        1,
        2,
        shared_yaxes=True,
        column_widths=[0.68, 0.32],
        horizontal_spacing=0.04,
        subplot_titles=["each target class", "mean, and worst class (dash)"],
    )
    marks = _marks(list(lines["line"]))
    shown = sorted(classes["target_class"].unique())
    for number, row in enumerate(lines.to_dict("records")):
        line = row["line"]
        color, symbol = marks[line]
        part = classes[classes["line"] == line]
        aside = 0.5 * ((number + 0.5) / len(lines) - 0.5)  # lines stand beside each other, not on top
        figure.add_scatter(
            x=[shown.index(c) + aside for c in part["target_class"]],
            y=part["success"],
            mode="markers",
            name=line,
            legendgroup=line,
            marker={"color": color, "symbol": symbol, "size": 10},
            row=1,
            col=1,
            customdata=[[names[c], n] for c, n in zip(part["target_class"], part["n"], strict=True)],
            hovertemplate=f"{line}, class %{{customdata[0]}}, n=%{{customdata[1]}}<br>%{{y:.1%}}<extra></extra>",
        )
        _add_mean_and_worst(figure, row, color, symbol, names)
    layout(figure, "", "", 430)
    figure.update_layout(legend_y=1.1, margin_t=90, yaxis_title="attack success")
    figure.update_xaxes(
        title="target class",
        tickvals=list(range(len(shown))),
        ticktext=[names[c] for c in shown],
        range=[-0.6, len(shown) - 0.4],
        row=1,
        col=1,
    )
    figure.update_yaxes(tickformat=".0%", range=[-0.04, 1.06])
    return figure


def _add_mean_and_worst(
    figure: go.Figure, row: dict[Any, Any], color: str, symbol: str, names: Sequence[str]
) -> None:
    """The mean of a line with its interval, joined to its worst class."""
    has_interval = not pd.isna(row["low"])
    up = row["high"] - row["success"] if has_interval else 0.0
    down = row["success"] - row["low"] if has_interval else 0.0
    figure.add_scatter(
        x=[row["line"], row["line"]],
        y=[row["success"], row["worst"]],
        mode="lines+markers",
        legendgroup=row["line"],
        showlegend=False,
        line={"color": color, "width": 1, "dash": "dot"},
        row=1,
        col=2,
        marker={"color": color, "symbol": [symbol, "line-ew-open"], "size": [11, 16], "line": {"width": 2}},
        error_y={"type": "data", "array": [up, 0], "arrayminus": [down, 0], "symmetric": False, "width": 6},
        customdata=[["mean", f"{row['classes']} classes"], ["worst class", names[row["worst_class"]]]],
        hovertemplate=f"{row['line']}: %{{customdata[0]}} %{{y:.1%}}, %{{customdata[1]}}<extra></extra>",
    )
