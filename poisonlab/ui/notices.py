"""What any page may have to say: the store cannot be opened, a job has ended."""

import sys
import threading
from collections.abc import Callable

import streamlit as st

from poisonlab.ui.tables import dicts
from poisonlab.ui.wording import escape, run_title

first_page = threading.Event()  # set once a page of this server stands


def store_is_open(title: str, words: str = "") -> bool:
    """Whether results can be read; otherwise the page says who holds them and what to do.

    Args:
        title: shown with ``words`` until the results are open, which takes a moment at the first page of a server.
    """
    if _runtime_says("is_running"):
        return True
    problem = _meanwhile(title, words, "Opening the results", _open)
    if problem is None:
        return True
    from poisonlab.store import StoreLocked

    locked = isinstance(problem, StoreLocked)
    st.title("PoisonLab is already running" if locked else "The results cannot be opened")
    st.error(escape(problem))
    st.caption("The dashboard's results folder is the environment variable POISONLAB_RESULTS.")
    st.button("Try again")
    return False


def torch_is_loaded(title: str) -> bool:
    """Whether the runner stands, which brings torch; otherwise the page says why it cannot be started."""
    if _runtime_says("runs_jobs"):
        return True
    problem = _meanwhile(title, "", "Loading torch", _start_runner)
    if problem is None:
        return True
    st.title(title)
    st.error(escape(problem))
    st.button("Try again")
    return False


def _runtime_says(question: str) -> bool:
    """Without importing anything: a thread that starts the runtime may be in the middle of its import."""
    ask = getattr(sys.modules.get("poisonlab.runner.runtime"), question, None)
    return bool(ask and ask())


def _meanwhile(title: str, words: str, doing: str, do: Callable[[], None]) -> Exception | None:
    """Show the title and a spinner while something slow is done; what the store had against it."""
    waiting = st.empty()
    with waiting.container():
        st.title(title)
        st.markdown(words)
        with st.spinner(doing, show_time=True):
            problem = _problem_of(do)
    waiting.empty()
    return problem


def _problem_of(do: Callable[[], None]) -> Exception | None:
    from poisonlab.store import StoreError

    try:
        do()
    except StoreError as error:
        return error
    return None


def _open() -> None:
    from poisonlab.runner import runtime

    runtime.get()


def _start_runner() -> None:
    from poisonlab.runner import runtime

    runtime.get().runner  # noqa: B018 - its first use starts it


def show(page: Callable[[], None]) -> None:
    """Run a page; what the database cannot do is said in its sentence, below what stands already."""
    from poisonlab.store import StoreError

    try:
        page()
        finished_jobs()
        first_page.set()
    except StoreError as error:
        st.error(escape(error))
        st.button("Try again")


def finished_jobs() -> None:
    """A toast, once a session, for every job that ended while somebody was looking."""
    from poisonlab.ui import results

    ended = results.jobs(("done", "failed"), 20)
    seen: set[str] | None = st.session_state.get("ended_jobs")
    for job in dicts(ended):
        if seen is not None and job["run_id"] not in seen:
            icon = ":material/check_circle:" if job["state"] == "done" else ":material/error:"
            st.toast(f"{escape(run_title(job))}: {job['state']}", icon=icon, duration="long")
    st.session_state["ended_jobs"] = set(ended["run_id"]) | (seen or set())
