"""What a defense achieves with more or fewer clean images."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from poisonlab.figures.style import CONTROL, add_means, add_runs, error_bars, layout

ASIDE = 1.03  # neighboring lines stand this factor apart, so that their bars do not cover each other

# measure -> title of its panel, and the column that says how it was without a defense
PANELS = {
    "clean_accuracy": ("clean accuracy", "clean_accuracy_undefended"),
    "success": ("attack success", "success_undefended"),
    "der": ("DER", None),
}


def budget_curves(rows: pd.DataFrame, means: pd.DataFrame) -> go.Figure:
    """Accuracy, attack success and DER against the number of clean images: a point a seed, a line a defense.

    Args:
        rows: one a run, with ``line`` (its defense), ``clean_images``, ``seed`` and the measures.
        means: one a line and number of images, with the interval over seeds where there is one.
    """
    shown = {name: panel for name, panel in PANELS.items() if rows[name].notna().any()}
    titles = [title for title, _ in shown.values()]
    figure = make_subplots(rows=1, cols=len(shown), subplot_titles=titles, horizontal_spacing=0.06)
    for column, (name, (_, before)) in enumerate(shown.items(), 1):
        _panel(figure, rows, means, name, column)
        level = 0.5 if before is None else float(rows[before].mean())
        if np.isfinite(level):
            figure.add_hline(y=level, line={"color": CONTROL, "dash": "dot", "width": 1}, row=1, col=column)
    layout(figure, "", "", 430)
    figure.update_layout(legend_y=1.12, margin_t=90)
    ticks = sorted(set(rows["clean_images"]))
    figure.update_xaxes(
        type="log",
        title="clean images",
        tickvals=ticks,
        ticktext=[f"{t:,}" for t in ticks],
        range=[np.log10(ticks[0]) - 0.15, np.log10(ticks[-1]) + 0.15],
    )
    figure.update_yaxes(tickformat=".0%", range=[-0.04, 1.06])
    accuracies = (
        rows["clean_accuracy"].min(),
        rows["clean_accuracy_undefended"].min(),
        means["clean_accuracy_low"].min(),
    )
    lowest = min(0.8, np.nanmin(accuracies) - 0.04)  # so that the few points a repair costs can be seen
    figure.update_yaxes(range=[lowest, 1.01], col=1)
    return figure


def _panel(figure: go.Figure, rows: pd.DataFrame, means: pd.DataFrame, name: str, column: int) -> None:
    """The lines of one measure, and a point for each run."""
    title = PANELS[name][0]
    lines = sorted(means["line"].unique())
    for number, line in enumerate(lines):
        aside = ASIDE ** (number - (len(lines) - 1) / 2)
        runs = rows[rows["line"] == line]
        add_runs(
            figure,
            line,
            number,
            x=runs["clean_images"] * aside,
            y=runs[name],
            customdata=runs[["clean_images", "seed"]],
            hovertemplate=f"{line}, %{{customdata[0]}} images, seed %{{customdata[1]}}<br>"
            f"{title} %{{y:.1%}}<extra></extra>",
            row=1,
            col=column,
        )
        part = means[means["line"] == line]
        add_means(
            figure,
            line,
            number,
            x=part["clean_images"] * aside,
            y=part[name],
            showlegend=column == 1,
            error_y=error_bars(part, name),
            customdata=part[["clean_images", "n"]],
            hovertemplate=f"{line}, %{{customdata[0]}} images, n=%{{customdata[1]}}<br>"
            f"mean {title} %{{y:.1%}}<extra></extra>",
            row=1,
            col=column,
        )
