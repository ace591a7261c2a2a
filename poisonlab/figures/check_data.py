"""A set among clean ones, and how far detectors agree about its images."""

import plotly.graph_objects as go
import torch

from poisonlab.check.calibration import Calibration, deviations
from poisonlab.check.evidence import title
from poisonlab.check.ranking import Ranking
from poisonlab.figures.style import CONTROL, POISONED, SEQUENTIAL, layout

MOST = 12.0  # deviations that are drawn; what lies further stands at the edge


def among_clean_sets(found: Calibration) -> go.Figure:
    """A row for each detector: its number for every clean set and for the suspected one, in robust deviations."""
    return _among(found, "set")


def among_clean_networks(found: Calibration) -> go.Figure:
    """The same of a network among clean ones."""
    return _among(found, "network")


def _among(found: Calibration, what: str) -> go.Figure:
    names, table = deviations([found.own, *found.clean], found.overlap)  # (M + 1, detectors)
    shown = table.clamp(-MOST, MOST)
    titles = [title(name) for name in names]
    figure = go.Figure()
    for number, text in enumerate(titles):
        values = shown[1:, number].tolist()
        figure.add_scatter(
            x=values,
            y=[text] * len(values),
            mode="markers",
            name=f"clean {what}s",
            legendgroup="clean",
            showlegend=number == 0,
            marker={"color": CONTROL, "symbol": "line-ns-open", "size": 14},
            hovertemplate=f"a clean {what}: %{{x:.1f}}<extra></extra>",
        )
    figure.add_scatter(
        x=shown[0].tolist(),
        y=titles,
        mode="markers",
        name=f"this {what}",
        marker={"color": POISONED, "symbol": "diamond", "size": 13},
        hovertemplate=f"this {what}: %{{x:.1f}}<extra></extra>",
    )
    layout(figure, "robust deviations from the median", "", 130 + 45 * len(titles))
    figure.update_yaxes(autorange="reversed")
    return figure


def agreement(ranking: Ranking) -> go.Figure:
    """Rank correlation of each pair of detectors, as a square of colors with numbers."""
    names = list(dict.fromkeys(name for a in ranking.agreements for name in (a.first, a.second)))
    square = torch.eye(len(names))
    for found in ranking.agreements:
        row = names.index(found.first)
        column = names.index(found.second)
        square[row, column] = found.correlation
        square[column, row] = found.correlation
    titles = [title(name) for name in names]
    figure = go.Figure(
        go.Heatmap(
            z=square.tolist(),
            x=titles,
            y=titles,
            zmin=-1,
            zmax=1,
            colorscale=SEQUENTIAL,
            texttemplate="%{z:.2f}",
            hovertemplate="%{y} and %{x}: %{z:.2f}<extra></extra>",
            colorbar={"title": "rank<br>correlation"},
        )
    )
    layout(figure, "", "", 130 + 45 * len(titles))
    figure.update_yaxes(autorange="reversed")
    return figure
