"""What a defense thinks of each part of a network, and what the trigger does to it."""

import math

import streamlit as st

from poisonlab.figures import neurons as figures
from poisonlab.records.artifacts import ActivationDrive, NeuronScores, SettingsCurve
from poisonlab.ui import charts, glossary, link

ALL = "all layers"


def who_chose(curve: SettingsCurve, used: str) -> str:
    """Whether a rule or a parameter set the knob, and what the rule looked at."""
    if not curve.by_rule:
        return f"A **parameter** of the defense set it to {used}; no data was asked."
    seen = "accuracy on the defender's clean images"
    if len(curve.stand_in):
        seen += ", and how often a pattern that the defender recovered from the model still works on them"
    return f"The **rule** chose {used}. It sees only what is dotted: {seen}."


def scores(found: NeuronScores) -> None:
    """The distribution of the scores in each layer, and where they are low."""
    left, right = st.columns(2, gap="medium")
    charts.show(
        charts.drawn(figures.mask_histogram, found),
        key="masks",
        alt="Distribution of the scores of each layer between 0 and 1",
        place=left,
    )
    charts.show(
        charts.drawn(figures.blamed, found),
        key="blamed",
        alt="Share of scores on the blamed side by layer",
        place=right,
    )


def drive(found: ActivationDrive) -> None:
    """Is the defense right? Its scores against what only the experimenter can measure."""
    st.markdown(
        "Each point is one channel of the attacked model, before any repair. No defender could draw this: it takes the "
        "trigger. A defense that blames the right channels has its marked points far from the line at zero."
    )
    options = [ALL, *found.layers]
    link.hint_choice("layer", "layer", options)
    chosen = st.selectbox("Layer", options, key="layer", bind="query-params", width=260)
    layer = None if chosen == ALL else found.layers.index(chosen)
    both = len(found.poison_change) > 0
    left, right = st.columns(2, gap="medium") if both else (st.container(), st.container())
    left.markdown("**Activation drive**", help=glossary.help_for("drive"))
    charts.show(
        charts.drawn(figures.drive_scatter, found, layer),
        key="drive",
        alt="Score of each channel against the change of its activation by the trigger",
        place=left,
    )
    if not both:
        return
    right.markdown("**Weight change**", help=glossary.help_for("weight_change"))
    charts.show(
        charts.drawn(figures.change_scatter, found, layer),
        key="change",
        alt="Weight change of each channel in unlearning clean images against that in unlearning triggered images",
        place=right,
    )
    r = figures.correlation(found, layer)
    if math.isfinite(r):
        right.caption(
            f"Correlation {r:.2f}. The closer to 1, the better the defender's clean images stand in for the triggered "
            "ones."
        )
