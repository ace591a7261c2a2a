"""Energies before and after purification, and chains on their way."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import torch
from sklearn.decomposition import PCA

from poisonlab.figures.style import CLEAN, CONTROL, POISONED, PURIFIED, error_bars, layout, rgba
from poisonlab.records.artifacts import EnergyHistogram, LangevinTrace

BINS = 48
# what the axis of energies covers -> the groups that decide it, and the share of them that is cut off at each end
ZOOMS = {
    "all": (("clean", "poisoned", "purified"), 0.005),
    "clean and purified": (("clean", "purified"), 0.005),
    "the middle of the clean ones": (("clean",), 0.1),
}


def energy_histogram(energies: EnergyHistogram, zoom: str = "all") -> go.Figure:
    """Energies of clean, poisoned and purified poisoned images over common bins, as shares.

    The few outermost values count into the outermost bins; zoomed in, what lies beyond the axis is left out.

    Args:
        zoom: one of ``ZOOMS``.
    """
    groups = {
        "clean": (energies.clean, CLEAN),
        "poisoned": (energies.poisoned, POISONED),
        "purified": (energies.purified, PURIFIED),
    }
    deciding, outside = ZOOMS[zoom]
    shown = torch.cat([groups[name][0].float() for name in deciding])
    shown = shown[shown.isfinite()]
    # the outermost values would squeeze all others into a few bins
    low, high = np.quantile(shown.numpy(), [outside, 1 - outside]) if len(shown) else (0.0, 1.0)
    edges = np.linspace(low, max(high, low + 1e-6), BINS + 1)
    figure = go.Figure()
    for name, (values, color) in groups.items():
        finite = values.float().numpy()[np.isfinite(values.float().numpy())]
        counts, _ = np.histogram(np.clip(finite, low, high) if zoom == "all" else finite, edges)
        figure.add_bar(
            x=(edges[1:] + edges[:-1]) / 2,
            y=counts / max(1, len(finite)),
            width=edges[1] - edges[0],
            name=f"{name} (n={len(values)})",
            marker={"color": rgba(color, 0.55), "line": {"color": color, "width": 1}},
            hovertemplate="energy %{x:.3g}: %{y:.1%}<extra>" + name + "</extra>",
        )
    layout(figure, "energy (low: looks natural to the model)", "share of images", 380, barmode="overlay")
    figure.update_yaxes(tickformat=".0%")
    return figure


def chain_energies(trace: LangevinTrace, shown: int, zoom: bool = False) -> go.Figure:
    """Mean energy of both chains with the range over images.

    Args:
        shown: index of the marked step.
        zoom: only as high as the chains need once they have calmed down.
    """
    steps = trace.steps.numpy()
    figure = go.Figure()
    for name, values, color in (
        ("clean", trace.clean_energy, CLEAN),
        ("poisoned", trace.poisoned_energy, POISONED),
    ):
        v = values.float().numpy()
        band = {"line": {"width": 0}, "hoverinfo": "skip", "showlegend": False, "legendgroup": name}
        figure.add_scatter(x=steps, y=v.max(1), **band)
        figure.add_scatter(x=steps, y=v.min(1), fill="tonexty", fillcolor=rgba(color, 0.15), **band)
        figure.add_scatter(x=steps, y=v.mean(1), name=f"from {name}", legendgroup=name, line={"color": color})
    _mark(figure, float(steps[shown]))
    layout(figure, "step", "energy", 340)
    if zoom:
        late = torch.cat([trace.clean_energy, trace.poisoned_energy[len(steps) // 3 :]]).float().numpy()
        low = float(np.nanmin(late))
        high = float(np.nanmax(late))
        figure.update_yaxes(range=[low - 0.1 * (high - low), high + 0.1 * (high - low) + 1e-9])
    return figure


def surviving_share(trace: LangevinTrace) -> torch.Tensor:
    """||Psi_t(x+d) - Psi_t(x)|| / ||d|| at each recorded step, ``(s, n)``; of images with a perturbation only."""
    apart: torch.Tensor = (
        ((trace.poisoned_images.float() - trace.clean_images.float()) / 255).flatten(2).norm(dim=2)
    )
    return (apart / apart[:1])[:, apart[0] > 0]


def survival(trace: LangevinTrace, shown: int, image: int) -> go.Figure:
    """How much of the perturbation is left along the walk: the mean over images with their range, and one of them.

    Args:
        shown: index of the marked step. image: the one with a line of its own.
    """
    steps = trace.steps.numpy()
    share = surviving_share(trace).numpy()
    figure = go.Figure()
    if share.shape[1]:
        band = {"line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
        figure.add_scatter(x=steps, y=share.max(1), **band)
        figure.add_scatter(x=steps, y=share.min(1), fill="tonexty", fillcolor=rgba(PURIFIED, 0.15), **band)
        figure.add_scatter(
            x=steps, y=share.mean(1), name=f"mean of {share.shape[1]}", line={"color": PURIFIED}
        )
    single = (
        (trace.poisoned_images[:, image].float() - trace.clean_images[:, image].float())
        .flatten(1)
        .norm(dim=1)
    )
    if single[0] > 0:
        line = {"color": POISONED, "dash": "dash"}
        figure.add_scatter(x=steps, y=(single / single[0]).numpy(), name=f"image {image + 1}", line=line)
    figure.add_hline(y=1, line={"color": CONTROL, "width": 1})
    _mark(figure, float(steps[shown]))
    layout(figure, "step", "share of the perturbation left", 420)
    figure.update_yaxes(tickformat=".0%", rangemode="tozero")
    return figure


def strength_curve(rows: pd.DataFrame, means: pd.DataFrame, setting: str, own: int) -> go.Figure:
    """Clean accuracy against attack success as the strength of a purification varies, from value to value.

    Args:
        rows: one a run: ``value``, ``seed``, rates, and those of the undefended model and the control.
        means: one a value, with intervals where there are any.
        setting: name of what varies.
        own: the value of the run on the page.
    """
    figure = go.Figure()
    figure.add_scatter(
        x=rows["success"],
        y=rows["clean_accuracy"],
        mode="markers",
        name="one seed",
        hoverinfo="skip",
        marker={"color": rgba(PURIFIED, 0.35), "size": 6},
        showlegend=bool((means["n"] > 1).any()),
    )
    _add_means(figure, means, setting, own)
    before = rows[["success_undefended", "clean_accuracy_undefended"]].mean()
    if np.isfinite(before).all():
        figure.add_scatter(
            x=[before.iloc[0]],
            y=[before.iloc[1]],
            mode="markers",
            name="undefended",
            marker={"color": POISONED, "symbol": "square", "size": 12},
            hovertemplate="undefended: success %{x:.1%}, accuracy %{y:.1%}<extra></extra>",
        )
    level = float(rows["control"].mean())
    if np.isfinite(level):
        line = {"color": CONTROL, "dash": "dot", "width": 1}
        figure.add_vline(x=level, line=line, annotation_text="control")
    layout(figure, "attack success", "clean accuracy", 430)
    figure.update_xaxes(tickformat=".0%", range=[-0.04, 1.04])
    accuracies = [
        *rows["clean_accuracy"],
        *means["clean_accuracy_low"],
        *means["clean_accuracy_high"],
        before.iloc[1],
    ]
    low = max(0, np.nanmin(accuracies) - 0.05)
    high = min(1.02, np.nanmax(accuracies) + 0.05)
    figure.update_yaxes(tickformat=".0%", range=[low, high])
    return figure


def _add_means(figure: go.Figure, means: pd.DataFrame, setting: str, own: int) -> None:
    """The mean of each value, joined by a line; a star marks the run on the page."""
    is_own = means["value"] == own
    survived = [
        f", {share:.0%} of the perturbation left" if np.isfinite(share) else ""
        for share in means["surviving_share"]
    ]
    figure.add_scatter(
        x=means["success"],
        y=means["clean_accuracy"],
        mode="lines+markers+text",
        name=f"by {setting}",
        text=means["value"].astype(str),
        textposition="top center",
        line={"color": PURIFIED},
        marker={
            "color": PURIFIED,
            "size": [15 if mine else 10 for mine in is_own],
            "symbol": ["star" if mine else "circle" for mine in is_own],
        },
        error_x=error_bars(means, "success"),
        error_y=error_bars(means, "clean_accuracy"),
        customdata=np.stack([means["value"].astype(str), means["n"].astype(str), survived], 1),
        hovertemplate=f"{setting} %{{customdata[0]}}, n=%{{customdata[1]}}<br>success %{{x:.1%}}, "
        "accuracy %{y:.1%}%{customdata[2]}<extra></extra>",
    )


def crossing(trace: LangevinTrace) -> int | None:
    """First recorded step at which the chain is farther from the poisoned image than from the clean one.

    PureGen section 3.4 chooses the number of steps so: the chain has then forgotten the perturbation
    more than it has changed the picture. ``None`` when it never happens.
    """
    farther = (trace.from_poisoned.mean(1) > trace.from_clean.mean(1)) & (trace.steps > 0)
    return int(trace.steps[farther][0]) if farther.any() else None


def distances(trace: LangevinTrace, shown: int) -> go.Figure:
    """The two distances whose crossing chooses the number of steps, averaged over images."""
    steps = trace.steps.numpy()
    figure = go.Figure()
    for name, values, color, dash in (
        ("to the poisoned start, ‖(x+δ) − Ψ‖", trace.from_poisoned, POISONED, "solid"),
        ("to the clean image, ‖x − Ψ‖", trace.from_clean, CLEAN, "dash"),
    ):
        figure.add_scatter(x=steps, y=values.mean(1).numpy(), name=name, line={"color": color, "dash": dash})
    _mark(figure, float(steps[shown]))
    where = crossing(trace)
    if where is not None:
        figure.add_vline(
            x=where, line={"color": PURIFIED, "width": 2}, annotation_text=f"crossing at {where}"
        )
    return layout(figure, "step", "mean L2 distance, pixels in [0, 1]", 340)


def pca_paths(trace: LangevinTrace, shown: int, image: int) -> go.Figure:
    """Both chains of one image, projected on the two directions in which their recorded states vary most."""
    states = torch.cat([trace.clean_images[:, image], trace.poisoned_images[:, image]])  # (2s, c, h, w)
    flat = (states.float() / 255).flatten(1).numpy()
    plane = PCA(n_components=2).fit(flat)
    clean, poisoned = np.split(plane.transform(flat), 2)  # (s, 2) each
    steps = trace.steps.numpy()
    figure = go.Figure()
    for name, path, color, symbol in (
        ("clean", clean, CLEAN, "circle"),
        ("poisoned", poisoned, POISONED, "diamond"),
    ):
        figure.add_scatter(
            x=path[:, 0],
            y=path[:, 1],
            mode="lines+markers",
            name=f"from {name}",
            legendgroup=name,
            line={"color": rgba(color, 0.7), "width": 2},
            marker={"size": 4, "color": color},
            customdata=steps,
            hovertemplate="step %{customdata}<extra>from " + name + "</extra>",
        )
        mark = {"mode": "markers", "legendgroup": name, "showlegend": False, "hoverinfo": "skip"}
        ring = {"color": "white", "size": 12, "symbol": symbol, "line": {"color": color, "width": 2}}
        figure.add_scatter(x=path[:1, 0], y=path[:1, 1], marker=ring, **mark)
        full = {"color": color, "size": 14, "symbol": symbol, "line": {"color": "white", "width": 1}}
        figure.add_scatter(x=path[shown : shown + 1, 0], y=path[shown : shown + 1, 1], marker=full, **mark)
    first, second = plane.explained_variance_ratio_
    layout(figure, f"first direction ({first:.0%} of variance)", f"second direction ({second:.0%})", 420)
    figure.update_yaxes(scaleanchor="x")  # equal lengths mean equal distances
    return figure


def _mark(figure: go.Figure, step: float) -> None:
    figure.add_vline(x=step, line={"color": CONTROL, "width": 1, "dash": "dot"})
