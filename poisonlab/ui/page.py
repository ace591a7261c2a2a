"""The frame of a page: what it says first, which run it shows, how to reproduce it, what to do when empty."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from poisonlab import runtime
from poisonlab.ui import glossary, navigation
from poisonlab.ui.wording import escape, number, percent, run_label, run_title

FILTERS = ("dataset", "attack", "defense")
# The experiments that fill an empty page in a minute or two: (dataset, attack, defense).
BACKDOOR_DEMO = ("digits", "badnets", "awm")
TARGETED_DEMO = ("digits", "bullseye_polytope", "puregen_ebm")


def header(title: str, sees: str, matters: str) -> None:
    """The title, and two sentences: what one sees, and why it matters."""
    st.title(title)
    st.markdown(f"{sees} {matters}")


def submit_demo(demo: tuple[str, str, str]) -> str:
    """Queue the preset ``quick`` of an experiment and return its id."""
    from poisonlab.config import make_spec  # brings torch: not before somebody asks

    return runtime.get().runner.submit(make_spec(*demo))


def demo_button(demo: tuple[str, str, str], key: str = "demo") -> None:
    """Queue a demo and go and watch it."""
    label = f"Run {demo[0]} × {demo[1]} × {demo[2]}"
    if st.button(label, type="primary", icon=":material/play_arrow:", key=key):
        navigation.go("jobs", job=submit_demo(demo))


def nothing_yet(what: str, demo: tuple[str, str, str]) -> None:
    """Instead of an empty page: what would be here, and a button that makes it."""
    st.info(f"{what} This button queues a run that fills the page in a minute or two, with no download.")
    with st.container(horizontal=True, vertical_alignment="center"):
        demo_button(demo)
        navigation.link("experiment", "Or set up your own experiment")


def filters(names: Mapping[str, Sequence[str]], kinds: Sequence[str] = FILTERS) -> dict[str, str | None]:
    """One selectbox a kind, kept in the URL; ``None`` where nothing is chosen."""
    chosen = {}
    for column, kind in zip(st.columns(len(kinds)), kinds, strict=True):
        chosen[kind] = column.selectbox(
            kind.capitalize(),
            list(names.get(kind, [])),
            index=None,
            placeholder="any",
            key=kind,
            bind="query-params",
        )
    return chosen


def runs_showing(page: str, **where: str | None) -> pd.DataFrame:
    """Finished runs that recorded something this page shows, newest first."""
    store = runtime.get().store
    found = [store.runs(kind=kind, **where) for kind in navigation.SHOWS[page]]
    found = [frame for frame in found if not frame.empty]
    if not found:
        return pd.DataFrame()
    every = pd.concat(found, ignore_index=True).drop_duplicates("run_id")
    return every.sort_values("created", ascending=False, ignore_index=True)


def choose_run(page: str, what: str, demo: tuple[str, str, str]) -> Any | None:
    """Filters and a run selector, both in the URL; the chosen run's record, or ``None`` after saying why not."""
    store = runtime.get().store
    asked = st.query_params.get("run")
    with st.container(border=True):
        chosen = filters(store.names())
        runs = runs_showing(page, **chosen)
        labels = {run["run_id"]: run_label(run) for run in runs.to_dict("records")}
        if asked is not None and asked not in labels:
            labels = _asked_for(asked, page) | labels
        run_id = _run_box(labels, asked) if labels else None
    if run_id is None:
        if any(chosen.values()):
            st.info("No run fits these filters. Choose others, or queue one on the Experiment page.")
            navigation.link("experiment", "Set up an experiment")
        else:
            nothing_yet(what, demo)
        return None
    return store.run(run_id)


def _asked_for(run_id: str, page: str) -> dict[str, str]:
    """The run of a link that is not in the list: its entry, or nothing after saying what is wrong with it."""
    record = known(run_id)
    if record is not None and any(a.kind in navigation.SHOWS[page] for a in record.artifacts):
        return {run_id: run_label(_row(record))}  # filters, or newer runs, do not hide what a link names
    if record is not None:
        st.warning("The run in this link recorded nothing that this page shows.")
    else:
        st.warning(
            "The run in this link is not among the results here: it may have been deleted, or belong to another "
            "machine. Another one is shown instead, if there is any."
        )
    return {}


def _run_box(labels: dict[str, str], asked: str | None) -> str:
    """The selectbox; the URL always names the run, so that a link shows the same one tomorrow."""
    state = st.session_state
    if asked in labels and asked != state.get("run_in_url"):  # a link was followed: it decides
        state["run_box"] = asked
    elif state.get("run_box") not in labels:
        state["run_box"] = state["last_run"] if state.get("last_run") in labels else next(iter(labels))
    run_id = st.selectbox("Run", list(labels), format_func=lambda i: labels[i], key="run_box")
    st.query_params["run"] = state["run_in_url"] = state["last_run"] = run_id
    return run_id


def known(run_id: str) -> Any | None:
    """The record of an id from a link; ``None`` for whatever is not a run's id."""
    try:
        return runtime.get().store.run(run_id)
    except ValueError:
        return None


def _row(record: Any) -> dict[str, Any]:
    """A record in the form of a row of ``store.runs``."""
    spec = record.spec
    return {
        "run_id": record.run_id,
        "dataset": spec.dataset.name,
        "attack": spec.attack.name,
        "defense": spec.defense.name,
        "preset": spec.preset,
        "seed": spec.seed,
        "created": record.created,
        "source": record.source,
    }


def headline(metrics: Mapping[str, float | None]) -> None:
    """The four numbers that sum up a run, each defined on hover."""
    success = "asr" if "asr" in metrics else "poison_success"
    undefended, accuracy = metrics.get(f"{success}_undefended"), metrics.get("clean_accuracy_undefended")
    shown = [
        ("clean_accuracy", metrics.get("clean_accuracy"), accuracy, "normal"),
        (success, metrics.get(success), undefended, "inverse"),
        (f"{success}_control", metrics.get(f"{success}_control"), None, "off"),
    ]
    if "robust_accuracy" in metrics:
        shown.append(
            (
                "robust_accuracy",
                metrics["robust_accuracy"],
                metrics.get("robust_accuracy_undefended"),
                "normal",
            )
        )
    elif "targets" in metrics:
        shown.append(("targets", metrics["targets"], None, "off"))
    for column, (name, value, before, colour) in zip(st.columns(len(shown)), shown, strict=True):
        definition = glossary.define(name)
        delta, text = None, definition.text
        if value is not None and before is not None:
            delta = f"{100 * (value - before):+.1f} points"
            text += f" The arrow compares with no defense: {percent(before)}."
        still = delta is None or delta.startswith(("+0.0", "-0.0"))
        column.metric(
            definition.label,
            percent(value) if definition.rate else number(value),
            "no change" if delta and still else delta,
            delta_color="off" if still else colour,
            delta_arrow="off" if still else "auto",
            help=text,
            border=True,
            height="stretch",
        )


def other_views(record: Any, here: str = "") -> None:
    """Links to every page that shows something of this run."""
    kinds = {item.kind for item in record.artifacts}
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption("This run on other pages:", width="content")
        for name, shows in navigation.SHOWS.items():
            if name != here and kinds & set(shows):
                navigation.link(name, run=record.run_id)
        if here != "jobs":
            navigation.link("jobs", "Curves and log", job=record.run_id)
        navigation.link("experiment", "Change and run again", like=record.run_id)


def reproduce(record: Any) -> None:
    """The command that measures the same numbers again, and what they were measured with."""
    from poisonlab.ui.command import run_command

    st.subheader("Reproduce", anchor=False)
    st.code(run_command(record.spec), language="bash", wrap_lines=True)
    marks = [
        f"source {record.source}",
        f"device {record.device}",
        f"revision {record.revision[:12]}" if record.revision else "",
        f"torch {record.torch}" if record.torch else "",
        f"run {record.run_id}",
    ]
    st.text(" · ".join(m for m in marks if m))


def load(record: Any, *kinds: str) -> dict[str, Any]:
    """Artifacts of the given kinds by kind, the last of each; unreadable ones are named, not fatal."""
    found = {}
    for item in record.artifacts:
        if item.kind in kinds:
            try:
                found[item.kind] = _artifact(record.run_id, item.name, item.sha256)
            except (ValueError, OSError) as error:
                st.warning(escape(f"{item.name} of this run cannot be read: {error}"))
    return found


@st.cache_resource(max_entries=24, show_spinner=False)  # a slider's rerun should not read the disk
def _artifact(run_id: str, name: str, sha256: str) -> Any:
    return runtime.get().store.load_artifact(run_id, name)


def title_of(record: Any) -> str:
    return escape(run_title(_row(record)))


def about(part: Any) -> str:
    """The summary of a method, for the page that shows its work."""
    from poisonlab import registry

    return str(registry.KINDS[part.kind][part.name].card.summary)
