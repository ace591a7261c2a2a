"""Lessons in the plane: points, boundaries, arrows, landscapes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from poisonlab.figures.animation import playable
from poisonlab.figures.style import CLEAN, CONTROL, DASHES, INK, POISONED, PURIFIED, SEQUENTIAL, layout

COLORS = (CLEAN, POISONED)  # of class 0 and class 1
HIGHEST = 0.8  # quantile of the energies at which colors end: corners far from any data would take them all
ROOM = 0.3  # around a landscape, for points that step out of it
STAR = {"symbol": "star", "size": 17, "color": "#E69F00", "line": {"color": "black", "width": 1.2}}


def boundaries(
    axis: np.ndarray,
    landscapes: dict[str, np.ndarray],
    steps: Sequence[int],
    clean: tuple[np.ndarray, np.ndarray],
    poisons: np.ndarray,
    target: tuple[float, float],
) -> go.Figure:
    """The boundary of each network while it learns.

    Args:
        landscapes: probability of class 1 by name, ``(steps, cells, cells)``, the undisturbed network first.
        clean: points ``(n, 2)`` and their classes.
        poisons: ``(k, 2)``, labeled as class 1.
    """
    figure = go.Figure()
    names = list(landscapes)

    def lines(moment: int) -> list[Any]:
        return [
            _boundary(
                axis, landscapes[name][moment], name, CONTROL if number == 0 else INK, DASHES[1 - number]
            )
            for number, name in enumerate(names)
        ]

    figure.add_traces(lines(-1))
    points(figure, *clean)
    _planted(figure, poisons)
    star(figure, target)
    _square(figure, float(axis[-1]))
    return playable(
        figure, [lines(k) for k in range(len(steps))], [str(step) for step in steps], "training step "
    )


def scene(
    clean: tuple[np.ndarray, np.ndarray], poisons: np.ndarray, target: tuple[float, float], side: float
) -> go.Figure:
    """What there is before anything was trained; of the poisons ``(k, 2)`` there may be none."""
    figure = go.Figure()
    points(figure, *clean)
    _planted(figure, poisons)
    star(figure, target)
    _square(figure, side)
    return figure


def reach(
    clean: tuple[np.ndarray, np.ndarray],
    movable: np.ndarray,
    target: tuple[float, float],
    eps: float,
    side: float,
) -> go.Figure:
    """The points that may be moved, ``(k, 2)``, and for one of them every place that it may be moved to."""
    figure = go.Figure()
    points(figure, *clean, opacity=0.35)
    figure.add_scatter(
        x=movable[:, 0],
        y=movable[:, 1],
        mode="markers",
        name="may be moved",
        marker={"symbol": "square-open", "size": 9, "color": INK, "line": {"width": 1.2}},
    )
    star(figure, target)
    x, y = movable[np.linalg.norm(movable - target, axis=1).argmin()]
    figure.add_shape(
        type="rect", x0=x - eps, x1=x + eps, y0=y - eps, y1=y + eps, line={"color": POISONED, "dash": "dot"}
    )
    figure.add_annotation(
        x=x + eps,
        y=y + eps,
        text="where one point may go",
        font_color=POISONED,
        showarrow=False,
        xanchor="right",
        yanchor="bottom",
    )
    _square(figure, side)
    return figure


def twins(data: np.ndarray, clean: np.ndarray, poisoned: np.ndarray, side: float) -> go.Figure:
    """Data ``(n, 2)``, some of its points, and the same pushed away by a poison ``(k, 2)``."""
    figure = go.Figure(_dots(data, "data", "white", 4))
    ends = np.stack([clean, poisoned, np.full_like(clean, np.nan)], 1).reshape(-1, 2)
    figure.add_scatter(
        x=ends[:, 0],
        y=ends[:, 1],
        mode="lines",
        hoverinfo="skip",
        showlegend=False,
        line={"color": CONTROL, "width": 1},
    )
    figure.add_trace(_dots(clean, "clean", CLEAN, 8))
    figure.add_trace(_dots(poisoned, "poisoned", POISONED, 8, "diamond"))
    _square(figure, side + ROOM)
    return figure


def arrows(
    clean: tuple[np.ndarray, np.ndarray],
    movable: np.ndarray,
    moves: np.ndarray,
    target: tuple[float, float],
    axis: np.ndarray,
    landscapes: dict[str, np.ndarray],
) -> go.Figure:
    """Where crafting moves its points, step by step, with the boundaries that result at the end.

    Args:
        movable: ``(k, 2)`` before any move. moves: ``(steps, k, 2)``.
        landscapes: probability of class 1 by name, ``(cells, cells)``.
    """

    def drawn(move: np.ndarray) -> list[Any]:
        ends = movable + move
        shafts = np.stack([movable, ends, np.full_like(ends, np.nan)], 1).reshape(-1, 2)  # a gap after each
        return [
            go.Scatter(
                x=shafts[:, 0],
                y=shafts[:, 1],
                mode="lines",
                name="moves",
                line={"color": CONTROL, "width": 1},
                hoverinfo="skip",
                showlegend=False,
            ),
            go.Scatter(
                x=ends[:, 0],
                y=ends[:, 1],
                mode="markers",
                name="moved, still class 1",
                marker={"symbol": "x", "size": 8, "color": POISONED, "line": {"color": "black", "width": 1}},
            ),
        ]

    figure = go.Figure(drawn(moves[-1]))
    points(figure, *clean, opacity=0.35)
    for number, (name, landscape) in enumerate(landscapes.items()):
        figure.add_trace(
            _boundary(axis, landscape, name, CONTROL if number == 0 else INK, DASHES[1 - number % 2])
        )
    star(figure, target)
    _square(figure, float(axis[-1]))
    return playable(
        figure, [drawn(move) for move in moves], [str(k) for k in range(len(moves))], "crafting step "
    )


def paths(places: dict[str, np.ndarray], axes: np.ndarray, loss: np.ndarray) -> go.Figure:
    """Ways of training over a map of the adversarial loss.

    Args:
        places: by name, ``(epochs, 2)``. axes: ``(2, cells)``. loss: ``(cells, cells)``.
    """
    colors = (CLEAN, POISONED)

    def walked(epoch: int) -> list[Any]:
        return [
            go.Scatter(
                x=path[: epoch + 1, 0],
                y=path[: epoch + 1, 1],
                mode="lines+markers",
                name=name,
                line={"color": color, "width": 3},
                marker={"size": 6, "line": {"color": "white", "width": 1}},
            )
            for (name, path), color in zip(places.items(), colors, strict=True)
        ]

    epochs = len(next(iter(places.values())))
    shown = list(range(0, epochs, 4))
    figure = go.Figure(walked(epochs - 1))
    figure.add_trace(_heights(axes[0], axes[1], loss, "adversarial<br>loss"))
    layout(figure, "first direction of the weights", "second direction", 420)
    return playable(figure, [walked(epoch) for epoch in shown], [str(epoch) for epoch in shown], "epoch ")


def landscape_learned(
    axis: np.ndarray, maps: np.ndarray, data: np.ndarray, walkers: np.ndarray, updates: Sequence[int]
) -> go.Figure:
    """The energy while it is learned, ``(updates, cells, cells)``, with the walkers that it is taught by."""
    top = float(np.quantile(maps[-1], HIGHEST))

    def drawn(moment: int) -> list[Any]:
        return [
            _heights(axis, axis, maps[moment], "energy", top),
            _dots(walkers[moment], "walkers", POISONED, 6, "diamond"),
        ]

    figure = go.Figure(drawn(-1))
    figure.add_trace(_dots(data, "data", "white", 4))
    _square(figure, float(axis[-1]) + ROOM)
    return playable(figure, [drawn(k) for k in range(len(updates))], [str(u) for u in updates], "update ")


def walks(
    axis: np.ndarray, energy: np.ndarray, clean: np.ndarray, poisoned: np.ndarray, steps: list[int]
) -> go.Figure:
    """Clean and poisoned points on their way over the energy, ``(steps, n, 2)`` at the moments ``steps``."""

    def drawn(moment: int) -> list[Any]:
        ends = np.stack([clean[moment], poisoned[moment], np.full_like(clean[0], np.nan)], 1).reshape(-1, 2)
        return [
            go.Scatter(
                x=ends[:, 0],
                y=ends[:, 1],
                mode="lines",
                name="twins",
                hoverinfo="skip",
                showlegend=False,
                line={"color": "rgba(255, 255, 255, 0.5)", "width": 1},
            ),
            _dots(clean[moment], "clean", "#56B4E9", 8),
            _dots(poisoned[moment], "poisoned", POISONED, 8, "diamond"),
        ]

    figure = go.Figure(drawn(-1))
    figure.add_trace(_heights(axis, axis, energy, "energy", float(np.quantile(energy, HIGHEST))))
    _square(figure, float(axis[-1]) + ROOM)
    return playable(
        figure, [drawn(k) for k in range(len(steps))], [str(step) for step in steps], "Langevin step "
    )


def points(figure: go.Figure, x: np.ndarray, y: np.ndarray, opacity: float = 0.75) -> None:
    """The clean points, a color and a shape for each class."""
    for label, symbol in ((0, "circle"), (1, "square")):
        figure.add_scatter(
            x=x[y == label, 0],
            y=x[y == label, 1],
            mode="markers",
            name=f"class {label}",
            opacity=opacity,
            marker={"color": COLORS[label], "size": 7, "symbol": symbol},
        )


def _planted(figure: go.Figure, poisons: np.ndarray) -> None:
    if len(poisons):
        figure.add_scatter(
            x=poisons[:, 0],
            y=poisons[:, 1],
            mode="markers",
            name="poisons, labeled class 1",
            marker={"symbol": "x", "size": 9, "color": POISONED, "line": {"color": "black", "width": 1}},
        )


def star(figure: go.Figure, target: tuple[float, float]) -> None:
    figure.add_scatter(x=[target[0]], y=[target[1]], mode="markers", name="target", marker=STAR)


def _boundary(axis: np.ndarray, landscape: np.ndarray, name: str, color: str, dash: str) -> go.Contour:
    return go.Contour(
        x=axis,
        y=axis,
        z=landscape,
        name=name,
        showscale=False,
        showlegend=True,
        hoverinfo="skip",
        contours={"start": 0.5, "end": 0.5, "size": 1, "coloring": "none"},
        line={"color": color, "width": 3, "dash": dash},
    )


def _heights(x: np.ndarray, y: np.ndarray, z: np.ndarray, title: str, top: float | None = None) -> go.Heatmap:
    return go.Heatmap(
        x=x,
        y=y,
        z=z,
        zmin=float(z.min()),
        zmax=float(z.max()) if top is None else top,
        colorscale=SEQUENTIAL,
        zsmooth="fast",
        colorbar={"title": title, "thickness": 14},
        hovertemplate="%{z:.2f}<extra></extra>",
    )


def _dots(x: np.ndarray, name: str, color: str, size: int, symbol: str = "circle") -> go.Scatter:
    return go.Scatter(
        x=x[:, 0],
        y=x[:, 1],
        mode="markers",
        name=name,
        hoverinfo="skip",
        marker={"color": color, "size": size, "symbol": symbol, "line": {"color": "black", "width": 0.6}},
    )


def _square(figure: go.Figure, side: float) -> None:
    """Both axes alike and fixed, so that nothing jumps while it plays."""
    layout(figure, "first coordinate", "second coordinate", 460)
    figure.update_xaxes(range=[-side, side], constrain="domain", zeroline=False)
    figure.update_yaxes(range=[-side, side], scaleanchor="x", constrain="domain", zeroline=False)


def falling(lines: dict[str, np.ndarray], xtitle: str, ytitle: str, mark: int | None = None) -> go.Figure:
    """Clean and poisoned, step by step, in their colors."""
    figure = go.Figure()
    for (name, values), color, dash in zip(lines.items(), (CLEAN, POISONED, PURIFIED), DASHES, strict=False):
        figure.add_scatter(
            y=values, name=name, mode="lines", line={"color": color, "dash": dash, "width": 2.5}
        )
    if mark is not None:
        figure.add_vline(x=mark, line={"color": CONTROL, "dash": "dot"}, annotation_text=" as near")
    layout(figure, xtitle, ytitle, 360)
    figure.update_yaxes(rangemode="tozero")
    return figure
