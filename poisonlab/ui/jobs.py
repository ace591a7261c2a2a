"""Jobs on screen: progress that moves while something is active, buttons that act on a job."""

from collections.abc import Callable
from typing import Any

import pandas as pd
import streamlit as st

from poisonlab.runner import runtime
from poisonlab.runner.parts import Person
from poisonlab.runner.time_left import TimeLeft
from poisonlab.spec import stages
from poisonlab.ui import job_group, navigation, people, results, theme
from poisonlab.ui.tables import dicts
from poisonlab.ui.wording import duration, escape, missing, number, run_title

ACTIVE = ("queued", "running")
POLL_SECONDS = 2  # every viewer pays for a poll
# of the table; stage and progress are above it, where they move: here they would be out of date
COLUMNS = ["state", "dataset", "attack", "defense", "seed", "preset", "created", "finished", "message"]
_OF_GROUP = ("state", "dataset", "attack", "defense", "seed", "message")


def live(compact: bool = False) -> None:
    """Active jobs, polled only while there are any; the page runs again when one of them ends."""
    active = results.active_jobs()
    st.session_state["active_jobs"] = _states(active)
    if active.empty:
        st.caption("Nothing is running.")
        return
    st.fragment(_live, run_every=POLL_SECONDS)(compact)


def _live(compact: bool) -> None:
    active = results.active_jobs()
    if st.session_state.get("active_jobs") != _states(active):
        st.rerun()  # one has begun or ended: what stands outside of this fragment is out of date
    groups, alone = job_group.split(active)
    waiting = alone[alone["state"] == "queued"]
    for job in dicts(alone[alone["state"] == "running"]):
        _running(job, compact)
    for group in groups:
        _together(group, compact)
    if len(waiting):
        shown = dicts(waiting.head(3 if compact else 8))
        st.caption(
            f"{len(waiting)} waiting, next: "
            + "; ".join(f"{escape(run_title(j))}, seed {j['seed']}" for j in shown)
        )
    if not (active["state"] == "running").any():
        st.caption("A worker takes the next job within a moment.")
    if len(waiting) > 1 and not compact:
        _cancel_all(f"Cancel all {len(waiting)} waiting", list(waiting["run_id"]), "cancel_all")


def _together(group: pd.DataFrame, compact: bool) -> None:
    """Jobs that were queued together: one line and one bar, which fold out to the jobs."""
    active = group[group["state"].isin(ACTIVE)]
    with st.container(border=True):
        left, right = st.columns([5, 1], vertical_alignment="center")
        said = f"**{job_group.title(group)}** · {job_group.line(group, job_group.ahead(group))}"
        left.progress(min(1.0, job_group.share(group)), text=said)
        with right:
            if compact:
                navigation.link("jobs", "Watch", job=active["run_id"].iloc[0])
                return
            # what waits goes first: a worker that is free takes none of it then
            ids = list(active.sort_values("state")["run_id"])
            _cancel_all("Cancel all", ids, f"cancel-{group['submission'].iloc[0]}")
        with st.expander("Its runs"):  # a name that stays: another one would fold it up again
            for job in dicts(group[group["state"] == "running"]):
                _running(job, compact)
            st.dataframe(
                group[[name for name in COLUMNS if name in _OF_GROUP]],
                hide_index=True,
                placeholder="–",
                alt="The runs that were queued together, and the state of each",
            )


def _cancel_all(label: str, run_ids: list[str], key: str) -> None:
    """A button that cancels jobs, after one question: a matrix may be the work of a night."""
    with st.popover(label, icon=":material/cancel:"):
        st.markdown(
            f"{len(run_ids)} leave the queue, or stop where they are. Each can be resumed from the table below."
        )
        if st.button("Cancel them", type=theme.main_button(), key=key):
            refused = _cancel(run_ids)
            if refused:
                st.toast(escape(refused), icon=":material/error:", duration="long")
                return
            st.rerun()


def _cancel(run_ids: list[str]) -> str:
    """Cancel those that may be; empty, or how many may not, and why the first."""
    who = people.person()
    problems = []
    for run_id in run_ids:
        try:
            runtime.get().runner.cancel(run_id, who)
        except (ValueError, RuntimeError) as error:
            problems.append(str(error))
    return f"{len(problems)} of {len(run_ids)} go on: {problems[0]}" if problems else ""


def _states(frame: pd.DataFrame) -> dict[str, str]:
    return dict(zip(frame["run_id"], frame["state"], strict=True))


def _running(job: dict[str, Any], compact: bool) -> None:
    with st.container(border=True):
        left, right = st.columns([6, 1], vertical_alignment="center")
        whole = runtime.get().runner.time_left(job["run_id"])
        of_stage = job["step"] / job["total"] if job["total"] else 0.0
        done = whole.share if whole else float(of_stage)
        left.progress(
            min(1.0, max(0.0, done)), text=f"**{escape(run_title(job))}** · {progress_text(job, whole)}"
        )
        if compact:
            with right:
                navigation.link("jobs", "Watch", job=job["run_id"])
        else:
            button(right, "Cancel", job["run_id"], runtime.get().runner.cancel)


def progress_text(job: dict[str, Any], whole: TimeLeft | None = None) -> str:
    """``seed 0, stage Control, step 40 of 100, 12.1 steps/s, about 2 min 5 s left``.

    Args:
        whole: how far the job is over all its stages; without it, what is left of the present one is said.
    """
    parts = [f"seed {job['seed']}", f"stage {escape(_stage(job['stage']))}"]
    if job["total"]:
        parts.append(f"step {int(job['step'])} of {int(job['total'])}")
    if not missing(job["rate"]) and job["rate"]:
        parts.append(f"{number(job['rate'])} steps/s")
    if whole:
        parts.append(f"about {duration(whole.seconds)} left")
    elif not missing(job["eta_seconds"]):
        parts.append(f"about {duration(job['eta_seconds'])} left in this stage")
    return ", ".join(parts)


def _stage(name: str) -> str:
    return stages.label(name) if name else "starting"


def button(place: Any, label: str, run_id: str, act: Callable[[str, Person], Any], **look: Any) -> None:
    """A button that does something to one job and runs the page again; an error is shown, not raised.

    It is shown where it stays when what is polled is drawn again.
    """
    if place.button(label, key=f"{label}-{run_id}", **look):
        try:
            act(run_id, people.person())
        except (ValueError, RuntimeError) as error:
            st.toast(escape(error), icon=":material/error:", duration="long")
            return
        st.rerun()


def table(frame: pd.DataFrame, key: str) -> str | None:
    """All jobs with their state; the id of the selected row, or ``None``."""
    column = st.column_config
    event = st.dataframe(
        frame[COLUMNS],
        column_config={
            "state": column.TextColumn(
                "state", help="queued, running, done, failed, cancelled or interrupted"
            ),
            "seed": column.NumberColumn("seed", format="%d", width="small"),
            "message": column.TextColumn("message", width="large"),
            "created": column.DatetimeColumn("created (UTC)", format="D MMM, HH:mm:ss"),
            "finished": column.DatetimeColumn("finished (UTC)", format="D MMM, HH:mm:ss"),
        },
        hide_index=True,
        placeholder="–",
        height=40 + 36 * min(max(1, len(frame)), 10),
        on_select="rerun",
        selection_mode="single-row",
        key=key,
        alt="All jobs, newest first; select a row to see its curves and log",
    )
    st.caption("Select a row to see its curves and log.")
    rows = event["selection"]["rows"]
    return str(frame.iloc[rows[0]]["run_id"]) if rows and rows[0] < len(frame) else None


def chosen(frame: pd.DataFrame, picked: str | None) -> str:
    """The job to show: the one just picked, the one in the URL, or the newest; the URL always names it."""
    asked: str | None = st.query_params.get("job")
    if picked is not None and picked != st.session_state.get("picked_job"):
        st.session_state["picked_job"] = asked = picked
    if asked is None:
        asked = str(frame.iloc[0]["run_id"])
    st.query_params["job"] = asked
    return asked
