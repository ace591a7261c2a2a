"""The leaderboard as pictures: attack x defense, and what a defense costs for what it prevents."""

import numpy as np
import pandas as pd
import plotly.express as px
import plotly.graph_objects as go

from poisonlab.figures.style import CATEGORICAL, CONTROL, SEQUENTIAL, SYMBOLS, error_bars, layout

ROW_HEIGHT = 44
NAMED_PAIRS = 12  # of attack and defense that a legend can hold
NAMED_DEFENSES = 12  # next to each other for which a cell of the heatmap has room for a tenth of a percent
BARRED = 60  # rows whose intervals do not cover each other


def heatmap(rows: pd.DataFrame, metric: str, label: str) -> go.Figure:
    """Attack x defense, each cell the mean of ``metric`` over its rows with the preset's own values.

    Where there are none, over all of its rows, marked by a star. The color scale always runs from 0 to 1: the same
    color means the same under every filter. Cells without a run stay empty.
    """
    pair = ["attack", "defense"]
    changed = rows["settings"] != ""
    starred = changed.groupby([rows[name] for name in pair]).transform("all")
    own = rows[~changed | starred].assign(starred=starred)
    table = own.pivot_table(index="attack", columns="defense", values=metric, aggfunc="mean", dropna=False)
    first = sorted(
        table.columns, key=lambda name: (name != "none", name)
    )  # what the others are compared with
    table = table[first].astype(float)
    stars = own.pivot_table(index="attack", columns="defense", values="starred", aggfunc="max").reindex_like(
        table
    )
    marks = stars.eq(True).replace({True: "*", False: ""})
    digits = 1 if len(table.columns) <= NAMED_DEFENSES else 0
    text = table.map(lambda value: "" if pd.isna(value) else f"{value:.{digits}%}") + marks.where(
        table.notna(), ""
    )
    figure = px.imshow(
        table.to_numpy(),
        x=[str(c) for c in table.columns],
        y=[str(i) for i in table.index],
        zmin=0,
        zmax=1,
        aspect="auto",
        color_continuous_scale=SEQUENTIAL,
        labels={"x": "defense", "y": "attack", "color": label},
    )
    figure.update_traces(text=text.to_numpy(), texttemplate="%{text}", xgap=3, ygap=3)
    figure.update_traces(hovertemplate="%{y} against %{x}<br>" + label + " %{z:.1%}<extra></extra>")
    figure.update_xaxes(showgrid=False)
    figure.update_yaxes(showgrid=False)
    figure.update_coloraxes(colorbar={"tickformat": ".0%", "title": ""})
    return layout(figure, "defense", "attack", 150 + ROW_HEIGHT * max(2, len(table)))


def trade_off(rows: pd.DataFrame) -> go.Figure:
    """Clean accuracy against attack success: below and to the right is better.

    One marker a group with its interval over seeds where there is one. Color is the defense, shape the attack; a
    thin line leads from the undefended model to the defended one. Of many groups there are no intervals, of many
    pairs no lines, and the legend names the defenses alone: attacks are named on hover.
    """
    figure = go.Figure()
    shown = rows.dropna(subset=["clean_accuracy", "success"])
    defenses = sorted(shown["defense"].unique())
    attacks = sorted(shown["attack"].unique())
    pairs = shown.groupby(["defense", "attack"], sort=True)
    few = len(pairs) <= NAMED_PAIRS
    barred = len(shown) <= BARRED
    named = set()
    if few:
        _add_moves(figure, shown)
    for (defense, attack), part in pairs:
        figure.add_scatter(
            x=part["clean_accuracy"],
            y=part["success"],
            mode="markers",
            name=f"{defense} against {attack}" if few else defense,
            legendgroup=None if few else defense,
            showlegend=few or defense not in named,
            marker={
                "size": 12 if few else 9,
                "color": CATEGORICAL[defenses.index(defense) % len(CATEGORICAL)],
                "symbol": SYMBOLS[attacks.index(attack) % len(SYMBOLS)],
                "line": {"width": 1, "color": "white"},
            },
            error_x=error_bars(part, "clean_accuracy") if barred else None,
            error_y=error_bars(part, "success") if barred else None,
            customdata=np.stack([part["dataset"], part["victim"], part["n"], part["source"]], axis=1),
            hovertemplate="%{customdata[0]}, %{customdata[1]}, n=%{customdata[2]}, %{customdata[3]}<br>"
            f"clean accuracy %{{x:.1%}}, success %{{y:.1%}}<extra>{defense} against {attack}</extra>",
        )
        named.add(defense)
    layout(figure, "clean accuracy", "attack success (lower is better under a defense)", 420 if few else 560)
    seen = pd.concat([shown["clean_accuracy"], shown["clean_accuracy_undefended"].dropna()])
    low = min(seen.min() - 0.02, 0.9)
    figure.update_xaxes(
        tickformat=".0%", range=[low, 1.01]
    )  # a wide frame: a tenth of a point is no difference
    lowest = shown["success"].min() - 0.02  # below 0 where a repair gained accuracy
    figure.update_yaxes(tickformat=".0%", range=[min(-0.04, lowest), 1.04])
    return figure


def _add_moves(figure: go.Figure, rows: pd.DataFrame) -> None:
    """A line from where each group stood without its defense to where it stands with it, all in one trace."""
    moved = rows.dropna(subset=["clean_accuracy_undefended", "success_undefended"])
    moved = moved[moved["defense"] != "none"]
    if moved.empty:
        return
    gap = np.full(len(moved), np.nan)
    x = np.stack([moved["clean_accuracy_undefended"], moved["clean_accuracy"], gap], 1).ravel()
    y = np.stack([moved["success_undefended"], moved["success"], gap], 1).ravel()
    figure.add_scatter(
        x=x,
        y=y,
        mode="lines",
        name="from undefended",
        line={"color": CONTROL, "width": 1, "dash": "dot"},
        hoverinfo="skip",
    )
