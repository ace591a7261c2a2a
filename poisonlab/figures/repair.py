"""What a repair flags, how well, and what flagging more or fewer images does to accuracy."""

import numpy as np
import pandas as pd
import plotly.express as px
import plotly.graph_objects as go
import torch

from poisonlab.figures.scores import add_scores
from poisonlab.figures.style import (
    CLEAN,
    CONTROL,
    POISONED,
    PURIFIED,
    SEQUENTIAL,
    add_means,
    add_runs,
    layout,
)
from poisonlab.records.artifacts import ConfusionChange, FlagReview

LABEL = 0.06  # of the height: room that the name of a flat line takes
FATE_COLORS = {"kept out": CONTROL, "returned": PURIFIED, "relabeled": "#CC79A7"}


def score_histogram(found: FlagReview) -> go.Figure:
    """How the scores of clean and of bad training images are spread, and where the flags begin."""
    figure = go.Figure()
    sets = {"clean": (found.clean, CLEAN), "corrupted or poisoned": (found.bad, POISONED)}
    low, high = add_scores(figure, sets, shares=False)
    ranked = torch.cat([found.clean, found.bad]).double().sort(descending=True).values
    threshold = ranked[found.chosen - 1].item()
    figure.add_vline(
        x=min(max(threshold, low), high),
        line={"color": CONTROL, "dash": "dash"},
        annotation_text="flagged from here",
        annotation_position="top right",
    )
    return layout(figure, "score; higher is more suspicious", "training images", 340)


def precision_recall(found: FlagReview) -> go.Figure:
    """Precision and recall of flagging the k images with the highest scores; the repair's own k is marked."""
    figure = go.Figure()
    for name, values, color in (("precision", found.precision, CLEAN), ("recall", found.recall, POISONED)):
        figure.add_scatter(
            x=found.flagged.numpy(),
            y=values.numpy(),
            name=name,
            mode="lines",
            line={"color": color},
            hovertemplate=f"%{{x}} flagged: {name} %{{y:.1%}}<extra></extra>",
        )
    for x, text, place in (
        (found.chosen, "flagged", "top left"),
        (len(found.bad), "truly bad", "bottom right"),
    ):
        dash = "dash" if text == "flagged" else "dot"
        figure.add_vline(
            x=x, line={"color": CONTROL, "dash": dash}, annotation_text=text, annotation_position=place
        )
    layout(figure, "images flagged, k", "share", 340)
    figure.update_yaxes(tickformat=".0%", range=[-0.03, 1.05])
    return figure


def ranks(found: FlagReview) -> go.Figure:
    """The sampled flagged images in the order of their scores, colored by fate; open marks are clean images."""
    figure = go.Figure()
    for number, (name, color) in enumerate(FATE_COLORS.items()):
        mine = found.fate == number
        if not bool(mine.any()):
            continue
        truth = np.where(found.is_bad[mine].numpy(), "corrupted or poisoned", "clean")
        figure.add_scatter(
            x=found.rank[mine].numpy(),
            y=found.score[mine].numpy(),
            name=name,
            mode="markers",
            marker={
                "color": color,
                "size": 9,
                "symbol": np.where(found.is_bad[mine].numpy(), "circle", "circle-open"),
            },
            customdata=truth,
            hovertemplate=f"rank %{{x}}, score %{{y:.2g}}: %{{customdata}}, {name}<extra></extra>",
        )
    return layout(figure, "rank; 1 is the most suspicious", "score", 300)


def confusion(found: ConfusionChange, after: bool) -> go.Figure:
    """Shares of each true class by answer, before or after the repair."""
    counts = (found.after if after else found.before).float()
    shares = (counts / counts.sum(1, keepdim=True).clamp_min(1)).numpy()
    figure = px.imshow(
        shares,
        x=found.classes,
        y=found.classes,
        zmin=0,
        zmax=1,
        color_continuous_scale=SEQUENTIAL,
        aspect="auto",
        text_auto=".0%" if len(found.classes) <= 10 else False,
    )
    figure.update_traces(hovertemplate="%{y} read as %{x}: %{z:.1%}<extra></extra>", xgap=1, ygap=1)
    figure.update_layout(coloraxis_showscale=False)
    layout(figure, "answer", "true class", 420)
    figure.update_xaxes(type="category", showgrid=False)
    figure.update_yaxes(type="category", showgrid=False)
    return figure


def _together(levels: dict[str, float], room: float) -> list[tuple[list[str], float]]:
    """Levels from the lowest up; those that begin within ``room`` of each other share a line, for a label needs it."""
    groups: list[tuple[list[str], list[float]]] = []
    for name, level in sorted(levels.items(), key=lambda item: item[1]):
        if not np.isfinite(level):
            continue
        if groups and level - groups[-1][1][0] < room:
            groups[-1][0].append(name)
            groups[-1][1].append(level)
        else:
            groups.append(([name], [level]))
    return [(names, float(np.mean(values))) for names, values in groups]


def over_flagging(rows: pd.DataFrame) -> go.Figure:
    """Clean accuracy against the share flagged: a mark a seed, a line of means a defense; others lie flat.

    Args:
        rows: as the store's ``flagging`` gives them.
    """
    figure = go.Figure()
    flagging = rows.dropna(subset=["flag_share"])
    for number, (line, part) in enumerate(flagging.groupby("line", sort=True)):
        means = part.groupby("flag_share", sort=True)["clean_accuracy"].mean()
        add_runs(
            figure,
            str(line),
            number,
            x=part["flag_share"],
            y=part["clean_accuracy"],
            customdata=part["seed"],
            hovertemplate=f"{line}, seed %{{customdata}}: %{{y:.1%}}<extra></extra>",
        )
        add_means(
            figure,
            str(line),
            number,
            x=means.index,
            y=means,
            hovertemplate=f"{line}, %{{x:.0%}} flagged: mean %{{y:.1%}}<extra></extra>",
        )
    flat = rows[rows["flag_share"].isna() & (rows["defense"] != "none")]
    levels = {str(line): part["clean_accuracy"].mean() for line, part in flat.groupby("line", sort=True)}
    for name in ("undefended", "retrained"):
        levels[name] = rows[f"clean_accuracy_{name}"].mean()
    levels = {
        name: level for name, level in levels.items() if pd.notna(level)
    }  # all collapsed, or none retrained
    seen = [*rows["clean_accuracy"].dropna(), *levels.values()]
    for names, level in _together(levels, LABEL * (np.nanmax(seen) - np.nanmin(seen))):
        figure.add_hline(
            y=level,
            line={"color": CONTROL, "dash": "dot", "width": 1},
            annotation_text=", ".join(names),
            annotation_position="bottom right",
        )
    if rows["corrupted"].notna().any():
        figure.add_vline(
            x=rows["corrupted"].mean(),
            line={"color": CONTROL, "dash": "dot", "width": 1},
            annotation_text="truly bad",
            annotation_position="top right",
        )
    layout(figure, "share of the training images flagged", "clean accuracy", 430)
    figure.update_xaxes(tickformat=".0%", rangemode="tozero")
    figure.update_yaxes(tickformat=".0%")
    return figure
