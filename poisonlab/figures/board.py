"""A block of the leaderboard as pictures: attack x defense, and what a defense costs for what it prevents."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from poisonlab.figures.style import CLEAN, CONTROL, SEQUENTIAL, SYMBOLS, layout

ROW_HEIGHT = 34
TENTHS = 12  # defenses next to each other for which a cell has room for a tenth of a percent
DIGITS = 4  # of a rate: what a hover shows of it, and one more
CLICKED = 26  # pixels around the middle of a cell that take a click
PLACES = ("top center", "bottom center", "middle right", "middle left")  # of a name beside its mark


def heatmap(runs: pd.DataFrame, metric: str, label: str, order: Sequence[str] = ()) -> go.Figure:
    """Attack x defense, each cell the mean of ``metric`` over its seeds; only what was measured at all.

    The color scale runs from 0 to 1 for what lies there: the same color means the same for every block.

    Args:
        runs: one row a run: ``attack``, ``defense``, ``run_id`` and ``metric``.
        order: defenses from left to right; others follow by name.
    """
    measured = runs.dropna(subset=[metric])
    cells = measured.groupby(["attack", "defense"]).agg(
        value=(metric, "mean"), seeds=(metric, "size"), run_id=("run_id", "last")
    )
    table = cells["value"].unstack()
    known = [name for name in order if name in table.columns]
    columns = known + sorted(set(table.columns) - set(known))
    lines = list(table.mean(axis=1).sort_values().index)  # on the page the hardest attack stands at the top
    table = table.reindex(index=lines, columns=columns).astype(float)
    low = min(0.0, float(table.min().min())) if len(table) else 0.0
    figure = go.Figure(
        go.Heatmap(
            z=table.to_numpy(dtype=float).round(DIGITS),
            x=columns,
            y=lines,
            zmin=low,
            zmax=1,
            colorscale=SEQUENTIAL,
            xgap=2,
            ygap=2,
            hoverinfo="skip",
            colorbar={"tickformat": ".0%", "thickness": 12},
        )
    )
    _add_clickable(figure, cells, label, digits=1 if len(columns) <= TENTHS else 0, dark=(low + 1) / 2)
    layout(figure, "", "", 110 + ROW_HEIGHT * max(2, len(table)))
    figure.update_xaxes(showgrid=False, side="top", tickangle=-35)
    figure.update_yaxes(showgrid=False)
    figure.update_layout(
        clickmode="event+select", dragmode=False, margin={"l": 60, "r": 10, "t": 80, "b": 10}
    )
    return figure


def _add_clickable(figure: go.Figure, cells: pd.DataFrame, label: str, digits: int, dark: float) -> None:
    """The digits of each cell, on marks that can be clicked; a heatmap itself reports no click."""
    attack = cells.index.get_level_values("attack")
    defense = cells.index.get_level_values("defense")
    figure.add_scatter(
        x=defense,
        y=attack,
        mode="markers+text",
        text=[f"{value:.{digits}%}" for value in cells["value"]],
        textfont={"color": ["white" if value < dark else "black" for value in cells["value"]], "size": 12},
        marker={"size": CLICKED, "symbol": "square", "opacity": 0},
        selected={"marker": {"opacity": 0}},
        unselected={"marker": {"opacity": 0}},
        customdata=np.stack(
            [cells["run_id"], cells["seeds"], cells["value"].astype(float).round(DIGITS)], axis=1
        ),
        hovertemplate="%{y} against %{x}<br>" + label + " %{customdata[2]:.1%}, %{customdata[1]} seeds"
        "<extra>click to open</extra>",
        showlegend=False,
    )


def trade_off(marks: pd.DataFrame, baseline: str) -> go.Figure:
    """Clean accuracy lost against attack success, a named mark for each defense: below and to the left is better.

    The line joins the defenses that no other one beats in both. One that was measured on fewer attacks than others
    says on how many, and is not compared: its mean may be that of the easy ones.

    Args:
        marks: ``name``, ``success``, ``loss``, ``tasks``: over how many attacks, and ``run_id``, empty over several.
        baseline: the name of no defense, drawn in gray as what is not compared.
    """
    shown = marks.dropna(subset=["loss", "success"]).sort_values(["loss", "success"], ignore_index=True)
    most = shown["tasks"].max()
    whole = shown[shown["tasks"] == most]
    front = whole[whole["success"].cummin().diff().fillna(-1) < 0]
    compared = set(whole["name"])
    figure = go.Figure()
    figure.add_scatter(
        x=front["loss"],
        y=front["success"],
        mode="lines",
        line={"shape": "hv", "color": CONTROL, "dash": "dot", "width": 1.5},
        name="none is better in both",
        hoverinfo="skip",
    )
    best = set(front["name"])
    figure.add_scatter(
        x=shown["loss"],
        y=shown["success"],
        mode="markers+text",
        text=[
            name if name in compared else f"{name} ({tasks} of {most})"
            for name, tasks in zip(shown["name"], shown["tasks"], strict=True)
        ],
        textposition=[PLACES[place % len(PLACES)] for place in range(len(shown))],
        marker={
            "size": 11,
            "symbol": [SYMBOLS[0] if name in best else f"{SYMBOLS[0]}-open" for name in shown["name"]],
            "color": [CLEAN if name in compared - {baseline} else CONTROL for name in shown["name"]],
            "line": {"width": 2},
        },
        customdata=np.stack([shown["run_id"], shown["tasks"]], axis=1),
        hovertemplate="%{text}<br>success %{y:.1%}, accuracy lost %{x:.1%}, over %{customdata[1]} attacks"
        "<extra></extra>",
        showlegend=False,
    )
    layout(figure, "clean accuracy lost", "attack success", 460)
    figure.update_layout(clickmode="event+select", dragmode=False)
    figure.update_xaxes(tickformat=".0%", range=_fitted(shown["loss"], 0.12), zeroline=True)
    figure.update_yaxes(tickformat=".0%", range=_fitted(shown["success"], 0.08))
    return figure


def _fitted(values: pd.Series, room: float) -> list[float]:
    """An axis that holds all values, with room for their names."""
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    space = room * max(high - low, 0.02)
    return [low - space, high + space]
