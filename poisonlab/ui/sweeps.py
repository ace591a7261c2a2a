"""Sweeps of the games of three players: played from the page, kept, and opened again by their URL."""

import time

import pandas as pd
import streamlit as st

from poisonlab.figures import multilevel as figures
from poisonlab.multilevel import record as records
from poisonlab.multilevel.comparison import comparisons
from poisonlab.multilevel.data import Table
from poisonlab.multilevel.record import SweepRecord
from poisonlab.multilevel.spec import ORDERS
from poisonlab.multilevel.sweep import sweep
from poisonlab.records.record import RecordError
from poisonlab.runner import runtime
from poisonlab.ui import charts, multilevel, navigation
from poisonlab.ui.wording import escape

KEPT_NOISES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.25, 1.5)
LINKS = 10
LOWEST = 6.0  # penalty; below it some attacker of the diabetes table runs away


def keep(table: Table, settings: multilevel.Settings) -> None:
    """Play every penalty, keep the result, and open it."""
    penalties = tuple(p for p in multilevel.PENALTIES if p >= LOWEST)
    bar = st.progress(0.0, "Playing every penalty")
    start = time.perf_counter()
    spec = settings.spec(penalties, KEPT_NOISES)

    def move(step: int, total: int) -> None:
        bar.progress(step / total, "Playing every penalty")

    outcomes = sweep(table, spec, move)
    record = records.make_record(table, spec, outcomes, time.perf_counter() - start)
    running = runtime.get()
    records.write(record, running.results)
    running.store.sweeps.add(record)
    st.query_params["sweep"] = record.sweep_id
    st.rerun()


def kept() -> tuple[pd.DataFrame, SweepRecord | None]:
    """All kept sweeps, and the one that the URL asks for."""
    store = runtime.get().store
    store.sweeps.index()
    asked = st.query_params.get("sweep")
    if asked is None:
        return store.sweeps.find(), None
    try:
        record = store.sweeps.record(asked)
    except RecordError as error:
        st.warning(escape(error))
        record = None
    else:
        if record is None:
            st.warning("There is no sweep with the id in this link among the results here.")
    return store.sweeps.find(), record


def show(record: SweepRecord) -> None:
    """A kept sweep: differences against noise, where they cross, and its numbers."""
    spec = record.spec
    note = record.table
    rules = spec.rules
    st.caption(
        escape(
            f"{note.name}: {note.rows:,} rows, {len(note.features)} inputs, predicting {note.target} · "
            f"{ORDERS[spec.order]} · {rules.attacker_steps} attacker, {rules.learner_steps} learner, "
            f"{rules.outer_steps} hyperparameter steps · {spec.seeds} splits · "
            f"{record.created:%Y-%m-%d %H:%M} UTC · {record.seconds:.0f} s"
        )
    )
    outcomes = list(record.outcomes)
    charts.show(
        charts.drawn(figures.differences, spec.noises, multilevel.bands(outcomes, spec.noises, paired=True)),
        key="kept_differences",
        alt="Test error of trilevel minus bilevel against noise, a line with its interval for each penalty",
    )
    st.caption(
        "Shaded: 95 % intervals of the paired difference over splits. A penalty where a split diverged has none."
    )
    compared = comparisons(outcomes)
    st.dataframe(
        pd.DataFrame(
            {
                "penalty": [c.penalty for c in compared],
                "means": [multilevel.TRUTHS[c.verdict].format(crossing=c.crossing) for c in compared],
                "interval below zero at noise": [
                    "nowhere" if c.sure is None else f"{c.sure[0]:.2f} to {c.sure[1]:.2f}" for c in compared
                ],
                "unbounded": [f"{c.unbounded} of {c.n}" for c in compared],
            }
        ),
        hide_index=True,
        alt="For each penalty where trilevel has the lower error than bilevel",
    )
    results = runtime.get().store.sweeps.results_of(record.sweep_id)
    st.download_button("Every game as CSV", results.to_csv(index=False), f"{record.sweep_id}.csv", "text/csv")


def links(sweeps: pd.DataFrame, shown: SweepRecord | None) -> None:
    """Links to the newest sweeps kept here."""
    others = sweeps[sweeps["sweep_id"] != shown.sweep_id] if shown else sweeps
    if len(others):
        st.markdown("Kept before, here or from the command line:")
    for row in others.head(LINKS).to_dict("records"):
        label = (
            f"{row['table']}, {ORDERS[row['order']]}, {row['seeds']} splits, {row['created']:%Y-%m-%d %H:%M}"
        )
        navigation.link("multilevel", escape(label), sweep=row["sweep_id"])
