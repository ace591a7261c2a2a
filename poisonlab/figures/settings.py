"""What each setting of a defense's sweep gives: the pruning curve."""

import plotly.graph_objects as go
from torch import Tensor

from poisonlab.figures.style import CLEAN, CONTROL, POISONED, layout
from poisonlab.records.artifacts import SettingsCurve


def settings_curve(curve: SettingsCurve) -> go.Figure:
    """Accuracy and ASR over the settings, the setting in use and the oracle's marked."""
    figure = go.Figure()
    x = curve.settings.numpy()
    lines: tuple[tuple[str, Tensor, str, str], ...] = (
        ("clean accuracy", curve.accuracy, CLEAN, "solid"),
        ("ASR", curve.asr, POISONED, "solid"),
        ("accuracy on the defender's own images", curve.clean_score, CONTROL, "dot"),
    )
    if len(curve.stand_in):
        lines += (("the defender's stand-in for the trigger", curve.stand_in, POISONED, "dot"),)
    for name, values, color, dash in lines:
        figure.add_scatter(
            x=x,
            y=values.numpy(),
            name=name,
            mode="lines+markers",
            line={"color": color, "dash": dash},
            hovertemplate=f"{curve.setting_name} %{{x:g}}<br>{name} %{{y:.1%}}<extra></extra>",
        )
    for position, name in _choices(curve):
        first = position == min(curve.chosen, curve.oracle)  # labels of neighbors lean away from each other
        figure.add_vline(x=float(x[position]), line={"color": CONTROL, "dash": "dash"})
        figure.add_annotation(
            x=float(x[position]),
            y=1,
            yref="paper",
            yanchor="bottom",
            xanchor="right" if first else "left",
            text=name,
            showarrow=False,
        )
    layout(figure, curve.setting_name, "share of test images", 380)
    figure.update_layout(legend_y=1.1, margin_t=70)
    figure.update_yaxes(tickformat=".0%", range=[0, 1.03])
    return figure


def _choices(curve: SettingsCurve) -> list[tuple[int, str]]:
    """The marked positions with their names; one mark where both agree."""
    used = "rule" if curve.by_rule else "parameter"
    if curve.chosen == curve.oracle:
        return [(curve.chosen, f"{used} and oracle")]
    return [(curve.chosen, used), (curve.oracle, "oracle")]
