"""Buttons that save what a page shows; each file is made when somebody clicks."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import streamlit as st

from poisonlab.records.record import RunRecord
from poisonlab.runner import runtime
from poisonlab.spec.bibliography import bibtex
from poisonlab.store.ranking import Block, Of

COMPARED = 8  # runs that a comparison holds side by side
REPORT_HELP = "One HTML file with figures and pictures inside, about 5 MB, that opens without a network."
BIBTEX_HELP = "The papers that the methods shown here follow, for a .bib file."


def report_button(make: Callable[[], str], name: str, *, key: str) -> None:
    """Save what ``make`` writes, see :func:`run_report`, :func:`board_report`, :func:`comparison_report`.

    Args:
        name: of the file, without its ending.
    """
    st.download_button(
        "Report",
        make,
        f"{name}.html",
        "text/html",
        on_click="ignore",
        icon=":material/description:",
        key=key,
        help=REPORT_HELP,
    )


def bibtex_button(methods: Mapping[str, Iterable[str]], *, key: str) -> None:
    """Save the papers behind methods, given by kind: ``{"attack": [...], "defense": [...]}``."""
    st.download_button(
        "BibTeX",
        partial(bibtex, methods),
        "poisonlab.bib",
        "application/x-bibtex",
        on_click="ignore",
        icon=":material/menu_book:",
        key=key,
        help=BIBTEX_HELP,
    )


def run_report(record: RunRecord) -> str:
    """The report of a run."""
    from poisonlab.report import run  # noqa: PLC0415 - brings torch, which no page needs before somebody clicks

    return run.run_report(runtime.get().store.runs, record)


def comparison_report(records: Sequence[RunRecord]) -> str:
    """The report of two to eight runs side by side."""
    from poisonlab.report import compare  # noqa: PLC0415 - the same

    return compare.compare_report(runtime.get().store.runs, records)


def board_report(block: Block, of: Of, loss_allowed: float) -> str:
    """The report of a ranked block."""
    from poisonlab.report import board  # noqa: PLC0415 - the figures take a while to import

    return board.board_report(runtime.get().store, block, of, loss_allowed)


def of_run(record: RunRecord) -> None:
    """Both buttons for a run."""
    spec = record.spec
    parts = (spec.dataset, spec.victim, spec.attack, spec.defense)
    with st.container(horizontal=True):
        report_button(
            partial(run_report, record), f"poisonlab-run-{record.run_id}", key=f"report-{record.run_id}"
        )
        bibtex_button({part.kind: [part.name] for part in parts}, key=f"bibtex-{record.run_id}")
