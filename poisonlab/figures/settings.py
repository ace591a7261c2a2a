"""What each setting of a defense's knob gives: the pruning curve."""

import plotly.graph_objects as go

from poisonlab.artifacts import SettingsCurve
from poisonlab.figures.style import CLEAN, CONTROL, POISONED, layout


def settings_curve(curve: SettingsCurve) -> go.Figure:
    """Accuracy and ASR over the settings, the rule's choice and the oracle's marked."""
    figure = go.Figure()
    x = curve.settings.numpy()
    lines = (
        ("clean accuracy", curve.accuracy, CLEAN, "solid"),
        ("ASR", curve.asr, POISONED, "solid"),
        ("accuracy on the defender's own images", curve.clean_score, CONTROL, "dot"),
    )
    for name, values, colour, dash in lines:
        figure.add_scatter(
            x=x, y=values.numpy(), name=name, mode="lines+markers", line={"color": colour, "dash": dash},
            hovertemplate=f"{curve.knob} %{{x:g}}<br>{name} %{{y:.1%}}<extra></extra>",
        )  # fmt: skip
    same = curve.chosen == curve.oracle
    marks = [(curve.chosen, "rule and oracle" if same else "rule", "bottom right")]
    marks += [] if same else [(curve.oracle, "oracle", "top right")]
    for position, name, place in marks:
        figure.add_vline(
            x=float(x[position]),
            line={"color": CONTROL, "dash": "dash"},
            annotation_text=name,
            annotation_position=place,
        )
    layout(figure, curve.knob, "share of test images", 380)
    figure.update_yaxes(tickformat=".0%", range=[0, 1.03])
    return figure
