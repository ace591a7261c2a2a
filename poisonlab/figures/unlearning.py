"""What unlearning does to a model: accuracy and ASR on the way, and what it says of clean images afterwards."""

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from poisonlab.figures.style import CLEAN, CONTROL, POISONED, layout
from poisonlab.records.artifacts import PredictionHistogram, RepairTrace


def repair_curves(trace: RepairTrace) -> go.Figure:
    """Accuracy and ASR at each evaluation, a panel for each phase; panels share the vertical axis."""
    spans = [max(1, int(trace.step[trace.phase == i].max())) for i in range(len(trace.phases))]
    figure = make_subplots(
        rows=1,
        cols=len(trace.phases),
        shared_yaxes=True,
        horizontal_spacing=0.03,
        column_titles=trace.phases,
        column_widths=[max(span, 0.4 * max(spans)) for span in spans],
    )
    lines = (("clean accuracy", trace.accuracy, CLEAN, "circle"), ("ASR", trace.asr, POISONED, "diamond"))
    for column, phase in enumerate(trace.phases, 1):
        mine = trace.phase == column - 1
        for name, values, color, symbol in lines:
            if values.isnan().all():  # no backdoor, no ASR
                continue
            figure.add_scatter(
                x=trace.step[mine].numpy(),
                y=values[mine].numpy(),
                name=name,
                legendgroup=name,
                showlegend=column == 1,
                mode="lines+markers",
                line={"color": color},
                marker={"symbol": symbol},
                hovertemplate=f"{phase}, epoch %{{x}}<br>{name} %{{y:.1%}}<extra></extra>",
                row=1,
                col=column,
            )
    layout(figure, "", "share of test images", 380)
    figure.update_layout(legend_y=1.1, margin_t=80)
    figure.update_xaxes(title="epochs", tickformat="d")
    for column, span in enumerate(spans, 1):  # no mark is cut in half at an edge
        figure.update_xaxes(range=[-0.04 * span, 1.04 * span], col=column)
    figure.update_yaxes(tickformat=".0%", range=[-0.03, 1.05])
    figure.update_yaxes(title="", col=2)
    return figure


def predictions(histogram: PredictionHistogram, target: int | None = None) -> go.Figure:
    """Share of clean images given each class before and after unlearning; the attacker's class stands out."""
    figure = go.Figure()
    after_colors = [POISONED if i == target else CLEAN for i in range(len(histogram.classes))]
    shares = {}
    for name, counts, colors in (
        ("before", histogram.before, CONTROL),
        ("after", histogram.after, after_colors),
    ):
        shares[name] = (counts.float() / counts.sum().clamp_min(1)).numpy()
        figure.add_bar(
            x=histogram.classes,
            y=shares[name],
            name=f"{name} unlearning",
            marker_color=colors,
            hovertemplate=f"class %{{x}}, {name}: %{{y:.1%}}<extra></extra>",
            showlegend=name == "before",
            offsetgroup=name,
        )
    # bars of two colors have no legend entry of their own
    for name, color in [("after unlearning", CLEAN)] + [("after, attacker's class", POISONED)] * (
        target is not None
    ):
        figure.add_bar(x=[None], y=[None], name=name, marker_color=color, offsetgroup="after")
    if target is not None:
        highest = max(shares["before"][target], shares["after"][target])
        figure.add_annotation(x=target, y=highest, yanchor="bottom", text="attacker's class", showarrow=False)
    layout(figure, "predicted class", "share of the defender's clean images", 360, barmode="group")
    figure.update_xaxes(type="category")
    figure.update_yaxes(tickformat=".0%", range=[0, 1.15], tickvals=[0, 0.2, 0.4, 0.6, 0.8, 1])
    return figure
