"""What can be saved from a page."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from page_helpers import Open
from store_helpers import add, record_of

from poisonlab.runner import runtime
from poisonlab.spec.config import make_spec
from poisonlab.ui import exports

Saved = dict[str, Callable[[], str]]


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch) -> Saved:
    """Every file that a button offers, by its name, as what makes it."""
    found: Saved = {}

    def button(label: str, make: Callable[[], str], name: str, mime: str, **options: Any) -> None:
        assert options["on_click"] == "ignore" and options["help"]
        found[name] = make

    monkeypatch.setattr(st, "download_button", button)
    return found


def test_the_page_of_a_run_offers_its_report_and_its_papers(open_page: Open, filled: Path) -> None:
    app = open_page(filled, "triggers")

    labels = [button.proto.label for button in app.get("download_button")]

    assert labels == ["Report", "BibTeX"]


def test_a_run_is_saved_with_its_pictures(open_page: Open, filled: Path, offered: Saved) -> None:
    open_page(filled)
    store = runtime.get().store
    (run_id,) = store.runs.find(defense="awm", limit=1)["run_id"]

    exports.of_run(store.runs.record(run_id))

    assert set(offered) == {f"poisonlab-run-{run_id}.html", "poisonlab.bib"}
    report = offered[f"poisonlab-run-{run_id}.html"]()
    assert run_id in report and report.count("<img ") > 10
    assert "@inproceedings{chai2022shot," in offered["poisonlab.bib"]()


def test_boards_and_comparisons_are_those_of_the_store(open_page: Open, tmp_path: Path) -> None:
    open_page(tmp_path / "results")
    store = runtime.get().store
    records = [
        add(store, record_of(make_spec("digits", "badnets", defense))) for defense in ("none", "awm", "anp")
    ]

    board = exports.board_report(store.rankings.blocks()[0], "defense", 0.05)
    compared = exports.comparison_report(records)

    assert all(f'<tr id="run-{record.run_id}">' in text for record in records for text in (board, compared))
    assert "<title>Defenses ranked: " in board and "<title>3 runs compared" in compared
