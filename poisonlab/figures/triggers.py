"""What a defense found: class histograms under a recovered trigger, masks by layer."""

import plotly.express as px
import plotly.graph_objects as go
import torch

from poisonlab.artifacts import NeuronScores, TriggerReconstruction
from poisonlab.figures.style import CATEGORICAL, CLEAN, CONTROL, POISONED, SEQUENTIAL, layout


def class_histogram(trigger: TriggerReconstruction, round_: int, target: int | None = None) -> go.Figure:
    """Predictions for the clean images under one round's pattern; the true target's bar stands out."""
    counts = trigger.class_histogram[round_].float()
    share = (counts / counts.sum().clamp_min(1)).numpy()
    colours = [POISONED if i == target else CLEAN for i in range(len(share))]
    figure = go.Figure(
        go.Bar(
            x=trigger.classes,
            y=share,
            marker_color=colours,
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
    figure = go.Figure(go.Scatter(x=rounds, y=top, mode="lines+markers", name="largest class", line={"color": CLEAN}))
    figure.add_scatter(
        x=[round_ + 1],
        y=[top[round_]],
        mode="markers",
        name="shown round",
        marker={"size": 13, "color": POISONED},
    )
    figure.add_hline(y=1 / counts.shape[1], line={"color": CONTROL, "dash": "dot"}, annotation_text="even split")
    layout(figure, "round", "share of the largest class", 320)
    figure.update_yaxes(tickformat=".0%", range=[0, 1.05])
    return figure


def mask_histogram(scores: NeuronScores) -> go.Figure:
    """How each layer's scores are spread over [0, 1]; colour is the log of the share, so that a few show."""
    counts = scores.histogram.float()
    share = counts / counts.sum(1, keepdim=True).clamp_min(1)
    shown = torch.log10(share.clamp_min(1e-5)).numpy()
    bins = counts.shape[1]
    centres = [(i + 0.5) / bins for i in range(bins)]
    figure = px.imshow(
        shown, x=centres, y=scores.layers, aspect="auto", zmin=-5, zmax=0, color_continuous_scale=SEQUENTIAL
    )
    figure.update_traces(
        customdata=share.numpy(),
        hovertemplate="%{y}<br>score %{x:.2f}: %{customdata:.2%} of weights<extra></extra>",
    )
    figure.update_coloraxes(
        colorbar={"title": "share", "tickvals": [-4, -2, 0], "ticktext": ["0.01 %", "1 %", "100 %"]}
    )
    return layout(figure, scores.score, "layer", max(320, 140 + 22 * len(scores.layers)))


def blamed(scores: NeuronScores) -> go.Figure:
    """Share of each layer's scores on the blamed side of one half: where the defense cuts."""
    counts = scores.histogram.float()
    half = counts.shape[1] // 2
    side, word = (slice(half), "below") if scores.low_is_blamed else (slice(half, None), "above")
    share = (counts[:, side].sum(1) / counts.sum(1).clamp_min(1)).numpy()
    figure = go.Figure(
        go.Bar(
            x=share,
            y=scores.layers,
            orientation="h",
            marker_color=CATEGORICAL[1],
            hovertemplate="%{y}: %{x:.2%}<extra></extra>",
        )
    )
    layout(figure, f"share of scores {word} 0.5", "layer", max(320, 140 + 22 * len(scores.layers)))
    figure.update_xaxes(tickformat=".1%")
    figure.update_yaxes(autorange="reversed", type="category")
    return figure
