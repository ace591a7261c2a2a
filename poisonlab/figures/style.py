"""Colors with a meaning, and the layout every figure shares."""

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

# Okabe and Ito: safe for color-blind readers. The same thing has the same color on every page.
CLEAN = "#0072B2"
POISONED = "#D55E00"
PURIFIED = "#009E73"
CONTROL = "#5B6770"
INK = "#8560B8"  # where black would vanish in the dark: read on both pages, and no other color
CATEGORICAL = (CLEAN, POISONED, PURIFIED, "#CC79A7", "#E69F00", "#56B4E9", CONTROL)
SEQUENTIAL = "Cividis"
DASHES = ("solid", "dash", "dot", "dashdot")
SYMBOLS = ("circle", "square", "diamond", "cross", "triangle-up", "x", "star")


def layout(figure: go.Figure, x: str, y: str, height: int = 340, **more: Any) -> go.Figure:
    """Axis titles, a legend above the plot, margins that cut nothing off."""
    figure.update_layout(
        height=height,
        margin={"l": 60, "r": 20, "t": 40, "b": 50},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        xaxis_title=x,
        yaxis_title=y,
        **more,
    )
    figure.update_xaxes(automargin=True)
    figure.update_yaxes(automargin=True)
    return figure


def rgba(color: str, alpha: float) -> str:
    """``#RRGGBB`` with an opacity."""
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {alpha})"


def add_runs(figure: go.Figure, line: str, number: int, **more: Any) -> None:
    """A faint mark for each run of line ``number``; the legend has the means alone."""
    color = CATEGORICAL[number % len(CATEGORICAL)]
    symbol = SYMBOLS[number % len(SYMBOLS)]
    figure.add_scatter(
        mode="markers",
        legendgroup=line,
        showlegend=False,
        marker={"color": color, "symbol": symbol, "size": 6, "opacity": 0.5},
        **more,
    )


def add_means(figure: go.Figure, line: str, number: int, **more: Any) -> None:
    """The means of the same line, joined."""
    figure.add_scatter(
        mode="lines+markers",
        name=line,
        legendgroup=line,
        line={"color": CATEGORICAL[number % len(CATEGORICAL)], "dash": DASHES[number % len(DASHES)]},
        marker={"symbol": SYMBOLS[number % len(SYMBOLS)], "size": 9},
        **more,
    )


def error_bars(part: pd.DataFrame, name: str) -> dict[str, object]:
    """Plotly's error bars of the column ``name`` from ``name_low`` and ``name_high``; rows without one get none."""
    low = part[f"{name}_low"].astype(float)
    high = part[f"{name}_high"].astype(float)
    finite = np.isfinite(low) & np.isfinite(high)
    plus = np.where(finite, (high.clip(upper=1) - part[name]).clip(lower=0), 0)
    minus = np.where(finite, (part[name] - low.clip(lower=0)).clip(lower=0), 0)
    return {
        "type": "data",
        "array": plus,
        "arrayminus": minus,
        "symmetric": False,
        "thickness": 1.2,
        "width": 4,
    }
