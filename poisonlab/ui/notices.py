"""What any page may have to say: the store cannot be opened, a job has ended."""

import sys
from collections.abc import Callable

import streamlit as st

from poisonlab.ui.tables import dicts
from poisonlab.ui.wording import escape, run_title


def store_is_open(title: str, words: str = "") -> bool:
    """Whether results can be read; otherwise the page says who holds them and what to do.

    Args:
        title: shown with ``words`` until the results are open, which takes seconds at the first page of a server.
    """
    if _is_running():
        return True
    waiting = st.empty()
    with waiting.container():
        st.title(title)
        st.markdown(words)
        with st.spinner("Starting: loading torch and opening the results", show_time=True):
            problem = _open()
    waiting.empty()
    if problem is None:
        return True
    from poisonlab.store import StoreLocked

    locked = isinstance(problem, StoreLocked)
    st.title("PoisonLab is already running" if locked else "The results cannot be opened")
    st.error(escape(problem))
    st.caption("The dashboard's results folder is the environment variable POISONLAB_RESULTS.")
    st.button("Try again")
    return False


def _is_running() -> bool:
    """Without importing anything: the thread that starts the runtime may be in the middle of its import."""
    ready = getattr(sys.modules.get("poisonlab.runner.runtime"), "is_running", None)
    return bool(ready and ready())


def _open() -> Exception | None:
    """Open the results; why that is not possible, if it is not."""
    from poisonlab.runner import runtime  # brings torch
    from poisonlab.store import StoreError

    try:
        runtime.get()
    except StoreError as error:
        return error
    return None


def show(page: Callable[[], None]) -> None:
    """Run a page; what the database cannot do is said in its sentence, below what stands already."""
    from poisonlab.store import StoreError

    try:
        page()
        finished_jobs()
    except StoreError as error:
        st.error(escape(error))
        st.button("Try again")


def finished_jobs() -> None:
    """A toast, once a session, for every job that ended while somebody was looking."""
    from poisonlab.runner import runtime

    ended = runtime.get().store.jobs.find(states=["done", "failed"], limit=20)
    seen: set[str] | None = st.session_state.get("ended_jobs")
    for job in dicts(ended):
        if seen is not None and job["run_id"] not in seen:
            icon = ":material/check_circle:" if job["state"] == "done" else ":material/error:"
            st.toast(f"{escape(run_title(job))}: {job['state']}", icon=icon, duration="long")
    st.session_state["ended_jobs"] = set(ended["run_id"]) | (seen or set())
