"""What a defense found: class histograms under a recovered trigger."""

import plotly.graph_objects as go

from poisonlab.figures.style import CLEAN, CONTROL, POISONED, layout
from poisonlab.records.artifacts import TriggerReconstruction


def class_histogram(trigger: TriggerReconstruction, round_: int, target: int | None = None) -> go.Figure:
    """Predictions for the clean images under one round's pattern; the true target's bar stands out."""
    counts = trigger.class_histogram[round_].float()
    share = (counts / counts.sum().clamp_min(1)).numpy()
    colors = [POISONED if i == target else CLEAN for i in range(len(share))]
    figure = go.Figure(
        go.Bar(
            x=trigger.classes,
            y=share,
            marker_color=colors,
            hovertemplate="class %{x}: %{y:.1%}<extra></extra>",
        )
    )
    layout(figure, "predicted class", "share of clean images", 320)
    figure.update_xaxes(type="category")
    figure.update_yaxes(tickformat=".0%", range=[0, 1])
    return figure


def concentration(trigger: TriggerReconstruction, round_: int) -> go.Figure:
    """Share of the most frequent class by round: near 1 while a backdoor answers, near 1/classes when it is gone."""
    counts = trigger.class_histogram.float()
    top = (counts.max(1).values / counts.sum(1).clamp_min(1)).numpy()
    rounds = list(range(1, len(top) + 1))
    figure = go.Figure(
        go.Scatter(x=rounds, y=top, mode="lines+markers", name="largest class", line={"color": CLEAN})
    )
    figure.add_scatter(
        x=[round_ + 1],
        y=[top[round_]],
        mode="markers",
        name="shown round",
        marker={"size": 13, "color": POISONED},
    )
    figure.add_hline(
        y=1 / counts.shape[1], line={"color": CONTROL, "dash": "dot"}, annotation_text="even split"
    )
    layout(figure, "round", "share of the largest class", 320)
    figure.update_yaxes(tickformat=".0%", range=[0, 1.05])
    return figure
