"""Figures that play: buttons and a slider over the frames, all in the browser."""

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

MILLISECONDS = 350  # of a frame
# pixels that the labels of an axis, the slider and the buttons take
AXIS = 70
SLIDER = 92
BUTTONS = 43
_STILL = {"duration": 0, "redraw": True}
_AT_ONCE = {"frame": _STILL, "mode": "immediate", "transition": {"duration": 0}}
_RUNNING = {"frame": _STILL | {"duration": MILLISECONDS}, "fromcurrent": True, "transition": {"duration": 0}}


def playable(
    figure: go.Figure,
    frames: Sequence[Sequence[Any]],
    names: Sequence[str],
    what: str,
    shown: int = -1,
    axis: int = AXIS,
) -> go.Figure:
    """Add reset, step, play, pause and a slider to a figure.

    Args:
        frames: for each moment the traces that replace the figure's first ones, as many as change.
        names: what the slider says at each moment.
        what: is counted, such as ``"step "``; stands before the name.
        shown: the moment at which the figure was given, the last by default.
        axis: pixels below the plot that its labels need.
    """
    shown %= len(names)
    figure.frames = [
        go.Frame(
            data=list(traces),
            name=names[moment],
            layout={"updatemenus": [{"buttons": _buttons(names, moment)}]},
        )
        for moment, traces in enumerate(frames)
    ]
    figure.update_layout(
        updatemenus=[
            {
                "type": "buttons",
                "direction": "left",
                "showactive": False,
                "x": 0,
                "y": 0,
                "xanchor": "left",
                "yanchor": "top",
                "pad": {"t": axis + SLIDER},
                "buttons": _buttons(names, shown),
            }
        ],
        sliders=[
            {
                "active": shown,
                "x": 0,
                "len": 1,
                "y": 0,
                "xanchor": "left",
                "yanchor": "top",
                "pad": {"t": axis, "r": 36},  # half of the last label
                "currentvalue": {"prefix": what, "xanchor": "left"},
                "steps": [{"label": name, "method": "animate", "args": [[name], _AT_ONCE]} for name in names],
            }
        ],
    )
    margin = figure.layout.margin
    below = axis + SLIDER + BUTTONS - (margin.b or 50)
    figure.update_layout(height=(figure.layout.height or 340) + below, margin_b=(margin.b or 50) + below)
    return figure


def _buttons(names: Sequence[str], moment: int) -> list[dict[str, Any]]:
    """A button of plotly's cannot count, so every frame brings its own step: to the next one, from the last to the
    first."""
    actions = {
        "Reset": [[names[0]], _AT_ONCE],
        "Step": [[names[(moment + 1) % len(names)]], _AT_ONCE],
        "Play": [None, _RUNNING],
        "Pause": [[None], _AT_ONCE],
    }
    return [{"label": label, "method": "animate", "args": args} for label, args in actions.items()]
