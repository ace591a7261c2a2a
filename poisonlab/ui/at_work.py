"""Work in the background of a page, as its viewer sees it: how far it is, a button that stops it, how it ended."""

from collections.abc import Callable
from typing import Any

import streamlit as st

from poisonlab.events import Event
from poisonlab.runner.background import CHECKS, Task
from poisonlab.spec.stages import Stage
from poisonlab.ui.wording import escape

EVERY = 1.0  # seconds between two looks


def begun(name: str, work: Callable[[Callable[[Event], None]], Any]) -> Task | None:
    """A check, begun; ``None``, which the page says, while another one is at work. Arguments as of ``Task``."""
    task = CHECKS.begin(name, work)
    if task is None:
        st.info("Another check is at work on this machine: wait until it has ended.")
    return task


@st.fragment(run_every=EVERY)
def progress(task: Task, title: str, overall: str) -> None:
    """Drawn anew by itself until the work has ended; then the page is.

    Args:
        title: what is worked on. overall: the stage whose progress is that of the whole.
    """
    if task.state != "running":
        st.rerun()
    whole = task.progress.get(overall)
    done = whole.step if whole else 0
    total = max(1, whole.total) if whole else 1
    label = f"{escape(title)}: {done} of {total} steps" if whole else escape(title)
    inner = [found for name, found in task.progress.items() if name != overall]
    if inner:
        labels = {stage.value: stage.info.label for stage in Stage}
        share = inner[-1].step / max(inner[-1].total, 1)
        label += f" · {labels.get(inner[-1].stage, inner[-1].stage).lower()} {share:.0%}"
    st.progress(min(1.0, done / total), text=label)
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button("Cancel", icon=":material/stop_circle:", disabled=task.stopping):
            task.cancel()
        st.caption("It goes on when you leave this page; finished trainings are kept.", width="content")
    if task.lines:
        st.caption(escape(task.lines[-1]))


def ended_well(task: Task) -> bool:
    """Whether there is a result; says what became of it where there is none."""
    if task.state == "failed":
        st.error(escape(task.message), icon=":material/error:")
    elif task.state == "cancelled":
        st.info("Cancelled. Finished trainings are kept, so the same goes on where it was.")
    return task.state == "done"
