"""One job in full: state, what to do about it, curves, log."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import streamlit as st

from poisonlab.figures.curves import metric_curve
from poisonlab.records.record import RecordError
from poisonlab.runner import runtime
from poisonlab.spec import stages
from poisonlab.store import Job, StoreError
from poisonlab.ui import charts, glossary, jobs, navigation, page, theme
from poisonlab.ui.wording import duration, escape, percent, run_title

POLL_SECONDS = 4  # curves cost more than a progress bar
RESUMABLE = ("failed", "cancelled", "interrupted")
ADVICE = {
    "interrupted": "The program ended in the middle of this job. Resume goes on after the last whole stage.",
    "cancelled": "Somebody cancelled this job. Resume goes on after the last whole stage.",
    "failed": "This job failed. Change what the message names, or resume it once the cause is gone.",
}


def show(run_id: str) -> None:
    """The job's page part, moving while it runs."""
    job = _job(run_id)
    record = None if job is not None else page.known(run_id)
    if job is None and record is None:
        st.warning(
            "There is no job with the id in this link: it may belong to another machine. Select one above."
        )
        return
    if job is None:
        _recorded(record)
        return
    st.fragment(_detail, run_every=POLL_SECONDS if job.state in jobs.ACTIVE else None)(run_id)


def _job(run_id: str) -> Job | None:
    """The job of an id from a link; ``None`` for whatever is not a job's id."""
    try:
        return runtime.get().store.jobs.get(run_id)
    except (RecordError, StoreError):
        return None


def _detail(run_id: str) -> None:
    store = runtime.get().store
    runner = runtime.get().runner
    job = _job(run_id)
    if job is None:
        return
    points = store.runs.points(run_id)
    row = {"dataset": job.dataset, "attack": job.attack, "defense": job.defense}
    st.subheader(f"{escape(run_title(row))}, seed {job.seed}", anchor=False)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.badge(job.state, color=_COLORS.get(job.state, "gray"))
        if job.state == "queued":  # that of a running one stands beside its progress
            jobs.button(st, "Cancel this job", run_id, runner.cancel, icon=":material/cancel:")
        if job.state in RESUMABLE and not job.spec.obstacle():
            jobs.button(
                st, "Resume", run_id, runner.resume, icon=":material/play_arrow:", type=theme.main_button()
            )
            navigation.link("experiment", "Change and run again", like=run_id)
        if job.device != "auto":
            st.caption(f"For {escape(job.device)} only.", width="content")
    if job.state in ADVICE:
        st.markdown(ADVICE[job.state])
    if job.message and job.state == "failed":
        st.text(job.message)
    if job.state == "running" and job.started is not None:
        st.caption(_pace(job, job.started))
        for sentence in so_far(points):
            st.markdown(sentence)
    record = page.known(run_id) if job.state == "done" else None
    if record is not None:
        page.remarks(record)
        page.headline(record)
        page.other_views(record, here="jobs")
    curves(points, run_id)
    logs(job.logs)
    if record is None:
        page.command(job.spec)
    else:
        page.reproduce(record)


def _pace(job: Job, started: datetime) -> str:
    """How long it has been running, and how long it will yet."""
    elapsed = (datetime.now(UTC).replace(tzinfo=None) - started).total_seconds()
    left = runtime.get().runner.time_left(job.run_id)
    yet = f", about {duration(left.seconds)} left" if left else ""
    return f"Running for {duration(elapsed)}{yet}.{_what_takes_time(job)}"


def _what_takes_time(job: Job) -> str:
    """The parameters that make the present stage long, with their values."""
    stage = stages.find(job.stage)
    named = [f"{k} {v}" for k, v in stages.time_parameters(stage, job.spec).items()] if stage else []
    return f" The time of this stage grows with {escape(', '.join(named))}." if named else ""


def so_far(points: pd.DataFrame) -> list[str]:
    """What the victim of a backdoor has learned until now, and what the trials of each stage have shown."""
    counts = points[points["name"] == "targets_hit"].sort_values("step").groupby("stage", sort=False).last()
    learned = points[points["name"] == "learned_asr"].sort_values("step").groupby("stage", sort=False).last()
    said = [
        f"{stages.label(stage)}: after {step} epochs **{percent(value)}** of triggered images are given the attacker's "
        "class."
        for stage, step, value in zip(learned.index, learned["step"], learned["value"], strict=True)
    ]
    return said + [
        f"{stages.label(stage)}: **{int(value)} of {step} targets** so far are given the attacker's class."
        for stage, step, value in zip(counts.index, counts["step"], counts["value"], strict=True)
    ]


def _recorded(record: Any) -> None:
    """A run without a job: shipped, imported, or made on the command line."""
    store = runtime.get().store
    st.subheader(page.title_of(record), anchor=False)
    st.caption(f"Not run by this queue: source {record.source}.")
    page.remarks(record)
    page.headline(record)
    page.without_pictures(record)
    page.other_views(record, here="jobs")
    curves(store.runs.points(record.run_id), record.run_id)
    logs(record.logs)
    page.reproduce(record)


_COLORS: dict[str, Any] = {
    "running": "blue",
    "done": "green",
    "failed": "red",
    "interrupted": "orange",
    "cancelled": "gray",
    "queued": "gray",
}


def curves(points: pd.DataFrame, run_id: str) -> None:
    """One small chart for each reported quantity."""
    if points.empty:
        st.caption("No curve yet: a stage that comes from the cache or reports nothing has none.")
        return
    grid = st.grid(3, min_column_width=320)
    for name in points["name"].drop_duplicates():
        meaning = glossary.define(name)
        with grid.cell():
            st.markdown(f"**{escape(meaning.label)}**", help=escape(meaning.text))
            charts.show(
                charts.drawn(metric_curve, points, name),
                key=f"curve-{run_id}-{name}",
                alt=f"{name} over the steps, by stage",
            )


def logs(lines: Sequence[tuple[str, str, str]]) -> None:
    """The log of the run, oldest first."""
    count = "1 line" if len(lines) == 1 else f"{len(lines)} lines"
    with st.expander(f"Log ({count})", icon=":material/notes:"):
        if lines:
            st.code(
                "\n".join(f"{level:7} {stage}: {text}" for stage, level, text in lines),
                language=None,
                wrap_lines=True,
            )
        else:
            st.caption("Nothing was logged.")
