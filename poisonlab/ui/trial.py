"""Which trial of a run the pages show: one choice, kept in the URL and from page to page."""

from collections.abc import Sequence
from typing import Any

import streamlit as st

from poisonlab.ui import link, navigation

HELP = (
    "A targeted attack has a victim of its own for each target, and so has its defense. What is shown once for all of "
    "them does not change with this number."
)
_CHOSEN = "chosen_trial"  # run and trial that the reader chose last


def choose(record: Any, page: str) -> int:
    """The trial to show, from 0 on; asked for where the run has recorded several of what ``page`` shows."""
    kinds = navigation.SHOWS[page]
    last = max((item.trial for item in record.artifacts if item.kind in kinds), default=0)
    if last == 0:
        return 0
    run_id, before = st.session_state.get(_CHOSEN, ("", 0))
    usual = before + 1 if run_id == record.run_id and before <= last else "min"
    chosen = link.number(st, "Trial", 1, last + 1, key="trial", help=HELP, usual=usual) - 1
    st.session_state[_CHOSEN] = (record.run_id, chosen)
    return chosen


def of_trial(artifacts: Sequence[Any], kind: str, trial: int) -> list[Any]:
    """The files of one kind that belong to a trial, in the order in which they were recorded.

    What a run has recorded under a name once belongs to all of its trials.
    """
    items = [item for item in artifacts if item.kind == kind]
    several = {item.name for item in items if item.trial > 0}
    return [item for item in items if item.trial == (trial if item.name in several else 0)]
