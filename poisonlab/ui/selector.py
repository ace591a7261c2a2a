"""Which run a page shows: filters and a selector, both in the URL."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from poisonlab.runner import runtime
from poisonlab.ui import navigation, page, results
from poisonlab.ui.wording import run_label

FILTERS = ("dataset", "attack", "defense")


def filters(
    names: Mapping[str, Sequence[str]], kinds: Sequence[str] = FILTERS, *, across: bool = True
) -> dict[str, str | None]:
    """One selectbox a kind, kept in the URL; ``None`` where nothing is chosen.

    Args:
        across: side by side, otherwise one below the other.
    """
    chosen = {}
    places = st.columns(len(kinds)) if across else [st.container() for _ in kinds]
    for column, kind in zip(places, kinds, strict=True):
        chosen[kind] = column.selectbox(
            kind.capitalize(),
            list(names.get(kind, [])),
            index=None,
            placeholder="any",
            key=kind,
            bind="query-params",
        )
    return chosen


def runs_showing(name: str, chosen: Mapping[str, str | None]) -> pd.DataFrame:
    """Finished runs that recorded something this page shows, newest first; ``shows`` counts how many kinds."""
    return results.showing(name, chosen["dataset"], chosen["attack"], chosen["defense"])


def choose_run(name: str, what: str, demo: tuple[str, str, str]) -> Any | None:
    """Filters and a run selector, both in the URL; the chosen run's record, or ``None`` after saying why not."""
    names = results.names()
    asked = st.query_params.get("run")
    if asked is None and not any(names.values()):
        page.nothing_yet(what, demo)
        return None
    line, side = st.columns([6, 1], vertical_alignment="center")
    with side.popover("Filter", icon=":material/filter_alt:", width="stretch"):
        chosen = filters(names, across=False)
    runs = runs_showing(name, chosen)
    labels = results.labels(name, chosen["dataset"], chosen["attack"], chosen["defense"])
    if asked is not None and asked not in labels and _came_by_link(asked, tuple(chosen.values())):
        labels = _asked_for(asked, name) | labels
    run_id = _run_box(line, labels, asked, _first(name, runs, labels)) if labels else None
    if run_id is None:
        if any(chosen.values()):
            st.info("No run fits these filters. Choose others, or queue one on the Experiment page.")
            navigation.link("experiment", "Set up an experiment")
        else:
            page.nothing_yet(what, demo)
        return None
    record = page.known(run_id)
    if record is None:
        st.error("The files of this run are gone or damaged. Choose another run above.")
    else:
        page.remarks(record)
        if name != navigation.LENS:  # which needs no pictures
            page.without_pictures(record)
    return record


def _came_by_link(asked: str, chosen: tuple[str | None, ...]) -> bool:
    """Whether the run in the URL was asked for by a link, and no filter has been changed since."""
    state = st.session_state
    if asked != state.get("run_in_url"):
        state["linked_run"] = (asked, chosen)
    return bool(state.get("linked_run") == (asked, chosen))


def _asked_for(run_id: str, name: str) -> dict[str, str]:
    """The run of a link that is not in the list: its entry, or nothing after saying what is wrong with it."""
    record = page.known(run_id)
    shows = navigation.SHOWS.get(name, ())
    if record is not None and (name == navigation.LENS or any(a.kind in shows for a in record.artifacts)):
        return {
            run_id: run_label(page.row_of(record))
        }  # filters, or newer runs, do not hide what a link names
    if record is not None:
        st.warning("The run in this link recorded nothing that this page shows.")
    else:
        st.warning(
            "The run in this link is not among the results here: it may have been deleted, or belong to "
            "another machine. Another one is shown instead, if there is any."
        )
    return {}


def _first(name: str, runs: pd.DataFrame, labels: Mapping[str, str]) -> str:
    """The run a page opens on: the one that the shipped results name for it, else the newest that fills it best."""
    opener = runtime.get().store.runs.shipped.openers.get(name, "")
    if opener in labels:
        return opener
    if runs.empty:
        return next(iter(labels), "")
    return str(runs["run_id"].iloc[int(runs["shows"].to_numpy().argmax())])


def _run_box(place: Any, labels: dict[str, str], asked: str | None, first: str) -> str:
    """The selectbox; the URL always names the run, so that a link shows the same one tomorrow.

    Args:
        first: the run to start with.
    """
    state = st.session_state
    if asked in labels and asked != state.get("run_in_url"):  # a link was followed: it decides
        state["run_box"] = asked
    elif state.get("run_box") not in labels:
        state["run_box"] = state["last_run"] if state.get("last_run") in labels else first
    run_id: str = place.selectbox(
        "Run",
        list(labels),
        format_func=labels.__getitem__,
        key="run_box",
        label_visibility="collapsed",
    )
    st.query_params["run"] = state["run_in_url"] = state["last_run"] = run_id
    return run_id
