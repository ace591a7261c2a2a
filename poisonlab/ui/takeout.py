"""Buttons that prepare what a run worked with, its networks or its poisons, as a ZIP archive to be saved."""

import streamlit as st

from poisonlab import registry
from poisonlab.records.record import RunRecord
from poisonlab.ui.opened import opened
from poisonlab.ui.wording import escape

NETWORKS_HELP = (
    "The first trial's control, undefended and defended network as safetensors, each with its architecture, classes "
    "and normalization."
)
POISONS_HELP = "Every poisoned image as a PNG, and poison.npz: rows, images and labels, before and after."
BY_PATH = (
    "This run read a folder of its machine by its path. There, `poisonlab export --with-models --with-data` "
    "saves them."
)


@st.fragment
def of_run(record: RunRecord) -> None:
    """Both buttons of a run; what is clicked is made then, from the stages that the cache still holds."""
    with st.container(horizontal=True):
        networks = st.button(
            "Prepare networks",
            icon=":material/network_node:",
            key=f"networks-{record.run_id}",
            help=NETWORKS_HELP,
        )
        poisons = st.button(
            "Prepare poisons",
            icon=":material/photo_library:",
            key=f"poisons-{record.run_id}",
            help=POISONS_HELP,
        )
    if networks:
        _offer(record, "networks")
    if poisons:
        _offer(record, "poisons")


def _offer(record: RunRecord, what: str) -> None:
    """A button that saves the archive, or why there is none."""
    dataset = record.spec.dataset.name
    if dataset in registry.dataset and getattr(registry.dataset[dataset], "by_path", False):
        st.info(BY_PATH)
        return
    try:
        with st.spinner("Opening the run..."):
            raw = archive(record, what)
    except (RuntimeError, ValueError, OSError) as error:
        st.warning(escape(f"{str(error)[:1].upper()}{str(error)[1:]}."))
        return
    st.download_button(
        f"Save {what} ({len(raw) / 2**20:.1f} MB)",
        raw,
        f"poisonlab-{what}-{record.run_id}.zip",
        "application/zip",
        on_click="ignore",
        icon=":material/download:",
        key=f"save-{what}-{record.run_id}",
    )


def archive(record: RunRecord, what: str) -> bytes:
    """The files of ``poisonlab export --with-models`` (``networks``) or ``--with-data`` (``poisons``) in a ZIP archive.

    Raises:
        NotKept: the cache no longer has them. DataError: the dataset cannot be loaded.
    """
    from poisonlab.pipeline import takeout  # noqa: PLC0415 - brings torch, which no page needs before somebody clicks

    with opened(record) as run:
        if what == "networks":
            return takeout.zipped(takeout.network_files(run, record.run_id))
        return takeout.zipped(takeout.poison_files(run))
