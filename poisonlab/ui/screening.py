"""In words and images: which inputs a screen stops, which it lets through, and how screens compare."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st
import torch

from poisonlab.figures import screening as figures
from poisonlab.records.artifacts import ScreeningReview
from poisonlab.store.screens import MEASURES
from poisonlab.ui import charts, glossary, tables
from poisonlab.ui.images import strip
from poisonlab.ui.wording import escape, number, percent, score

SHORT = {
    "screen_auroc": "AUROC",
    "screen_auroc_control": "Control",
    "screen_auroc_working": "Working",
    "screen_false_alarms": "At 95 %",
    "screen_caught": "Stopped",
    "screen_stopped": "Wrongly",
    "screened_asr": "ASR after",
    "screened_accuracy": "ACC after",
    "asr_undefended": "ASR",
}

# widths in pixels, so that all columns are in sight where the window has 1280: the longest name, a count, a share
LONGEST = 150
NARROW = 48
NUMBER = 69


def reading(found: ScreeningReview, metrics: Mapping[str, float | None]) -> str:
    """In words: what the screen stops, what is left of the attack, and what that costs."""

    def share(name: str) -> str:
        return percent(metrics.get(name))

    text = f"AUROC **{number(metrics.get('screen_auroc'))}**, "
    text += f"in the control {number(metrics.get('screen_auroc_control'))}. "
    if found.threshold is None:
        text += "No trusted image is left to set the defender's threshold by, so nothing is stopped. "
    elif metrics.get("screen_caught") is not None:
        text += (
            f"At the defender's threshold **{share('screen_caught')}** of the triggered inputs are stopped, and "
            f"{share('screen_stopped')} of the untouched ones"
        )
        if metrics.get("screen_stopped_target") is not None:
            text += f" ({share('screen_stopped_target')} of those of the attacker's class)"
        text += ". "
    if metrics.get("screen_caught_published") is not None:
        text += (
            f"At the paper's threshold it would be {share('screen_caught_published')} and "
            f"{share('screen_stopped_published')}. "
        )
    return text + (
        f"Behind the screen the attack succeeds with {share('screened_asr')} of the triggered inputs (without it "
        f"{share('asr_undefended')}), and {share('screened_accuracy')} of the untouched ones are let through and read "
        f"rightly (without it {share('clean_accuracy_undefended')})."
    )


def scores(found: ScreeningReview, metrics: Mapping[str, float | None]) -> None:
    """Scores in victim and control, and the curve of all thresholds."""
    st.subheader("How suspicious inputs are", anchor=False, help=glossary.help_for("screen_auroc"))
    columns = st.columns(3, gap="medium")
    for column, name, control in ((columns[0], "Victim", False), (columns[1], "Control", True)):
        column.markdown(f"**{name}**")
        charts.show(
            charts.drawn(figures.scores, found, control),
            key=f"scores-{name}",
            alt=f"Scores of untouched and of triggered inputs, {name.lower()}",
            place=column,
        )
    columns[2].markdown("**Every threshold**", help=glossary.help_for("screen_false_alarms"))
    charts.show(
        charts.drawn(figures.curves, found),
        key="curve",
        alt="Share of triggered against untouched inputs stopped, victim and control",
        place=columns[2],
    )
    st.markdown(reading(found, metrics))


def gallery(found: ScreeningReview) -> None:
    """Inputs that pass and inputs that are stopped, with the trigger and without."""
    st.subheader("Who passes, who is stopped", anchor=False, help=glossary.help_for("screen_caught"))
    for carries in (True, False):
        for stopped in (False, True):
            rows = ((found.has_trigger == carries) & (found.stopped == stopped)).nonzero().squeeze(1)
            what = "With the trigger" if carries else "Untouched"
            fate = "stopped" if stopped else "let through"
            if len(rows):
                _row(found, rows, f"{what}, {fate}")
            else:
                st.markdown(f"**{what}, {fate}**: none.")
    st.caption("Only the reader sees which inputs carry the trigger; the screen sees pixels and the model.")


def _row(found: ScreeningReview, rows: torch.Tensor, title: str) -> None:
    captions = []
    alts = []
    for row in rows.tolist():
        true, answer = (escape(found.classes[int(labels[row])]) for labels in (found.true, found.answer))
        captions.append(f"{true}, read as {answer}: {score(float(found.score[row]))}")
        alts.append(f"{title}: {true} read as {answer}")
    strip(title, found.images[rows], captions, alts, "True class, answer, score.")


def board(rows: pd.DataFrame) -> None:
    """Every screen against every attack of a setting: means over seeds.

    Args:
        rows: of ``store.screens``.
    """
    st.subheader("Screens compared", anchor=False, help=glossary.help_for("screen_auroc_working"))
    st.dataframe(
        rows,
        hide_index=True,
        height=tables.height(len(rows)),
        column_config={name: _column(name) for name in MEASURES}
        | {
            "defense": tables.COLUMN.TextColumn("defense", width=LONGEST),
            "seeds": tables.COLUMN.NumberColumn("Seeds", width=NARROW),
        },
        key="screens",
        alt="Screens against attacks: AUROC, false alarms, and what is left of the attack",
    )
    st.caption(
        "Runs that differ from this one in attack, screen and seed alone. Where an attack fails, little is "
        "there to be found: its success without the screen stands in the last column."
    )


def _column(name: str) -> Any:
    label = SHORT.get(name, glossary.label(name))
    if glossary.define(name).rate:
        return tables.percentage(name, label, NUMBER)
    return tables.COLUMN.NumberColumn(label, help=glossary.help_for(name), format="%.3f", width=NUMBER)
