"""A data set checked in the browser: what to check, how far it is, what was found, what to take away."""

from dataclasses import dataclass
from typing import Any

import pandas as pd
import streamlit as st

from poisonlab import registry
from poisonlab.check import suspects, takeaway
from poisonlab.check.data import CHECK, CONTROLS, DataCheck, check_data
from poisonlab.check.recipe import usual
from poisonlab.figures import check_data as figures
from poisonlab.pipeline.takeout import zipped
from poisonlab.runner import runtime
from poisonlab.runner.background import Task
from poisonlab.runner.recorder import context_at
from poisonlab.runner.rules import NotAllowed
from poisonlab.spec.config import SpecError, make_spec
from poisonlab.ui import at_work, charts, images, link, navigation, people, theme
from poisonlab.ui.offered import offered
from poisonlab.ui.wording import escape
from poisonlab.words.pages import CHECK_LIMITS

NOBODY = ""  # in the choice of trusted images
SHOWN = 24  # images of the gallery
IN_A_ROW = 8
LISTED = 200  # rows of the table on the page; the file has all
MOST_PACKED = 20_000  # images of a ZIP
_tasks: dict[str, "Asked"] = {}  # by person: a check outlives the page that started it


@dataclass(frozen=True)
class Asked:
    """What somebody asked for, and the work."""

    dataset: str
    task: Task


def page() -> None:
    """The form; below it the work in progress, or what the last check found."""
    asked = _tasks.get(people.name())
    running = asked is not None and asked.task.state == "running"
    _form(disabled=running)
    if asked is None:
        limits()
        return
    if running:
        at_work.progress(asked.task, asked.dataset, CHECK)
    elif at_work.ended_well(asked.task):
        found(asked.task.result, asked.dataset)
    limits()


def _form(disabled: bool) -> None:
    names = offered("dataset")
    first, second, third = st.columns([2, 2, 1], vertical_alignment="bottom")
    dataset = link.choice(first, "Set under suspicion", names, str, key="dataset")
    trusted = second.selectbox(
        "Trusted images of the same classes",
        [NOBODY, *(name for name in names if name != dataset)],
        format_func=lambda name: name or "none",
        help="A set of your own with pictures that you know to be clean. STRIP and EWC influence need them, and "
        f"{CONTROLS} clean sets to compare with are drawn from them: without, most sets get a ranking and no verdict.",
    )
    if third.button(
        "Check", type=theme.main_button(), icon=":material/search_check:", disabled=disabled, width="stretch"
    ):
        _start(dataset, trusted)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption("Pictures of your own become a dataset first:", width="content")
        navigation.link("own_pictures", "Your pictures")


def _start(dataset: str, trusted: str) -> None:
    """Begin a check, unless the rules of this server say no or somebody else's is at work."""
    try:
        spec = make_spec(dataset, "none", "none")
        runtime.get().runner.rules.check([spec], "auto", people.person(), 0, runtime.get().results)
    except (NotAllowed, SpecError) as error:
        st.error(escape(error))
        return

    def work(send: Any) -> DataCheck:
        ctx = context_at(runtime.get().results, send=send)
        brought = suspects.of_dataset(dataset, "quick")
        known = suspects.trusted_dataset(trusted, brought.data) if trusted else None
        recipe = usual(brought.data, "quick", dataset)
        return check_data(brought, recipe, ctx, known, like=dataset)

    task = at_work.begun("check data", work)
    if task is None:
        return
    _tasks[people.name()] = Asked(dataset, task)
    st.rerun()


# -- what was found -------------------------------------------------------------------------------------------


def found(check: DataCheck, name: str) -> None:
    """The verdict, the images, the detectors, the files."""
    if check.calibration is None or not check.calibration.can_accuse:
        st.info(escape(check.verdict), icon=":material/balance:")
    elif check.calibration.stands_out:
        st.warning(escape(check.verdict), icon=":material/warning:")
    else:
        st.success(escape(check.verdict), icon=":material/check:")
    classes = check.suspects.data.classes
    if check.target is not None:
        count = check.named_by
        who = f"{count} detectors name" if count > 1 else "one detector names"
        st.markdown(f"Suspected target: **{escape(classes[check.target])}**; {who} it.")
    _gallery(check)
    _detectors(check)
    _table(check, name)


def _gallery(check: DataCheck) -> None:
    st.subheader("The images that stand out most", anchor=False)
    data = check.suspects.data
    rows = check.ranking.order[:SHOWN].tolist()
    voters = len(check.evidence)
    for start in range(0, len(rows), IN_A_ROW):
        part = rows[start : start + IN_A_ROW]
        labels = [data.classes[int(data.y[row])] for row in part]
        votes = [int(check.ranking.votes[row]) for row in part]
        names = [check.suspects.names[row] for row in part]
        shown = list(zip(names, labels, votes, strict=True))
        images.strip(
            f"{start + 1} to {start + len(part)}",
            data.x[part],
            [
                escape(f"{name.rpartition('/')[2]}: {label}, {vote} of {voters}")
                for name, label, vote in shown
            ],
            [f"{name}, labeled {label}, in the top of {vote} detectors" for name, label, vote in shown],
            help="File or row, the label that it bears, and how many detectors have it among their top tenth.",
        )


def _detectors(check: DataCheck) -> None:
    st.subheader("What the detectors say", anchor=False)
    left, right = st.columns(2, gap="large")
    if check.calibration is not None:
        charts.show(
            charts.drawn(figures.among_clean_sets, check.calibration),
            key="among_clean_sets",
            alt="The number of each detector for this set beside those of the clean sets",
            place=left,
        )
        left.caption(escape(f"Clean sets: {check.calibration.origin}."))
    classes = check.suspects.data.classes
    rows = [
        (e.title, "" if e.target is None else classes[e.target], f"{e.statistic:.3g}") for e in check.evidence
    ]
    right.dataframe(
        pd.DataFrame(rows, columns=["detector", "names the class", "its number"]),
        hide_index=True,
        alt="What each detector says",
    )
    for detector, why in check.left_out.items():
        right.caption(escape(f"{registry.defense[detector].card.title}: left out, {why}."))
    if check.ranking.agreements:
        charts.show(
            charts.drawn(figures.agreement, check.ranking),
            key="agreement",
            alt="Rank correlation of each pair of detectors",
            place=left,
        )


def _table(check: DataCheck, name: str) -> None:
    st.subheader("Every image", anchor=False)
    listed = pd.DataFrame(list(takeaway.rows(check)))
    flagged = int(check.ranking.flagged.sum())
    st.markdown(
        f"{flagged:,} of {len(listed):,} images are in the top of {check.ranking.needed} detectors or more. Detectors "
        "always have a top, of a clean set, too: look at the images before you leave any out."
    )
    st.dataframe(
        listed.head(LISTED), hide_index=True, alt="The images that stand out most, with their scores"
    )
    with st.container(horizontal=True):
        st.download_button(
            "All images as CSV",
            listed.to_csv(index=False),
            f"{name}_checked.csv",
            "text/csv",
            on_click="ignore",
        )
        if len(listed) - flagged <= MOST_PACKED:
            st.download_button(
                "The set without them as ZIP",
                lambda: packed(check),
                f"{name}_filtered.zip",
                "application/zip",
                on_click="ignore",
            )


def packed(check: DataCheck) -> bytes:
    """The images that are not flagged, as PNG in a ZIP with a folder for each class."""
    data = check.suspects.data
    kept = (~check.ranking.flagged).nonzero().squeeze(1).tolist()
    return zipped(takeaway.pictures(data.x, data, kept))


def limits() -> None:
    """What a check can miss, and what its alarms are worth."""
    with st.expander("What this can miss", icon=":material/info:"):
        st.markdown(CHECK_LIMITS)
