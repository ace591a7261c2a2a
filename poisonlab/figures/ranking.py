"""Mean ranks with their intervals, the best on top."""

import pandas as pd
import plotly.graph_objects as go

from poisonlab.figures.style import CLEAN, CONTROL, layout

ROW_HEIGHT = 26


def mean_ranks(rows: pd.DataFrame, baseline: str) -> go.Figure:
    """One line a method with a rank, in the order of ``rows``: its mean rank and the 95 % interval.

    Args:
        rows: ``name``, ``mean_rank``, ``rank_low``, ``rank_high``; those without a rank are left out.
        baseline: the row that is drawn in gray.
    """
    shown = rows.dropna(subset=["mean_rank"])
    color = [CONTROL if name == baseline else CLEAN for name in shown["name"]]
    figure = go.Figure()
    figure.add_scatter(
        x=shown["mean_rank"],
        y=shown["name"],
        mode="markers",
        marker={"size": 10, "color": color},
        error_x={
            "type": "data",
            "symmetric": False,
            "array": shown["rank_high"] - shown["mean_rank"],
            "arrayminus": shown["mean_rank"] - shown["rank_low"],
            "color": CONTROL,
            "thickness": 1.5,
        },
        customdata=shown[["rank_low", "rank_high"]],
        hovertemplate="%{y}: mean rank %{x:.2f}, 95 % interval %{customdata[0]:.1f} to %{customdata[1]:.1f}"
        "<extra></extra>",
        showlegend=False,
    )
    layout(figure, "mean rank, 1 is best, and its 95 % interval", "", 100 + ROW_HEIGHT * len(shown))
    figure.update_xaxes(range=[0.5, len(shown) + 0.5], dtick=max(1, len(shown) // 7))
    figure.update_yaxes(autorange="reversed")
    return figure
