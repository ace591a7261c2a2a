"""Figures that play: every frame's Step leads to the next, and what is shown first is what the slider says."""

import numpy as np
import plotly.graph_objects as go
import pytest

from poisonlab.figures import digits
from poisonlab.figures.animation import playable


def step_of(layout: go.Layout) -> str:
    """The frame that the button Step of a layout leads to."""
    (button,) = (b for b in layout.updatemenus[0].buttons if b.label == "Step")
    return str(button.args[0][0])


@pytest.mark.parametrize(("shown", "at", "then"), [(-1, 2, "a"), (0, 0, "b")])
def test_step_leads_from_frame_to_frame_and_from_the_last_to_the_first(
    shown: int, at: int, then: str
) -> None:
    names = ["a", "b", "c"]
    figure = playable(
        go.Figure(go.Scatter(y=[0])), [[go.Scatter(y=[k])] for k in range(3)], names, "frame ", shown
    )

    assert [step_of(frame.layout) for frame in figure.frames] == ["b", "c", "a"]
    assert figure.layout.sliders[0].active == at and step_of(figure.layout) == then


def test_sorting_what_was_flagged_moves_images_between_groups_and_loses_none() -> None:
    wrong, agrees = (
        np.array([True, True, False, False, True, False]),
        np.array([False, True, True, False, True, True]),
    )

    figure = digits.flagged(np.linspace(1, 0, 6), wrong, agrees, limit=4)

    groups = [[len(trace.x) for trace in frame.data] for frame in figure.frames]
    # wrong and right flagged; right and wrong taken back; right and wrong never flagged
    assert groups == [[0, 0, 0, 0, 3, 3], [2, 2, 0, 0, 1, 1], [1, 1, 1, 1, 1, 1]]
