"""A look inside a run: its networks are opened, asked once for all viewers, and let go."""

from collections.abc import Callable
from typing import Any

import streamlit as st

from poisonlab.data.base import DataError
from poisonlab.lens.attention import attention
from poisonlab.lens.features import Features, Method, Planes, features, planes
from poisonlab.lens.per_class import per_class
from poisonlab.lens.pictures import Pictures, networks, pictures
from poisonlab.lens.spectra import spectra
from poisonlab.pipeline.reopen import NotKept, Opened
from poisonlab.ui import link, navigation, page, results, shared
from poisonlab.ui.opened import opened
from poisonlab.ui.wording import escape

TRIAL_HELP = "One of the independent poisonings of a targeted attack, with the networks that belong to it."


# -- what is computed, once for all viewers ------------------------------------------------------------


def _features(run: Opened, trial: int) -> tuple[Pictures, Features]:
    shown = pictures(run, trial)
    return shown, features(shown.x.to(run.ctx.device), networks(run, trial))


LOOKS: dict[str, Callable[[Opened, int], Any]] = {
    "features": _features,
    "attention": attention,
    "spectra": spectra,
    "classes": per_class,
}


@shared.of_arguments
def _look(what: str, run_id: str, trial: int) -> Any:
    """What one view shows of a run, tensors and numbers alone: the networks are let go.

    Raises:
        NotKept: a stage of the run is not in the cache. DataError: its dataset cannot be loaded.
    """
    record = results.record(run_id)
    assert record is not None
    with opened(record) as run:
        return LOOKS[what](run, trial)


@shared.of_arguments
def plane_of(run_id: str, trial: int, method: Method) -> Planes:
    _, found = _look("features", run_id, trial)
    return planes(found, method)


def look(what: str, record: Any, trial: int) -> Any | None:
    """What a view shows; ``None`` after saying why it cannot be shown, with a way to a run that can."""
    try:
        with st.spinner("Opening the networks of this run"):
            return _look(what, record.run_id, trial)
    except (NotKept, DataError, FileNotFoundError) as error:
        text = str(error)
        again(record, f"{text[0].upper()}{text[1:]}.")
        return None


# -- instead of a view ---------------------------------------------------------------------------------


def has_networks(record: Any) -> bool:
    """Whether a run may have left its networks here; says so where it cannot."""
    obstacle = record.spec.obstacle()
    if record.run_id not in results.measured_here():
        again(
            record,
            "This run came with the program, with its numbers and without its networks. Run it here to look inside.",
        )
    return record.run_id in results.measured_here() and not obstacle


def again(record: Any, why: str) -> None:
    """Why there is nothing to look into, a button that runs the same once more, and a link that changes it first."""
    st.info(escape(why))
    if record.spec.obstacle():
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button("Run it again", icon=":material/replay:", key=f"again-{record.run_id}"):
            page.submit([record.spec.experiment()])
        navigation.link("experiment", "Change it first", like=record.run_id)


def trial_of(record: Any) -> int:
    """The trial to show, from 0 on; asked for where there are several."""
    count = int(record.metrics.get("targets") or 1)
    return link.number(st, "Trial", 1, count, key="trial", help=TRIAL_HELP) - 1 if count > 1 else 0
