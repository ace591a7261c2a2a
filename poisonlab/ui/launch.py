"""Before a launch: what the runs will cost, and which device takes them."""

from collections.abc import Sequence

import streamlit as st

from poisonlab.runner import runtime
from poisonlab.spec import stages
from poisonlab.spec.config import ExperimentSpec
from poisonlab.ui.wording import duration, escape


def device() -> str:
    """The device to run on, chosen where there is a choice; it belongs to this machine, so not into the URL."""
    devices = runtime.get().runner.devices
    if len(devices) == 1:
        st.caption(f"Runs on {devices[0]}.", width="content")
        return "auto"
    return str(
        st.selectbox(
            "Run on",
            ["auto", *devices],
            format_func=lambda name: "any free device" if name == "auto" else name,
            key="device",
            label_visibility="collapsed",
            width=220,
            help="A job for one device waits until that device is free, even if another one is.",
        )
    )


def cost(specs: Sequence[ExperimentSpec]) -> None:
    """What past runs say about time and memory."""
    current = runtime.get()
    estimates = [current.store.estimates.of(spec, current.runner.device_type) for spec in specs]
    known = [e.seconds for e in estimates if e.seconds is not None]
    left, middle, right = st.columns(3)
    left.metric("Runs to queue", len(specs), border=True, help="One for each seed or combination.")
    total = duration(sum(known)) if known else "unknown"
    if known and sum(known) < 1:
        total = "under 1 s"
    unknown = len(estimates) - len(known)
    middle.metric(
        "Time, at most",
        f"{total} + {unknown} unknown" if known and unknown else total,
        border=True,
        help="From past runs of similar experiments on this machine. Stages that are already in the cache, "
        "or that several runs share, are computed once and make it shorter.",
    )
    memory = [e.peak_memory_mb for e in estimates if e.peak_memory_mb is not None]
    right.metric(
        "Peak memory", f"{max(memory):.0f} MB" if memory else "unknown", border=True, help="Of past runs."
    )
    cached = list(dict.fromkeys(stages.label(stage) for e in estimates for stage in e.cached))
    if cached:
        st.caption(f"Already in the cache: {escape(', '.join(cached))}.")
