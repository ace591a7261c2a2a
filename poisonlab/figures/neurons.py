"""What a defense thinks of each part of a network, and what the trigger does to it."""

import plotly.express as px
import plotly.graph_objects as go
import torch
from torch import Tensor

from poisonlab.figures.style import CATEGORICAL, CLEAN, CONTROL, POISONED, SEQUENTIAL, layout
from poisonlab.records.artifacts import ActivationDrive, NeuronScores


def mask_histogram(scores: NeuronScores) -> go.Figure:
    """How each layer's scores are spread over [0, 1]; color is the log of the share, so that a few show."""
    counts = scores.histogram.float()
    share = counts / counts.sum(1, keepdim=True).clamp_min(1)
    shown = torch.log10(share.clamp_min(1e-5)).numpy()
    bins = counts.shape[1]
    centers = [(i + 0.5) / bins for i in range(bins)]
    figure = px.imshow(
        shown, x=centers, y=scores.layers, aspect="auto", zmin=-5, zmax=0, color_continuous_scale=SEQUENTIAL
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
    figure.update_xaxes(tickformat=".1%", range=[0, max(0.01, 1.05 * float(share.max()))])
    figure.update_yaxes(autorange="reversed", type="category")
    return figure


def drive_scatter(drive: ActivationDrive, layer: int | None) -> go.Figure:
    """Each channel's score against what the trigger adds to its activation.

    Args:
        layer: position of the only layer to show; ``None`` for all.
    """
    return _scatter(
        drive, drive.score, drive.drive, layer, drive.score_name, "activation with trigger − without"
    )


def change_scatter(drive: ActivationDrive, layer: int | None) -> go.Figure:
    """Each channel's weight change in unlearning clean images against that in unlearning triggered ones."""
    figure = _scatter(
        drive,
        drive.score,
        drive.poison_change,
        layer,
        "unlearning clean images",
        "unlearning triggered images",
    )
    figure.update_yaxes(rangemode="tozero")
    return figure


def correlation(drive: ActivationDrive, layer: int | None) -> float:
    """Pearson's, of the two weight changes; NaN where one of them does not vary."""
    mine = _shown(drive, layer)
    return float(torch.corrcoef(torch.stack([drive.score[mine], drive.poison_change[mine]]))[0, 1])


def _shown(drive: ActivationDrive, layer: int | None) -> Tensor:
    return torch.ones_like(drive.layer, dtype=torch.bool) if layer is None else drive.layer == layer


def _scatter(
    drive: ActivationDrive, x: Tensor, y: Tensor, layer: int | None, x_label: str, y_label: str
) -> go.Figure:
    """One point a channel; those of the half that the defense blames in the color of poison."""
    mine = _shown(drive, layer)
    blamed = (drive.score < 0.5) == drive.low_is_blamed
    within = torch.cat(
        [torch.arange(int(n)) for n in drive.layer.bincount()]
    )  # number of the channel in its layer
    figure = go.Figure()
    side = "below" if drive.low_is_blamed else "from"
    for name, part, color, symbol in (
        ("other channels", mine & ~blamed, CLEAN, "circle"),
        (f"score {side} 0.5: blamed", mine & blamed, POISONED, "diamond"),
    ):
        names = [
            f"{drive.layers[i]}, channel {n}" for i, n in zip(drive.layer[part], within[part], strict=True)
        ]
        figure.add_scatter(
            x=x[part].numpy(),
            y=y[part].numpy(),
            mode="markers",
            name=name,
            customdata=names,
            marker={"color": color, "symbol": symbol, "size": 7, "opacity": 0.7},
            hovertemplate="%{customdata}<br>%{x:.3f}, %{y:.3f}<extra></extra>",
        )
    figure.add_hline(y=0, line={"color": CONTROL, "width": 1})
    layout(figure, x_label, y_label, 400)
    figure.update_xaxes(range=[-0.03, 1.03])
    return figure
