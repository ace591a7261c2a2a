"""Curves over steps: losses, energies, anything a run reported with ``ctx.metric``."""

import pandas as pd
import plotly.graph_objects as go

from poisonlab.figures.style import CATEGORICAL, DASHES, layout
from poisonlab.records.artifacts import Curve

SHOWN_POINTS = 400  # more cannot be distinguished on a screen and make the page slow


def thin(frame: pd.DataFrame, count: int = SHOWN_POINTS) -> pd.DataFrame:
    """At most about ``count`` evenly spaced rows, the last one included."""
    if len(frame) <= count:
        return frame
    stride = -(-len(frame) // count)
    rows = list(range(0, len(frame), stride))
    return frame.iloc[[*rows, *([len(frame) - 1] if rows[-1] != len(frame) - 1 else [])]]


def metric_curve(points: pd.DataFrame, name: str, label: str = "", height: int = 260) -> go.Figure:
    """One reported quantity over its steps, one line a stage.

    Args:
        points: columns ``stage``, ``name``, ``step``, ``value``; a missing value is a diverged one.
    """
    figure = go.Figure()
    mine = points[points["name"] == name]
    for number, (stage, part) in enumerate(mine.groupby("stage", sort=False)):
        part = thin(part.sort_values("step"))
        line = {
            "color": CATEGORICAL[number % len(CATEGORICAL)],
            "dash": DASHES[number % len(DASHES)],
            "width": 2,
        }
        mode = "lines" if len(part) > 1 else "markers"
        figure.add_scatter(x=part["step"], y=part["value"], name=str(stage), mode=mode, line=line)
    return layout(figure, "step", label or name, height, showlegend=True)


def curve(artifact: Curve) -> go.Figure:
    """Series of a :class:`Curve` artifact over their common axis."""
    figure = go.Figure()
    for number, name in enumerate(artifact.series):
        line = {"color": CATEGORICAL[number % len(CATEGORICAL)], "dash": DASHES[number % len(DASHES)]}
        figure.add_scatter(x=artifact.x.numpy(), y=artifact.y[number].numpy(), name=name, line=line)
    return layout(figure, artifact.x_label, artifact.y_label)
