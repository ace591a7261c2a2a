"""What a detector says of classes and of training images, in the victim and in a control without poison."""

import plotly.graph_objects as go

from poisonlab.figures.scores import add_scores
from poisonlab.figures.style import CLEAN, CONTROL, POISONED, layout
from poisonlab.records.artifacts import ClassAnomaly, SampleSuspicion


def class_anomaly(found: ClassAnomaly) -> go.Figure:
    """Each class's score in both models, the threshold as a line if it is defined; the true target's bar stands out."""
    figure = go.Figure()
    colors = [POISONED if label == found.target_class else CLEAN for label in range(len(found.classes))]
    for name, scores, color in (("victim", found.victim, colors), ("control", found.control, CONTROL)):
        figure.add_bar(
            x=found.classes,
            y=scores.numpy(),
            name=name,
            marker_color=color,
            hovertemplate=f"%{{x}}, {name}: %{{y:.3g}}<extra></extra>",
        )
    if found.threshold is not None:
        figure.add_hline(
            y=found.threshold,
            line={"color": CONTROL, "dash": "dash"},
            annotation_text="suspicious above",
            annotation_position="top right",
        )
    layout(figure, "class", found.score, 340, barmode="group")
    figure.update_xaxes(type="category")
    return figure


def suspicion(found: SampleSuspicion) -> go.Figure:
    """How the scores of clean and poisoned training images are spread, and those of the control's images."""
    figure = go.Figure()
    sets = {
        "clean": (found.clean, CLEAN),
        "poisoned": (found.poisoned, POISONED),
        "control": (found.control, CONTROL),
    }
    add_scores(figure, sets, shares=True)
    layout(figure, "score; higher is more suspicious", "share of the images", 340)
    figure.update_yaxes(tickformat=".0%")
    return figure
