"""The pictures of a ranked block: every pair of attack and defense, and what each defense costs."""

from typing import Any

import pandas as pd
import streamlit as st

from poisonlab.figures import board as figures
from poisonlab.measure import catalogue
from poisonlab.runner import runtime
from poisonlab.store.ranking import NOTHING, SHOWN, Board, marks
from poisonlab.ui import charts, glossary, link, navigation

EVERY = "all, on average"


def pictures(runs: pd.DataFrame, board: Board) -> None:
    """Heat map and trade-off.

    Args:
        runs: of the block, one row a run, as :meth:`~poisonlab.store.ranking.Rankings.runs` gives them.
        board: the same block ranked, with a row a defense.
    """
    _pairs(runs, list(board.rows["name"]))
    _costs(runs, board)


def _pairs(runs: pd.DataFrame, order: list[str]) -> None:
    st.subheader("Attack × defense", anchor=False)
    known = [name for name in SHOWN if runs[name].notna().any()]
    metric = link.segments(
        st, "Metric", known, default=catalogue.SUCCESS, format_func=glossary.label, key="metric"
    )
    opened = charts.clicked(
        figures.heatmap(runs, metric, glossary.label(metric), order),
        key="heatmap",
        alt=f"Heatmap of {glossary.label(metric)} by attack and defense",
    )
    st.caption(
        f"{glossary.help_for(metric)} Each cell is the mean over its seeds; a click opens its newest run. Defenses "
        "stand in the order of their ranks, the attack that gets through most is at the top."
    )
    _open(opened)


def _costs(runs: pd.DataFrame, board: Board) -> None:
    left, right = st.columns([3, 1], vertical_alignment="bottom")
    left.subheader("What a defense costs", anchor=False)
    attack = link.choice(right, "Attack", [EVERY, *sorted(runs["attack"].unique())], str, key="costs_under")
    opened = charts.clicked(
        figures.trade_off(marks(runs, board, None if attack == EVERY else attack), NOTHING),
        key="tradeoff",
        alt="Scatter of clean accuracy lost against attack success, one named mark for each defense",
    )
    st.caption(
        "Lower left is best: the attack fails and the model still works. Full marks on the dotted line are "
        "defenses that no other one beats in both. "
        + ("Means over attacks." if attack == EVERY else "A click opens the newest run.")
    )
    _open(opened)


def _open(customdata: list[Any] | None) -> None:
    """Leave for the page that shows most of a clicked run; nothing was clicked, or a mark stands for several."""
    run_id = str(customdata[0]) if customdata else ""
    if not run_id:
        return
    store = runtime.get().store
    record = store.runs.record(run_id)
    if record is not None and store.runs.has_pictures(run_id):
        kinds = {item.kind for item in record.artifacts}
        page = "triggers" if kinds & set(navigation.SHOWS["triggers"]) else "poisons"
        navigation.go(page, run=run_id)
    navigation.go("jobs", job=run_id)
