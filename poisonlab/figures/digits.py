"""Lessons on digits: shares against a setting or a step, recovered patterns, flagged images in their order."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from poisonlab.figures.animation import playable
from poisonlab.figures.style import CATEGORICAL, CONTROL, DASHES, POISONED, SYMBOLS, layout, rgba

FATES = {  # of a flagged image: its color and its shape
    "wrong label, flagged": ("#0072B2", "circle"),
    "right label, flagged": ("#E69F00", "diamond"),
    "right label, taken back": ("#009E73", "square"),
    "wrong label, taken back": ("#D55E00", "x"),
    "right label, never flagged": (CONTROL, "circle"),
    "wrong label, never flagged": (CONTROL, "x"),
}
STAGES = ("scored", "flagged", "sorted")


def shares(
    x: Sequence[str],
    lines: dict[str, tuple[np.ndarray, str]],
    xtitle: str,
    chosen: str | None = None,
    low: float = 0.0,
    ytitle: str = "percent",
) -> go.Figure:
    """Shares in percent at values that stand at equal distances; the chosen one is marked.

    Args:
        lines: name -> values ``(len(x),)`` in [0, 1], and a color.
        low: where the axis begins.
    """
    figure = go.Figure()
    for number, (name, (values, color)) in enumerate(lines.items()):
        figure.add_scatter(
            x=list(x),
            y=100 * values,
            name=name,
            mode="lines+markers",
            line={"color": color, "dash": DASHES[number % len(DASHES)]},
            marker={"symbol": SYMBOLS[number], "size": 8},
            hovertemplate=f"{name}<br>%{{x}}: %{{y:.1f}} %<extra></extra>",
        )
    layout(figure, xtitle, ytitle, 380)
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
                x=list(steps[: moment + 1]),
                y=100 * values[: moment + 1],
                name=name,
                mode="lines+markers",
                line={"color": color, "dash": dash},
                hovertemplate=f"{name}<br>%{{y:.1f}} %<extra></extra>",
            )
            for (name, (values, color)), dash in zip(lines.items(), DASHES, strict=False)
        ]

    figure = go.Figure(drawn(len(steps) - 1))
    layout(figure, xtitle, "percent", 340)
    figure.update_xaxes(range=[-2, steps[-1] + 2])
    figure.update_yaxes(range=[-2, 102])
    return playable(
        figure, [drawn(k) for k in range(len(steps))], [str(step) for step in steps], "training step "
    )


def patterns(triggers: np.ndarray, patch: int) -> go.Figure:
    """The pattern recovered in each round, ``(rounds, h, w)``, the first shown; a frame marks the attacker's patch.

    Args:
        patch: side of the square in the lower right corner.
    """
    limit = float(np.abs(triggers).max()) or 1.0
    h, w = triggers.shape[1:]

    def drawn(round_: int) -> list[Any]:
        return [
            go.Heatmap(
                z=triggers[round_],
                zmin=-limit,
                zmax=limit,
                colorscale="RdBu",
                reversescale=True,
                colorbar={"title": "added", "thickness": 14},
                hovertemplate="row %{y}, column %{x}<br>added %{z:.2f}<extra></extra>",
            )
        ]

    figure = go.Figure(drawn(0))
    layout(figure, "", "", 380)
    figure.add_shape(
        type="rect",
        x0=w - patch - 0.5,
        x1=w - 0.5,
        y0=h - patch - 0.5,
        y1=h - 0.5,
        line={"color": "black", "width": 3},
    )
    figure.update_xaxes(range=[-0.5, w - 0.5], constrain="domain", visible=False)
    figure.update_yaxes(range=[h - 0.5, -0.5], constrain="domain", visible=False, scaleanchor="x")
    names = [str(n) for n in range(1, len(triggers) + 1)]
    return playable(figure, [drawn(k) for k in range(len(triggers))], names, "round ", shown=0)


def rounds(clean: np.ndarray, asr: np.ndarray) -> go.Figure:
    """Accuracy and attack success before the first round and after each, ``(rounds + 1,)``."""
    numbers = [str(n) for n in range(len(clean))]
    lines = {"Clean accuracy": (clean, CATEGORICAL[0]), "Attack success rate": (asr, POISONED)}
    return shares(numbers, lines, "rounds done")


def sizes(values: np.ndarray, target: int) -> go.Figure:
    """The smallest mark found for each class, ``(classes,)``, the attacker's class in the color of poisons.

    Args:
        target: the attacker's class.
    """
    classes = np.arange(len(values))
    figure = go.Figure()
    for name, rows, color in (
        ("attacker's class", classes == target, POISONED),
        ("other classes", classes != target, CATEGORICAL[0]),
    ):
        figure.add_bar(
            x=[str(label) for label in classes[rows]],
            y=values[rows],
            name=name,
            marker={"color": color},
            hovertemplate="class %{x}: %{y:.1f} pixels<extra></extra>",
        )
    median = float(np.median(values))
    figure.add_scatter(
        x=[str(label) for label in classes],
        y=[median] * len(classes),
        name=f"median {median:.1f}",
        mode="lines",
        line={"color": CONTROL, "dash": "dot"},
        hoverinfo="skip",
    )
    layout(figure, "class", "smallest mark found, pixels", 380)
    figure.update_xaxes(type="category", categoryorder="array", categoryarray=[str(c) for c in classes])
    return figure


def hidden(
    sides: Sequence[int], lines: dict[str, np.ndarray], limit: float, honest: float, chosen: int
) -> go.Figure:
    """How small a mark the detector found for the attacker's class, against the side of the true one.

    Args:
        lines: strength in words -> the size as a share of the median over the classes, ``(len(sides),)``.
        limit: a class with a smaller share is named.
        honest: the smallest share in a network without poison.
        chosen: the side that the reader looks at.
    """
    names = [f"{side} x {side}" for side in sides]
    figure = go.Figure()
    for number, (name, values) in enumerate(lines.items()):
        figure.add_scatter(
            x=names,
            y=100 * values,
            name=name,
            mode="lines+markers",
            line={"color": CATEGORICAL[number + 3], "dash": DASHES[number]},
            marker={"symbol": SYMBOLS[number], "size": 8},
            hovertemplate=f"{name}<br>%{{x}}: %{{y:.0f}} %<extra></extra>",
        )
    figure.add_hrect(
        y0=0,
        y1=100 * limit,
        fillcolor=rgba(POISONED, 0.12),
        line_width=0,
        annotation_text="named",
        annotation_position="bottom right",
    )
    figure.add_hline(
        y=100 * honest,
        line={"color": CONTROL, "dash": "dash"},
        annotation_text="smallest of an honest network",
        annotation_position="top left",
    )
    figure.add_vline(x=list(sides).index(chosen), line={"color": CONTROL, "dash": "dot"})
    layout(figure, "pixels of your mark", "mark found, percent of the median", 380)
    figure.update_xaxes(type="category")
    figure.update_yaxes(rangemode="tozero")
    return figure


def flagged(scores: np.ndarray, wrong: np.ndarray, agrees: np.ndarray, limit: int) -> go.Figure:
    """Images in the order of their score, by what has become of them after each of ``STAGES``.

    Args:
        scores: from the highest down. wrong: whether the label is. agrees: whether the second model gives it.
        limit: how many are flagged.
    """

    def drawn(stage: int) -> list[Any]:
        caught = (np.arange(len(scores)) < limit) & (stage > 0)
        back = caught & agrees & (stage > 1)
        out = caught & ~back
        fates = (out & wrong, out & ~wrong, back & ~wrong, back & wrong, ~caught & ~wrong, ~caught & wrong)
        return [
            go.Scatter(
                x=np.flatnonzero(rows),
                y=scores[rows],
                mode="markers",
                name=f"{name} ({rows.sum()})",
                marker={
                    "color": color,
                    "symbol": symbol,
                    "size": 6,
                    "opacity": 0.5 if color == CONTROL else 1,
                },
            )
            for (name, (color, symbol)), rows in zip(FATES.items(), fates, strict=True)
        ]

    figure = go.Figure(drawn(len(STAGES) - 1))
    figure.add_vline(
        x=limit - 0.5,
        line={"color": CONTROL, "dash": "dot"},
        annotation_text="flagged ",
        annotation_position="top left",
    )
    layout(figure, "images, the most suspicious first", "score", 440)
    figure.update_layout(legend_y=1.08, margin_t=110)
    return playable(figure, [drawn(stage) for stage in range(len(STAGES))], STAGES, "")
