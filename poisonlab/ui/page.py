"""The frame of a page: what it says first, which run it shows, how to reproduce it, what to do when empty."""

import time
from collections.abc import Sequence
from typing import Any

import streamlit as st

from poisonlab import registry
from poisonlab.measure import catalogue
from poisonlab.measure.metric import UNDEFENDED
from poisonlab.records.record import RunRecord
from poisonlab.records.recorded_spec import RecordedSpec
from poisonlab.runner import runtime
from poisonlab.spec.command import run_command
from poisonlab.spec.config import ExperimentSpec, digest, make_spec
from poisonlab.store import StoreError
from poisonlab.store.shipped import NOT_SHIPPED
from poisonlab.ui import exports, glossary, navigation, people, results, takeout, theme
from poisonlab.ui.trial import of_trial
from poisonlab.ui.wording import escape, number, percent, run_title

# The experiments that fill an empty page in a minute or two: (dataset, attack, defense).
BACKDOOR_DEMO = ("digits", "badnets", "awm")
UNLEARNING_DEMO = ("digits", "badnets", "rnp")
SCREENING_DEMO = ("digits", "badnets", "ibd_psc")
REPAIR_DEMO = ("digits", "label_noise", "retain_beneficial")
CRAFTING_DEMO = ("digits", "metapoison", "none")
TARGETED_DEMO = ("digits", "bullseye_polytope", "puregen_ebm")


DOUBLE_CLICK = 2.0  # seconds
_SUBMITTED = "submitted"


def header(title: str, sees: str, matters: str) -> None:
    """The title, and two sentences: what one sees, and why it matters."""
    st.title(title)
    st.markdown(f"{sees} {matters}")


def submit(specs: Sequence[ExperimentSpec], device: str = "auto") -> None:
    """Queue runs and open the page of the first; a full queue is shown, not raised.

    The same runs once more within a moment are a second click of one hand, and queue nothing.
    """
    asked = digest([[spec.group(), spec.seed] for spec in specs])
    before, when, first = st.session_state.get(_SUBMITTED, ("", 0.0, ""))
    if before == asked and time.monotonic() - when < DOUBLE_CLICK:
        navigation.go("jobs", job=first)
    try:
        run_ids = runtime.get().runner.submit_many(specs, device, people.person())
    except RuntimeError as error:
        st.error(escape(error))
        return
    st.session_state[_SUBMITTED] = (asked, time.monotonic(), run_ids[0])
    navigation.go("jobs", job=run_ids[0])


def demo_button(demo: tuple[str, str, str], key: str = "demo", label: str = "") -> None:
    """Queue the preset ``quick`` of an experiment; the button names it unless it has a label."""
    label = label or f"Run {demo[0]} × {demo[1]} × {demo[2]}"
    if st.button(label, type=theme.main_button(), icon=":material/play_arrow:", key=key):
        submit([make_spec(*demo)])


def nothing_yet(what: str, demo: tuple[str, str, str]) -> None:
    """Instead of an empty page: what would be here, and a button that makes it."""
    st.info(f"{what} This button queues a run that fills the page in a minute or two, with no download.")
    with st.container(horizontal=True, vertical_alignment="center"):
        demo_button(demo)
        navigation.link("experiment", "Or set up your own experiment")


def known(run_id: str) -> Any | None:
    """The record of an id from a link; ``None`` for whatever is not a run's id."""
    try:
        return results.record(run_id)
    except ValueError:
        return None


def spec_of(run_id: str) -> RecordedSpec | None:
    """The recorded spec of a run or of a job that never became one, by an id from a link."""
    store = runtime.get().store
    try:
        found = results.record(run_id) or store.jobs.get(run_id)
    except (ValueError, StoreError):
        return None
    return found.spec if found else None


def row_of(record: Any) -> dict[str, Any]:
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


def headline(record: RunRecord) -> None:
    """The numbers that sum up a run in one line, each defined on hover and compared with the undefended model."""
    names = [name for name in catalogue.summary(record.threat) if name in record.metrics]
    with st.container(horizontal=True, gap="small"):
        for name in names:
            before = record.metrics.get(f"{name}{UNDEFENDED.suffix}")
            _figure(name, record.metrics[name], before)


def _figure(name: str, value: float | None, before: float | None) -> None:
    """A number, and how far it is from that of the undefended model: green where that is better."""
    metric = catalogue.find(name)
    definition = glossary.define(name)
    shown = percent(value) if definition.rate else number(value)
    text = f"{definition.label} **{shown}**"
    help = definition.text
    if value is not None and before is not None:
        points = 100 * (value - before)
        text += f" :{_color(points, metric.better if metric else 'none')}-badge[{points:+.1f}]"
        help += f" The colored number is in points, against no defense: {percent(before)}."
    st.markdown(f":small[{text}]", help=help, width="content")


def _color(points: float, better: str) -> str:
    if better == "none" or abs(points) < 0.05:
        return "gray"
    return "green" if (points > 0) == (better == "higher") else "red"


def without_pictures(record: Any) -> None:
    """Say of a shipped run that its artifacts were left out, and offer to make them here where that is possible."""
    if results.has_pictures(record.run_id) or not record.artifacts:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.info(f"{NOT_SHIPPED[0].upper()}{NOT_SHIPPED[1:]}.")
        if not record.spec.obstacle() and st.button(
            "Run it again", icon=":material/replay:", key=f"again-{record.run_id}"
        ):
            submit([record.spec.experiment()])


def other_views(record: Any, here: str = "") -> None:
    """Links to every page that shows something of this run."""
    shown = results.has_pictures(record.run_id)
    kinds = {item.kind for item in record.artifacts} if shown else set()
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption("This run on other pages:", width="content")
        for name, shows in navigation.SHOWS.items():
            if name != here and kinds & set(shows):
                navigation.link(name, run=record.run_id)
        if here != navigation.LENS and record.run_id in results.measured_here():
            navigation.link(navigation.LENS, run=record.run_id)
        if here != "jobs":
            navigation.link("jobs", "Curves and log", job=record.run_id)
        if not record.spec.obstacle():
            navigation.link("experiment", "Change and run again", like=record.run_id)


def command(spec: RecordedSpec) -> None:
    """The command that runs a recorded experiment again, or why this installation cannot."""
    if spec.obstacle():
        st.info(f"This experiment cannot be run again here: {escape(spec.obstacle())}.")
        return
    st.code(run_command(spec.experiment()), language=None, wrap_lines=True)
    unsaid = spec.unsaid()
    if unsaid:
        names = ", ".join(f"`{name}`" for name in unsaid)
        st.caption(f"Recorded before there was {names}: the command takes today's default.")


_MODELS = {"control": "the control", "undefended": "the undefended model", "defended": "the defended model"}


def remarks(record: Any) -> None:
    """Says which models of a run collapsed, and what of it is not installed here or has changed since."""
    if record.collapsed:
        names = " and ".join(_MODELS[name] for name in record.collapsed)
        st.warning(
            f"Collapsed: {names} gave nearly the same answer to every test image. A rate of success means nothing "
            "then, and this run does not count in means."
        )
    obstacle = record.spec.obstacle()
    if obstacle:
        # names keep their underscores, which are no commands inside a word
        said = escape(obstacle).replace("\\_", "_")
        st.info(f"This run is shown as it was recorded; it cannot be run again here: {said}.")


def all_collapsed() -> None:
    """Why runs that were measured are not drawn."""
    st.info(
        "Every run of this setting has a model that gives nearly the same answer to every test image. Such runs do not "
        "count, so there is nothing to draw: train longer, or lower the learning rate."
    )


def reproduce(record: Any) -> None:
    """The command that measures the same numbers again, and what they were measured with."""
    st.subheader("Reproduce", anchor=False)
    command(record.spec)
    marks = [
        f"source {record.source}",
        f"device {record.device}",
        f"revision {record.revision[:12]}" if record.revision else "",
        f"torch {record.torch}" if record.torch else "",
        f"run {record.run_id}",
        "verified here from its weights" if results.verified(record.run_id) else "",
    ]
    st.text(" · ".join(m for m in marks if m))
    exports.of_run(record)
    takeout.of_run(record)


def load(record: Any, *kinds: str, trial: int = 0) -> dict[str, Any]:
    """A trial's artifacts of the given kinds by kind, the last of each; unreadable ones are named, not fatal."""
    found = {kind: load_all(record, kind, trial) for kind in kinds}
    return {kind: artifacts[-1] for kind, artifacts in found.items() if artifacts}


def load_all(record: Any, kind: str, trial: int = 0) -> list[Any]:
    """A trial's artifacts of one kind, in the order of recording; unreadable ones are named, not fatal."""
    found: list[Any] = []
    if not results.has_pictures(record.run_id):
        return found
    for item in of_trial(record.artifacts, kind, trial):
        try:
            found.append(results.artifact(record.run_id, item.name, item.trial, item.sha256))
        except (ValueError, OSError) as error:
            st.warning(escape(f"{item.name} of this run cannot be read: {error}"))
    return found


def title_of(record: Any) -> str:
    return escape(run_title(row_of(record)))


def about(part: Any) -> str:
    """The summary of a method, for the page that shows its work; its name where it is not installed here."""
    if part.name not in registry.KINDS[part.kind]:
        return f"The {part.kind} {escape(part.name)} is not installed here."
    return str(registry.KINDS[part.kind][part.name].card.summary)
