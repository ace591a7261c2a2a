"""What any page may have to say: the store cannot be opened, a job has ended."""

import sys

import streamlit as st

from poisonlab.ui.wording import escape, run_title


def store_is_open() -> bool:
    """Whether results can be read; otherwise the page says who holds them and what to do."""
    if "poisonlab.runner.runtime" in sys.modules:
        return _opened()
    with st.spinner("Starting: loading torch and opening the results", show_time=True):
        return _opened()


def _opened() -> bool:
    from poisonlab.runner import runtime  # brings torch: seconds, at the first page of a server only
    from poisonlab.store import StoreError, StoreLocked

    try:
        runtime.get()
    except StoreError as error:
        locked = isinstance(error, StoreLocked)
        st.title("PoisonLab is already running" if locked else "The results cannot be opened")
        st.error(escape(error))
        st.caption("The dashboard's results folder is the environment variable POISONLAB_RESULTS.")
        st.button("Try again")
        return False
    return True


def finished_jobs() -> None:
    """A toast, once a session, for every job that ended while somebody was looking."""
    from poisonlab.runner import runtime

    ended = runtime.get().store.jobs.find(states=["done", "failed"], limit=20)
    seen: set[str] | None = st.session_state.get("ended_jobs")
    for job in ended.to_dict("records"):
        if seen is not None and job["run_id"] not in seen:
            icon = ":material/check_circle:" if job["state"] == "done" else ":material/error:"
            st.toast(f"{escape(run_title(job))}: {job['state']}", icon=icon, duration="long")
    st.session_state["ended_jobs"] = set(ended["run_id"]) | (seen or set())
