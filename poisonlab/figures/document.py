"""Figures for a document without a server: plotly's own program, and a figure as data for it."""

import plotly.graph_objects as go
from plotly import offline

GRID = "rgba(128, 128, 128, 0.3)"  # in sight on white and on black


def library() -> str:
    """The text of plotly.js."""
    return str(offline.get_plotlyjs())


def as_json(figure: go.Figure) -> str:
    """A figure as plotly.js takes it, on no background of its own: the document around it may be light or dark."""
    shown = go.Figure(figure)
    clear = "rgba(0, 0, 0, 0)"
    shown.update_layout(template="plotly_white", paper_bgcolor=clear, plot_bgcolor=clear)
    shown.update_layout(legend_bgcolor=clear)
    lines = {"gridcolor": GRID, "zerolinecolor": GRID, "linecolor": GRID}
    shown.update_xaxes(**lines)
    shown.update_yaxes(**lines)
    return str(shown.to_json())
