"""Figures that play: buttons and a slider over the frames, all in the browser."""

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

MILLISECONDS = 350  # of a frame


def playable(figure: go.Figure, frames: Sequence[Sequence[Any]], names: Sequence[str], what: str) -> go.Figure:
    """Add play, pause, back-to-start and a slider to a figure, which should show the last frame.

    Args:
        frames: for each moment the traces that replace the figure's first ones, as many as change.
        names: what the slider says at each moment.
        what: is counted, such as ``"step "``; stands before the name.
    """
    figure.frames = [go.Frame(data=list(traces), name=name) for traces, name in zip(frames, names, strict=True)]
    now = {"frame": {"duration": 0, "redraw": True}, "mode": "immediate", "transition": {"duration": 0}}
    run = {"frame": {"duration": MILLISECONDS, "redraw": True}, "fromcurrent": True, "transition": {"duration": 0}}
    figure.update_layout(
        updatemenus=[{
            "type": "buttons", "direction": "left", "showactive": False, "x": 0, "y": 0, "xanchor": "left",
            "yanchor": "top", "pad": {"t": 162},
            "buttons": [
                {"label": "Reset", "method": "animate", "args": [[names[0]], now]},
                {"label": "Play", "method": "animate", "args": [None, run]},
                {"label": "Pause", "method": "animate", "args": [[None], now]},
            ],
        }],
        sliders=[{
            "active": len(names) - 1, "x": 0, "len": 1, "y": 0, "xanchor": "left", "yanchor": "top",
            "pad": {"t": 70}, "currentvalue": {"prefix": what, "xanchor": "left"},
            "steps": [{"label": name, "method": "animate", "args": [[name], now]} for name in names],
        }],
    )  # fmt: skip
    margin = figure.layout.margin
    figure.update_layout(height=(figure.layout.height or 340) + 155, margin_b=(margin.b or 50) + 155)
    return figure
