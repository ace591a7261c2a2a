"""Crafting through unrolled training: its curves, the victims it was tried on, and paths through weight space."""

import plotly.graph_objects as go

from poisonlab.figures.style import CLEAN, CONTROL, POISONED, layout, rgba
from poisonlab.records.artifacts import Crafting

TRAININGS = (("without poison", CLEAN, "circle"), ("with poison", POISONED, "diamond"))


def paths(trace: Crafting) -> go.Figure:
    """Checkpoints of both trainings in the plane of their largest variance; ends are large, the common start hollow."""
    figure = go.Figure()
    for (name, color, symbol), places, probabilities in zip(
        TRAININGS, trace.places, trace.path_probability, strict=True
    ):
        figure.add_scatter(
            x=places[:, 0].numpy(),
            y=places[:, 1].numpy(),
            mode="lines+markers",
            name=name,
            legendgroup=name,
            line={"color": rgba(color, 0.7), "width": 2},
            marker={"size": 6, "color": color, "symbol": symbol},
            customdata=probabilities.numpy(),
            hovertemplate="epoch %{pointNumber}<br>probability of the adversarial class %{customdata:.1%}"
            f"<extra>{name}</extra>",
        )
        last = {"color": color, "size": 14, "symbol": symbol, "line": {"color": "white", "width": 1}}
        figure.add_scatter(
            x=places[-1:, 0].numpy(),
            y=places[-1:, 1].numpy(),
            mode="markers",
            marker=last,
            legendgroup=name,
            showlegend=False,
            hoverinfo="skip",
        )
    start = trace.places[0, :1]
    ring = {"color": "white", "size": 12, "line": {"color": CONTROL, "width": 2}}
    figure.add_scatter(
        x=start[:, 0].numpy(), y=start[:, 1].numpy(), mode="markers", marker=ring, name="start"
    )
    first, second = trace.variance.tolist()
    layout(figure, f"first direction ({first:.0%} of variance)", f"second direction ({second:.0%})", 420)
    figure.update_yaxes(scaleanchor="x")  # equal lengths mean equal distances
    return figure


def path_losses(trace: Crafting) -> go.Figure:
    """Adversarial loss after each epoch of both trainings."""
    figure = go.Figure()
    for (name, color, symbol), values in zip(TRAININGS, trace.path_loss, strict=True):
        figure.add_scatter(
            x=list(range(len(values))),
            y=values.numpy(),
            mode="lines+markers",
            name=name,
            line={"color": color},
            marker={"symbol": symbol},
            hovertemplate=f"epoch %{{x}}<br>%{{y:.2f}}<extra>{name}</extra>",
        )
    _line_of_success(figure)
    return layout(figure, "epoch", "loss of the target (below 0: attacker's class)", 420)


def curves(trace: Crafting) -> go.Figure:
    """The loss that crafting follows and the same without unrolling, and that of networks trained on the poisons."""
    figure = go.Figure()
    for name, values, color, dash in (
        ("surrogates, unrolled", trace.unrolled, POISONED, "solid"),
        ("surrogates, not unrolled", trace.plain, CONTROL, "dash"),
    ):
        line = {"color": color, "dash": dash}
        figure.add_scatter(x=trace.steps.numpy(), y=values.numpy(), name=name, mode="lines", line=line)
    figure.add_scatter(
        x=trace.tried.numpy(),
        y=trace.tried_loss.numpy(),
        name="network trained on the poisons",
        mode="markers",
        marker={"color": CLEAN, "size": 11, "symbol": "square"},
        customdata=trace.tried_probability.numpy(),
        hovertemplate="after step %{x}<br>loss %{y:.2f}<br>probability of the adversarial class %{customdata:.1%}"
        "<extra></extra>",
    )
    _line_of_success(figure)
    return layout(figure, "crafting step", "adversarial loss (below 0: success)", 360)


def changes(trace: Crafting) -> go.Figure:
    """Sizes of all offsets relative to the bound."""
    bins = len(trace.changes)
    share = trace.changes.double() / trace.changes.sum().clamp_min(1)
    figure = go.Figure()
    figure.add_bar(
        x=[(i + 0.5) / bins for i in range(bins)],
        y=share.numpy(),
        width=0.9 / bins,
        marker_color=POISONED,
        hovertemplate="about %{x:.0%} of the bound: %{y:.1%} of the pixels<extra></extra>",
    )
    layout(figure, "size of the change, relative to the bound", "share of pixels and channels", 360)
    figure.update_xaxes(tickformat=".0%", range=[0, 1])
    figure.update_yaxes(tickformat=".0%")
    return figure


def _line_of_success(figure: go.Figure) -> None:
    figure.add_hline(
        y=0,
        line={"color": CONTROL, "width": 1, "dash": "dot"},
    )
