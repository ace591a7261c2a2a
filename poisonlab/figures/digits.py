"""Lessons on digits: shares against a setting or a step, recovered patterns, flagged images in their order."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from poisonlab.figures.animation import playable
from poisonlab.figures.style import CATEGORICAL, CONTROL, DASHES, POISONED, SYMBOLS, layout

FATES = {  # of a flagged image: its colour and its shape
    "wrong label, left out or relabelled": ("#0072B2", "circle"),
    "right label, taken back": ("#009E73", "square"),
    "wrong label, taken back": ("#D55E00", "x"),
    "right label, left out or relabelled": ("#E69F00", "diamond"),
}


def shares(
    x: Sequence[str], lines: dict[str, tuple[np.ndarray, str]], xtitle: str, chosen: str | None = None, low: float = 0.0
) -> go.Figure:
    """Shares in percent at values that stand at equal distances; the chosen one is marked.

    Args:
        lines: name -> values ``(len(x),)`` in [0, 1], and a colour.
        low: where the axis begins.
    """
    figure = go.Figure()
    for number, (name, (values, colour)) in enumerate(lines.items()):
        figure.add_scatter(
            x=list(x), y=100 * values, name=name, mode="lines+markers",
            line={"color": colour, "dash": DASHES[number % len(DASHES)]}, marker={"symbol": SYMBOLS[number], "size": 8},
            hovertemplate=f"{name}<br>%{{x}}: %{{y:.1f}} %<extra></extra>",
        )  # fmt: skip
    layout(figure, xtitle, "percent", 380)
    figure.update_xaxes(type="category")
    figure.update_yaxes(range=[100 * low - 2, 102])
    if chosen is not None:
        figure.add_vline(x=list(x).index(chosen), line={"color": CONTROL, "dash": "dot"})
    return figure


def growing(steps: Sequence[int], lines: dict[str, tuple[np.ndarray, str]], xtitle: str) -> go.Figure:
    """Shares in percent that grow with the training steps, drawn up to each of them."""

    def drawn(moment: int) -> list[Any]:
        return [
            go.Scatter(
                x=list(steps[: moment + 1]), y=100 * values[: moment + 1], name=name, mode="lines+markers",
                line={"color": colour, "dash": dash}, hovertemplate=f"{name}<br>%{{y:.1f}} %<extra></extra>",
            )
            for (name, (values, colour)), dash in zip(lines.items(), DASHES, strict=False)
        ]  # fmt: skip

    figure = go.Figure(drawn(len(steps) - 1))
    layout(figure, xtitle, "percent", 340)
    figure.update_xaxes(range=[-2, steps[-1] + 2])
    figure.update_yaxes(range=[-2, 102])
    return playable(figure, [drawn(k) for k in range(len(steps))], [str(step) for step in steps], "training step ")


def patterns(triggers: np.ndarray, patch: int) -> go.Figure:
    """The pattern recovered in each round, ``(rounds, h, w)``; a frame shows where the attacker's patch is.

    Args:
        patch: side of the square in the lower right corner.
    """
    limit = float(np.abs(triggers).max()) or 1.0
    h, w = triggers.shape[1:]

    def drawn(round_: int) -> list[Any]:
        return [
            go.Heatmap(
                z=triggers[round_], zmin=-limit, zmax=limit, colorscale="RdBu", reversescale=True,
                colorbar={"title": "added", "thickness": 14},
                hovertemplate="row %{y}, column %{x}<br>added %{z:.2f}<extra></extra>",
            )
        ]  # fmt: skip

    figure = go.Figure(drawn(len(triggers) - 1))
    layout(figure, "", "", 380)
    figure.add_shape(
        type="rect", x0=w - patch - 0.5, x1=w - 0.5, y0=h - patch - 0.5, y1=h - 0.5, line={"color": "black", "width": 3}
    )
    figure.update_xaxes(showticklabels=False, range=[-0.5, w - 0.5], constrain="domain")
    figure.update_yaxes(showticklabels=False, range=[h - 0.5, -0.5], scaleanchor="x")
    names = [str(n) for n in range(1, len(triggers) + 1)]
    figure = playable(figure, [drawn(k) for k in range(len(triggers))], names, "round ")
    return figure


def rounds(clean: np.ndarray, asr: np.ndarray) -> go.Figure:
    """Accuracy and attack success before the first round and after each, ``(rounds + 1,)``."""
    numbers = [str(n) for n in range(len(clean))]
    lines = {"Clean accuracy": (clean, CATEGORICAL[0]), "Attack success rate": (asr, POISONED)}
    return shares(numbers, lines, "rounds done")


def flagged(scores: np.ndarray, wrong: np.ndarray, agrees: np.ndarray, limit: int) -> go.Figure:
    """Images in the order of their score; the flagged ones by what became of them, the others grey.

    Args:
        scores: from the highest down. wrong: whether the label is. agrees: whether the cleaned model gives it.
        limit: how many are flagged.
    """
    figure = go.Figure()
    caught = np.arange(len(scores)) < limit
    fates = dict(zip(FATES, (wrong & ~agrees, ~wrong & agrees, wrong & agrees, ~wrong & ~agrees), strict=True))
    for name, rows in fates.items():
        colour, symbol = FATES[name]
        places = np.flatnonzero(rows & caught)
        figure.add_scatter(
            x=places, y=scores[places], mode="markers", name=f"{name} ({len(places)})",
            marker={"color": colour, "symbol": symbol, "size": 6},
        )  # fmt: skip
    for name, rows, symbol in (("kept, right label", ~wrong, "circle"), ("kept, wrong label", wrong, "x")):
        places = np.flatnonzero(rows & ~caught)
        figure.add_scatter(
            x=places, y=scores[places], mode="markers", name=f"{name} ({len(places)})",
            marker={"color": CONTROL, "symbol": symbol, "size": 5, "opacity": 0.5},
        )  # fmt: skip
    figure.add_vline(x=limit - 0.5, line={"color": CONTROL, "dash": "dot"}, annotation_text="flagged to the left")
    layout(figure, "images, the most suspicious first", "score", 440)
    figure.update_layout(legend_y=1.08, margin_t=110)
    return figure
