"""How suspicious inputs are while a model is used, and what a screen stops."""

import plotly.graph_objects as go
import torch

from poisonlab.figures.scores import add_scores
from poisonlab.figures.style import CLEAN, CONTROL, INK, POISONED, layout
from poisonlab.records.artifacts import ScreeningReview
from poisonlab.words.numbers import score


def scores(found: ScreeningReview, control: bool) -> go.Figure:
    """How the scores of untouched and of triggered inputs are spread in the victim, or in the control."""
    untouched = found.control_untouched if control else found.untouched
    triggered = found.control_triggered if control else found.triggered
    figure = go.Figure()
    sets = {"untouched": (untouched, CLEAN), "with the trigger": (triggered, POISONED)}
    there = {name: (values, color) for name, (values, color) in sets.items() if len(values)}
    if there:
        add_scores(figure, there, shares=True)
    if not control:
        _line(figure, found.threshold, "stopped above", "dash")
        _line(figure, found.limit, "paper's threshold", "dot")
    layout(figure, "score; higher is more suspicious", "share of the inputs", 320)
    figure.update_yaxes(tickformat=".0%")
    return figure


def _line(figure: go.Figure, place: float | None, text: str, dash: str) -> None:
    """A threshold, named in the legend: two of them may lie so close that words beside them would meet."""
    if place is None:
        return
    line = {"color": INK, "dash": dash}
    figure.add_vline(x=place, line=line)
    figure.add_scatter(x=[None], y=[None], name=f"{text} {score(place)}", mode="lines", line=line)


def curves(found: ScreeningReview) -> go.Figure:
    """Share of the triggered inputs stopped against that of untouched ones, for every threshold: victim and control."""
    figure = go.Figure()
    for name, untouched, triggered, color in (
        ("victim", found.untouched, found.triggered, POISONED),
        ("control", found.control_untouched, found.control_triggered, CONTROL),
    ):
        if not len(untouched) or not len(triggered):
            continue
        places = torch.cat([untouched, triggered]).unique().flip(0)
        stopped = [(group[None] >= places[:, None]).double().mean(1) for group in (untouched, triggered)]
        figure.add_scatter(
            x=[0.0, *stopped[0].tolist()],
            y=[0.0, *stopped[1].tolist()],
            name=name,
            mode="lines",
            line={"color": color},
            hovertemplate=f"{name}: %{{y:.1%}} of the triggered, %{{x:.1%}} of the untouched stopped<extra></extra>",
        )
    figure.add_scatter(
        x=[0, 1],
        y=[0, 1],
        name="chance",
        mode="lines",
        line={"color": INK, "dash": "dot"},
        hoverinfo="skip",
    )
    layout(figure, "untouched inputs stopped", "triggered inputs stopped", 320)
    figure.update_xaxes(tickformat=".0%", range=[-0.02, 1.02])
    figure.update_yaxes(tickformat=".0%", range=[-0.02, 1.02])
    return figure
