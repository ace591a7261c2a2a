"""Published numbers against measured ones."""

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from poisonlab.figures.style import CLEAN, CONTROL, POISONED, layout

ROW_HEIGHT = 34
_PANELS = (
    ("clean_accuracy", "clean accuracy", CLEAN),
    ("success", "attack success (lower is better)", POISONED),
)


def dumbbell(rows: pd.DataFrame) -> go.Figure:
    """One line a defense: a ring where the publication is, a disc where the measurement is, a bar between them.

    Args:
        rows: columns ``label``, ``n`` and ``wanted`` runs, and for ``clean_accuracy`` and ``success`` the measured
            value with ``_low``, ``_high`` and ``_sd``, and the ``_published`` one with ``_published_sd``; missing
            values, and rows without any, are left out.
    """
    columns = [f"{name}{kind}" for name, _, _ in _PANELS for kind in ("", "_published")]
    rows = rows.dropna(subset=columns, how="all")
    titles = [title for _, title, _ in _PANELS]
    figure = make_subplots(1, 2, shared_yaxes=True, subplot_titles=titles, horizontal_spacing=0.04)
    for column, (name, title, color) in enumerate(_PANELS, 1):
        _add_gaps(figure, rows, name, column)
        shown = rows.dropna(subset=[f"{name}_published"])
        figure.add_scatter(
            x=shown[f"{name}_published"],
            y=shown["label"],
            mode="markers",
            name="published",
            legendgroup="published",
            showlegend=column == 1,
            row=1,
            col=column,
            marker={"symbol": "circle-open", "size": 13, "color": CONTROL, "line": {"width": 2.5}},
            customdata=[_deviation(sd) for sd in shown[f"{name}_published_sd"]],
            hovertemplate=f"%{{y}}<br>published {title} %{{x:.2%}}%{{customdata}}<extra></extra>",
        )
        shown = rows.dropna(subset=[name])
        low, high = (shown[f"{name}_{side}"].fillna(shown[name]) for side in ("low", "high"))
        figure.add_scatter(
            x=shown[name],
            y=shown["label"],
            mode="markers",
            name=f"measured: {title.split(' (')[0]}",
            row=1,
            col=column,
            marker={"size": 11, "color": color},
            customdata=_runs(shown, name),
            error_x={
                "type": "data",
                "array": high - shown[name],
                "arrayminus": shown[name] - low,
                "symmetric": False,
                "thickness": 1,
            },
            hovertemplate=f"%{{y}}<br>measured {title} %{{x:.2%}}%{{customdata}}<extra></extra>",
        )
        figure.update_xaxes(tickformat=".0%", range=_frame(rows, name), row=1, col=column)
    height = 150 + ROW_HEIGHT * max(2, len(rows))
    layout(figure, "", "", height, hovermode="closest")
    figure.update_layout(
        legend_y=1 + 40 / (height - 150), margin={"t": 100}
    )  # above the titles of the panels
    order = list(rows["label"])[::-1]  # the first on top
    figure.update_yaxes(categoryorder="array", categoryarray=order, range=[-0.6, len(order) - 0.4])
    return figure


def _deviation(sd: float) -> str:
    return "" if pd.isna(sd) else f" ± {sd:.2%}"


def _runs(rows: pd.DataFrame, name: str) -> list[str]:
    """`` ± 3.20%, n=4 of 10``: deviation over the runs, and how many there are."""
    columns = zip(rows[f"{name}_sd"], rows["n"], rows["wanted"], strict=True)
    return [f"{_deviation(sd)}, n={n}" + (f" of {wanted}" if wanted > 1 else "") for sd, n, wanted in columns]


def _add_gaps(figure: go.Figure, rows: pd.DataFrame, name: str, column: int) -> None:
    """A bar from the published to the measured value, all in one trace."""
    both = rows.dropna(subset=[name, f"{name}_published"])
    x = []
    y = []
    for label, start, end in zip(both["label"], both[f"{name}_published"], both[name], strict=True):
        x += [start, end, None]
        y += [label, label, None]
    figure.add_scatter(
        x=x,
        y=y,
        mode="lines",
        line={"color": CONTROL, "width": 3},
        opacity=0.45,
        showlegend=False,
        hoverinfo="skip",
        row=1,
        col=column,
    )


def _frame(rows: pd.DataFrame, name: str) -> list[float]:
    """From 0 for success; for accuracy from a round value below the lowest, never narrower than half."""
    if name == "success":
        return [-0.03, 1.03]
    seen = pd.concat([rows[name], rows[f"{name}_published"]]).dropna()
    low = min(0.5, seen.min() // 0.1 / 10) if len(seen) else 0.0
    return [low - 0.02, 1.02]
