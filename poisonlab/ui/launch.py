"""Before a launch: what the runs will cost, and which device takes them."""

from collections.abc import Sequence

import streamlit as st

from poisonlab.runner import cost as costs
from poisonlab.runner import runtime
from poisonlab.runner.cost import Cost
from poisonlab.spec.config import ExperimentSpec, digest
from poisonlab.ui import shared, theme
from poisonlab.ui.wording import duration

TIME_HELP = (
    "Each stage by the nearest finished runs on the same type of device, scaled by epochs, images, steps and the "
    "size of the network. A stage that several runs share counts once, one that is in the cache not at all."
)


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


@shared.of_jobs  # a job fills the cache of stages, and what lies there costs nothing
def _cost(specs: tuple[ExperimentSpec, ...], device_type: str) -> Cost:
    return costs.of(runtime.get().store, specs, device_type)


def bar(specs: Sequence[ExperimentSpec], label: str) -> str | None:
    """A line at the bottom of the window, always in sight: what the runs cost, and the button that queues them.

    Returns:
        The device to run on once they are to be queued.
    """
    current = runtime.get()
    expected = _cost(tuple(specs), current.runner.device_type)
    memory = expected.peak_memory_mb
    parts = ["one run" if len(specs) == 1 else f"{len(specs)} runs", f"time {costs.time(expected)}"]
    parts += [] if memory is None else [f"memory {memory:.0f} MB"]
    with st.bottom:
        with st.container(horizontal=True, vertical_alignment="center"):
            pressed = st.button(label, type=theme.main_button(), icon=":material/play_arrow:")
            st.markdown(f"**{', '.join(parts)}**", width="content", help=TIME_HELP)
            st.caption(" ".join(costs.origin(expected)), width="content")
            where = device()
        return where if decided(specs, expected, pressed) else None


def in_words(specs: Sequence[ExperimentSpec]) -> str:
    """``8 min 10 s. The time is from runs on this machine.``"""
    expected = _cost(tuple(specs), runtime.get().runner.device_type)
    return " ".join([f"{costs.time(expected)}.", *costs.origin(expected)])


def refused(label: str) -> None:
    """The same line where the values cannot be run."""
    with st.bottom:
        st.button(label, type=theme.main_button(), icon=":material/play_arrow:", disabled=True)


def cost(specs: Sequence[ExperimentSpec]) -> Cost:
    """What finished runs say about time and memory, on the page."""
    current = runtime.get()
    expected = _cost(tuple(specs), current.runner.device_type)
    left, middle, right = st.columns(3)
    left.metric("Runs to queue", len(specs), border=True, help="One for each seed or combination.")
    middle.metric(
        "Time",
        costs.time(expected),
        border=True,
        help=TIME_HELP,
    )
    memory = expected.peak_memory_mb
    right.metric(
        "Peak memory", "unknown" if memory is None else f"{memory:.0f} MB", border=True, help="Of past runs."
    )
    for sentence in costs.origin(expected):
        st.caption(sentence)
    return expected


# -- the second click -----------------------------------------------------------------------------------

_ASKED = "launch_asked"


def decided(specs: Sequence[ExperimentSpec], expected: Cost, pressed: bool) -> bool:
    """Whether to queue the runs: at once, or after a second click where they would take a machine without a GPU long.

    Args:
        pressed: whether the first button was clicked just now.
    """
    kind = runtime.get().runner.device_type
    if not any(costs.asks_twice(spec, expected, kind) for spec in specs):
        return pressed
    asked = digest([[spec.group(), spec.seed] for spec in specs])
    if pressed:
        st.session_state[_ASKED] = asked
    if st.session_state.get(_ASKED) != asked:
        st.session_state.pop(_ASKED, None)  # other values: the question is not open any more
        return False
    how_long = _how_long(expected)
    st.warning(
        "The preset paper takes the published values, which are meant for a GPU; this machine has none. "
        f"These runs would take {how_long} on this CPU{_by(expected)}.",
        icon=":material/hourglass_top:",
    )
    again = f"{how_long[0].upper()}{how_long[1:]} on this CPU: launch anyway"
    if not st.button(again, icon=":material/warning:", key="launch_anyway"):
        return False
    del st.session_state[_ASKED]
    return True


def _how_long(expected: Cost) -> str:
    """``about 30 hours``, ``about 3 days``; of a part that is unknown, that it is."""
    if not expected.seconds:
        return "an unknown time (nothing alike was ever measured)"
    hours = expected.seconds / 3600
    if hours < 2:
        said = f"about {duration(expected.seconds)}"
    else:
        said = f"about {hours:.0f} hours" if hours < 48 else f"about {hours / 24:.0f} days"
    return f"{said} and an unknown time more" if expected.unknown else said


def _by(expected: Cost) -> str:
    return f", {costs.ELSEWHERE}" if expected.seconds and expected.elsewhere else ""
