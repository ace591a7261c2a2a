"""Games of several players: error against noise, the way of the hyperparameter and of the weights, the attack."""

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from poisonlab.figures.animation import playable
from poisonlab.figures.style import CATEGORICAL, CLEAN, CONTROL, DASHES, POISONED, SYMBOLS, layout, rgba

Band = tuple[np.ndarray, np.ndarray, np.ndarray]  # mean, low, high at each noise
COLORS = {"bilevel": CLEAN, "trilevel": POISONED}


def noise_curves(
    noises: Sequence[float], bands: Mapping[str, Band], chosen: float, crossing: float
) -> go.Figure:
    """Test error of both models against the noise on the test inputs, with intervals over seeds.

    Args:
        bands: for ``bilevel`` and ``trilevel``.
        crossing: where the means are equal; NaN marks nothing.
    """
    figure = go.Figure()
    for (name, band), dash in zip(bands.items(), DASHES, strict=False):
        _band(figure, noises, band, name, COLORS[name], dash)
    figure.add_vline(x=chosen, line={"color": CONTROL, "dash": "dot"}, annotation_text="chosen noise")
    if np.isfinite(crossing) and crossing <= max(noises):
        level = float(np.interp(crossing, noises, bands["bilevel"][0]))
        figure.add_scatter(
            x=[crossing],
            y=[level],
            mode="markers",
            name="the means cross",
            marker={"symbol": "x", "size": 13, "color": CONTROL},
            hovertemplate="the means are equal at noise %{x:.2f}<extra></extra>",
        )
    return layout(figure, "noise on the test inputs (standard deviations)", "test MSE", 380)


def differences(noises: Sequence[float], bands: Mapping[float, Band]) -> go.Figure:
    """Trilevel minus bilevel on the same splits against the noise, a line a penalty; below zero trilevel is better."""
    figure = go.Figure()
    for number, (penalty, band) in enumerate(bands.items()):
        color = CATEGORICAL[number % len(CATEGORICAL)]
        dash = DASHES[number % len(DASHES)]
        _band(figure, noises, band, f"penalty {penalty:g}", color, dash, SYMBOLS[number % len(SYMBOLS)])
    figure.add_hline(y=0, line={"color": CONTROL, "width": 1})
    return layout(
        figure, "noise on the test inputs (standard deviations)", "test MSE, trilevel minus bilevel", 400
    )


def hyperparameter_paths(paths: Mapping[str, np.ndarray]) -> go.Figure:
    """lambda after each step, ``(steps, seeds)``: the mean as a thick line, the seeds as thin ones."""
    figure = go.Figure()
    for (name, path), dash in zip(paths.items(), DASHES, strict=False):
        for seed in path.T:
            figure.add_scatter(
                y=seed,
                mode="lines",
                line={"color": rgba(COLORS[name], 0.25), "width": 1},
                showlegend=False,
                hoverinfo="skip",
            )
        figure.add_scatter(
            y=path.mean(1),
            mode="lines",
            name=name,
            line={"color": COLORS[name], "width": 3, "dash": dash},
            hovertemplate=f"{name}, step %{{x}}<br>mean lambda %{{y:.2f}}<extra></extra>",
        )
    return layout(figure, "step of the hyperparameter", "lambda", 340)


def weight_paths(paths: Mapping[str, np.ndarray], features: Sequence[str]) -> go.Figure:
    """The learner's answer to every lambda, ``(steps, features)``, a panel a model, a line a feature, drawn in time."""
    figure = make_subplots(
        rows=1, cols=len(paths), shared_yaxes=True, column_titles=list(paths), horizontal_spacing=0.03
    )
    for column, (name, path) in enumerate(paths.items(), 1):
        for number, feature in enumerate(features):
            figure.add_scatter(
                y=path[:, number],
                mode="lines",
                name=feature,
                legendgroup=feature,
                showlegend=column == 1,
                line={
                    "color": CATEGORICAL[number % len(CATEGORICAL)],
                    "dash": DASHES[number // len(CATEGORICAL) % len(DASHES)],
                },
                hovertemplate=f"{name}, {feature}<br>step %{{x}}: %{{y:.3f}}<extra></extra>",
                row=1,
                col=column,
            )
    layout(figure, "", "weight", 380)
    figure.update_layout(legend_y=1.1, margin_t=90)
    steps = max(len(path) for path in paths.values())
    values = np.concatenate([path.ravel() for path in paths.values()])
    room = 0.05 * (float(np.ptp(values)) or 1.0)
    figure.update_xaxes(title="step of the hyperparameter", range=[0, steps - 1])
    figure.update_yaxes(range=[float(values.min()) - room, float(values.max()) + room])
    figure.update_yaxes(title="", col=2)
    frames = [[{"y": line[: k + 1]} for path in paths.values() for line in path.T] for k in range(steps)]
    return playable(figure, frames, [str(k) for k in range(steps)], "step ")


def perturbation(moved: np.ndarray, features: Sequence[str]) -> go.Figure:
    """How far the attacker moved each value, ``(rows, features)``; the rows that moved most on top."""
    order = np.argsort(np.abs(moved).sum(1))
    limit = float(np.abs(moved).max()) or 1.0
    figure = go.Figure(
        go.Heatmap(
            z=moved[order],
            x=list(features),
            colorscale="RdBu",
            zmin=-limit,
            zmax=limit,
            colorbar={"title": "moved by"},
            hovertemplate="%{x}<br>moved by %{z:.3f}<extra></extra>",
        )
    )
    layout(figure, "", "training rows, most moved on top", 380)
    figure.update_xaxes(type="category")
    figure.update_yaxes(showticklabels=False)
    return figure


def _band(
    figure: go.Figure,
    x: Sequence[float],
    band: Band,
    name: str,
    color: str,
    dash: str,
    symbol: str = "circle",
) -> None:
    mean, low, high = band
    edge = {"x": [*x, *reversed(x)], "y": [*high, *reversed(low)], "legendgroup": name, "showlegend": False}
    figure.add_scatter(
        **edge, fill="toself", fillcolor=rgba(color, 0.12), line={"width": 0}, hoverinfo="skip"
    )
    figure.add_scatter(
        x=list(x),
        y=mean,
        name=name,
        legendgroup=name,
        mode="lines+markers",
        line={"color": color, "dash": dash},
        marker={"symbol": symbol},
        customdata=np.stack([low, high], 1),
        hovertemplate=f"{name}<br>noise %{{x:g}}: %{{y:.3f}} (%{{customdata[0]:.3f}} to %{{customdata[1]:.3f}})"
        "<extra></extra>",
    )
