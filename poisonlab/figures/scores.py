"""How the scores of training images are spread, one line a set."""

from collections.abc import Mapping

import plotly.graph_objects as go
import torch
from torch import Tensor

BINS = 60
EXTREME = 0.005  # this share at both ends does not stretch the axis


def add_scores(
    figure: go.Figure, sets: Mapping[str, tuple[Tensor, str]], shares: bool
) -> tuple[float, float]:
    """A histogram of the scores of each set of training images, by name with its color; the range that is shown.

    Args:
        shares: the heights are shares of a set, not counts of images.
    """
    everything = torch.cat([scores for scores, _ in sets.values()]).double()
    low, high = (everything.quantile(q).item() for q in (EXTREME, 1 - EXTREME))
    edges = torch.linspace(low, max(high, low + 1e-6), BINS + 1)
    middles = ((edges[1:] + edges[:-1]) / 2).numpy()
    for name, (scores, color) in sets.items():
        counts = torch.histogram(scores.float().clamp(low, high), edges.float()).hist
        figure.add_scatter(
            x=middles,
            y=(counts / len(scores) if shares else counts).numpy(),
            name=name,
            mode="lines",
            fill="tozeroy",
            line={"color": color, "shape": "hvh"},
            hovertemplate=f"{name}, score %{{x:.2g}}: %{{y:{'.1%' if shares else '.0f'}}}"
            f"{'' if shares else ' images'}<extra></extra>",
        )
    return low, high
