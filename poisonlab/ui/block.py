"""The pictures of a ranked block: every pair of attack and defense, and what each defense costs."""

from typing import Any

import streamlit as st

from poisonlab.measure import catalogue
from poisonlab.store.ranking import SHOWN, Block
from poisonlab.ui import charts, glossary, link, navigation, results

EVERY = "all, on average"


def pictures(block: Block, loss_allowed: float) -> None:
    """Heat map and trade-off of a block; a repair may cost ``loss_allowed`` of clean accuracy."""
    _pairs(block, loss_allowed)
    _costs(block, loss_allowed)


def _pairs(block: Block, loss_allowed: float) -> None:
    st.subheader("Attack × defense", anchor=False)
    runs = results.block_runs(block)
    known = [name for name in SHOWN if runs[name].notna().any()]
    metric = link.segments(
        st, "Metric", known, default=catalogue.SUCCESS, format_func=glossary.label, key="metric"
    )
    opened = charts.clicked(
        results.heatmap(block, metric, glossary.label(metric), loss_allowed),
        key="heatmap",
        alt=f"Heatmap of {glossary.label(metric)} by attack and defense",
    )
    st.caption(
        f"{glossary.help_for(metric)} Each cell is the mean over its seeds; a click opens that of the last seed. "
        "Defenses stand in the order of their ranks, the attack that gets through most is at the top."
    )
    _open(opened)


def _costs(block: Block, loss_allowed: float) -> None:
    left, right = st.columns([3, 1], vertical_alignment="bottom")
    left.subheader("What a defense costs", anchor=False)
    attacks = sorted(results.block_runs(block)["attack"].unique())
    attack = link.choice(right, "Attack", [EVERY, *attacks], str, key="costs_under")
    opened = charts.clicked(
        results.trade_off(block, None if attack == EVERY else attack, loss_allowed),
        key="tradeoff",
        alt="Scatter of clean accuracy lost against attack success, one named mark for each defense",
    )
    st.caption(
        "Lower left is best: the attack fails and the model still works. Full marks on the dotted line are "
        "defenses that no other one beats in both. "
        + (
            "Means over attacks; those over fewer say so and are not compared."
            if attack == EVERY
            else "A click opens the run of the last seed."
        )
    )
    _open(opened)


def _open(customdata: list[Any] | None) -> None:
    """Leave for the page that shows most of a clicked run; nothing was clicked, or a mark stands for several."""
    run_id = str(customdata[0]) if customdata else ""
    if not run_id:
        return
    record = results.record(run_id)
    if record is not None and results.has_pictures(run_id):
        kinds = {item.kind for item in record.artifacts}
        page = "triggers" if kinds & set(navigation.SHOWS["triggers"]) else "poisons"
        navigation.go(page, run=run_id)
    navigation.go("jobs", job=run_id)
